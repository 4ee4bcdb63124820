// Kernels of class_sweep.h.
//
// A tile's rows are copied, normalised, into scratch whose stride is not a power of two: any norm, any D and the last
// rows then take the same path, and a column of the tile does not fall into two cache sets.  Three products work on it:
//
//   cosines    [rows, N]   rows × panels of embeddings, vectors along the batch
//   dX         [N, D]     += scoresᵀ × rows, vectors along D
//   dW         [rows, D]   scores × embeddings, vectors along D; applied from registers

template <class T>
constexpr int kColumns = 2 * kLanes<T>;  // of a micro-kernel

constexpr double kAbsent = -1e30;  // a "cosine" whose exponential is 0

static inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Rows of a tile.  dX is read and written once a tile, which wants long tiles; dW wants short ones, so that the rows
// of weight and velocity are still in the second-level cache when they are updated.
static inline int64_t tile_rows(bool adds_features) {
  return adds_features ? kRows * (FM_VECTOR_BYTES == 64 ? 6 : 16) : kRows * (FM_VECTOR_BYTES == 64 ? 3 : 8);
}

template <class T>
struct SweepLayout {
  int64_t n, d;  // N and D in whole micro-kernel columns
  int64_t score_stride, row_stride;
  explicit SweepLayout(const ClassSweep<T>& s)
      : n(round_up(s.N, kColumns<T>)),
        d(round_up(s.D, kColumns<T>)),
        score_stride(n + kLanes<T>),
        row_stride(d + kLanes<T>) {}
};

// by_axis: [n / columns][D][columns];  by_row: [d / columns][N][columns].  Missing rows and axes are 0.
template <class T>
static void pack_by_axis(const ClassSweep<T>& s, T* to) {
  const int columns = kColumns<T>;
  for (int64_t i0 = 0; i0 < s.N; i0 += columns)
    for (int64_t k = 0; k < s.D; k++, to += columns)
      for (int i = 0; i < columns; i++) to[i] = i0 + i < s.N ? s.embeddings[(i0 + i) * s.D + k] : T(0);
}
template <class T>
static void pack_by_row(const ClassSweep<T>& s, T* to) {
  const int columns = kColumns<T>;
  for (int64_t k0 = 0; k0 < s.D; k0 += columns)
    for (int64_t i = 0; i < s.N; i++, to += columns)
      for (int k = 0; k < columns; k++) to[k] = k0 + k < s.D ? s.embeddings[i * s.D + k0 + k] : T(0);
}

template <class T>
struct Tile {
  int64_t first;          // row of weight
  int64_t count, padded;  // rows; in whole micro-kernels
  T* rows;                // [padded, row_stride] unit rows
  T* scores;              // [padded, score_stride] cosines, then what multiplies the rows
  T* inverse;             // [padded] 1/‖w‖; 0 for a row without direction
  T* dots;                // [padded] Σᵢ G·cos: what the tangent projection takes away
};

