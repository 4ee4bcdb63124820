// Vectors of the instruction set that is being compiled, on the compiler's vector extensions, so that one source
// serves AVX-512, AVX2 and plain C++.  No include guard: for_each_isa.h includes it once an instruction set, inside
// that set's own namespace.
//
//   Vec<T>         FM_VECTOR_BYTES of T: + − * / and comparisons as on T; mask ? a : b selects
//   load, store    unaligned;  load_part/store_part touch the first n lanes only, missing lanes read as 0
//   kLanes<T>      lanes of a Vec<T>
//   kRows          rows of the widest matrix micro-kernel whose accumulators (kRows × 2 vectors) stay in registers

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(FM_VECTOR_BYTES), may_alias));
  typedef T unaligned __attribute__((vector_size(FM_VECTOR_BYTES), aligned(alignof(T)), may_alias));
};
template <class T>
using Vec = typename VecOf<T>::type;
template <class T>
constexpr int kLanes = FM_VECTOR_BYTES / int(sizeof(T));
constexpr int kRows = FM_VECTOR_BYTES == 64 ? 14 : 6;

#define FM_INLINE static inline __attribute__((always_inline))

template <class T>
FM_INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename VecOf<T>::unaligned*>(p);
}
template <class T>
FM_INLINE void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename VecOf<T>::unaligned*>(p) = v;
}
template <class T, size_t... Lane>
FM_INLINE Vec<T> splat_lanes(T x, std::index_sequence<Lane...>) {
  return Vec<T>{((void)Lane, x)...};
}
template <class T>
FM_INLINE Vec<T> splat(T x) {
  return splat_lanes<T>(x, std::make_index_sequence<kLanes<T>>{});
}
template <class T>
FM_INLINE Vec<T> load_part(const T* p, int n) {
  if (n >= kLanes<T>) return load(p);
  alignas(FM_VECTOR_BYTES) T lanes[kLanes<T>] = {};
  for (int i = 0; i < n; i++) lanes[i] = p[i];
  return *reinterpret_cast<Vec<T>*>(lanes);
}
template <class T>
FM_INLINE void store_part(T* p, Vec<T> v, int n) {
  if (n >= kLanes<T>) return store(p, v);
  for (int i = 0; i < n; i++) p[i] = v[i];
}
template <class T>
FM_INLINE T sum_lanes(Vec<T> v) {
  T lanes[kLanes<T>];
  store(lanes, v);
  for (int half = kLanes<T> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return lanes[0];
}
template <class T>
FM_INLINE Vec<T> max(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}
template <class T>
FM_INLINE Vec<T> min(Vec<T> a, Vec<T> b) {
  return a < b ? a : b;
}

// eˣ to 2 ulp; below −87.3 exactly 0; above 88, and for NaN, e⁸⁸: no input gives a non-finite value.
FM_INLINE Vec<float> exp(Vec<float> x) {
  typedef uint32_t Int __attribute__((vector_size(FM_VECTOR_BYTES)));  // wraps where x is below `low`
  const Vec<float> low = splat(-87.3f), magic = splat(12582912.f);     // 1.5·2²³: adding it rounds to an integer
  const Vec<float> y = min<float>(x, splat(88.f));
  const Vec<float> shifted = y * splat(1.44269504f) + magic;
  const Vec<float> n = shifted - magic;
  Vec<float> r = y - n * splat(0.693145752f);  // ln 2 in two parts, the first exact when multiplied by n
  r = r - n * splat(1.42860677e-6f);
  Vec<float> p = splat(1.3888889e-3f);
  p = p * r + splat(8.3333338e-3f);
  p = p * r + splat(4.1666668e-2f);
  p = p * r + splat(1.6666667e-1f);
  p = p * r + splat(0.5f);
  p = p * r + splat(1.f);
  p = p * r + splat(1.f);
  const Int power = (reinterpret_cast<Int>(shifted) - reinterpret_cast<Int>(magic) + 127) << 23;
  return x < low ? splat(0.f) : p * reinterpret_cast<Vec<float>>(power);
}
FM_INLINE Vec<double> exp(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; i++) x[i] = std::exp(x[i]);
  return x;
}

