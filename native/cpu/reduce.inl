#include "dot.inl"

// Σ x, in T over 4096 elements and in double over those.
template <class T>
static double sum_range(const T* x, int64_t count) {
  double total = 0;
  for (int64_t start = 0; start < count; start += 4096) {
    const int64_t size = std::min<int64_t>(4096, count - start);
    Vec<T> sum{};
    each_vector<T>(size, [&](int64_t i, int lanes) FM_BODY { sum = sum + load_part(x + start + i, lanes); });
    total += double(sum_lanes<T>(sum));
  }
  return total;
}

// Σ a·b, likewise.
template <class T>
static double dot_range(const T* a, const T* b, int64_t count) {
  double total = 0;
  for (int64_t start = 0; start < count; start += 4096)
    total += double(dot(a + start, b + start, std::min<int64_t>(4096, count - start)));
  return total;
}

// Σ x², squared and summed in double, where no float32 is too large or too small for it.
template <class T>
static double squares_range(const T* x, int64_t count) {
  constexpr int kWide = kLanes<double>;
  typedef T Part __attribute__((vector_size(kWide * sizeof(T)), aligned(alignof(T)), may_alias));
  const auto square = [x](int64_t i) FM_BODY {
    const Vec<double> wide = __builtin_convertvector(*reinterpret_cast<const Part*>(x + i), Vec<double>);
    return wide * wide;
  };
  constexpr int kSums = 4;  // that wait for none of the others
  Vec<double> sums[kSums]{};
  int64_t i = 0;
  for (; i + kSums * kWide <= count; i += kSums * kWide) {
#pragma GCC unroll 4
    for (int k = 0; k < kSums; k++) sums[k] = sums[k] + square(i + k * kWide);
  }
  double total = sum_lanes<double>((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < count; i++) total += double(x[i]) * double(x[i]);
  return total;
}

// x·0 is 0 for finite x and NaN for the others, and NaN stays in the sum.
template <class T>
static bool finite_range(const T* x, int64_t count) {
  Vec<T> sum{};
  each_vector<T>(count, [&](int64_t i, int lanes) FM_BODY { sum = sum + load_part(x + i, lanes) * splat(T(0)); });
  return sum_lanes<T>(sum) == T(0);
}

// sums[width] = Σ over a chunk's rows (channels.h).
template <class T>
static void sum_rows_chunk(const T* x, int64_t count, int64_t width, T* block, double* sums) {
  fill_columns(sums, width, 0.0);
  for (int64_t start = 0; start < count; start += 64 * width) {
    const int64_t size = std::min(64 * width, count - start), rows = size / width;
    fill_columns(block, width, T(0));
    sum_columns(x + start, rows, width, block);
    for (int64_t j = 0; j < size % width; j++) block[j] += x[start + rows * width + j];
    for (int64_t j = 0; j < width; j++) sums[j] += double(block[j]);
  }
}
