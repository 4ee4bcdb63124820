// The matrix micro-kernel: a few rows times WIDTH vectors of columns, and with HALF half a vector more, summed over k in
// registers.  The half is for 24 channels, which would waste a quarter of two vectors of 16.
//
// a's element (r, k) is at a[r·a_row + k·a_step], b's row k begins at b[k·b_step].  A tile is C = or C += (add), the first
// `columns` of its columns.

// Rows whose accumulators fill the registers: 14 × 2, 9 × 3 of 32; 6 × 2, 4 × 3 of 16.
template <int WIDTH>
constexpr int kTileRows = FM_VECTOR_BYTES == 64 ? (WIDTH == 3 ? 9 : 14)
                                                : (WIDTH == 3   ? 4
                                                   : WIDTH == 2 ? 6
                                                                : 8);

constexpr bool kHalves = FM_VECTOR_BYTES == 64;

template <class T>
struct HalfOf {
  typedef T type __attribute__((vector_size(FM_VECTOR_BYTES / 2), may_alias));
  typedef T unaligned __attribute__((vector_size(FM_VECTOR_BYTES / 2), aligned(alignof(T)), may_alias));
};
template <class T>
FM_INLINE typename HalfOf<T>::type splat_half(T x) {
  return typename HalfOf<T>::type{} + x;
}
template <class T>
FM_INLINE typename HalfOf<T>::unaligned& half_at(T* p) {
  return *reinterpret_cast<typename HalfOf<T>::unaligned*>(p);
}

// Where row r of C is: evenly spaced, or at an offset each.
template <class T>
struct EvenRows {
  T* c;
  size_t step;
  T* operator()(int64_t r) const { return c + r * step; }
  EvenRows from(int64_t r) const { return {c + r * step, step}; }
};
template <class T>
struct OffsetRows {
  T* c;
  const int64_t* offset;
  T* operator()(int64_t r) const { return c + offset[r]; }
  OffsetRows from(int64_t r) const { return {c, offset + r}; }
};
using UnitRow = std::integral_constant<size_t, 1>;  // a_row known to be 1

template <int ROWS, int WIDTH, bool HALF, class T, class ARow, class CRows>
static void tile(const T* a, ARow a_row, size_t a_step, const T* b, size_t b_step, int64_t k_count, CRows c, bool add,
                 int64_t columns) {
  constexpr int kWhole = WIDTH * kLanes<T>, kColumns = kWhole + (HALF ? kLanes<T> / 2 : 0);
  Vec<T> acc[ROWS][WIDTH];
  typename HalfOf<T>::type half[ROWS];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 3
    for (int v = 0; v < WIDTH; v++) acc[r][v] = Vec<T>{};
    half[r] = typename HalfOf<T>::type{};
  }
  for (int64_t k = 0; k < k_count; k++) {
    Vec<T> right[WIDTH];
    typename HalfOf<T>::type right_half{};
#pragma GCC unroll 3
    for (int v = 0; v < WIDTH; v++) right[v] = load(b + v * kLanes<T>);
    if constexpr (HALF) right_half = half_at(const_cast<T*>(b) + kWhole);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
      const T x = a[r * a_row];
      const Vec<T> left = splat(x);
#pragma GCC unroll 3
      for (int v = 0; v < WIDTH; v++) acc[r][v] = acc[r][v] + left * right[v];
      if constexpr (HALF) half[r] = half[r] + splat_half(x) * right_half;
    }
    a += a_step;
    b += b_step;
  }
  if (columns >= kColumns) {
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 3
      for (int v = 0; v < WIDTH; v++) {
        T* to = c(r) + v * kLanes<T>;
        store(to, add ? load(to) + acc[r][v] : acc[r][v]);
      }
      if constexpr (HALF) {
        auto& to = half_at(c(r) + kWhole);
        to = add ? to + half[r] : half[r];
      }
    }
    return;
  }
  T row[kColumns];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 3
    for (int v = 0; v < WIDTH; v++) store(row + v * kLanes<T>, acc[r][v]);
    if constexpr (HALF) half_at(row + kWhole) = half[r];
    T* to = c(r);
    if (add)
      for (int64_t j = 0; j < columns; j++) to[j] += row[j];
    else
      for (int64_t j = 0; j < columns; j++) to[j] = row[j];
  }
}

template <int WIDTH, bool HALF, class T, class ARow, class CRows>
static void tiles_of_width(const T* a, ARow a_row, size_t a_step, const T* b, size_t b_step, int64_t k_count,
                           int64_t rows, CRows c, bool add, int64_t columns) {
  constexpr int kFull = kTileRows<WIDTH>;
  int64_t r = 0;
  const auto take = [&](auto count) __attribute__((always_inline)) {
    constexpr int kCount = decltype(count)::value;
    tile<kCount, WIDTH, HALF, T>(a + r * a_row, a_row, a_step, b, b_step, k_count, c.from(r), add, columns);
    r += kCount;
  };
  while (rows - r >= kFull) take(std::integral_constant<int, kFull>{});
  if (kFull > 8 && rows - r >= 8) take(std::integral_constant<int, 8>{});
  if (rows - r >= 4) take(std::integral_constant<int, 4>{});
  if (rows - r >= 2) take(std::integral_constant<int, 2>{});
  if (rows - r >= 1) take(std::integral_constant<int, 1>{});
}

// All rows of one panel: `columns` of its `width`, in no more vectors than they need.
template <class T, class ARow, class CRows>
static void tiles(int64_t width, const T* a, ARow a_row, size_t a_step, const T* b, size_t b_step, int64_t k_count,
                  int64_t rows, CRows c, bool add, int64_t columns) {
  constexpr int64_t kHalf = kLanes<T> / 2;
  switch ((std::min(width, columns) + kHalf - 1) / kHalf) {
    case 6:
    case 5: return tiles_of_width<3, false>(a, a_row, a_step, b, b_step, k_count, rows, c, add, columns);
    case 4: return tiles_of_width<2, false>(a, a_row, a_step, b, b_step, k_count, rows, c, add, columns);
    case 3:
      return tiles_of_width < kHalves ? 1 : 2, kHalves > (a, a_row, a_step, b, b_step, k_count, rows, c, add, columns);
    default: return tiles_of_width<1, false>(a, a_row, a_step, b, b_step, k_count, rows, c, add, columns);
  }
}

// The panel width for a right operand of so many columns.
template <class T>
static int64_t panel_width(int64_t columns) {
  constexpr int64_t kLane = kLanes<T>;
  if (columns <= kLane) return kLane;
  if (kHalves && 2 * columns <= 3 * kLane) return 3 * kLane / 2;
  const int64_t vectors = (columns + kLane - 1) / kLane;
  return vectors % 2 == 1 && vectors % 3 == 0 ? 3 * kLane : 2 * kLane;
}

template <class T>
static int lanes() {
  return kLanes<T>;
}
