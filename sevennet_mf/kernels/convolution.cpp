#include "convolution.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

// of the OpenMP library that torch has loaded, if it is GNU's
extern "C" void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned)
    __attribute__((weak));

#define ALWAYS_INLINE inline __attribute__((always_inline))

namespace sevennet_mf {
namespace {

// Channels are padded to groups of 64 bytes, whatever the instruction set, so that
// tables and scratch have one layout.
template <class T> constexpr int LANES = 64 / sizeof(T);

struct Path {
  int mul, padded, n1, n3;
  int x, out, w;  // offsets in the padded arrays
  int m;          // offset in M and S
};

struct Block {  // one irrep of x or out: (mul, n) in the host's order, (n, padded) here
  int mul, padded, n, host, ours;
};

template <class T> struct Filter {  // one irrep of the harmonics
  int y, n2, m, size;
  const T *dense;  // (n2, size): C of all its paths
};

template <class T> struct Plan {
  int n_paths, n_filters, dim_x, dim_y, dim_out, n_weights;
  int size_x, size_out, size_w, size_m;  // padded
  const Path *paths;
  const Filter<T> *filters;
  // C as a sparse matrix (dim_y, size_m)
  const int *row, *column;
  const T *value;
};

template <class T> struct Table {
  const T *data;
  std::int64_t intervals;
  double step;
};

template <class T> struct Calls {
  void (*contract)(const Plan<T> &, const T *, T *);
  void (*contract_back)(const Plan<T> &, const T *, T *);
  void (*forward)(const Plan<T> &, const T *, const T *, const T *, T *);
  void (*backward)(const Plan<T> &, const T *, const T *, const T *, const T *, T *,
                   T *, T *);
  void (*double_out)(const Plan<T> &, const T *, const T *, const T *, const T *,
                     const T *, const T *, T *);
  void (*double_in)(const Plan<T> &, const T *, const T *, const T *, const T *,
                    const T *, const T *, const T *, T *, T *, T *);
  void (*interpolate)(const Table<T> &, int, T, T *, T *);
  T (*dot)(int, const T *, const T *);
};

namespace plain {
#define BYTES 16
#include "loops.h"
#undef BYTES
}  // namespace plain

#if defined(__x86_64__) && defined(__GNUC__)
#define BY_INSTRUCTION_SET 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define BYTES 32
#include "loops.h"
#undef BYTES
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")
#endif
namespace avx512 {
#define BYTES 64
#include "loops.h"
#undef BYTES
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

const char *const NAMES[] = {"plain", "avx2", "avx512"};

bool has(int set) {
#ifdef BY_INSTRUCTION_SET
  __builtin_cpu_init();
  const bool two = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (set == 1) return two;
  if (set == 2)
    return two && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw");
#endif
  return set == 0;
}

int best() { return has(2) ? 2 : has(1) ? 1 : 0; }
std::atomic<int> chosen{-1};

int current() {
  if (chosen < 0) chosen = best();
  return chosen;
}

template <class T> Calls<T> calls() {
#ifdef BY_INSTRUCTION_SET
  if (current() == 2) return avx512::Loops<T>::calls();
  if (current() == 1) return avx2::Loops<T>::calls();
#endif
  return plain::Loops<T>::calls();
}

template <class T> int pad(int n) {
  return (n + LANES<T> - 1) / LANES<T> * LANES<T>;
}

// The plan of a call and what it points to.
template <class T> struct Layout {
  Plan<T> plan{};
  std::vector<Path> paths;
  std::vector<Filter<T>> filters;
  std::vector<std::vector<T>> dense;
  std::vector<int> row, column;
  std::vector<T> value;
  std::vector<Block> x, out, w;
  bool w_as_given = true;

  const char *read(const double *spec, std::int64_t size);
};

// The block at an offset of the host's array; a new one is put behind the others
template <class T>
int place(std::vector<Block> &blocks, int &size, int mul, int n, int host) {
  for (const Block &b : blocks)
    if (b.host == host) return b.ours;
  blocks.push_back({mul, pad<T>(mul), n, host, size});
  size += n * pad<T>(mul);
  return blocks.back().ours;
}

// One path as the plan writes it: seven numbers, then C (n1, n2, n3).
struct Entry {
  int mul, n1, n2, n3, x, y, out;
  const double *c;
};

const char *entries(
    const double *spec, std::int64_t size, std::vector<Entry> &found) {
  constexpr int HEAD = 5, EACH = 7;
  if (size < HEAD || spec[0] < 0 || spec[0] > 1e6) return "it has no header";
  const double *at = spec + HEAD, *end = spec + size;
  for (int n = 0; n < (int)spec[0]; ++n) {
    if (end - at < EACH) return "it is cut short";
    Entry e{(int)at[0], (int)at[1], (int)at[2], (int)at[3],
            (int)at[4], (int)at[5], (int)at[6], at + EACH};
    for (int k : {e.n1, e.n2, e.n3})
      if (k < 1 || k > 9 || k % 2 == 0) return "l is not between 0 and 4";
    if (e.mul < 1 || e.x < 0 || e.y < 0 || e.out < 0) return "a number is negative";
    if (end - e.c < e.n1 * e.n2 * e.n3) return "it is cut short";
    if (e.x + e.mul * e.n1 > spec[1] || e.y + e.n2 > spec[2] ||
        e.out + e.mul * e.n3 > spec[3])
      return "a path lies outside of the irreps";
    at = e.c + e.n1 * e.n2 * e.n3;
    found.push_back(e);
  }
  return at == end ? nullptr : "it is too long";
}

template <class T>
const char *Layout<T>::read(const double *spec, std::int64_t size) {
  std::vector<Entry> found;
  if (const char *wrong = entries(spec, size, found)) return wrong;
  plan.dim_x = spec[1], plan.dim_y = spec[2], plan.dim_out = spec[3];
  plan.n_weights = spec[4];
  int weights = 0;
  for (const Entry &e : found) {
    Path p{e.mul, pad<T>(e.mul), e.n1, e.n3, 0, 0, plan.size_w, 0};
    p.x = place<T>(x, plan.size_x, e.mul, e.n1, e.x);
    p.out = place<T>(out, plan.size_out, e.mul, e.n3, e.out);
    w.push_back({e.mul, p.padded, 1, weights, plan.size_w});
    w_as_given = w_as_given && p.padded == e.mul;
    weights += e.mul;
    plan.size_w += p.padded;
    paths.push_back(p);
  }
  if (weights != plan.n_weights) return "its number of weights is wrong";
  std::vector<std::vector<int>> columns(plan.dim_y);
  std::vector<std::vector<T>> values(plan.dim_y);
  std::vector<char> done(found.size(), 0);
  for (size_t first = 0; first < found.size(); ++first) {
    if (done[first]) continue;
    Filter<T> f{found[first].y, found[first].n2, plan.size_m, 0, nullptr};
    std::vector<size_t> members;
    for (size_t n = first; n < found.size(); ++n)
      if (found[n].y == f.y) {
        members.push_back(n), done[n] = 1;
        paths[n].m = plan.size_m + f.size;
        f.size += found[n].n1 * found[n].n3;
      }
    f.size = pad<T>(f.size);
    std::vector<T> matrix((size_t)f.n2 * f.size, 0);
    for (size_t n : members) {
      const Entry &e = found[n];
      for (int i = 0; i < e.n1; ++i)
        for (int j = 0; j < e.n2; ++j)
          for (int k = 0; k < e.n3; ++k) {
            const T c = e.c[(i * e.n2 + j) * e.n3 + k];
            const int m = paths[n].m + i * e.n3 + k;
            matrix[j * f.size + m - f.m] = c;
            if (c == 0) continue;
            columns[f.y + j].push_back(m);
            values[f.y + j].push_back(c);
          }
    }
    plan.size_m += f.size;
    dense.push_back(std::move(matrix));
    filters.push_back(f);
  }
  for (size_t n = 0; n < filters.size(); ++n) filters[n].dense = dense[n].data();
  row.push_back(0);
  for (int j = 0; j < plan.dim_y; ++j) {
    column.insert(column.end(), columns[j].begin(), columns[j].end());
    value.insert(value.end(), values[j].begin(), values[j].end());
    row.push_back(column.size());
  }
  plan.n_paths = paths.size(), plan.n_filters = filters.size();
  plan.paths = paths.data(), plan.filters = filters.data();
  plan.row = row.data(), plan.column = column.data(), plan.value = value.data();
  return nullptr;
}

// (mul, n) of the host to (n, padded) here
template <class T>
void enter(const std::vector<Block> &blocks, const T *host, T *ours) {
  for (const Block &b : blocks)
    for (int m = 0; m < b.n; ++m) {
      T *to = ours + b.ours + m * b.padded;
      const T *from = host + b.host + m;
      for (int u = 0; u < b.mul; ++u) to[u] = from[u * b.n];
      for (int u = b.mul; u < b.padded; ++u) to[u] = 0;
    }
}

// The blocks to an array of the host's; zero in what no path has to do with
template <class T>
void leave(const std::vector<Block> &blocks, int dim, const T *ours, T *host) {
  int left = dim;
  for (const Block &b : blocks) left -= b.mul * b.n;
  if (left > 0) std::memset(host, 0, dim * sizeof(T));
  for (const Block &b : blocks)
    for (int m = 0; m < b.n; ++m) {
      const T *from = ours + b.ours + m * b.padded;
      T *to = host + b.host + m;
      for (int u = 0; u < b.mul; ++u) to[u * b.n] = from[u];
    }
}

// Memory that one thread keeps between calls: fresh pages cost more than the sums.
class Scratch {
 public:
  template <class T> T *get(int slot, std::size_t n) {
    Piece &piece = pieces[slot];
    const std::size_t bytes = (n * sizeof(T) + 63) / 64 * 64 + 64;
    if (piece.bytes < bytes) {
      piece.memory.reset();
      piece.bytes = 0;
      piece.memory.reset(std::aligned_alloc(64, bytes));
      if (!piece.memory) throw std::bad_alloc();
      piece.bytes = bytes;
    }
    return static_cast<T *>(piece.memory.get());
  }

