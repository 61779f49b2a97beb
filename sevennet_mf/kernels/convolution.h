// The fused convolution of SevenNet on a CPU.
//
//   T(x, y, w, g) = sum over edges j -> i, paths and channels u of
//                   g_i[l3 m3 u] C[m1 m2 m3] y_e[l2 m2] w_e[path u] x_j[l1 m1 u]
//
// is linear in each argument. Its value, gradients and double backward pass need two
// kinds of loops: over the edges of each target atom, and over those of each source
// atom. No array over edges times features is ever written. Every sum has an order
// that the number of threads does not change.
//
// Plain C++17, no header of torch: the Python package and the plugin for LAMMPS
// compile the same source. All arrays are contiguous; indices are within bounds.
#pragma once
#include <cstdint>

namespace sevennet_mf {

// What the arrays of one call have in common.
struct EdgeList {
  std::int64_t n_sources;  // atoms that have features x
  std::int64_t n_targets;  // atoms that features are summed to
  std::int64_t n_edges;
  const std::int32_t *source;  // (n_edges,)
  const std::int32_t *target;  // (n_edges,)
  const std::int32_t *row;     // (n_edges,) row of w; nullptr: the edge's own
  std::int64_t n_rows;         // rows of w
  int threads;
};

// spec: the irreps and Clebsch-Gordan coefficients, as sevennet_mf.kernels.plan writes
// them. Each function returns nullptr, or what is wrong with the plan.

// x (n_sources, dim_x), y (n_edges, dim_y), w (n_rows, n_weights)
// -> out (n_targets, dim_out)
template <class T>
const char *forward(const double *spec, std::int64_t size, const EdgeList &graph,
                    const T *x, const T *y, const T *w, T *out);

// g (n_targets, dim_out) -> gx, gy, gw of the shapes of x, y, w. gx may be nullptr.
template <class T>
const char *backward(const double *spec, std::int64_t size, const EdgeList &graph,
                     const T *x, const T *y, const T *w, const T *g, T *gx, T *gy,
                     T *gw);

// The gradients of <ax, gx> + <ay, gy> + <aw, gw> of `backward`.
template <class T>
const char *double_backward(const double *spec, std::int64_t size,
                            const EdgeList &graph, const T *x, const T *y, const T *w,
                            const T *g, const T *ax, const T *ay, const T *aw, T *gx,
                            T *gy, T *gw, T *gg);

// The weights as polynomials of the edge's length r (n_edges,), one for each interval:
// table (intervals, TABLE_DEGREE + 1, padded weights), with the coefficients of
// r / step - interval, lowest power first. Each path's channels are padded with zeros
// to a multiple of 64 bytes. EdgeList.row is not used.
constexpr int TABLE_DEGREE = 5;

template <class T>
const char *forward_table(const double *spec, std::int64_t size, const EdgeList &graph,
                          const T *x, const T *y, const T *r, const T *table,
                          std::int64_t intervals, double step, T *out);

// gr (n_edges,): the gradient of the lengths.
template <class T>
const char *backward_table(const double *spec, std::int64_t size, const EdgeList &graph,
                           const T *x, const T *y, const T *r, const T *table,
                           std::int64_t intervals, double step, const T *g, T *gx,
                           T *gy, T *gr);

// Both directions of a pair share a row of w. partner (n_edges,): the edge of the
// other direction, or the edge itself where there is none. vec (n_edges, 3) in Å.
template <class T>
void partners(const EdgeList &graph, const T *vec, std::int32_t *partner);

// The instruction set in use: "avx512", "avx2", "plain". `choose` takes one of these
// or nullptr for the best; false if this processor lacks it.
const char *instruction_set();
bool choose(const char *name);

}  // namespace sevennet_mf
