// The matrix micro-kernel: a few rows times WIDTH vectors of columns, summed over k in registers.
//
// a's element (r, k) is at a[r·a_row + k·a_step], b's row k begins at b[k·b_step].  A tile is C = or C += (add), the first
// `columns` of its columns.

// Rows whose accumulators fill the registers: 14 × 2, 9 × 3 of 32; 6 × 2, 4 × 3 of 16.
template <int WIDTH>
constexpr int kTileRows = FM_VECTOR_BYTES == 64 ? (WIDTH == 3 ? 9 : 14) : (WIDTH == 3 ? 4 : WIDTH == 2 ? 6 : 8);

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

template <int ROWS, int WIDTH, class T, class ARow, class CRows>
static void tile(const T* a, ARow a_row, size_t a_step, const T* b, size_t b_step, int64_t k_count, CRows c, bool add,
                 int64_t columns) {
  Vec<T> acc[ROWS][WIDTH];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
    for (int v = 0; v < WIDTH; v++) acc[r][v] = Vec<T>{};
  for (int64_t k = 0; k < k_count; k++) {
    Vec<T> right[WIDTH];
#pragma GCC unroll 3
    for (int v = 0; v < WIDTH; v++) right[v] = load(b + v * kLanes<T>);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
      const Vec<T> left = splat(a[r * a_row]);
#pragma GCC unroll 3
      for (int v = 0; v < WIDTH; v++) acc[r][v] = acc[r][v] + left * right[v];
    }
    a += a_step;
    b += b_step;
  }
  if (columns >= WIDTH * kLanes<T>) {
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
      for (int v = 0; v < WIDTH; v++) {
        T* to = c(r) + v * kLanes<T>;
        store(to, add ? load(to) + acc[r][v] : acc[r][v]);
      }
    return;
  }
  T row[WIDTH * kLanes<T>];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 3
    for (int v = 0; v < WIDTH; v++) store(row + v * kLanes<T>, acc[r][v]);
    T* to = c(r);
    if (add)
      for (int64_t j = 0; j < columns; j++) to[j] += row[j];
    else
      for (int64_t j = 0; j < columns; j++) to[j] = row[j];
  }
}

template <int WIDTH, class T, class ARow, class CRows>
static void tiles_of_width(const T* a, ARow a_row, size_t a_step, const T* b, size_t b_step, int64_t k_count, int64_t rows,
                           CRows c, bool add, int64_t columns) {
  constexpr int kFull = kTileRows<WIDTH>;
  int64_t r = 0;
  const auto take = [&](auto count) __attribute__((always_inline)) {
    constexpr int kCount = decltype(count)::value;
    tile<kCount, WIDTH, T>(a + r * a_row, a_row, a_step, b, b_step, k_count, c.from(r), add, columns);
    r += kCount;
  };
  while (rows - r >= kFull) take(std::integral_constant<int, kFull>{});
  if (kFull > 8 && rows - r >= 8) take(std::integral_constant<int, 8>{});
  if (rows - r >= 4) take(std::integral_constant<int, 4>{});
  if (rows - r >= 2) take(std::integral_constant<int, 2>{});
  if (rows - r >= 1) take(std::integral_constant<int, 1>{});
}

// All rows of one panel of at most `width` vectors; fewer where `columns` needs fewer.
template <class T, class ARow, class CRows>
static void tiles(int width, const T* a, ARow a_row, size_t a_step, const T* b, size_t b_step, int64_t k_count, int64_t rows,
                  CRows c, bool add, int64_t columns) {
  switch (std::min<int64_t>(width, (columns + kLanes<T> - 1) / kLanes<T>)) {
    case 3: return tiles_of_width<3>(a, a_row, a_step, b, b_step, k_count, rows, c, add, columns);
    case 2: return tiles_of_width<2>(a, a_row, a_step, b, b_step, k_count, rows, c, add, columns);
    default: return tiles_of_width<1>(a, a_row, a_step, b, b_step, k_count, rows, c, add, columns);
  }
}

template <class T>
static int lanes() {
  return kLanes<T>;
}