// 1/x of a finite positive x, to 1 ulp.
template <class T>
FM_INLINE Vec<T> reciprocal(Vec<T> x) {
#if FM_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) {
    const Vec<float> estimate = _mm512_maskz_rcp14_ps(0xffff, x);
    return estimate * (splat(2.f) - x * estimate);
  }
#endif
  return splat(T(1)) / x;
}

// ln(1 + y) of y in [0, 1], to 2e-8:  2·artanh(w), w = y/(2 + y) ≤ 1/3.  inverse: of 2 + y.
FM_INLINE Vec<float> log1p(Vec<float> y, Vec<float> inverse) {
  const Vec<float> w = y * inverse, square = w * w;
  Vec<float> p = splat(2 / 13.f);
  for (const float divisor : {11.f, 9.f, 7.f, 5.f, 3.f, 1.f}) p = p * square + splat(2 / divisor);
  return p * w;
}
FM_INLINE Vec<double> log1p(Vec<double> y, Vec<double>) {
  for (int i = 0; i < kLanes<double>; i++) y[i] = std::log1p(y[i]);
  return y;
}
template <class V>
FM_INLINE V log1p(V y) {
  return log1p(y, 1 / (y + 2));
}

// A uint32_t operand is two bfloat16, multiplied pair by pair and added up in float.
template <class T>
using Sum = std::conditional_t<std::is_same_v<T, uint32_t>, float, T>;
template <class T>
FM_INLINE Vec<T> multiply_add(Vec<T> sum, Vec<T> a, Vec<T> b) {
  return sum + a * b;
}
#ifdef FM_BF16
template <class T>
FM_INLINE Vec<float> multiply_add(Vec<float> sum, Vec<uint32_t> a, Vec<uint32_t> b) {
  return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}
#endif

// acc[r][0..1] = Σ_k a(r, k) · b(k, 0 … 2·kLanes), for ROWS rows; then finish(r, left, right).
// a's element (r, k) is at a[r·a_row + k·a_step]; b's row k is contiguous at b[k·b_step].
// fetch(k) runs before step k: a place to ask for memory that is needed later.
template <int ROWS, class T, class Fetch, class Finish>
FM_INLINE void fetching_kernel(const T* a, size_t a_row, size_t a_step, const T* b, size_t b_step, int64_t k_count,
                               Fetch&& fetch, Finish&& finish) {
  Vec<Sum<T>> left[ROWS], right[ROWS];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++) left[r] = right[r] = Vec<Sum<T>>{};
  for (int64_t k = 0; k < k_count; k++) {
    fetch(k);
    const Vec<T> b0 = load(b), b1 = load(b + kLanes<T>);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
      const Vec<T> x = splat(a[r * a_row]);
      left[r] = multiply_add<T>(left[r], x, b0);
      right[r] = multiply_add<T>(right[r], x, b1);
    }
    a += a_step;
    b += b_step;
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++) finish(r, left[r], right[r]);
}

// fetching_kernel for a number of rows known at run time, 1 … kRows.
template <class T, class Finish>
FM_INLINE void micro_kernel_rows(int rows, const T* a, size_t a_row, size_t a_step, const T* b, size_t b_step,
                                 int64_t k_count, Finish&& finish) {
  const auto nothing = [](int64_t) __attribute__((always_inline)){};
#define FM_CASE(n)                                                                                          \
  case n:                                                                                                   \
    if constexpr (n <= kRows) fetching_kernel<n, T>(a, a_row, a_step, b, b_step, k_count, nothing, finish); \
    break
  switch (rows) {
    FM_CASE(14);
    FM_CASE(13);
    FM_CASE(12);
    FM_CASE(11);
    FM_CASE(10);
    FM_CASE(9);
    FM_CASE(8);
    FM_CASE(7);
    FM_CASE(6);
    FM_CASE(5);
    FM_CASE(4);
    FM_CASE(3);
    FM_CASE(2);
    FM_CASE(1);
  }
#undef FM_CASE
}
