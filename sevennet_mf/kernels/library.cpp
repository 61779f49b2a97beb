// What Python calls through ctypes: pointers instead of types. Every array has the
// element type that `bits` says, 32 or 64; indices are 32 bit.
#include <exception>

#include "convolution.h"

using sevennet_mf::EdgeList;

// Raised whenever an argument changes: a library of another version is refused.
extern "C" int sevennet_mf_version() { return 1; }

extern "C" const char *sevennet_mf_instruction_set() {
  return sevennet_mf::instruction_set();
}

extern "C" int sevennet_mf_choose(const char *name) {
  return sevennet_mf::choose(name);
}

// An exception must not leave C++
#define BY_TYPE(call)            \
  try {                          \
    if (bits == 64) {            \
      using T = double;          \
      call;                      \
    } else {                     \
      using T = float;           \
      call;                      \
    }                            \
  } catch (const std::exception &) { \
    return "out of memory";      \
  }
#define IN(name) static_cast<const T *>(name)
#define OUT(name) static_cast<T *>(name)

extern "C" const char *sevennet_mf_forward(int bits, const double *spec,
                                           std::int64_t size, const EdgeList *graph,
                                           const void *x, const void *y,
                                           const void *w, void *out) {
  BY_TYPE(return sevennet_mf::forward<T>(spec, size, *graph, IN(x), IN(y), IN(w),
                                         OUT(out)))
}

extern "C" const char *sevennet_mf_backward(int bits, const double *spec,
                                            std::int64_t size, const EdgeList *graph,
                                            const void *x, const void *y,
                                            const void *w, const void *g, void *gx,
                                            void *gy, void *gw) {
  BY_TYPE(return sevennet_mf::backward<T>(spec, size, *graph, IN(x), IN(y), IN(w),
                                          IN(g), OUT(gx), OUT(gy), OUT(gw)))
}

extern "C" const char *sevennet_mf_double_backward(
    int bits, const double *spec, std::int64_t size, const EdgeList *graph,
    const void *x, const void *y, const void *w, const void *g, const void *ax,
    const void *ay, const void *aw, void *gx, void *gy, void *gw, void *gg) {
  BY_TYPE(return sevennet_mf::double_backward<T>(
      spec, size, *graph, IN(x), IN(y), IN(w), IN(g), IN(ax), IN(ay), IN(aw), OUT(gx),
      OUT(gy), OUT(gw), OUT(gg)))
}

extern "C" const char *sevennet_mf_forward_table(
    int bits, const double *spec, std::int64_t size, const EdgeList *graph,
    const void *x, const void *y, const void *r, const void *table,
    std::int64_t intervals, double step, void *out) {
  BY_TYPE(return sevennet_mf::forward_table<T>(spec, size, *graph, IN(x), IN(y),
                                               IN(r), IN(table), intervals, step,
                                               OUT(out)))
}

extern "C" const char *sevennet_mf_backward_table(
    int bits, const double *spec, std::int64_t size, const EdgeList *graph,
    const void *x, const void *y, const void *r, const void *table,
    std::int64_t intervals, double step, const void *g, void *gx, void *gy,
    void *gr) {
  BY_TYPE(return sevennet_mf::backward_table<T>(
      spec, size, *graph, IN(x), IN(y), IN(r), IN(table), intervals, step, IN(g),
      OUT(gx), OUT(gy), OUT(gr)))
}

extern "C" const char *sevennet_mf_partners(int bits, const EdgeList *graph,
                                            const void *vec, std::int32_t *partner) {
  BY_TYPE(sevennet_mf::partners<T>(*graph, IN(vec), partner); return nullptr)
}