// Norms, and unless the tile's cosines are known, unit rows.  Returns the first row that is not finite, or −1.
template <class T>
static int64_t load_tile(const ClassSweep<T>& s, const SweepLayout<T>& layout, Tile<T>& tile, bool norms_only) {
  constexpr int L = kLanes<T>;
  const T low = T(sizeof(T) == 4 ? 1e-18 : 1e-200), high = T(sizeof(T) == 4 ? 1e30 : 1e200);
  int64_t bad = -1;
  const int64_t whole = s.D / L * L;
  for (int64_t j = 0; j < tile.count; j++) {
    const T* w = s.weight + (tile.first + j) * s.D;
    T* row = tile.rows + j * layout.row_stride;
    Vec<T> sum0 = {}, sum1 = {};
    int64_t k = 0;
    for (; k + 2 * L <= whole; k += 2 * L) {
      const Vec<T> a = load(w + k), b = load(w + k + L);
      sum0 = sum0 + a * a;
      sum1 = sum1 + b * b;
    }
    for (; k < s.D; k += L) {
      const Vec<T> a = load_part(w + k, int(std::min<int64_t>(L, s.D - k)));
      sum0 = sum0 + a * a;
    }
    const T square = sum_lanes<T>(sum0 + sum1);
    if (square > low && square < high) {
      const T scale = T(1) / std::sqrt(square);
      tile.inverse[j] = scale;
      if (norms_only) continue;
      for (k = 0; k < whole; k += L) store(row + k, load(w + k) * splat(scale));
      for (; k < s.D; k++) row[k] = w[k] * scale;
    } else {
      const double norm = exact_norm(w, s.D);
      if (!(norm <= std::numeric_limits<double>::max()) && bad < 0) bad = tile.first + j;
      const double scale = 1 / std::max(norm, kTiny);
      tile.inverse[j] = norm < kTiny ? T(0) : T(scale);
      for (k = 0; k < s.D; k++) row[k] = T(w[k] * scale);
    }
    for (k = s.D; k < layout.d; k++) row[k] = 0;
  }
  for (int64_t j = tile.count; j < tile.padded; j++) {
    std::memset(tile.rows + j * layout.row_stride, 0, layout.row_stride * sizeof(T));
    tile.inverse[j] = 0;
  }
  return bad;
}

// micro_kernel of kRows rows that calls fetch(k) before step k: a place to ask for memory that is needed later.
template <class T, class Fetch, class Finish>
FM_INLINE void fetching_kernel(const T* a, size_t a_row, const T* b, int64_t k_count, Fetch&& fetch, Finish&& finish) {
  Vec<T> left[kRows], right[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r++) left[r] = right[r] = Vec<T>{};
  for (int64_t k = 0; k < k_count; k++) {
    fetch(k);
    const Vec<T> b0 = load(b), b1 = load(b + kLanes<T>);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; r++) {
      const Vec<T> x = splat(a[r * a_row]);
      left[r] = left[r] + x * b0;
      right[r] = right[r] + x * b1;
    }
    a++;
    b += kColumns<T>;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r++) finish(r, left[r], right[r]);
}

// Memory that is needed soon, fetched into the second-level cache a line at a time.
struct Ahead {
  const char *next, *end;
  int64_t lines() const { return (end - next) / 64; }
};

// scores[j][i] = ŵ_j · e_i.  Meanwhile the next tile's weight, and this one's velocity, are fetched.
template <class T>
static __attribute__((noinline)) void tile_cosines(const ClassSweep<T>& s, const SweepLayout<T>& layout,
                                                   const Tile<T>& tile, const T* by_axis, Ahead weight,
                                                   Ahead velocity) {
  constexpr int L = kLanes<T>;
  const int64_t calls = layout.n / kColumns<T> * (tile.padded / kRows);
  const int64_t weight_lines = (weight.lines() + calls - 1) / calls,
                velocity_lines = (velocity.lines() + calls - 1) / calls;
  for (int64_t i0 = 0; i0 < layout.n; i0 += kColumns<T>)
    for (int64_t j = 0; j < tile.padded; j += kRows) {
      T* const out = tile.scores + j * layout.score_stride + i0;
      fetching_kernel<T>(
          tile.rows + j * layout.row_stride, layout.row_stride, by_axis + i0 * s.D, s.D,
          [&](int64_t k) __attribute__((always_inline)) {
            if (k < velocity_lines && velocity.next < velocity.end) {
              __builtin_prefetch(velocity.next, 0, 2);
              velocity.next += 64;
            } else if (k < velocity_lines + weight_lines && weight.next < weight.end) {
              __builtin_prefetch(weight.next, 0, 2);
              weight.next += 64;
            }
          },
          [&](int r, Vec<T> left, Vec<T> right) __attribute__((always_inline)) {
            store(out + r * layout.score_stride, left);
            store(out + r * layout.score_stride + L, right);
          });
    }
}

