#include "rows.inl"

#include "peak.inl"

// Σ ln(1 + e^z), in T over 4096 elements and in double over those.
template <class T>
static double sum_of_softplus(const T* z, int64_t count) {
  double total = 0;
  for (int64_t start = 0; start < count; start += 4096) {
    Vec<T> sum{};
    each_vector<T>(std::min<int64_t>(4096, count - start), [&](int64_t i, int lanes) FM_BODY {
      const Vec<T> zero = splat(T(0)), v = load_part(z + start + i, lanes);
      Vec<T> each = max<T>(v, zero) + log1p(exp(v < zero ? v : -v));
      for (int k = lanes; k < kLanes<T>; k++) each[k] = 0;
      sum = sum + each;
    });
    total += double(sum_lanes<T>(sum));
  }
  return total;
}

// to = factor/(1 + e^−z)
template <class T>
static void sigmoid_row(const T* z, int64_t count, T factor, T* to) {
  each_vector<T>(count, [&](int64_t i, int lanes) FM_BODY {
    const Vec<T> zero = splat(T(0)), v = load_part(z + i, lanes), small = exp(v < zero ? v : -v);
    store_part(to + i, (v < zero ? small : splat(T(1))) * (splat(factor) / (small + splat(T(1)))), lanes);
  });
}
