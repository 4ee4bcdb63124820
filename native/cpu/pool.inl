#include "rows.inl"

// y[channels] = the mean over `pixels` rows of x.
template <class T>
static void average_pixels(const T* x, int64_t pixels, int64_t channels, T* y) {
  const Vec<T> share = splat(T(1) / T(pixels));
  each_vector<T>(channels, [&](int64_t c, int lanes) FM_BODY {
    Vec<T> sum{};
    for (int64_t p = 0; p < pixels; p++) sum = sum + load_part(x + p * channels + c, lanes);
    store_part(y + c, sum * share, lanes);
  });
}
template <class T>
static void spread_pixels(const T* dy, int64_t pixels, int64_t channels, T* dx) {
  const Vec<T> share = splat(T(1) / T(pixels));
  for (int64_t p = 0; p < pixels; p++, dx += channels)
    each_vector<T>(channels,
                   [&](int64_t c, int lanes) FM_BODY { store_part(dx + c, load_part(dy + c, lanes) * share, lanes); });
}

// to[columns][rows] = from[rows][columns] transposed, in blocks that stay in cache.
template <class T>
static void transpose(const T* from, int64_t rows, int64_t columns, T* to) {
  for (int64_t r0 = 0; r0 < rows; r0 += 16)
    for (int64_t c0 = 0; c0 < columns; c0 += 16)
      for (int64_t c = c0; c < std::min(c0 + 16, columns); c++)
        for (int64_t r = r0; r < std::min(r0 + 16, rows); r++) to[c * rows + r] = from[r * columns + c];
}
