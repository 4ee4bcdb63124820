// The largest magnitude of x; NaN when an element is not finite: x·0 is then NaN, and stays in the sum.
template <class T>
static T peak(const T* x, int64_t count) {
  Vec<T> top{}, zero{};
  each_vector<T>(count, [&](int64_t i, int lanes) FM_BODY {
    const Vec<T> v = load_part(x + i, lanes);
    top = max<T>(top, v < splat(T(0)) ? -v : v);
    zero = zero + v * splat(T(0));
  });
  T largest = 0;
  for (int i = 0; i < kLanes<T>; i++) largest = std::max(largest, T(top[i]));
  return largest + sum_lanes<T>(zero);
}
