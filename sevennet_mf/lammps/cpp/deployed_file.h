#ifndef SEVENNET_MF_DEPLOYED_FILE_H
#define SEVENNET_MF_DEPLOYED_FILE_H

#include <string>

#include <torch/csrc/jit/api/module.h>

#include "model.h"

namespace sevennet_mf {

using TensorDict = c10::Dict<std::string, at::Tensor>;

struct DeployedFile {
  Metadata metadata;
  torch::jit::Module module;
};

// Raises ModelError if `file` is missing, not TorchScript, or not for us.
DeployedFile load_deployed(const std::string &file, const std::string &device);

// The inputs every model takes: x, edge_index, num_atoms, nlocal; not edge_vec.
TensorDict graph_inputs(const Graph &graph, const std::string &device);
at::Tensor edge_vectors(const Graph &graph, const std::string &device);
at::Tensor tensor_of(const TensorDict &output, const std::string &key);
TensorDict run(torch::jit::Module &module, const TensorDict &input);
void copy_out(const at::Tensor &tensor, std::vector<float> &values);

// One atom that is its own neighbour: the cheapest input that runs every layer.
Graph probe_graph(double cutoff);

// The reason of a torch error in one line: no stack, no TorchScript traceback.
std::string short_reason(const std::exception &problem);

// Runs `work`; what torch throws in it becomes a ModelError.
template <typename Work> void guarded(const std::string &doing, Work work) {
  try {
    work();
  } catch (const ModelError &) {
    throw;
  } catch (const std::exception &problem) {
    throw ModelError(doing + ": " + short_reason(problem));
  }
}

}    // namespace sevennet_mf

#endif
