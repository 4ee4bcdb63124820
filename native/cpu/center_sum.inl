// to[k] += Σ_j w_j[k]/max(‖w_j‖, kTiny) over the places of rows first to end.
template <class T>
static void add_unit_rows(const T* weight, int64_t first, int64_t end, int64_t D, const ClassRows& places, T* to) {
  constexpr int L = kLanes<T>;
  const T low = T(sizeof(T) == 4 ? 1e-18 : 1e-200), high = T(sizeof(T) == 4 ? 1e30 : 1e200);
  for (int64_t j = first; j < end; j++) {
    const T* const w = weight + places(j) * D;
    Vec<T> sum = {};
    for (int64_t k = 0; k < D; k += L) {
      const Vec<T> a = load_part(w + k, int(std::min<int64_t>(L, D - k)));
      sum = sum + a * a;
    }
    const T square = sum_lanes<T>(sum);
    const bool ordinary = square > low && square < high;
    const T scale = ordinary ? T(1) / std::sqrt(square) : T(1 / std::max(exact_norm(w, D), kTiny));
    for (int64_t k = 0; k < D; k += L) {
      const int n = int(std::min<int64_t>(L, D - k));
      store_part(to + k, load_part(to + k, n) + splat(scale) * load_part(w + k, n), n);
    }
  }
}
