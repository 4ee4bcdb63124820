#include "dot.inl"

#include "peak.inl"

// A square sum between these has lost nothing to T's range.
template <class T>
constexpr T kSafeLow = T(sizeof(T) == 4 ? 1e-18 : 1e-200);
template <class T>
constexpr T kSafeHigh = T(sizeof(T) == 4 ? 1e30 : 1e200);

template <class T>
static void normalize_rows(const T* x, int64_t rows, int64_t width, T* y, T* norm) {
  for (int64_t r = 0; r < rows; r++, x += width, y += width) {
    const T square = dot(x, x, width);
    if (!(square > kSafeLow<T> && square < kSafeHigh<T>)) {
      const double exact = exact_norm(x, width), divisor = std::max(exact, kTiny);
      norm[r] = T(exact);
      for (int64_t i = 0; i < width; i++) y[i] = T(x[i] / divisor);
      continue;
    }
    norm[r] = std::sqrt(square);
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

// One row of normalize_backward_into, dy or null: dx = (dy − y⟨dy, y⟩)/‖x‖ + d_norm·y.
template <class T>
static void normalize_backward_row(const T* dy, const T* y, T norm, T d_norm, int64_t width, T* dx) {
  const Vec<T> largest = splat(std::numeric_limits<T>::max()), radial = splat(d_norm);
  const Vec<T> along = splat(dy ? dot(dy, y, width) : T(0)), divisor = splat(norm);
  each_vector<T>(width, [&](int64_t i, int lanes) FM_BODY {
    const Vec<T> unit = load_part(y + i, lanes);
    Vec<T> d = radial * unit;
    if (dy) d = d + (load_part(dy + i, lanes) - unit * along) / divisor;
    store_part(dx + i, max<T>(min<T>(d, largest), -largest), lanes);
  });
}