// sum[i][k] += Σ_j scores[j][i]·rows[j][k]
template <class T>
static __attribute__((noinline)) void add_features(const ClassSweep<T>& s, const SweepLayout<T>& layout,
                                                   const Tile<T>& tile, T* sum) {
  constexpr int L = kLanes<T>;
  const int64_t blocks = (s.N + kRows - 1) / kRows;
  for (int64_t k = 0; k < layout.d; k += kColumns<T>)
    for (int64_t block = 0; block < blocks; block++) {
      const int64_t i = s.N * block / blocks, end = s.N * (block + 1) / blocks;
      T* out = sum + i * layout.row_stride + k;
      for (int64_t r = 0; r < end - i; r++) __builtin_prefetch(out + r * layout.row_stride, 1, 3);
      micro_kernel_rows<T>(
          int(end - i), tile.scores + i, 1, layout.score_stride, tile.rows + k, layout.row_stride,
          tile.count, [&](int r, Vec<T> left, Vec<T> right) __attribute__((always_inline)) {
            T* to = out + r * layout.row_stride;
            store(to, load(to) + left);
            store(to + L, load(to + L) + right);
          });
    }
}

template <class T>
FM_INLINE void apply_gradient(const ClassSweep<T>& s, int64_t at, int lanes, Vec<T> gradient, Vec<T> w, bool update) {
  if (!update) return store_part(s.d_weight + at, gradient, lanes);
  const Vec<T> g = gradient + splat(s.weight_decay) * w;
  const Vec<T> v = splat(s.momentum) * load_part(s.velocity + at, lanes) + g;
  store_part(s.velocity + at, v, lanes);
  store_part(s.weight_out + at, w - splat(s.learning_rate) * v, lanes);
}

// dW = Σᵢ scores[j][i]·e_i, projected on the tangent of its row: (dW − ŵ·⟨dW, ŵ⟩)/‖w‖, and ⟨dW, ŵ⟩ = Σᵢ G·cos.
template <class T, bool update>
static __attribute__((noinline)) void weight_gradient(const ClassSweep<T>& s, const SweepLayout<T>& layout,
                                                      const Tile<T>& tile, const T* by_row) {
  constexpr int L = kLanes<T>;
  for (int64_t j = 0; j < tile.padded; j += kRows) {
    T across[kRows], along[kRows];  // gradient = across·dW − along·w
    for (int r = 0; r < kRows; r++) {
      const T inverse = tile.inverse[j + r];
      across[r] = s.project || inverse == 0 ? inverse : T(1);
      along[r] = s.project ? tile.dots[j + r] * inverse : T(0);
    }
    const int64_t rows = std::min<int64_t>(kRows, tile.count - j);
    for (int64_t k = 0; k < s.D; k += kColumns<T>) {
      const int64_t corner = (tile.first + j) * s.D + k;
      const bool whole = k + kColumns<T> <= s.D;
      fetching_kernel<T>(
          tile.scores + j * layout.score_stride, layout.score_stride, by_row + k * s.N, s.N,
          [&](int64_t step) __attribute__((always_inline)) {  // what finish reads and writes
            if (!update || step >= rows) return;
            const int64_t at = corner + step * s.D;
            __builtin_prefetch(s.velocity + at, 1, 3);
            __builtin_prefetch(s.velocity + at + L, 1, 3);
            __builtin_prefetch(s.weight_out + at, 1, 3);
            __builtin_prefetch(s.weight_out + at + L, 1, 3);
          },
          [&](int r, Vec<T> left, Vec<T> right) __attribute__((always_inline)) {
            if (r >= rows) return;
            const int64_t at = corner + r * s.D;
            const Vec<T> scale = splat(across[r]), part = splat(along[r]);
            if (whole) {
              const Vec<T> w0 = load(s.weight + at), w1 = load(s.weight + at + L);
              apply_gradient(s, at, L, scale * (left - part * w0), w0, update);
              apply_gradient(s, at + L, L, scale * (right - part * w1), w1, update);
              return;
            }
            const int n0 = int(std::min<int64_t>(L, s.D - k)), n1 = int(s.D - k) - n0;
            const Vec<T> w0 = load_part(s.weight + at, n0);
            apply_gradient(s, at, n0, scale * (left - part * w0), w0, update);
            if (n1 <= 0) return;
            const Vec<T> w1 = load_part(s.weight + at + L, n1);
            apply_gradient(s, at + L, n1, scale * (right - part * w1), w1, update);
          });
    }
  }
}

