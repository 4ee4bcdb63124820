#include "dot.inl"

template <class T>
static void weighted_sum_rows(const T* weights, const T* x, int64_t rows, int64_t terms, int64_t width, T* y) {
  for (int64_t r = 0; r < rows; r++, weights += terms, x += terms * width, y += width) {
    each_vector<T>(width, [&](int64_t i, int lanes) FM_BODY {
      Vec<T> sum{};
      for (int64_t k = 0; k < terms; k++) sum = sum + splat(weights[k]) * load_part(x + k * width + i, lanes);
      store_part(y + i, sum, lanes);
    });
  }
}

template <class T>
static void weighted_sum_backward_rows(const T* dy, const T* weights, const T* x, int64_t rows, int64_t terms,
                                       int64_t width, T* d_weights, T* dx) {
  for (int64_t r = 0; r < rows; r++, dy += width) {
    for (int64_t k = 0; k < terms; k++, weights++, d_weights++, x += width, dx += width) {
      *d_weights = dot(dy, x, width);
      const Vec<T> w = splat(*weights);
      each_vector<T>(width,
                     [&](int64_t i, int lanes) FM_BODY { store_part(dx + i, load_part(dy + i, lanes) * w, lanes); });
    }
  }
}