 private:
  struct Free {
    void operator()(void *p) const { std::free(p); }
  };
  struct Piece {
    std::unique_ptr<void, Free> memory;
    std::size_t bytes = 0;
  };
  Piece pieces[4];
};

thread_local Scratch scratch;

// Runs body(piece) for each of n pieces. In torch's own threads where they are those
// of GNU OpenMP: they wait actively for a while after each operation of torch, and
// threads of our own would have to share the cores with them. Else in new threads.
template <class Body> void in_parallel(int n, Body &body) {
  struct Team {
    Body &body;
    const int n;
    std::atomic<int> next{0};
    static void work(void *self) {  // however many come
      auto *team = static_cast<Team *>(self);
      for (int piece; (piece = team->next++) < team->n;) team->body(piece);
    }
  } team{body, n};
  if (GOMP_parallel) return GOMP_parallel(&Team::work, &team, n, 0);
  std::vector<std::thread> others;
  try {
    for (int t = 1; t < n; ++t) others.emplace_back(&Team::work, &team);
  } catch (const std::system_error &) {  // no more threads to be had
  }
  Team::work(&team);
  for (std::thread &other : others) other.join();
}

// body(first, last) over [0, n), cut where the work is equal
template <class Weight, class Body>
void split(std::int64_t n, int threads, Weight before, Body body) {
  const std::int64_t work = before(n);
  threads = (int)std::min<std::int64_t>(threads, work / 64);
  if (threads <= 1 || n <= 1) return body(0, n);
  std::vector<std::int64_t> cut(threads + 1, 0);
  for (int t = 1; t < threads; ++t) {
    std::int64_t low = cut[t - 1], high = n;
    while (low < high) {
      const std::int64_t mid = (low + high) / 2;
      if (before(mid) < work * t / threads) low = mid + 1;
      else high = mid;
    }
    cut[t] = low;
  }
  cut[threads] = n;
  auto piece = [&](int t) { body(cut[t], cut[t + 1]); };
  in_parallel(threads, piece);
}

// The edges of each atom, in the order they are given in.
struct ByAtom {
  std::vector<std::int32_t> start, edge;

