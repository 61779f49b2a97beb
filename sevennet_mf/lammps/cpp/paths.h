#ifndef SEVENNET_MF_PATHS_H
#define SEVENNET_MF_PATHS_H

#include <string>
#include <vector>

namespace sevennet_mf {

// The whole text as a positive number, or 0.
int positive_number(const std::string &text);

// Raises ModelError where `file` is what e3gnn/parallel takes. `next`: the argument
// after it.
void check_serial_file(const std::string &file, const std::string &next);

struct SegmentFiles {
  std::vector<std::string> files;
  size_t n_arguments = 0;    // how many arguments named them
};

// `arguments`: what follows the number of files: one folder, or that many files.
// Raises ModelError if they are not there.
SegmentFiles segment_files(int n_files, const std::vector<std::string> &arguments);

}    // namespace sevennet_mf

#endif
