// What the products of a tile read: the embeddings, packed once a sweep, and the tile's rows and scores.
//
// An Operand is what is multiplied: T, or a uint32_t of two bfloat16 that are neighbours along the axis that the product
// sums over, the first in the low half.  Sums are in T.  Without AVX-512-BF16, bfloat16 is T rounded to it.

template <class Operand>
constexpr int kPair = std::is_same_v<Operand, uint32_t> ? 2 : 1;  // values in an operand

template <class Operand>
constexpr int kColumns = 2 * kLanes<Operand>;  // of a micro-kernel

static inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Operands that n values along the summed axis take.
template <class Operand>
static inline int64_t steps(int64_t n) {
  return (n + kPair<Operand> - 1) / kPair<Operand>;
}

// Nearest bfloat16, ties to even; not for NaN.
static inline uint32_t bfloat16_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static inline float rounded_to_bfloat16(float x) {
  const uint32_t bits = bfloat16_bits(x) << 16;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// x of n values, in whole vectors, rounded in place.
[[maybe_unused]] static void round_to_bfloat16(float* x, int64_t n) {
  for (int64_t k = 0; k < n; k += kLanes<float>) {
    Vec<uint32_t> bits = reinterpret_cast<Vec<uint32_t>>(load(x + k));
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    store(x + k, reinterpret_cast<Vec<float>>(bits));
  }
}

#ifdef FM_BF16
typedef uint16_t Halves __attribute__((vector_size(FM_VECTOR_BYTES), may_alias));  // two vectors' worth of bfloat16

FM_INLINE Halves to_bfloat16(Vec<float> first, Vec<float> second) { return (Halves)_mm512_cvtne2ps_pbh(second, first); }
#endif

template <class T>
struct SweepLayout {
  int64_t n, d;  // N and D in whole micro-kernel columns
  int64_t score_stride, row_stride;
  explicit SweepLayout(const ClassSweep<T>& s)
      : n(round_up(s.N, kColumns<T>)),
        d(round_up(s.D, kColumns<T>)),
        score_stride(n + kLanes<T>),
        row_stride(d + kLanes<T>) {}
  // The strides of a tile's operands along D and along the batch.
  template <class Operand>
  int64_t row_operands() const {
    return d / kPair<Operand> + kLanes<T>;
  }
  template <class Operand>
  int64_t score_operands() const {
    return n / kPair<Operand> + kLanes<T>;
  }
};

// The operand of neighbours a and b; without pairs, of a alone.
template <class Operand, class T>
FM_INLINE Operand operand_of(T a, T b, bool rounded) {
  if constexpr (kPair<Operand> == 2) return bfloat16_bits(a) | bfloat16_bits(b) << 16;
  else if constexpr (std::is_same_v<T, float>) return rounded ? rounded_to_bfloat16(a) : a;
  else return a;
}

// by_axis: [n / columns][steps of D][columns];  by_row: [d / columns][steps of N][columns].  Missing values are 0.
template <class Operand, class T>
static void pack_by_axis(const ClassSweep<T>& s, Operand* to) {
  constexpr int columns = kColumns<Operand>;
  const auto value = [&](int64_t i, int64_t k) { return i < s.N && k < s.D ? s.embeddings[i * s.D + k] : T(0); };
  for (int64_t i0 = 0; i0 < s.N; i0 += columns)
    for (int64_t k = 0; k < s.D; k += kPair<Operand>, to += columns)
      for (int i = 0; i < columns; i++)
        to[i] = operand_of<Operand>(value(i0 + i, k), value(i0 + i, k + 1), s.rounds_operands);
}
template <class Operand, class T>
static void pack_by_row(const ClassSweep<T>& s, Operand* to) {
  constexpr int columns = kColumns<Operand>;
  const auto value = [&](int64_t i, int64_t k) { return i < s.N && k < s.D ? s.embeddings[i * s.D + k] : T(0); };
  for (int64_t k0 = 0; k0 < s.D; k0 += columns)
    for (int64_t i = 0; i < s.N; i += kPair<Operand>, to += columns)
      for (int k = 0; k < columns; k++)
        to[k] = operand_of<Operand>(value(i, k0 + k), value(i + 1, k0 + k), s.rounds_operands);
}

template <class T>
struct Tile {
  int64_t first;          // row of weight
  int64_t count, padded;  // rows; in whole micro-kernels
  T* scores;              // [padded, score_stride] cosines, then what multiplies the rows
  T* inverse;             // [padded] 1/‖w‖; 0 for a row without direction
  T* dots;                // [padded] Σᵢ G·cos: what the tangent projection takes away
};

// The tile as the products take it.  Of T, scores are the tile's own, and `across` the rows.
template <class Operand>
struct TileOperands {
  Operand* rows;    // [padded, row_operands] unit rows
  Operand* across;  // in pairs along the rows, [d / columns][padded / 2][columns]; none where there is no dX
  Operand* scores;  // in pairs along the rows, [padded / 2, score_stride], or along the batch, [padded, score_operands]
};

// A unit row, as operands: `scale` of w.
template <class Operand, class T, class Scale>
FM_INLINE void store_row(const T* w, Scale scale, int64_t D, int64_t padded, bool rounded, Operand* row) {
  if constexpr (kPair<Operand> == 2) {
    auto* const halves = reinterpret_cast<uint16_t*>(row);
    for (int64_t k = 0; k < D; k++) halves[k] = uint16_t(bfloat16_bits(T(w[k] * scale)));
    for (int64_t k = D; k < padded; k++) halves[k] = 0;
  } else {
    for (int64_t k = 0; k < D; k++) row[k] = operand_of<Operand>(T(w[k] * scale), T(0), rounded);
    for (int64_t k = D; k < padded; k++) row[k] = 0;
  }
}
template <class Operand, class T>
FM_INLINE void store_scaled_row(const T* w, T scale, int64_t D, int64_t padded, bool rounded, Operand* row) {
  constexpr int L = kLanes<T>;
  int64_t k = 0;
#ifdef FM_BF16
  if constexpr (kPair<Operand> == 2) {
    for (; k < D; k += 2 * L, row += L) {
      const int n0 = int(std::min<int64_t>(L, D - k)), n1 = int(std::clamp<int64_t>(D - k - L, 0, L));
      const Vec<T> a = load_part(w + k, n0), b = load_part(w + k + L, n1);
      store(row, reinterpret_cast<Vec<uint32_t>>(to_bfloat16(a * splat(scale), b * splat(scale))));
    }
    return;
  } else
#endif
  {
    for (; k + L <= D; k += L) store(row + k, load(w + k) * splat(scale));
    for (; k < D; k++) row[k] = w[k] * scale;
    for (; k < padded; k++) row[k] = 0;
    if constexpr (std::is_same_v<T, float>)
      if (rounded) round_to_bfloat16(row, padded);
  }
}

#ifdef FM_BF16
// Element 2i of the result is lane i of a, element 2i + 1 lane i of b, of their first and second halves.
FM_INLINE Halves first_pairs(Halves a, Halves b) {
  return __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9, 41, 10, 42, 11,
                                 43, 12, 44, 13, 45, 14, 46, 15, 47);
}
FM_INLINE Halves second_pairs(Halves a, Halves b) {
  return __builtin_shufflevector(a, b, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55, 24, 56, 25, 57,
                                 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63);
}
// Element 2i is lane i of x's first half, element 2i + 1 lane i of its second.
FM_INLINE Halves zipped_halves(Halves x) {
  return __builtin_shufflevector(x, x, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11,
                                 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

// Rows j and j + 1 of the tile to operands.across.
template <class T>
FM_INLINE void pair_rows(const SweepLayout<T>& layout, const Tile<T>& tile, const TileOperands<uint32_t>& operands,
                         int64_t j) {
  constexpr int L = kLanes<T>;
  const int64_t stride = layout.template row_operands<uint32_t>();
  const uint32_t* row = operands.rows + j * stride;
  uint32_t* to = operands.across + j / 2 * kColumns<uint32_t>;
  for (int64_t k = 0; k < layout.d / 2; k += L, to += tile.padded / 2 * kColumns<uint32_t>) {
    const Halves a = reinterpret_cast<Halves>(load(row + k)), b = reinterpret_cast<Halves>(load(row + stride + k));
    store(to, reinterpret_cast<Vec<uint32_t>>(first_pairs(a, b)));
    store(to + L, reinterpret_cast<Vec<uint32_t>>(second_pairs(a, b)));
  }
}
#endif

template <class T>
FM_INLINE T square_of(const T* w, int64_t D) {
  constexpr int L = kLanes<T>;
  Vec<T> sum0 = {}, sum1 = {};
  int64_t k = 0;
  for (; k + 2 * L <= D; k += 2 * L) {
    const Vec<T> a = load(w + k), b = load(w + k + L);
    sum0 = sum0 + a * a;
    sum1 = sum1 + b * b;
  }
  for (; k < D; k += L) {
    const Vec<T> a = load_part(w + k, int(std::min<int64_t>(L, D - k)));
    sum0 = sum0 + a * a;
  }
  return sum_lanes<T>(sum0 + sum1);
}

// Norms and unit rows.  Returns the first row that is not finite, or −1.
template <class Operand, class T>
static int64_t load_tile(const ClassSweep<T>& s, const SweepLayout<T>& layout, Tile<T>& tile,
                         const TileOperands<Operand>& operands) {
  // Squares of norms above kTiny that neither overflow nor underflow.
  const T low = T(sizeof(T) == 4 ? 1e-18 : 1e-22), high = T(sizeof(T) == 4 ? 1e30 : 1e200);
  constexpr int kAtOnce = 4;  // rows, whose sums, roots and divisions wait for each other
  int64_t bad = -1;
  const int64_t row_operands = layout.template row_operands<Operand>();
  for (int64_t first = 0; first < tile.count; first += kAtOnce) {
    const int64_t end = std::min(first + kAtOnce, tile.count);
    T square[kAtOnce], root[kAtOnce];
    for (int64_t j = first; j < end; j++)
      square[j - first] = square_of(s.weight + s.places()(tile.first + j) * s.D, s.D);
    for (int64_t j = first; j < end; j++) root[j - first] = T(1) / std::sqrt(square[j - first]);
    for (int64_t j = first; j < end; j++) {
      const T* w = s.weight + s.places()(tile.first + j) * s.D;
      Operand* row = operands.rows + j * row_operands;
      if (square[j - first] > low && square[j - first] < high) {
        tile.inverse[j] = root[j - first];
        store_scaled_row(w, root[j - first], s.D, layout.d, s.rounds_operands, row);
      } else {
        const double norm = exact_norm(w, s.D);
        if (!(norm <= std::numeric_limits<double>::max()) && bad < 0) bad = tile.first + j;
        const double scale = 1 / std::max(norm, kTiny);
        tile.inverse[j] = norm < kTiny ? T(0) : T(scale);
        store_row(w, scale, s.D, layout.d, s.rounds_operands, row);
      }
    }
  }
  for (int64_t j = tile.count; j < tile.padded; j++) {
    std::memset(operands.rows + j * row_operands, 0, row_operands * sizeof(Operand));
    tile.inverse[j] = 0;
  }
#ifdef FM_BF16
  if constexpr (kPair<Operand> == 2)
    for (int64_t j = 0; operands.across && j < tile.count; j += 2) pair_rows(layout, tile, operands, j);
#endif
  return bad;
}

// The finished scores for dX, in pairs along the rows of weight.
template <class Operand, class T>
static void pair_across(const SweepLayout<T>& layout, const Tile<T>& tile, const TileOperands<Operand>& operands) {
#ifdef FM_BF16
  if constexpr (kPair<Operand> == 2)
    for (int64_t j = 0; j < tile.count; j += 2) {
      const T* score = tile.scores + j * layout.score_stride;
      Operand* const to = operands.scores + j / 2 * layout.score_stride;
      for (int64_t i = 0; i < layout.n; i += kLanes<T>) {
        const Halves both = to_bfloat16(load(score + i), load(score + layout.score_stride + i));
        store(to + i, reinterpret_cast<Vec<Operand>>(zipped_halves(both)));
      }
    }
#endif
}

// The finished scores for dW, in pairs along the batch.
template <class Operand, class T>
static void pair_along(const SweepLayout<T>& layout, const Tile<T>& tile, const TileOperands<Operand>& operands) {
#ifdef FM_BF16
  constexpr int L = kLanes<T>;
  if constexpr (kPair<Operand> == 2)
    for (int64_t j = 0; j < tile.padded; j++) {
      const T* score = tile.scores + j * layout.score_stride;
      Operand* const to = operands.scores + j * layout.template score_operands<Operand>();
      for (int64_t i = 0; i < layout.n; i += 2 * L)
        store(to + i / 2, reinterpret_cast<Vec<Operand>>(to_bfloat16(load(score + i), load(score + i + L))));
    }
#endif
}

// --- kept cosines ------------------------------------------------------------------------------------------------------

// Bytes that is kept of one row of weight: its cosines, and 1/‖w‖.
template <class T>
static int64_t kept_bytes(const ClassSweep<T>& s, bool in_steps) {
  const SweepLayout<T> layout(s);
  const int64_t cosines = in_steps ? layout.n * int64_t(sizeof(int16_t)) : layout.score_stride * int64_t(sizeof(T));
  return cosines + int64_t(sizeof(T));
}

constexpr float kCosineSteps = 32767;  // to a cosine of 1
typedef int32_t IntVec __attribute__((vector_size(FM_VECTOR_BYTES), may_alias));
typedef int16_t ShortVec __attribute__((vector_size(FM_VECTOR_BYTES / 2), may_alias));
typedef int16_t UnalignedShortVec __attribute__((vector_size(FM_VECTOR_BYTES / 2), aligned(2), may_alias));

// Keeps what may be kept of a tile's cosines.  The first sweep goes on with rounded ones too: both sweeps see one softmax,
// and a negative that is hard, by however little, is hard in both.
template <class T>
static void keep_cosines(const ClassSweep<T>& s, const SweepLayout<T>& layout, const Tile<T>& tile) {
  const int64_t count = std::min(tile.count, s.kept_rows - tile.first);
  if (count <= 0) return;
  std::memcpy(s.kept_inverse + tile.first, tile.inverse, count * sizeof(T));
  if (s.kept)
    std::memcpy(s.kept + tile.first * layout.score_stride, tile.scores, count * layout.score_stride * sizeof(T));
  if constexpr (std::is_same_v<T, float>) {
    const Vec<float> magic = splat(12582912.f);  // 1.5·2²³: adding it rounds to an integer
    for (int64_t j = 0; s.kept_steps && j < count; j++) {
      float* const cos = tile.scores + j * layout.score_stride;
      int16_t* const to = s.kept_steps + (tile.first + j) * layout.n;
      for (int64_t i = 0; i < layout.n; i += kLanes<float>) {
        const Vec<float> x = min<float>(max<float>(load(cos + i), splat(-1.f)), splat(1.f));
        const Vec<float> shifted = x * splat(kCosineSteps) + magic;
        const IntVec steps = reinterpret_cast<IntVec>(shifted) - reinterpret_cast<IntVec>(magic);
        *reinterpret_cast<UnalignedShortVec*>(to + i) = __builtin_convertvector(steps, ShortVec);
        store(cos + i, (shifted - magic) * splat(1 / kCosineSteps));
      }
    }
  }
}

template <class T>
static void restore_cosines(const ClassSweep<T>& s, const SweepLayout<T>& layout, const Tile<T>& tile) {
  std::memcpy(tile.inverse, s.kept_inverse + tile.first, tile.count * sizeof(T));
  std::fill(tile.inverse + tile.count, tile.inverse + tile.padded, T(0));
  if (s.kept)
    std::memcpy(tile.scores, s.kept + tile.first * layout.score_stride, tile.count * layout.score_stride * sizeof(T));
  if constexpr (std::is_same_v<T, float>)
    for (int64_t j = 0; s.kept_steps && j < tile.count; j++) {
      const int16_t* const from = s.kept_steps + (tile.first + j) * layout.n;
      for (int64_t i = 0; i < layout.n; i += kLanes<float>) {
        const IntVec steps =
            __builtin_convertvector(ShortVec(*reinterpret_cast<const UnalignedShortVec*>(from + i)), IntVec);
        store(tile.scores + j * layout.score_stride + i,
              __builtin_convertvector(steps, Vec<float>) * splat(1 / kCosineSteps));
      }
    }
}