// Per row, padded to whole vectors.
template <class T>
struct RowVectors {
  T *scale, *shift, *threshold, *factor, *spread;  // read
  T *sums, *counts, *largest;                      // of one tile twice, of one group
  T* dots;                                         // scratch: [K, lanes]
};

// ln(1 + e^−a) of a ≥ 0, from y = e^−a:  ln(1 + y) = 2·artanh(w), w = y/(2 + y) ≤ 1/3, to 2e-8.
FM_INLINE Vec<float> log1p_of(Vec<float> y) {
  const Vec<float> w = y / (y + splat(2.f)), square = w * w;
  Vec<float> p = splat(2 / 13.f);
  p = p * square + splat(2 / 11.f);
  p = p * square + splat(2 / 9.f);
  p = p * square + splat(2 / 7.f);
  p = p * square + splat(2 / 5.f);
  p = p * square + splat(2 / 3.f);
  p = p * square + splat(2.f);
  return p * w;
}
FM_INLINE Vec<double> log1p_of(Vec<double> y) {
  for (int i = 0; i < kLanes<double>; i++) y[i] = std::log1p(y[i]);
  return y;
}

// A class's score e goes to the first of its centers that has its cosine, the others get 0; dots adds up e·cos by center.
template <bool dotted, class T>
FM_INLINE void unpool(T* score, int64_t stride, int64_t K, Vec<T> cos, Vec<T> e, T* dots) {
  const Vec<T> zero = {};
  for (int64_t k = 0; k < K; k++, score += stride, dots += kLanes<T>) {
    const auto chosen = load(score) == cos;
    const Vec<T> given = chosen ? e : zero;
    e = chosen ? zero : e;
    if constexpr (dotted) store(dots, load(dots) + given * cos);
    store(score, given);
  }
}

