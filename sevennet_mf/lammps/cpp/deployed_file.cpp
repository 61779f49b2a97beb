#include "deployed_file.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <sstream>
#include <system_error>
#include <unordered_map>

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/cuda.h>

#include "convolution.h"
#include "convolution_operator.h"

namespace sevennet_mf {

namespace {

using Extra = std::unordered_map<std::string, std::string>;

constexpr auto FAST = "sevennet_mf_fast.pt";    // an archive in the archive

// What SevenNet writes into its deployed files (sevenn/scripts/deploy.py).
Extra no_extra() {
  return {{"chemical_symbols_to_index", ""},
          {"cutoff", ""},
          {"model_type", ""},
          {"version", ""},
          {"dtype", ""},
          {"flashTP", ""},
          {"oeq", ""},
          {"time", ""},
          {"comm_size", ""},
          {"sevennet_mf_segment", ""},    // ours: name of the model, number
          {FAST, ""}};
}

// A variable of the environment in lower case; "" if it is not set
std::string setting(const char *name) {
  const char *set = std::getenv(name);
  std::string value = set ? set : "";
  for (char &letter : value) letter = std::tolower(static_cast<unsigned char>(letter));
  return value;
}

// On a CPU the form with the fused convolution, unless the user turned it off. The
// values are those that Python takes.
bool wants_fast(const std::string &device) {
  const std::string value = setting("SEVENNET_MF_FUSED");
  const auto is_one_of = [&](std::initializer_list<const char *> values) {
    return std::find(values.begin(), values.end(), value) != values.end();
  };
  if (is_one_of({"off", "0", "false", "no"})) return false;
  if (!is_one_of({"", "on", "1", "true", "yes", "always"}))
    throw ModelError("SEVENNET_MF_FUSED must be on, off or always, got '" + value + "'");
  const std::string set = setting("SEVENNET_MF_INSTRUCTION_SET");
  if (!choose(set.empty() ? nullptr : set.c_str()))
    throw ModelError("SEVENNET_MF_INSTRUCTION_SET must be plain, avx2 or avx512, and "
                     "supported by this processor, got '" + set + "'");
  return device == "cpu";
}

std::vector<std::string> words(const std::string &text) {
  std::istringstream stream(text);
  std::vector<std::string> found;
  for (std::string word; stream >> word;) found.push_back(word);
  return found;
}

void refuse_accelerated(const std::string &file, const Extra &extra) {
  for (const auto &[key, name] :
       {std::pair{"flashTP", "FlashTP"}, std::pair{"oeq", "OpenEquivariance"}}) {
    if (extra.at(key) != "yes") continue;
    throw ModelError("'" + file + "' was deployed with " + name +
                     ", which this plugin does not support; deploy it again without it");
  }
}

Metadata metadata_from(const std::string &file, const Extra &extra) {
  refuse_accelerated(file, extra);
  if (extra.at("model_type") != "E3_equivariant_model")
    throw ModelError("'" + file + "' is TorchScript but not a deployed SevenNet model" +
                     "; `sevennet-mf deploy CHECKPOINT` writes one");
  if (extra.at("dtype") != "single")
    throw ModelError("'" + file + "' has dtype '" + extra.at("dtype") +
                     "'; only 'single' is supported");
  Metadata metadata;
  metadata.elements = words(extra.at("chemical_symbols_to_index"));
  metadata.version = extra.at("version");
  metadata.dtype = extra.at("dtype");
  metadata.date = extra.at("time");
  std::istringstream(extra.at("sevennet_mf_segment")) >> metadata.model >> metadata.segment;
  try {
    metadata.cutoff = std::stod(extra.at("cutoff"));
    if (const auto &size = extra.at("comm_size"); !size.empty())
      metadata.comm_size = std::stoi(size);
  } catch (const std::logic_error &) {
    throw ModelError("'" + file + "' has an unreadable cutoff or comm_size; deploy it again");
  }
  return metadata;
}

// The number of edges changes from step to step, so nothing is compiled for the
// shapes of the first steps, as in SevenNet: no gain per step could be measured.
void run_without_specialisation() {
  torch::jit::setGraphExecutorOptimize(false);
  torch::jit::FusionStrategy never{{torch::jit::FusionBehavior::STATIC, 0}};
  torch::jit::setFusionStrategy(never);
}

}    // namespace

std::string short_reason(const std::exception &problem) {
  if (dynamic_cast<const std::bad_alloc *>(&problem)) return "out of memory";
  const auto *from_torch = dynamic_cast<const c10::Error *>(&problem);
  std::string text = from_torch ? from_torch->what_without_backtrace() : problem.what();
  // TorchScript puts its traceback first and the reason last
  const std::string marker = "RuntimeError: ";
  if (const auto at = text.rfind(marker); at != std::string::npos)
    text = text.substr(at + marker.size());
  text = text.substr(0, text.find('\n'));
  if (text.find("bad_alloc") != std::string::npos) return "out of memory";
  return text.find("allocate memory") == std::string::npos ? text
                                                           : "out of memory: " + text;
}

DeployedFile load_deployed(const std::string &file, const std::string &device) {
  if (!std::ifstream(file)) {
    const int reason = errno;
    if (reason == ENOENT) throw ModelError("no such file '" + file + "'");
    throw ModelError("'" + file + "' cannot be read: " + std::strerror(reason));
  }
  if (std::error_code ignored; std::filesystem::is_directory(file, ignored))
    throw ModelError("'" + file + "' is not a file");
  const bool fast = wants_fast(device);
  Extra extra = no_extra();
  DeployedFile deployed;
  try {
    deployed.module = torch::jit::load(file, c10::Device(device), extra);
    if (!extra[FAST].empty() && fast) {
      register_convolution();
      std::istringstream stream(std::move(extra[FAST]));
      deployed.module = torch::jit::load(stream, c10::Device(device));
      extra["fused"] = "yes";
    }
  } catch (const std::exception &problem) {
    // what an accelerator needs is unknown to this torch: say that first
    refuse_accelerated(file, extra);
    if (extra["model_type"].empty())
      throw ModelError("'" + file + "' is not a deployed TorchScript model; " +
                       "`sevennet-mf deploy CHECKPOINT` writes one");
    throw ModelError("cannot load '" + file + "': " + short_reason(problem));
  }
  deployed.metadata = metadata_from(file, extra);
  if (extra["fused"] == "yes")
    deployed.metadata.convolution = std::string("fused (") + instruction_set() + ")";
  deployed.module.eval();
  run_without_specialisation();
  return deployed;
}

namespace {

// `values` outlives the tensor: it belongs to the graph of this step
template <typename T>
at::Tensor view(const std::vector<T> &values, at::IntArrayRef shape, at::ScalarType dtype) {
  return at::from_blob(const_cast<T *>(values.data()), shape, dtype);
}

}    // namespace

TensorDict graph_inputs(const Graph &graph, const std::string &device) {
  const int64_t n_edges = graph.n_edges();
  // [0] is the atom that receives, [1] the one whose features are sent
  const at::Tensor edge_index = at::stack({view(graph.centres, {n_edges}, at::kLong),
                                           view(graph.neighbours, {n_edges}, at::kLong)});
  const at::Tensor types = view(graph.types, {graph.n_nodes()}, at::kLong);
  const at::Tensor n_local = at::scalar_tensor(graph.n_local, at::kLong).view({1});
  const c10::Device to(device);

  TensorDict input;
  input.insert("x", types.narrow(0, 0, graph.n_local).to(to));
  input.insert("edge_index", edge_index.to(to));
  input.insert("num_atoms", n_local.to(to));
  input.insert("nlocal", n_local);    // the model splits by it: stays on the host
  // a serial model does not look at it
  input.insert("x_ghost", types.narrow(0, graph.n_local, graph.n_ghosts()).to(to));
  return input;
}

at::Tensor edge_vectors(const Graph &graph, const std::string &device) {
  return view(graph.vectors, {graph.n_edges(), 3}, at::kFloat).to(c10::Device(device));
}

at::Tensor tensor_of(const TensorDict &output, const std::string &key) {
  const auto found = output.find(key);
  if (found == output.end())
    throw ModelError("the model does not return '" + key + "'; deploy it again");
  return found->value();
}

TensorDict run(torch::jit::Module &module, const TensorDict &input) {
  return c10::impl::toTypedDict<std::string, at::Tensor>(
      module.forward({input}).toGenericDict());
}

void copy_out(const at::Tensor &tensor, std::vector<float> &values) {
  const at::Tensor host = tensor.detach().to(at::kCPU, at::kFloat).contiguous();
  const float *data = host.const_data_ptr<float>();
  values.assign(data, data + host.numel());
}

Graph probe_graph(double cutoff) {
  Graph graph;
  graph.atoms = {0};
  graph.types = {0};
  graph.n_local = 1;
  graph.centres = {0};
  graph.neighbours = {0};
  graph.vectors = {static_cast<float>(0.5 * cutoff), 0.0F, 0.0F};
  return graph;
}

int cuda_devices() {
  return torch::cuda::is_available() ? static_cast<int>(torch::cuda::device_count()) : 0;
}

void set_threads(int n_threads) { at::set_num_threads(n_threads); }

}    // namespace sevennet_mf
