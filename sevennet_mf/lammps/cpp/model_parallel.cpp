#include <algorithm>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include "deployed_file.h"

namespace sevennet_mf {

namespace {

// Inputs of a segment that the gradient flows through, and its outputs.
struct Step {
  at::Tensor vectors;                       // leaf of this segment alone
  at::Tensor x, connection, ghosts;         // leaves; none in the first segment
  at::Tensor x_out, connection_out;         // what the next segment starts from
};

constexpr auto X = "x";
constexpr auto GHOSTS = "x_ghost";
constexpr auto CONNECTION = "self_cont_tmp";    // kept aside for the residual
constexpr auto VECTORS = "edge_vec";
constexpr auto ENERGY = "inferred_total_energy";

at::Tensor leaf(const at::Tensor &tensor) {
  return tensor.detach().requires_grad_(true);
}

at::Tensor or_zero(const at::Tensor &gradient, const at::Tensor &like) {
  return gradient.defined() ? gradient : at::zeros_like(like);
}

at::Tensor on_host(const at::Tensor &tensor) {
  return tensor.detach().to(at::kCPU).contiguous();
}

}    // namespace

struct SegmentedModel::Impl {
  std::vector<DeployedFile> segments;
  std::vector<int> widths;    // floats per atom before segment k + 1
  std::string device;

