#include "paths.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "model.h"

namespace fs = std::filesystem;

namespace sevennet_mf {

namespace {

// False also without permission to look; opening the file says why.
bool exists(const fs::path &path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_folder(const fs::path &path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

}    // namespace

int positive_number(const std::string &text) {
  if (text.empty() || text.size() > 4) return 0;
  if (text.find_first_not_of("0123456789") != std::string::npos) return 0;
  return std::stoi(text);
}

void check_serial_file(const std::string &file, const std::string &next) {
  if (is_folder(file))
    throw ModelError("'" + file + "' is a folder; e3gnn reads one serial file. A folder " +
                     "of segments needs pair_style e3gnn/parallel");
  if (positive_number(file) > 0 && !exists(file))
    throw ModelError("no such file '" + file + "'; 'pair_coeff * * " + file + " " + next +
                     " ...' is for pair_style e3gnn/parallel");
}

SegmentFiles segment_files(int n_files, const std::vector<std::string> &arguments) {
  const std::string &first = arguments.at(0);
  if (!exists(first)) throw ModelError("no such file or folder '" + first + "'");
  const auto in_folder = [&](int k) {
    return (fs::path(first) / ("deployed_parallel_" + std::to_string(k) + ".pt")).string();
  };
  SegmentFiles found;
  if (!is_folder(first)) {
    found.n_arguments = std::min(static_cast<size_t>(n_files), arguments.size());
    found.files.assign(arguments.begin(), arguments.begin() + found.n_arguments);
    return found;
  }
  found.n_arguments = 1;
  int there = 0;
  while (exists(in_folder(there))) found.files.push_back(in_folder(there++));
  if (there != n_files)
    throw ModelError("wrong number of segments: pair_coeff gives " + std::to_string(n_files) +
                     ", the folder '" + first + "' contains " + std::to_string(there));
  return found;
}

}    // namespace sevennet_mf
