// Inner products of rows.
#include "rows.inl"

template <class T>
FM_INLINE T dot(const T* a, const T* b, int64_t count) {
  Vec<T> even{}, odd{};
  int64_t i = 0;
  for (; i + 2 * kLanes<T> <= count; i += 2 * kLanes<T>) {
    even = even + load(a + i) * load(b + i);
    odd = odd + load(a + i + kLanes<T>) * load(b + i + kLanes<T>);
  }
  each_vector<T>(count - i, [&](int64_t k, int lanes)
                                FM_BODY { even = even + load_part(a + i + k, lanes) * load_part(b + i + k, lanes); });
  return sum_lanes<T>(even + odd);
}
