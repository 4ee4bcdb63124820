// Loops over a flat range, over rows of a whole number of vectors, and sums of such rows' columns.
#define FM_BODY __attribute__((always_inline))

// Calls body(offset, lanes) for every vector of [0, count): lanes is kLanes<T> but for the last.
template <class T, class Body>
FM_INLINE void each_vector(int64_t count, Body&& body) {
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) body(i, kLanes<T>);
  if (i < count) body(i, int(count - i));
}
// The same over rows of `width`: body(offset, column, lanes).
template <class T, class Body>
FM_INLINE void each_row_vector(int64_t count, int64_t width, Body&& body) {
  for (int64_t row = 0; row < count; row += width) {
    const int64_t columns = std::min(width, count - row);
    int64_t i = 0;
    for (; i + kLanes<T> <= columns; i += kLanes<T>) body(row + i, i, kLanes<T>);
    if (i < columns) body(row + i, i, int(columns - i));
  }
}

// A PReLU: x where x > 0, x·slope elsewhere; the gradient in front of it; the term of d_slope = Σ dy·min(x, 0).
template <class T>
FM_INLINE Vec<T> bent(Vec<T> x, Vec<T> slope) {
  return x > Vec<T>{} ? x : x * slope;
}
template <class T>
FM_INLINE Vec<T> unbent(Vec<T> dy, Vec<T> x, Vec<T> slope) {
  return x > Vec<T>{} ? dy : dy * slope;
}
template <class T>
FM_INLINE Vec<T> slope_term(Vec<T> dy, Vec<T> x) {
  return x > Vec<T>{} ? Vec<T>{} : dy * x;
}

template <class T>
static void fill_columns(T* to, int64_t width, T value) {
  for (int64_t j = 0; j < width; j++) to[j] = value;
}

// sum[width] += Σ rows of x
template <class T>
FM_INLINE void sum_columns(const T* x, int64_t rows, int64_t width, T* sum) {
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4, x += 4 * width)
    for (int64_t j = 0; j < width; j += kLanes<T>) {
      const Vec<T> left = load(x + j) + load(x + width + j), right = load(x + 2 * width + j) + load(x + 3 * width + j);
      store(sum + j, load(sum + j) + (left + right));
    }
  for (; row < rows; row++, x += width)
    for (int64_t j = 0; j < width; j += kLanes<T>) store(sum + j, load(sum + j) + load(x + j));
}
// sum[width] += Σ over rows of x − the first row,  square[width] += Σ of its square
template <class T>
FM_INLINE void sum_moment_columns(const T* x, int64_t rows, int64_t width, T* sum, T* square) {
  const T* about = x;
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4, x += 4 * width)
    for (int64_t j = 0; j < width; j += kLanes<T>) {
      const Vec<T> m = load(about + j);
      const Vec<T> a = load(x + j) - m, b = load(x + width + j) - m, c = load(x + 2 * width + j) - m,
                   d = load(x + 3 * width + j) - m;
      store(sum + j, load(sum + j) + ((a + b) + (c + d)));
      store(square + j, load(square + j) + ((a * a + b * b) + (c * c + d * d)));
    }
  for (; row < rows; row++, x += width)
    for (int64_t j = 0; j < width; j += kLanes<T>) {
      const Vec<T> a = load(x + j) - load(about + j);
      store(sum + j, load(sum + j) + a);
      store(square + j, load(square + j) + a * a);
    }
}
// sum[width] += Σ dy,  product[width] += Σ dy·(x − mean)
template <class T>
FM_INLINE void sum_product_columns(const T* dy, const T* x, int64_t rows, int64_t width, const T* mean, T* sum,
                                   T* product) {
  int64_t row = 0;
  for (; row + 2 <= rows; row += 2, x += 2 * width, dy += 2 * width)
    for (int64_t j = 0; j < width; j += kLanes<T>) {
      const Vec<T> m = load(mean + j), g = load(dy + j), h = load(dy + width + j);
      store(sum + j, load(sum + j) + (g + h));
      store(product + j, load(product + j) + (g * (load(x + j) - m) + h * (load(x + width + j) - m)));
    }
  for (; row < rows; row++, x += width, dy += width)
    for (int64_t j = 0; j < width; j += kLanes<T>) {
      const Vec<T> g = load(dy + j);
      store(sum + j, load(sum + j) + g);
      store(product + j, load(product + j) + g * (load(x + j) - load(mean + j)));
    }
}
