#include <torch/csrc/autograd/autograd.h>

#include "deployed_file.h"

namespace sevennet_mf {

struct SerialModel::Impl {
  DeployedFile deployed;
  std::string device;
};

SerialModel::SerialModel(const std::string &file, const std::string &device) :
    impl_(std::make_unique<Impl>()) {
  impl_->device = device;
  impl_->deployed = load_deployed(file, device);
  if (metadata().comm_size > 0)
    throw ModelError("'" + file + "' is one segment of a parallel model; e3gnn needs " +
                     "the serial file, or use pair_style e3gnn/parallel");
  // report a file that does not run now, not in the first step
  Prediction ignored;
  try {
    evaluate(probe_graph(metadata().cutoff), ignored);
  } catch (const ModelError &problem) {
    throw ModelError("'" + file + "' does not run: " + problem.what());
  }
}

SerialModel::~SerialModel() = default;

const Metadata &SerialModel::metadata() const { return impl_->deployed.metadata; }

void SerialModel::evaluate(const Graph &graph, Prediction &prediction) {
  guarded("the model failed", [&] {
    TensorDict input = graph_inputs(graph, impl_->device);
    const at::Tensor vectors = edge_vectors(graph, impl_->device).requires_grad_(true);
    input.insert("edge_vec", vectors);
    const TensorDict output = run(impl_->deployed.module, input);
    const at::Tensor energy = tensor_of(output, "inferred_total_energy").squeeze();
    // summed in double by the caller: the float32 total is coarser than its parts
    copy_out(tensor_of(output, "atomic_energy"), prediction.energies);
    if (graph.n_edges() == 0) {
      prediction.gradients.clear();    // nothing depends on a position
      return;
    }
    copy_out(torch::autograd::grad({energy}, {vectors}).at(0), prediction.gradients);
  });
}

}    // namespace sevennet_mf