  void probe(const std::vector<std::string> &files);
  void start_from(TensorDict &data, Step &step, GhostExchange &exchange,
                  const Graph &graph, int width) const;
  at::Tensor backward(std::vector<Step> &steps, const at::Tensor &energy,
                      GhostExchange &exchange) const;
  void pass_back(Step &step, const std::vector<at::Tensor> &gradients,
                 GhostExchange &exchange, int width, at::Tensor &x_gradient,
                 at::Tensor &connection_gradient) const;
  void relay(GhostExchange &exchange) const;
};

SegmentedModel::SegmentedModel(const std::vector<std::string> &files,
                               const std::string &device) :
    impl_(std::make_unique<Impl>()) {
  impl_->device = device;
  for (const std::string &file : files) {
    impl_->segments.push_back(load_deployed(file, device));
    const Metadata &found = impl_->segments.back().metadata;
    if (found.comm_size == 0)
      throw ModelError("'" + file + "' is a serial model; use pair_style e3gnn, or deploy "
                       "it again with --parallel");
    if (found != metadata())
      throw ModelError("'" + file + "' and '" + files[0] + "' belong to different models");
    const int place = static_cast<int>(impl_->segments.size()) - 1;
    if (!found.model.empty() && found.segment != place)
      throw ModelError("'" + file + "' is segment " + std::to_string(found.segment) +
                       " of the model, given as segment " + std::to_string(place));
  }
  impl_->probe(files);
}

SegmentedModel::~SegmentedModel() = default;

const Metadata &SegmentedModel::metadata() const {
  return impl_->segments.front().metadata;
}

int SegmentedModel::largest_width() const {
  int largest = 1;
  for (const int width : impl_->widths) largest = std::max(largest, width);
  return largest;
}

// Runs the segments on one atom: are they all there, in order, and how much does
// each exchange carry? Ranks that own no atoms cannot find that out later.
void SegmentedModel::Impl::probe(const std::vector<std::string> &files) {
  const Graph graph = probe_graph(segments[0].metadata.cutoff);
  TensorDict data = graph_inputs(graph, device);
  data.insert(VECTORS, edge_vectors(graph, device));
  const std::string count = std::to_string(segments.size());
  for (size_t k = 0; k < segments.size(); ++k) {
    guarded("'" + files[k] + "' does not run as segment " + std::to_string(k) +
                "; are all segments given, and in order?",
            [&] { data = run(segments[k].module, data); });
    const bool complete = data.contains(ENERGY);
    const bool last = k + 1 == segments.size();
    if (complete && !last)
      throw ModelError("wrong number of segments: " + count + " given, but '" + files[k] +
                       "' completes the model, which has " + std::to_string(k + 1));
    if (!complete && last)
      throw ModelError("wrong number of segments: " + count +
                       " given, but the model has more");
    if (last) break;
    const at::Tensor x = tensor_of(data, X);
    widths.push_back(static_cast<int>(x.size(1)));
    data.insert_or_assign(GHOSTS, x.narrow(0, 0, 0));
  }
}

// Inputs of the next segment: fresh leaves, so that each segment has its own graph.
void SegmentedModel::Impl::start_from(TensorDict &data, Step &step,
                                      GhostExchange &exchange, const Graph &graph,
                                      int width) const {
  at::Tensor local, ghosts;
  guarded("the model failed", [&] {
    step.x = leaf(tensor_of(data, X));
    step.connection = leaf(tensor_of(data, CONNECTION));
    local = on_host(step.x);
    ghosts = at::empty({graph.n_ghosts(), width}, at::kFloat);
  });
  exchange.forward(local.const_data_ptr<float>(), ghosts.data_ptr<float>(), width);
  guarded("the model failed", [&] {
    step.ghosts = leaf(ghosts.to(c10::Device(device)));
    step.vectors = leaf(tensor_of(data, VECTORS));
    data.insert_or_assign(X, step.x);
    data.insert_or_assign(CONNECTION, step.connection);
    data.insert_or_assign(GHOSTS, step.ghosts);
    data.insert_or_assign(VECTORS, step.vectors);
  });
}

// Gradients of the outputs of the segment before `step`: what this rank's own
// graph says, plus what other ranks found for the atoms that are their ghosts.
void SegmentedModel::Impl::pass_back(Step &step, const std::vector<at::Tensor> &gradients,
                                     GhostExchange &exchange, int width,
                                     at::Tensor &x_gradient,
                                     at::Tensor &connection_gradient) const {
  at::Tensor local, ghosts;
  guarded("the model failed", [&] {
    local = on_host(or_zero(gradients.at(1), step.x)).clone();
    connection_gradient = or_zero(gradients.at(2), step.connection);
    ghosts = on_host(or_zero(gradients.at(3), step.ghosts));
  });
  exchange.reverse(ghosts.const_data_ptr<float>(), local.data_ptr<float>(), width);
  guarded("the model failed", [&] { x_gradient = local.to(c10::Device(device)); });
}

// Chains the vector-Jacobian products of the segments, last to first, and
// returns dE/d(edge vector), (n_edges, 3).
at::Tensor SegmentedModel::Impl::backward(std::vector<Step> &steps, const at::Tensor &energy,
                                          GhostExchange &exchange) const {
  at::Tensor total, x_gradient, connection_gradient;
  for (size_t k = steps.size(); k-- > 0;) {
    Step &step = steps[k];
    const bool last = k + 1 == steps.size();
    std::vector<at::Tensor> gradients;
    guarded("the model failed", [&] {
      std::vector<at::Tensor> inputs{step.vectors};
      if (k > 0) inputs.insert(inputs.end(), {step.x, step.connection, step.ghosts});
      std::vector<at::Tensor> outputs{energy}, seeds;
      if (!last) {
        outputs = {step.x_out, step.connection_out};
        seeds = {x_gradient, connection_gradient};
      }
      gradients = torch::autograd::grad(outputs, inputs, seeds, std::nullopt, false, true);
      const at::Tensor found = or_zero(gradients.at(0), step.vectors);
      total = total.defined() ? total.add(found) : found;
    });
    if (k == 0) break;
    pass_back(step, gradients, exchange, widths[k - 1], x_gradient, connection_gradient);
    step = Step();    // frees this segment's graph
  }
  return total;
}

void SegmentedModel::Impl::relay(GhostExchange &exchange) const {
  for (const int width : widths) exchange.forward(nullptr, nullptr, width);
  for (auto width = widths.rbegin(); width != widths.rend(); ++width)
    exchange.reverse(nullptr, nullptr, *width);
}

void SegmentedModel::evaluate(const Graph &graph, GhostExchange &exchange,
                              Prediction &prediction) {
  const size_t n_segments = impl_->segments.size();
  if (graph.n_local == 0) return impl_->relay(exchange);

  std::vector<Step> steps(n_segments);
  TensorDict data;
  guarded("the model failed", [&] {
    data = graph_inputs(graph, impl_->device);
    steps[0].vectors = leaf(edge_vectors(graph, impl_->device));
    data.insert(VECTORS, steps[0].vectors);
  });
  for (size_t k = 0; k < n_segments; ++k) {
    if (k > 0)
      impl_->start_from(data, steps[k], exchange, graph, impl_->widths[k - 1]);
    guarded("the model failed", [&] {
      data = run(impl_->segments[k].module, data);
      if (k + 1 == n_segments) return;
      steps[k].x_out = tensor_of(data, X);
      steps[k].connection_out = tensor_of(data, CONNECTION);
    });
  }
  at::Tensor energy;
  guarded("the model failed", [&] {
    energy = tensor_of(data, ENERGY).squeeze();
    copy_out(tensor_of(data, "atomic_energy"), prediction.energies);
    data = TensorDict();    // its tensors hold the graphs that backward() frees
  });
  const at::Tensor gradient = impl_->backward(steps, energy, exchange);
  guarded("the model failed", [&] { copy_out(gradient, prediction.gradients); });
}

}    // namespace sevennet_mf
