#include "dot.inl"

template <class T>
static void normalize_rows(const T* x, int64_t rows, int64_t width, T* y, T* norm) {
  for (int64_t r = 0; r < rows; r++, x += width, y += width) {
    norm[r] = std::sqrt(dot(x, x, width));
    const Vec<T> divisor = splat(std::max(norm[r], T(1e-12)));
    each_vector<T>(width,
                   [&](int64_t i, int lanes) FM_BODY { store_part(y + i, load_part(x + i, lanes) / divisor, lanes); });
  }
}

template <class T>
static void normalize_backward_rows(const T* dy, const T* y, const T* norm, int64_t rows, int64_t width, T* dx) {
  for (int64_t r = 0; r < rows; r++, dy += width, y += width, dx += width) {
    const Vec<T> along = splat(dot(dy, y, width)), factor = splat(T(1) / std::max(norm[r], T(1e-12)));
    each_vector<T>(width, [&](int64_t i, int lanes) FM_BODY {
      store_part(dx + i, (load_part(dy + i, lanes) - load_part(y + i, lanes) * along) * factor, lanes);
    });
  }
}