  ByAtom(std::int64_t n_atoms, std::int64_t n_edges, const std::int32_t *atom)
      : start(n_atoms + 1, 0), edge(n_edges) {
    for (std::int64_t e = 0; e < n_edges; ++e) ++start[atom[e] + 1];
    for (std::int64_t i = 0; i < n_atoms; ++i) start[i + 1] += start[i];
    std::vector<std::int32_t> next(start.begin(), start.end() - 1);
    for (std::int64_t e = 0; e < n_edges; ++e) edge[next[atom[e]]++] = e;
  }
  std::int64_t n() const { return (std::int64_t)start.size() - 1; }
};

template <class Body> void over_atoms(const ByAtom &by, int threads, Body body) {
  split(by.n(), threads, [&](std::int64_t i) { return (std::int64_t)by.start[i] + i; },
        body);
}

template <class T>
const T *entered(const std::vector<Block> &blocks, const T *host, std::int64_t n,
                 int dim, int size, int slot, int threads) {
  T *ours = scratch.get<T>(slot, (std::size_t)n * size);
  split(n, threads, [&](std::int64_t i) { return i * (1 + size / 256); },
        [&](std::int64_t first, std::int64_t last) {
          for (std::int64_t i = first; i < last; ++i)
            enter(blocks, host + i * dim, ours + i * size);
        });
  return ours;
}

// Small arrays of one worker, zero at first.
template <class T> struct Local {
  std::vector<T> memory;
  explicit Local(std::size_t n) : memory(n + LANES<T>, 0) {}
  T *data() {
    auto at = reinterpret_cast<std::uintptr_t>(memory.data());
    return memory.data() + (64 - at % 64) % 64 / sizeof(T);
  }
};

// The weights of an edge: a row of an array, or splines of its length.
template <class T> struct Rows {
  const Layout<T> &layout;
  const EdgeList &graph;
  const T *w;

  std::int64_t row(std::int64_t e) const { return graph.row ? graph.row[e] : e; }
  const T *of(const T *array, std::int64_t e, T *local) const {
    const T *host = array + row(e) * layout.plan.n_weights;
    if (layout.w_as_given) return host;
    enter(layout.w, host, local);
    return local;
  }
  const T *value(const Calls<T> &, std::int64_t e, T *local) const {
    return of(w, e, local);
  }
};

template <class T> struct Splines {
  const Layout<T> &layout;
  const T *r;
  Table<T> table;

  const T *value(const Calls<T> &call, std::int64_t e, T *local) const {
    call.interpolate(table, layout.plan.size_w, r[e], local, nullptr);
    return local;
  }
};

template <class T, class Weights>
void run_forward(const Layout<T> &layout, const EdgeList &graph, const Weights &weights,
                 const T *x, const T *y, T *out) {
  const Plan<T> &plan = layout.plan;
  const Calls<T> call = calls<T>();
  const ByAtom by(graph.n_targets, graph.n_edges, graph.target);
  const T *xs = entered(layout.x, x, graph.n_sources, plan.dim_x, plan.size_x, 0,
                        graph.threads);
  over_atoms(by, graph.threads, [&](std::int64_t first, std::int64_t last) {
    Local<T> m(plan.size_m), sum(plan.size_out), w(plan.size_w);
    for (std::int64_t i = first; i < last; ++i) {
      std::memset(sum.data(), 0, plan.size_out * sizeof(T));
      for (int n = by.start[i]; n < by.start[i + 1]; ++n) {
        const std::int64_t e = by.edge[n];
        call.contract(plan, y + e * plan.dim_y, m.data());
        call.forward(plan, m.data(), weights.value(call, e, w.data()),
                     xs + (std::int64_t)graph.source[e] * plan.size_x, sum.data());
      }
      leave(layout.out, plan.dim_out, sum.data(), out + i * plan.dim_out);
    }
  });
}

// Which edges are the first of their row, and which the second
std::vector<char> is_second(const EdgeList &graph) {
  std::vector<char> second(graph.n_edges, 0), seen(graph.n_rows, 0);
  for (std::int64_t e = 0; e < graph.n_edges; ++e) {
    second[e] = seen[graph.row[e]];
    seen[graph.row[e]] = 1;
  }
  return second;
}

// each(e, source, gx of that atom, local arrays) over edges grouped by source. Edges
// that share a row of weights are taken one after the other: a row is never written
// by two threads at once, and its sum has one order.
template <class T, class Each>
void over_sources(const Layout<T> &layout, const EdgeList &graph, T *gx, Each each) {
  const Plan<T> &plan = layout.plan;
  const ByAtom by(graph.n_sources, graph.n_edges, graph.source);
  std::vector<char> second;
  if (graph.row) second = is_second(graph);
  T *sums = gx && graph.row
                ? scratch.get<T>(3, (std::size_t)graph.n_sources * plan.size_x)
                : nullptr;
  for (int round = 0; round < (graph.row ? 2 : 1); ++round)
    over_atoms(by, graph.threads, [&](std::int64_t first, std::int64_t last) {
      Local<T> own(plan.size_x), m(plan.size_m), ma(plan.size_m);
      Local<T> w(plan.size_w), wa(plan.size_w), gw(plan.size_w);
      Local<T> s((std::size_t)plan.size_m * LANES<T>);
      T *parts[] = {m.data(), ma.data(), w.data(), wa.data(), gw.data(), s.data()};
      for (std::int64_t j = first; j < last; ++j) {
        T *sum = sums ? sums + j * plan.size_x : own.data();
        if (round == 0) std::memset(sum, 0, plan.size_x * sizeof(T));
        for (int n = by.start[j]; n < by.start[j + 1]; ++n) {
          const std::int64_t e = by.edge[n];
          if (second.empty() || second[e] == round)
            each(e, j, gx ? sum : nullptr, parts, round == 1);
        }
        if (gx && (round == 1 || !graph.row))
          leave(layout.x, plan.dim_x, sum, gx + j * plan.dim_x);
      }
    });
}

template <class T>
void put_row(const Layout<T> &layout, const T *local, T *row, bool add) {
  for (const Block &b : layout.w)
    for (int u = 0; u < b.mul; ++u)
      row[b.host + u] = add ? row[b.host + u] + local[b.ours + u] : local[b.ours + u];
}

// The plan of a call, and whether its indices are within bounds
template <class T>
const char *prepare(Layout<T> &layout, const double *spec, std::int64_t size,
                    const EdgeList &graph) {
  for (std::int64_t e = 0; e < graph.n_edges; ++e) {
    if (graph.source[e] < 0 || graph.source[e] >= graph.n_sources ||
        graph.target[e] < 0 || graph.target[e] >= graph.n_targets)
      return "an edge names an atom that is not there";
    if (graph.row && (graph.row[e] < 0 || graph.row[e] >= graph.n_rows))
      return "an edge names a row that is not there";
  }
  if (const char *wrong = layout.read(spec, size)) return wrong;
  return nullptr;
}

}  // namespace

template <class T>
const char *forward(const double *spec, std::int64_t size, const EdgeList &graph,
                    const T *x, const T *y, const T *w, T *out) {
  Layout<T> layout;
  if (const char *wrong = prepare(layout, spec, size, graph)) return wrong;
  run_forward(layout, graph, Rows<T>{layout, graph, w}, x, y, out);
  return nullptr;
}

template <class T>
const char *backward(const double *spec, std::int64_t size, const EdgeList &graph,
                     const T *x, const T *y, const T *w, const T *g, T *gx, T *gy,
                     T *gw) {
  Layout<T> layout;
  if (const char *wrong = prepare(layout, spec, size, graph)) return wrong;
  const Plan<T> &plan = layout.plan;
  const Calls<T> call = calls<T>();
  const Rows<T> rows{layout, graph, w};
  const T *xs = entered(layout.x, x, graph.n_sources, plan.dim_x, plan.size_x, 0,
                        graph.threads);
  const T *gs = entered(layout.out, g, graph.n_targets, plan.dim_out, plan.size_out,
                        1, graph.threads);
  over_sources(layout, graph, gx,
               [&](std::int64_t e, std::int64_t j, T *sum, T **part, bool add) {
                 T *m = part[0], *local = part[4], *s = part[5];
                 T *to = gw + rows.row(e) * plan.n_weights;
                 const bool direct = layout.w_as_given && !add;
                 call.contract(plan, y + e * plan.dim_y, m);
                 call.backward(plan, m, rows.of(w, e, part[2]),
                               xs + j * plan.size_x,
                               gs + (std::int64_t)graph.target[e] * plan.size_out,
                               sum, direct ? to : local, s);
                 call.contract_back(plan, s, gy + e * plan.dim_y);
                 if (!direct) put_row(layout, local, to, add);
               });
  return nullptr;
}

template <class T>
const char *double_backward(const double *spec, std::int64_t size,
                            const EdgeList &graph, const T *x, const T *y, const T *w,
                            const T *g, const T *ax, const T *ay, const T *aw, T *gx,
                            T *gy, T *gw, T *gg) {
  Layout<T> layout;
  if (const char *wrong = prepare(layout, spec, size, graph)) return wrong;
  const Plan<T> &plan = layout.plan;
  const Calls<T> call = calls<T>();
  const Rows<T> rows{layout, graph, w};
  const auto in = [&](const T *host, int slot) {
    return entered(layout.x, host, graph.n_sources, plan.dim_x, plan.size_x, slot,
                   graph.threads);
  };
  const T *xs = in(x, 0), *as = in(ax, 2);
  {
    const ByAtom by(graph.n_targets, graph.n_edges, graph.target);
    over_atoms(by, graph.threads, [&](std::int64_t first, std::int64_t last) {
      Local<T> m(plan.size_m), ma(plan.size_m), sum(plan.size_out);
      Local<T> local(plan.size_w), locala(plan.size_w);
      for (std::int64_t i = first; i < last; ++i) {
        std::memset(sum.data(), 0, plan.size_out * sizeof(T));
        for (int n = by.start[i]; n < by.start[i + 1]; ++n) {
          const std::int64_t e = by.edge[n];
          const std::int64_t at = (std::int64_t)graph.source[e] * plan.size_x;
          call.contract(plan, y + e * plan.dim_y, m.data());
          call.contract(plan, ay + e * plan.dim_y, ma.data());
          call.double_out(plan, m.data(), ma.data(), rows.of(w, e, local.data()),
                          rows.of(aw, e, locala.data()), xs + at, as + at,
                          sum.data());
        }
        leave(layout.out, plan.dim_out, sum.data(), gg + i * plan.dim_out);
      }
    });
  }
  const T *gs = entered(layout.out, g, graph.n_targets, plan.dim_out, plan.size_out,
                        1, graph.threads);
  over_sources(
      layout, graph, gx,
      [&](std::int64_t e, std::int64_t j, T *sum, T **part, bool add) {
        T *m = part[0], *ma = part[1], *local = part[4], *s = part[5];
        T *to = gw + rows.row(e) * plan.n_weights;
        const bool direct = layout.w_as_given && !add;
        call.contract(plan, y + e * plan.dim_y, m);
        call.contract(plan, ay + e * plan.dim_y, ma);
        call.double_in(plan, m, ma, rows.of(w, e, part[2]), rows.of(aw, e, part[3]),
                       xs + j * plan.size_x, as + j * plan.size_x,
                       gs + (std::int64_t)graph.target[e] * plan.size_out, sum,
                       direct ? to : local, s);
        call.contract_back(plan, s, gy + e * plan.dim_y);
        if (!direct) put_row(layout, local, to, add);
      });
  return nullptr;
}

template <class T>
const char *forward_table(const double *spec, std::int64_t size, const EdgeList &graph,
                          const T *x, const T *y, const T *r, const T *table,
                          std::int64_t intervals, double step, T *out) {
  Layout<T> layout;
  if (const char *wrong = prepare(layout, spec, size, graph)) return wrong;
  const Splines<T> splines{layout, r, {table, intervals, step}};
  run_forward(layout, graph, splines, x, y, out);
  return nullptr;
}

template <class T>
const char *backward_table(const double *spec, std::int64_t size, const EdgeList &graph,
                           const T *x, const T *y, const T *r, const T *table,
                           std::int64_t intervals, double step, const T *g, T *gx,
                           T *gy, T *gr) {
  Layout<T> layout;
  if (const char *wrong = prepare(layout, spec, size, graph)) return wrong;
  const Plan<T> &plan = layout.plan;
  const Calls<T> call = calls<T>();
  const Table<T> splines{table, intervals, step};
  EdgeList own = graph;
  own.row = nullptr;
  const T *xs = entered(layout.x, x, graph.n_sources, plan.dim_x, plan.size_x, 0,
                        graph.threads);
  const T *gs = entered(layout.out, g, graph.n_targets, plan.dim_out, plan.size_out,
                        1, graph.threads);
  over_sources(layout, own, gx,
               [&](std::int64_t e, std::int64_t j, T *sum, T **part, bool) {
                 T *m = part[0], *w = part[2], *slope = part[3], *gw = part[4];
                 call.contract(plan, y + e * plan.dim_y, m);
                 call.interpolate(splines, plan.size_w, r[e], w, slope);
                 call.backward(plan, m, w, xs + j * plan.size_x,
                               gs + (std::int64_t)graph.target[e] * plan.size_out,
                               sum, gw, part[5]);
                 call.contract_back(plan, part[5], gy + e * plan.dim_y);
                 gr[e] = call.dot(plan.size_w, gw, slope);
               });
  return nullptr;
}

template <class T>
void partners(const EdgeList &graph, const T *vec, std::int32_t *partner) {
  const ByAtom by(graph.n_sources, graph.n_edges, graph.source);
  for (std::int64_t e = 0; e < graph.n_edges; ++e) partner[e] = -1;
  for (std::int64_t e = 0; e < graph.n_edges; ++e) {
    if (partner[e] >= 0) continue;
    const T *a = vec + 3 * e;
    const T limit = 1e-5 * (std::abs(a[0]) + std::abs(a[1]) + std::abs(a[2]));
    partner[e] = e;
    const int j = graph.target[e];
    for (int n = by.start[j]; n < by.start[j + 1]; ++n) {
      const std::int32_t other = by.edge[n];
      if (other <= e || partner[other] >= 0 || graph.target[other] != graph.source[e])
        continue;
      const T *b = vec + 3 * (std::int64_t)other;
      if (std::abs(a[0] + b[0]) + std::abs(a[1] + b[1]) + std::abs(a[2] + b[2]) >
          limit)
        continue;
      partner[e] = other, partner[other] = e;
      break;
    }
  }
}

const char *instruction_set() { return NAMES[current()]; }

bool choose(const char *name) {
  if (!name) return chosen = best(), true;
  for (int set = 0; set < 3; ++set)
    if (std::strcmp(name, NAMES[set]) == 0 && has(set)) return chosen = set, true;
  return false;
}

#define INSTANTIATE(T)                                                               \
  template const char *forward<T>(const double *, std::int64_t, const EdgeList &,      \
                                  const T *, const T *, const T *, T *);             \
  template const char *backward<T>(const double *, std::int64_t, const EdgeList &,     \
                                   const T *, const T *, const T *, const T *, T *,  \
                                   T *, T *);                                        \
  template const char *double_backward<T>(                                           \
      const double *, std::int64_t, const EdgeList &, const T *, const T *, const T *,  \
      const T *, const T *, const T *, const T *, T *, T *, T *, T *);               \
  template const char *forward_table<T>(const double *, std::int64_t, const EdgeList &, \
                                        const T *, const T *, const T *, const T *,  \
                                        std::int64_t, double, T *);                  \
  template const char *backward_table<T>(                                            \
      const double *, std::int64_t, const EdgeList &, const T *, const T *, const T *,  \
      const T *, std::int64_t, double, const T *, T *, T *, T *);                    \
  template void partners<T>(const EdgeList &, const T *, std::int32_t *);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace sevennet_mf