// Cosines become what the products need.  `next` is the first target at or after the tile.
template <class Config>
static __attribute__((noinline)) void tile_epilogue(const ClassSweep<typename Config::Real>& s,
                                                    const SweepLayout<typename Config::Real>& layout,
                                                    const Tile<typename Config::Real>& tile,
                                                    const RowVectors<typename Config::Real>& rows,
                                                    const typename Config::Negative& negative, const Target*& next) {
  using T = typename Config::Real;
  constexpr int L = kLanes<T>;
  constexpr SweepKind kind = Config::kind;
  constexpr bool sums = kind == SweepKind::sums || kind == SweepKind::sums_and_features || kind == SweepKind::gradients;
  constexpr bool ranks = sums && kind != SweepKind::gradients;
  constexpr bool gradients = kind == SweepKind::gradients || kind == SweepKind::update;
  constexpr bool plain = Config::Negative::plain, binary = Config::Negative::binary;
  constexpr bool sloped = Config::extras || !plain;
  const Vec<T> limit = splat(s.cosine_limit), outside = splat(s.slope_outside), absent = splat(T(kAbsent));
  const Target* const end = s.targets + s.target_count;
  const int64_t K = Config::extras ? s.K : 1, stride = layout.score_stride;

  for (int64_t j = 0; j < tile.count; j += K) {
    T* const score = tile.scores + j * stride;
    const Target* const first = next;
    for (; next < end && next->center < tile.first + j + K; ++next) {
      T* const of_row = score + next->row;
      T best = *of_row;
      for (int64_t k = 1; k < K; k++) best = std::max(best, of_row[k * stride]);
      if (ranks) s.seen_target_cos[next->row] = best;
      for (int64_t k = 0; k < K; k++) of_row[k * stride] = T(kAbsent);
    }
    Vec<T> dot0 = {}, dot1 = {};
    if (gradients && K > 1) std::fill_n(rows.dots, K * L, T(0));
    for (int64_t i = 0; i < layout.n; i += L) {
      Vec<T> cos = load(score + i);
      if constexpr (Config::extras) {
        for (int64_t k = 1; k < K; k++) cos = max<T>(cos, load(score + k * stride + i));
      }
      if (ranks) store(rows.largest + i, max<T>(load(rows.largest + i), cos));
      Vec<T> phi = cos, slope = splat(T(1));
      if constexpr (Config::extras) {
        phi = min<T>(max<T>(cos, -limit), limit);
        slope = phi == cos ? slope : outside;
      }
      if constexpr (kind == SweepKind::maximum) {
        const Vec<T> more = phi > load(rows.threshold + i) ? splat(T(1)) : splat(T(0));
        store(rows.counts + i, load(rows.counts + i) + (cos == absent ? splat(T(0)) : more));
      }
      if constexpr (!plain) {
        const auto margined = negative.negative(phi, load(rows.threshold + i));
        phi = margined.value;
        slope = slope * margined.slope;
      }
      if constexpr (sloped) {
        phi = cos == absent ? cos : phi;
        slope = cos == absent ? splat(T(0)) : slope;  // a power of kAbsent may not be finite
      }

      if constexpr (kind == SweepKind::maximum) store(rows.largest + i, max<T>(load(rows.largest + i), phi));
      else if constexpr (kind == SweepKind::logits) store(score + i, load(rows.scale + i) * phi - load(rows.shift + i));
      else {
        const Vec<T> z = load(rows.scale + i) * phi - load(rows.shift + i);
        Vec<T> e;
        if constexpr (binary) {
          const Vec<T> small = exp(z < splat(T(0)) ? z : -z), inverse = splat(T(1)) / (small + splat(T(1)));
          e = z < splat(T(0)) ? small * inverse : inverse;
          if constexpr (sums) {
            store(rows.sums + i, load(rows.sums + i) + max<T>(z, splat(T(0))) + log1p_of(small));
            store(rows.counts + i, load(rows.counts + i) + e);
          }
        } else {
          e = exp(z);
          if constexpr (sums) store(rows.sums + i, load(rows.sums + i) + e);
        }
        if constexpr (sloped) e = e * slope;
        if constexpr (gradients) {
          e = e * load(rows.factor + i);
          if constexpr (Config::extras) e = cos == absent ? splat(T(0)) : e - load(rows.spread + i);
          if (K == 1) (i / L % 2 ? dot1 : dot0) += e * cos;
        }
        if constexpr (kind != SweepKind::sums) {
          if (K == 1) store(score + i, e);
          else unpool<gradients>(score + i, stride, K, cos, e, rows.dots);
        }
      }
    }
    if constexpr (kind == SweepKind::logits)
      for (int64_t i = 0; i < s.N; i++) s.logits[i * (s.R / K) + (tile.first + j) / K] = score[i];
    if constexpr (gradients) {
      if (K == 1) tile.dots[j] = sum_lanes<T>(dot0 + dot1);
      for (int64_t k = 0; K > 1 && k < K; k++) tile.dots[j + k] = sum_lanes<T>(load(rows.dots + k * L));
    }
    if constexpr (kind == SweepKind::update)
      for (const Target* t = first; t < next; ++t) {
        const int64_t k = t->center - tile.first;
        tile.scores[k * stride + t->row] = s.target_gradient[t->row];
        tile.dots[k] += s.target_gradient[t->row] * s.target_cos[t->row];
      }
  }
  if constexpr (gradients)
    for (int64_t j = tile.count; j < tile.padded; j++) {
      std::memset(tile.scores + j * stride, 0, stride * sizeof(T));
      tile.dots[j] = 0;
    }
}

// Rows of a tile, whole classes of K and no more than wanted: the number that fills whole micro-kernels best.
static inline int64_t whole_classes(int64_t wanted, int64_t K) {
  int64_t found = K;
  for (int64_t n = K; n <= wanted; n += K)
    if (n * round_up(found, kRows) >= found * round_up(n, kRows)) found = n;
  return found;
}

