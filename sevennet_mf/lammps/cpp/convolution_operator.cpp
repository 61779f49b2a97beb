#include "convolution_operator.h"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "convolution.h"

namespace sevennet_mf {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

constexpr auto NAME = "deployed_convolution";
// float32 only, as all files of the pair styles are
constexpr auto SCHEMA =
    "deployed_convolution(Tensor x, Tensor y, Tensor w, Tensor table, float step, "
    "Tensor source, Tensor target, int n_targets, Tensor plan) -> Tensor";

void check(const char *wrong) {
  TORCH_CHECK(wrong == nullptr, "the fused convolution refuses its input: ", wrong);
}

const float *floats(const Tensor &tensor) { return tensor.const_data_ptr<float>(); }

EdgeList graph_of(const Tensor &x, const Tensor &source, const Tensor &target,
               int64_t n_targets) {
  return {x.size(0),
          n_targets,
          source.size(0),
          source.const_data_ptr<int32_t>(),
          target.const_data_ptr<int32_t>(),
          nullptr,
          0,
          at::get_num_threads()};
}

void check_shapes(const Tensor &x, const Tensor &y, const Tensor &w, const Tensor &table,
                  const Tensor &source, const Tensor &target, const Tensor &plan) {
  TORCH_CHECK(plan.numel() >= 5 && plan.scalar_type() == at::kDouble,
              "the plan of a convolution has no header");
  const double *numbers = plan.const_data_ptr<double>();
  const int64_t n_edges = source.size(0);
  bool fits = x.dim() == 2 && x.size(1) == numbers[1] && y.dim() == 2 &&
      y.size(0) == n_edges && y.size(1) == numbers[2] && w.size(0) == n_edges &&
      target.size(0) == n_edges;
  if (table.numel() == 0) fits = fits && w.dim() == 2 && w.size(1) == numbers[4];
  else fits = fits && w.dim() == 1 && table.dim() == 3 && table.size(1) == TABLE_DEGREE + 1;
  TORCH_CHECK(fits, "an array does not fit the plan of the fused convolution");
}

struct Convolution : torch::autograd::Function<Convolution> {
  static Tensor forward(AutogradContext *context, const Tensor &given_x,
                        const Tensor &given_y, const Tensor &given_w, const Tensor &table,
                        double step, const Tensor &given_source,
                        const Tensor &given_target, int64_t n_targets,
                        const Tensor &plan) {
    const Tensor x = given_x.contiguous(), y = given_y.contiguous();
    const Tensor w = given_w.contiguous();
    const Tensor source = given_source.to(at::kInt).contiguous();
    const Tensor target = given_target.to(at::kInt).contiguous();
    check_shapes(x, y, w, table, source, target, plan);
    const EdgeList graph = graph_of(x, source, target, n_targets);
    const double *spec = plan.const_data_ptr<double>();
    Tensor out = at::empty({n_targets, static_cast<int64_t>(spec[3])}, x.options());
    if (table.numel() == 0)
      check(sevennet_mf::forward<float>(spec, plan.numel(), graph, floats(x), floats(y),
                                        floats(w), out.data_ptr<float>()));
    else
      check(forward_table<float>(spec, plan.numel(), graph, floats(x), floats(y), floats(w),
                                 floats(table), table.size(0), step,
                                 out.data_ptr<float>()));
    context->save_for_backward({x, y, w, table, source, target, plan});
    context->saved_data["step"] = step;
    return out;
  }

  static tensor_list backward(AutogradContext *context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &y = saved[1], &w = saved[2], &table = saved[3];
    const Tensor &plan = saved[6];
    const Tensor g = gradients[0].contiguous();
    const EdgeList graph = graph_of(x, saved[4], saved[5], g.size(0));
    const double *spec = plan.const_data_ptr<double>();
    // the first layer's features do not depend on positions
    Tensor gx = context->needs_input_grad(0) ? at::empty_like(x) : Tensor();
    Tensor gy = at::empty_like(y), gw = at::empty_like(w);
    float *to_x = gx.defined() ? gx.data_ptr<float>() : nullptr;
    if (table.numel() == 0)
      check(sevennet_mf::backward<float>(spec, plan.numel(), graph, floats(x), floats(y),
                                         floats(w), floats(g), to_x, gy.data_ptr<float>(),
                                         gw.data_ptr<float>()));
    else
      check(backward_table<float>(spec, plan.numel(), graph, floats(x), floats(y), floats(w),
                                  floats(table), table.size(0),
                                  context->saved_data["step"].toDouble(), floats(g), to_x,
                                  gy.data_ptr<float>(), gw.data_ptr<float>()));
    const Tensor none;
    return {gx, gy, gw, none, none, none, none, none, none};
  }
};

Tensor convolution(const Tensor &x, const Tensor &y, const Tensor &w, const Tensor &table,
                   double step, const Tensor &source, const Tensor &target,
                   int64_t n_targets, const Tensor &plan) {
  return Convolution::apply(x, y, w, table, step, source, target, n_targets, plan);
}

}    // namespace

void register_convolution() {
  const c10::OperatorName name(std::string("sevennet_mf::") + NAME, "");
  if (c10::Dispatcher::singleton().findOp(name).has_value()) return;
  // never freed: models that call it may outlive everything here
  static auto *library = new torch::Library(torch::Library::FRAGMENT, "sevennet_mf",
                                            std::nullopt, __FILE__, __LINE__);
  library->def(SCHEMA);
  library->impl(NAME, torch::dispatch(c10::DispatchKey::CompositeImplicitAutograd,
                                      torch::CppFunction(TORCH_FN(convolution))));
}

}    // namespace sevennet_mf
