// Elementwise kernels; those with one parameter a channel work on rows of channels.h.
#include "rows.inl"

template <class T>
static void fill_range(T* x, int64_t count, T value) {
  for (int64_t i = 0; i < count; i++) x[i] = value;
}
template <class T>
static void relu_range(const T* x, T* y, int64_t count) {
  each_vector<T>(count, [&](int64_t i, int lanes) FM_BODY {
    const Vec<T> v = load_part(x + i, lanes);
    store_part(y + i, v < Vec<T>{} ? Vec<T>{} : v, lanes);  // NaN stays NaN
  });
}
template <class T>
static void relu_backward_range(const T* dy, const T* y, T* dx, int64_t count) {
  each_vector<T>(count, [&](int64_t i, int lanes) FM_BODY {
    const Vec<T> g = load_part(dy + i, lanes);
    store_part(dx + i, load_part(y + i, lanes) > Vec<T>{} ? g : Vec<T>{}, lanes);
  });
}
template <class T>
static void add_range(const T* a, const T* b, T* y, int64_t count) {
  each_vector<T>(count, [&](int64_t i, int lanes)
                            FM_BODY { store_part(y + i, load_part(a + i, lanes) + load_part(b + i, lanes), lanes); });
}
template <class T>
static void multiply_range(const T* a, const T* b, T* y, int64_t count) {
  each_vector<T>(count, [&](int64_t i, int lanes)
                            FM_BODY { store_part(y + i, load_part(a + i, lanes) * load_part(b + i, lanes), lanes); });
}
template <class T>
static void scale_range(const T* x, T factor, T* y, int64_t count) {
  const Vec<T> f = splat(factor);
  each_vector<T>(count, [&](int64_t i, int lanes) FM_BODY { store_part(y + i, load_part(x + i, lanes) * f, lanes); });
}
template <class T>
static void affine_range(const T* x, T factor, T offset, T* y, int64_t count) {
  const Vec<T> f = splat(factor), o = splat(offset);
  each_vector<T>(count,
                 [&](int64_t i, int lanes) FM_BODY { store_part(y + i, load_part(x + i, lanes) * f + o, lanes); });
}
template <class T>
static void sqrt_range(const T* x, T epsilon, T* y, int64_t count) {
  for (int64_t i = 0; i < count; i++) y[i] = std::sqrt(x[i] + epsilon);
}
// dx = dy/(2y); 0 where dy is, even at the root's infinite slope.
template <class T>
static void sqrt_backward_range(const T* dy, const T* y, T* dx, int64_t count) {
  each_vector<T>(count, [&](int64_t i, int lanes) FM_BODY {
    const Vec<T> g = load_part(dy + i, lanes), root = load_part(y + i, lanes);
    store_part(dx + i, g == Vec<T>{} ? Vec<T>{} : g * splat(T(0.5)) / root, lanes);
  });
}
template <class T>
static void add_bias_range(const T* x, const T* bias, T* y, int64_t count, int64_t width) {
  each_row_vector<T>(count, width, [&](int64_t i, int64_t j, int lanes) FM_BODY {
    store_part(y + i, load_part(x + i, lanes) + load_part(bias + j, lanes), lanes);
  });
}
template <class T>
static void prelu_range(const T* x, const T* slope, T* y, int64_t count, int64_t width) {
  each_row_vector<T>(count, width, [&](int64_t i, int64_t j, int lanes) FM_BODY {
    store_part(y + i, bent<T>(load_part(x + i, lanes), load_part(slope + j, lanes)), lanes);
  });
}
// Also sums[width], of d_slope.
template <class T>
static void prelu_backward_range(const T* dy, const T* x, const T* slope, T* dx, int64_t count, int64_t width,
                                 T* block_sums, double* sums) {
  fill_columns(sums, width, 0.0);
  for (int64_t block = 0; block < count; block += kRowsInT * width) {
    const int64_t size = std::min(kRowsInT * width, count - block);
    fill_columns(block_sums, width, T(0));
    each_row_vector<T>(size, width, [&](int64_t i, int64_t j, int lanes) FM_BODY {
      const Vec<T> v = load_part(x + block + i, lanes), g = load_part(dy + block + i, lanes);
      store_part(dx + block + i, unbent<T>(g, v, load_part(slope + j, lanes)), lanes);
      store_part(block_sums + j, load_part(block_sums + j, lanes) + slope_term<T>(g, v), lanes);
    });
    for (int64_t j = 0; j < width; j++) sums[j] += double(block_sums[j]);
  }
}
// y = x·keep/(1 − rate); element i of the range is element first + i of the tensor.
template <class T>
static void dropout_range(const T* x, T* y, int64_t count, int64_t first, double rate, uint64_t seed) {
  const T kept = T(1 / (1 - rate));
  const uint32_t below = random_threshold(rate);
  for (int64_t i = 0; i < count; i++) y[i] = random_bits(seed, uint64_t(first + i)) >= below ? x[i] * kept : T(0);
}
static void image_range(const uint8_t* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; i++) y[i] = float(x[i]) * (1 / 127.5f) - 1.f;
}