template <class T>
static void fill_rows(T* to, const T* from, int64_t n, int64_t padded, T missing) {
  for (int64_t i = 0; i < padded; i++) to[i] = from && i < n ? from[i] : missing;
}

// Elements that the kept cosines of one row of weight take.
template <class T>
static int64_t kept_elements(const ClassSweep<T>& s) {
  return SweepLayout<T>(s).score_stride;
}

template <class Config>
static void class_sweep(ClassSweep<typename Config::Real>& s, const typename Config::Negative& negative) {
  using T = typename Config::Real;
  constexpr SweepKind kind = Config::kind;
  constexpr bool features = kind == SweepKind::sums_and_features || kind == SweepKind::gradients;
  constexpr bool weights = kind == SweepKind::gradients || kind == SweepKind::update;
  constexpr bool per_row = kind != SweepKind::update && kind != SweepKind::logits;

  const SweepLayout<T> layout(s);
  const int64_t most = whole_classes(std::min(tile_rows(features), s.R), s.K), most_padded = round_up(most, kRows);
  const int64_t tiles = (s.R + most - 1) / most;
  // A group costs [N, D] of partial dX: as many as 8 MiB hold, but enough of them to occupy a few threads.
  const int64_t affordable = features ? (int64_t(8) << 20) / (s.N * layout.row_stride * int64_t(sizeof(T))) : 64;
  const int64_t groups = std::min(std::clamp<int64_t>(affordable, 8, 64), std::max<int64_t>(1, tiles / 4));

  const Scratch<T> by_axis(layout.n * s.D);
  pack_by_axis(s, by_axis.data());
  const Scratch<T> by_row(weights ? layout.d * s.N : 0);
  if (weights) pack_by_row(s, by_row.data());

  const Scratch<T> shared(5 * layout.n);
  T* const scale = shared.data();
  T* const shift = scale + layout.n;
  T* const threshold = shift + layout.n;
  T* const factor = threshold + layout.n;
  T* const spread = factor + layout.n;
  fill_rows<T>(scale, s.scale, s.N, layout.n, 0);
  fill_rows<T>(shift, s.shift, s.N, layout.n, 0);
  fill_rows<T>(threshold, s.threshold, s.N, layout.n, 0);
  fill_rows<T>(factor, s.factor, s.N, layout.n, 0);
  fill_rows<T>(spread, s.spread, s.N, layout.n, 0);

  const Scratch<T> group_features(features ? groups * s.N * layout.row_stride : 0);
  const Scratch<double> group_sums(per_row ? 2 * groups * s.N : 0);
  const Scratch<T> group_largest(per_row ? groups * layout.n : 0);
  std::vector<int64_t> group_bad(groups, -1);

  // Scratch belongs to a worker and not to a thread, so that its amount is known here.
  const int64_t workers = std::min<int64_t>(num_threads(), groups);
  const int64_t tile_size =
      most_padded * (layout.row_stride + layout.score_stride + 2) + 2 * layout.n + s.K * kLanes<T>;
  const int64_t worker_size = round_up(tile_size, 64 / sizeof(T)) + 64 / sizeof(T);
  const Scratch<T> worker_scratch(workers * worker_size);
  std::atomic<int64_t> next_group{0};

  parallel_for(workers, [&](int64_t worker) {
    T* scratch = worker_scratch.data() + worker * worker_size;
    Tile<T> tile;
    tile.rows = scratch;
    T* const scores = tile.rows + most_padded * layout.row_stride;
    tile.inverse = scores + most_padded * layout.score_stride;
    tile.dots = tile.inverse + most_padded;
    T* const tile_sums = tile.dots + most_padded;
    T* const tile_counts = tile_sums + layout.n;
    for (int64_t group; (group = next_group.fetch_add(1)) < groups;) {
      const int64_t first = tiles * group / groups, last = tiles * (group + 1) / groups;
      const int64_t end = std::min(s.R, last * most);
      T* const sum = group_features.data() + (features ? group * s.N * layout.row_stride : 0);
      double* const sums = group_sums.data() + (per_row ? 2 * group * s.N : 0);  // and counts
      T* const largest = group_largest.data() + (per_row ? group * layout.n : 0);
      if (features) std::memset(sum, 0, s.N * layout.row_stride * sizeof(T));
      if (per_row) {
        std::fill_n(sums, 2 * s.N, 0.0);
        std::fill_n(largest, layout.n, T(kAbsent));
      }
      const RowVectors<T> rows{
          scale, shift, threshold, factor, spread, tile_sums, tile_counts, largest, tile_counts + layout.n};
      const Target* next = std::lower_bound(s.targets, s.targets + s.target_count, first * most,
                                            [](const Target& t, int64_t row) { return t.center < row; });
      for (tile.first = first * most; tile.first < end; tile.first += most) {
        tile.count = std::min(most, end - tile.first);
        tile.padded = round_up(tile.count, kRows);
        const bool keeps = tile.first + tile.padded <= s.kept_rows;
        const bool known = keeps && kind == SweepKind::update;
        tile.scores = scores;
        if (known) {
          // In place where no row is padding: that becomes 0, and would be the next tile's.
          T* const kept = s.kept + tile.first * layout.score_stride;
          if (tile.count == tile.padded) tile.scores = kept;
          else std::memcpy(scores, kept, tile.count * layout.score_stride * sizeof(T));
        }
        const int64_t bad = load_tile(s, layout, tile, known);
        if (bad >= 0 && group_bad[group] < 0) group_bad[group] = bad;
        const int64_t ahead = std::min(end, tile.first + most), ahead_end = std::min(end, ahead + most);
        const auto rows_ahead = [&](const T* of, int64_t from, int64_t to) {
          return Ahead{reinterpret_cast<const char*>(of + from * s.D), reinterpret_cast<const char*>(of + to * s.D)};
        };
        if (!known)
          tile_cosines(
              s, layout, tile, by_axis.data(), rows_ahead(s.weight, ahead, ahead_end),
              kind == SweepKind::update ? rows_ahead(s.velocity, tile.first, tile.first + tile.count) : Ahead{});
        if (kind == SweepKind::sums_and_features && tile.first < s.kept_rows)
          std::memcpy(s.kept + tile.first * layout.score_stride, tile.scores,
                      std::min(tile.count, s.kept_rows - tile.first) * layout.score_stride * sizeof(T));
        std::fill_n(tile_sums, 2 * layout.n, T(0));
        tile_epilogue<Config>(s, layout, tile, rows, negative, next);
        if constexpr (per_row)
          for (int64_t i = 0; i < s.N; i++) {
            sums[i] += tile_sums[i];
            sums[s.N + i] += tile_counts[i];
          }
        if constexpr (features) add_features(s, layout, tile, sum);
        if constexpr (weights) weight_gradient<T, kind == SweepKind::update>(s, layout, tile, by_row.data());
      }
    }
  });

  for (int64_t group = groups - 1; group >= 0; group--)
    if (group_bad[group] >= 0) s.bad_row = group_bad[group];
  if constexpr (per_row)
    for (int64_t i = 0; i < s.N; i++) {
      s.sums[i] = s.counts[i] = 0;
      s.largest[i] = T(kAbsent);
      for (int64_t group = 0; group < groups; group++) {
        s.sums[i] += group_sums[2 * group * s.N + i];
        s.counts[i] += group_sums[(2 * group + 1) * s.N + i];
        s.largest[i] = std::max(s.largest[i], group_largest[group * layout.n + i]);
      }
    }
  if constexpr (features)
    parallel_for(s.N, [&](int64_t i) {
      T* to = s.d_features + i * s.D;
      for (int64_t k = 0; k < s.D; k += kLanes<T>) {
        Vec<T> total = {};
        for (int64_t group = 0; group < groups; group++)
          total = total + load(group_features.data() + (group * s.N + i) * layout.row_stride + k);
        store_part(to + k, total, int(std::min<int64_t>(kLanes<T>, s.D - k)));
      }
    });
}
