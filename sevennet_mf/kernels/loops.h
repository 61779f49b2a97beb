// The loops over edges. Included once for each instruction set, in a namespace of its
// own and without an include guard; BYTES is the width of a vector register. No
// template of the standard library may be used here: the linker would keep one copy
// for all instruction sets.

template <class T> struct Vector;
template <> struct Vector<float> {
  typedef float type __attribute__((vector_size(BYTES), aligned(4), may_alias));
};
template <> struct Vector<double> {
  typedef double type __attribute__((vector_size(BYTES), aligned(8), may_alias));
};

template <class T> struct Loops {
  typedef typename Vector<T>::type V;
  static constexpr int N = BYTES / sizeof(T);     // numbers in a register
  static constexpr int REGISTERS = LANES<T> / N;  // registers in a padded group

  static ALWAYS_INLINE V load(const T *p) { return *(const V *)p; }
  static ALWAYS_INLINE void store(T *p, V v) { *(V *)p = v; }

  // M[m1, m3] of every path: the Clebsch-Gordan tensor times the harmonics of an edge
  static void contract(const Plan<T> &plan, const T *y, T *m) {
    for (int b = 0; b < plan.n_filters; ++b) {
      const Filter<T> &f = plan.filters[b];
      for (int k = 0; k < f.size; k += N) {
        V sum = load(f.dense + k) * y[f.y];
        for (int i = 1; i < f.n2; ++i)
          sum += load(f.dense + i * f.size + k) * y[f.y + i];
        store(m + f.m + k, sum);
      }
    }
  }

  static ALWAYS_INLINE T sum_of(V v) {
    T lanes[N];
    store(lanes, v);
    for (int half = N / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
  }

  // The gradient of the harmonics from S[m1, m3], a group of lanes for each
  static void contract_back(const Plan<T> &plan, const T *s, T *gy) {
    constexpr int CHAINS = 4;  // sums that do not wait for each other
    for (int i = 0; i < plan.dim_y; ++i) {
      V sums[CHAINS] = {};
      int n = plan.row[i];
      const int last = plan.row[i + 1];
      for (; n + CHAINS <= last; n += CHAINS)
        for (int c = 0; c < CHAINS; ++c)
          for (int r = 0; r < REGISTERS; ++r)
            sums[c] += load(s + plan.column[n + c] * LANES<T> + r * N) *
                       plan.value[n + c];
      for (; n < last; ++n)
        for (int r = 0; r < REGISTERS; ++r)
          sums[0] += load(s + plan.column[n] * LANES<T> + r * N) * plan.value[n];
      gy[i] = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
  }

  template <int N1, int N3>
  static void forward(int p, const T *m, const T *w, const T *x, T *out) {
    for (int u = 0; u < p; u += N) {
      V wx[N1];
      for (int i = 0; i < N1; ++i) wx[i] = load(w + u) * load(x + i * p + u);
      for (int k = 0; k < N3; ++k) {
        V sum = load(out + k * p + u);
        for (int i = 0; i < N1; ++i) sum += wx[i] * m[i * N3 + k];
        store(out + k * p + u, sum);
      }
    }
  }

  // gx += d/dx, gw = d/dw and s[m1, m3] = sum_u w x g of one edge and path
  template <int N1, int N3>
  static void backward(
      int p, const T *m, const T *w, const T *x, const T *g, T *gx, T *gw, T *s) {
    for (int lane = 0; lane < LANES<T>; lane += N) {
      V sums[N1 * N3] = {};
      for (int u = lane; u < p; u += LANES<T>) {
        V gs[N3];
        for (int k = 0; k < N3; ++k) gs[k] = load(g + k * p + u);
        const V ws = load(w + u);
        V slope = {};
        for (int i = 0; i < N1; ++i) {
          V q = gs[0] * m[i * N3];
          for (int k = 1; k < N3; ++k) q += gs[k] * m[i * N3 + k];
          const V xs = load(x + i * p + u);
          slope += xs * q;
          if (gx) store(gx + i * p + u, load(gx + i * p + u) + ws * q);
          const V wx = ws * xs;
          for (int k = 0; k < N3; ++k) sums[i * N3 + k] += wx * gs[k];
        }
        store(gw + u, slope);
      }
      for (int k = 0; k < N1 * N3; ++k) store(s + k * LANES<T> + lane, sums[k]);
    }
  }

  // The part of the double backward pass that belongs to the target atom:
  // gg += T(ax, y, w) + T(x, ay, w) + T(x, y, aw), with ma the contraction of ay
  template <int N1, int N3>
  static void double_out(int p, const T *m, const T *ma, const T *w, const T *aw,
                         const T *x, const T *ax, T *gg) {
    for (int u = 0; u < p; u += N) {
      V one[N1], two[N1];
      const V ws = load(w + u), as = load(aw + u);
      for (int i = 0; i < N1; ++i) {
        const V xs = load(x + i * p + u);
        one[i] = ws * load(ax + i * p + u) + as * xs;
        two[i] = ws * xs;
      }
      for (int k = 0; k < N3; ++k) {
        V sum = load(gg + k * p + u);
        for (int i = 0; i < N1; ++i) {
          sum += one[i] * m[i * N3 + k];
          sum += two[i] * ma[i * N3 + k];
        }
        store(gg + k * p + u, sum);
      }
    }
  }

  // The rest of it: the gradients of x, w and, through s, y
  template <int N1, int N3>
  static void double_in(int p, const T *m, const T *ma, const T *w, const T *aw,
                        const T *x, const T *ax, const T *g, T *gx, T *gw, T *s) {
    for (int lane = 0; lane < LANES<T>; lane += N) {
      V sums[N1 * N3] = {};
      for (int u = lane; u < p; u += LANES<T>) {
        V gs[N3];
        for (int k = 0; k < N3; ++k) gs[k] = load(g + k * p + u);
        const V ws = load(w + u), as = load(aw + u);
        V slope = {};
        for (int i = 0; i < N1; ++i) {
          V q = gs[0] * m[i * N3], qa = gs[0] * ma[i * N3];
          for (int k = 1; k < N3; ++k) {
            q += gs[k] * m[i * N3 + k];
            qa += gs[k] * ma[i * N3 + k];
          }
          const V xs = load(x + i * p + u), axs = load(ax + i * p + u);
          slope += axs * q + xs * qa;
          store(gx + i * p + u, load(gx + i * p + u) + ws * qa + as * q);
          const V mixed = ws * axs + as * xs;
          for (int k = 0; k < N3; ++k) sums[i * N3 + k] += mixed * gs[k];
        }
        store(gw + u, slope);
      }
      for (int k = 0; k < N1 * N3; ++k) store(s + k * LANES<T> + lane, sums[k]);
    }
  }

  // The piece of r: values and, where slope is given, d/dr of all weights
  static void interpolate(const Table<T> &table, int size, T r, T *w, T *slope) {
    constexpr int D = TABLE_DEGREE;
    const double place = r / table.step;  // in double: t keeps all digits of r
    const double last = table.intervals - 1;
    const double piece = place < last ? std::floor(place) : last;
    const T t = (T)(place - piece), per_step = (T)(1 / table.step);
    const T *c = table.data + (long)piece * (D + 1) * size;
    for (int k = 0; k < size; k += N) {
      V value = load(c + D * size + k), rate = value * (T)D;
      for (int d = D - 1; d > 0; --d) {
        const V next = load(c + d * size + k);
        value = value * t + next;
        rate = rate * t + next * (T)d;
      }
      store(w + k, value * t + load(c + k));
      if (slope) store(slope + k, rate * per_step);
    }
  }

  static T dot(int size, const T *a, const T *b) {
    V sum = {};
    for (int k = 0; k < size; k += N) sum += load(a + k) * load(b + k);
    return sum_of(sum);
  }

// One call for the shape (2 l1 + 1, 2 l3 + 1) of a path, with the shape known to the
// compiler
#define BY_SHAPE(f, ...)                        \
  switch (16 * path.n1 + path.n3) {             \
    ROW(f, 1, __VA_ARGS__) ROW(f, 3, __VA_ARGS__) \
    ROW(f, 5, __VA_ARGS__) ROW(f, 7, __VA_ARGS__) \
    ROW(f, 9, __VA_ARGS__)                      \
  }
#define ROW(f, n, ...)                                                      \
  case 16 * n + 1: f<n, 1>(__VA_ARGS__); break;                             \
  case 16 * n + 3: f<n, 3>(__VA_ARGS__); break;                             \
  case 16 * n + 5: f<n, 5>(__VA_ARGS__); break;                             \
  case 16 * n + 7: f<n, 7>(__VA_ARGS__); break;                             \
  case 16 * n + 9: f<n, 9>(__VA_ARGS__); break;

  static void edge_forward(
      const Plan<T> &plan, const T *m, const T *w, const T *x, T *out) {
    for (int n = 0; n < plan.n_paths; ++n) {
      const Path &path = plan.paths[n];
      BY_SHAPE(forward, path.padded, m + path.m, w + path.w, x + path.x,
               out + path.out)
    }
  }

  static void edge_backward(const Plan<T> &plan, const T *m, const T *w, const T *x,
                            const T *g, T *gx, T *gw, T *s) {
    for (int n = 0; n < plan.n_paths; ++n) {
      const Path &path = plan.paths[n];
      BY_SHAPE(backward, path.padded, m + path.m, w + path.w, x + path.x,
               g + path.out, gx ? gx + path.x : nullptr, gw + path.w,
               s + path.m * LANES<T>)
    }
  }

  static void edge_double_out(const Plan<T> &plan, const T *m, const T *ma,
                              const T *w, const T *aw, const T *x, const T *ax,
                              T *gg) {
    for (int n = 0; n < plan.n_paths; ++n) {
      const Path &path = plan.paths[n];
      BY_SHAPE(double_out, path.padded, m + path.m, ma + path.m, w + path.w,
               aw + path.w, x + path.x, ax + path.x, gg + path.out)
    }
  }

  static void edge_double_in(const Plan<T> &plan, const T *m, const T *ma,
                             const T *w, const T *aw, const T *x, const T *ax,
                             const T *g, T *gx, T *gw, T *s) {
    for (int n = 0; n < plan.n_paths; ++n) {
      const Path &path = plan.paths[n];
      BY_SHAPE(double_in, path.padded, m + path.m, ma + path.m, w + path.w,
               aw + path.w, x + path.x, ax + path.x, g + path.out, gx + path.x,
               gw + path.w, s + path.m * LANES<T>)
    }
  }
#undef ROW
#undef BY_SHAPE

  static Calls<T> calls() {
    return {contract,       contract_back,   edge_forward, edge_backward,
            edge_double_out, edge_double_in, interpolate,  dot};
  }
};
