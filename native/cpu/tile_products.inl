// The three products of a tile of classes:
//
//   cosines    [rows, N]   rows × panels of embeddings, vectors along the batch
//   dX         [N, D]     += scoresᵀ × rows, vectors along D
//   dW         [rows, D]   scores × embeddings, vectors along D; applied from registers
#include "tile_operands.inl"

// Memory that is needed soon, fetched into the second-level cache a line at a time.
struct Ahead {
  const char *next = nullptr, *end = nullptr;  // of what lies side by side: all of them, or one
  // Rows that follow, at their places from `base`.
  const char* base = nullptr;
  ClassRows places{};
  int64_t row = 0, last_row = 0, row_bytes = 0;

  int64_t lines() const { return (end - next + (last_row - row) * row_bytes) / 64; }
  bool left() const { return next < end || row < last_row; }
  __attribute__((always_inline)) void fetch() {
    if (next >= end) {
      next = base + places(row++) * row_bytes;
      end = next + row_bytes;
    }
    __builtin_prefetch(next, 0, 2);
    next += 64;
  }
};

// Two of them, a few lines a step of a product's kernels.
struct AheadOfBoth {
  Ahead first, second;
  int64_t first_lines, second_lines;  // a kernel

  AheadOfBoth(const Ahead& first, const Ahead& second, int64_t kernels)
      : first(first),
        second(second),
        first_lines((first.lines() + kernels - 1) / kernels),
        second_lines((second.lines() + kernels - 1) / kernels) {}

  __attribute__((always_inline)) void fetch(int64_t step) {
    if (step < first_lines && first.left()) first.fetch();
    else if (step < first_lines + second_lines && second.left()) second.fetch();
  }
};

// scores[j][i] = ŵ_j · e_i.  Meanwhile this tile's state, and the next one's weight, are fetched.
template <class Operand, class T>
static __attribute__((noinline)) void tile_cosines(const ClassSweep<T>& s, const SweepLayout<T>& layout,
                                                   const Tile<T>& tile, const Operand* rows, const Operand* by_axis,
                                                   Ahead weight, Ahead state) {
  constexpr int L = kLanes<T>;
  AheadOfBoth ahead(state, weight, layout.n / kColumns<T> * (tile.padded / kRows));
  const int64_t row_operands = layout.template row_operands<Operand>(), k_count = steps<Operand>(s.D);
  for (int64_t i0 = 0; i0 < layout.n; i0 += kColumns<T>)
    for (int64_t j = 0; j < tile.padded; j += kRows) {
      T* const out = tile.scores + j * layout.score_stride + i0;
      fetching_kernel<kRows, Operand>(
          rows + j * row_operands, row_operands, 1, by_axis + i0 * k_count, kColumns<Operand>,
          k_count, [&](int64_t k) __attribute__((always_inline)) { ahead.fetch(k); },
          [&](int r, Vec<T> left, Vec<T> right) __attribute__((always_inline)) {
            store(out + r * layout.score_stride, left);
            store(out + r * layout.score_stride + L, right);
          });
    }
}

// sum[i][k] += Σ_j scores[j][i]·rows[j][k]
template <class Operand, class T>
static __attribute__((noinline)) void add_features(const ClassSweep<T>& s, const SweepLayout<T>& layout,
                                                   const Tile<T>& tile, const TileOperands<Operand>& operands, T* sum) {
  constexpr int L = kLanes<T>;
  constexpr bool pairs = kPair<Operand> == 2;
  const int64_t blocks = (s.N + kRows - 1) / kRows, k_count = steps<Operand>(tile.count);
  for (int64_t k = 0; k < layout.d; k += kColumns<T>)
    for (int64_t block = 0; block < blocks; block++) {
      const int64_t i = s.N * block / blocks, end = s.N * (block + 1) / blocks;
      T* out = sum + i * layout.row_stride + k;
      for (int64_t r = 0; r < end - i; r++) {
        __builtin_prefetch(out + r * layout.row_stride, 1, 3);
        __builtin_prefetch(out + r * layout.row_stride + L, 1, 3);
      }
      micro_kernel_rows<Operand>(
          int(end - i), operands.scores + i, 1, layout.score_stride,
          pairs ? operands.across + k * (tile.padded / 2) : operands.across + k,
          pairs ? kColumns<Operand> : layout.row_stride,
          k_count, [&](int r, Vec<T> left, Vec<T> right) __attribute__((always_inline)) {
            T* to = out + r * layout.row_stride;
            store(to, load(to) + left);
            store(to + L, load(to + L) + right);
          });
    }
}

template <class T, class Update>
FM_INLINE void apply_gradient(const ClassSweep<T>& s, int64_t at, int lanes, Vec<T> gradient, Vec<T> w,
                              const Update& update) {
  if constexpr (Update::kStates == 0) store_part(s.d_weight + at, gradient, lanes);
  else {
    Vec<T> state[Update::kStates];
    for (int k = 0; k < Update::kStates; k++) state[k] = load_part(s.states[k] + at, lanes);
    const Vec<T> next = update(w, gradient, state);
    for (int k = 0; k < Update::kStates; k++) store_part(s.states[k] + at, state[k], lanes);
    store_part(s.weight_out + at, next, lanes);
  }
}

// dW = Σᵢ scores[j][i]·e_i, projected on the tangent of its row: (dW − ŵ·⟨dW, ŵ⟩)/‖w‖, and ⟨dW, ŵ⟩ = Σᵢ G·cos.
template <class Operand, class T, class Update>
static __attribute__((noinline)) void weight_gradient(const ClassSweep<T>& s, const SweepLayout<T>& layout,
                                                      const Tile<T>& tile, const Operand* scores, const Operand* by_row,
                                                      const Update& update, Ahead next_weight, Ahead next_state) {
  constexpr int L = kLanes<T>;
  const int64_t stride = layout.template score_operands<Operand>(), k_count = steps<Operand>(s.N);
  AheadOfBoth ahead(next_weight, next_state, tile.padded / kRows * (layout.d / kColumns<T>));
  for (int64_t j = 0; j < tile.padded; j += kRows) {
    T across[kRows], along[kRows];  // gradient = across·dW − along·w
    int64_t places[kRows];
    const int64_t rows = std::min<int64_t>(kRows, tile.count - j);
    for (int r = 0; r < kRows; r++) {
      places[r] = r < rows ? s.places()(tile.first + j + r) * s.D : 0;
      const T inverse = tile.inverse[j + r];
      across[r] = s.project || inverse == 0 ? inverse : T(1);
      along[r] = s.project ? tile.dots[j + r] * inverse : T(0);
    }
    for (int64_t k = 0; k < s.D; k += kColumns<T>) {
      const bool whole = k + kColumns<T> <= s.D;
      fetching_kernel<kRows, Operand>(
          scores + j * stride, stride, 1, by_row + k * k_count, kColumns<Operand>, k_count,
          [&](int64_t step) __attribute__((always_inline)) {  // what finish reads and writes
            if (Update::kStates == 0) return;
            if (step >= rows) return ahead.fetch(step - rows);
            const int64_t at = places[step] + k;
            for (int of = 0; of < Update::kStates; of++) {
              __builtin_prefetch(s.states[of] + at, 1, 3);
              __builtin_prefetch(s.states[of] + at + L, 1, 3);
            }
            __builtin_prefetch(s.weight_out + at, 1, 3);
            __builtin_prefetch(s.weight_out + at + L, 1, 3);
          },
          [&](int r, Vec<T> left, Vec<T> right) __attribute__((always_inline)) {
            if (r >= rows) return;
            const int64_t at = places[r] + k;
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
