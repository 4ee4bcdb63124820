// Rows of cosines to s·φ + bias, and back; the target's column is the caller's.
#include "rows.inl"

#include "peak.inl"

template <class T>
struct VecPhi {
  Vec<T> value, slope;
};

// φ and dφ/dcos of a negative after the clip.
template <class T, class Negative>
FM_INLINE VecPhi<T> negative_phi(Vec<T> cos, const TransformRow<T>& row, const Negative& negative) {
  const Vec<T> limit = splat(row.limit), clipped = min<T>(max<T>(cos, -limit), limit);
  const auto phi = negative.negative(clipped, splat(row.threshold));
  return {phi.value, clipped == cos ? phi.slope : phi.slope * splat(row.slope_outside)};
}

template <class Config, class T = typename Config::Real>
static void transform_row(const T* cos, int64_t count, const TransformRow<T>& row,
                          const typename Config::Negative& negative, T* to) {
  each_vector<T>(count, [&](int64_t i, int lanes) FM_BODY {
    const Vec<T> phi = negative_phi<T>(load_part(cos + i, lanes), row, negative).value;
    store_part(to + i, splat(row.scale) * phi + splat(row.bias), lanes);
  });
}

// d_cos = d·s·φ'; Σ d·φ and Σ d, in T over 4096 elements and in double over those.
template <class Config, class T = typename Config::Real>
static TransformSums transform_backward_row(const T* d, const T* cos, int64_t count, const TransformRow<T>& row,
                                            const typename Config::Negative& negative, T* d_cos) {
  const Vec<T> largest = splat(std::numeric_limits<T>::max());
  TransformSums sums;
  for (int64_t start = 0; start < count; start += 4096) {
    Vec<T> with_phi{}, alone{};
    each_vector<T>(std::min<int64_t>(4096, count - start), [&](int64_t k, int lanes) FM_BODY {
      const int64_t i = start + k;
      const Vec<T> g = load_part(d + i, lanes);
      const VecPhi<T> phi = negative_phi<T>(load_part(cos + i, lanes), row, negative);
      with_phi = with_phi + g * phi.value;
      alone = alone + g;
      store_part(d_cos + i, max<T>(min<T>(g * phi.slope * splat(row.scale), largest), -largest), lanes);
    });
    sums.with_phi += double(sum_lanes<T>(with_phi));
    sums.alone += double(sum_lanes<T>(alone));
  }
  return sums;
}
