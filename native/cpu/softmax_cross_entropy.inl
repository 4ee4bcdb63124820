#include "rows.inl"

#include "peak.inl"

// Sums are in T over this many elements and in double over those.
constexpr int64_t kSumBlock = 4096;

// The lowest number where there is none.
template <class T>
static T largest_of(const T* x, int64_t count) {
  const T lowest = std::numeric_limits<T>::lowest();
  Vec<T> top = splat(lowest);
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) top = max<T>(top, load(x + i));
  T largest = lowest;
  for (int k = 0; k < kLanes<T>; k++) largest = std::max(largest, T(top[k]));
  for (; i < count; i++) largest = std::max(largest, x[i]);
  return largest;
}

// Σ e^(x − top), into `to` as well unless it is null.  Missing lanes read as 0, and are taken out again.
template <class T>
static double sum_of_exp(const T* x, int64_t count, T top, T* to) {
  double total = 0;
  for (int64_t start = 0; start < count; start += kSumBlock) {
    const int64_t size = std::min<int64_t>(kSumBlock, count - start), whole = size / kLanes<T> * kLanes<T>;
    Vec<T> sum{};
    for (int64_t i = start; i < start + whole; i += kLanes<T>) {
      const Vec<T> e = exp(load(x + i) - splat(top));
      sum = sum + e;
      if (to) store(to + i, e);
    }
    if (whole < size) {
      const int lanes = int(size - whole);
      const Vec<T> e = exp(load_part(x + start + whole, lanes) - splat(top));
      for (int k = 0; k < lanes; k++) total += double(e[k]);
      if (to) store_part(to + start + whole, e, lanes);
    }
    total += double(sum_lanes<T>(sum));
  }
  return total;
}

// Σ factor·x: of numbers whose plain sum might be too large.
template <class T>
static double sum_of_scaled(const T* x, int64_t count, T factor) {
  double total = 0;
  for (int64_t start = 0; start < count; start += kSumBlock) {
    Vec<T> sum{};
    each_vector<T>(std::min<int64_t>(kSumBlock, count - start),
                   [&](int64_t i, int lanes) FM_BODY { sum = sum + load_part(x + start + i, lanes) * splat(factor); });
    total += double(sum_lanes<T>(sum));
  }
  return total;
}

// x = x·factor − spread
template <class T>
static void scale_row(T* x, int64_t count, T factor, T spread) {
  each_vector<T>(count, [&](int64_t i, int lanes) FM_BODY {
    store_part(x + i, load_part(x + i, lanes) * splat(factor) - splat(spread), lanes);
  });
}
