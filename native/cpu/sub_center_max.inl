#include "rows.inl"

#include "peak.inl"

// K known at compile time where K > 0: the comparisons of a class are then unrolled, without branches.
template <int K, class T>
static void largest_of_centers(const T* cos, int64_t classes, int64_t count, T* largest, int32_t* center) {
  const int64_t centers = K > 0 ? K : count;
  for (int64_t j = 0; j < classes; j++, cos += centers) {
    T best = cos[0];
    int32_t at = 0;
#pragma GCC unroll 4
    for (int64_t k = 1; k < centers; k++) {
      const bool more = cos[k] > best;
      best = more ? cos[k] : best;
      at = more ? int32_t(k) : at;
    }
    largest[j] = best;
    center[j] = at;
  }
}

// One row.
template <class T>
static void sub_center_max_row(const T* cos, int64_t classes, int64_t centers, T* largest, int32_t* center) {
  switch (centers) {
    case 1: return largest_of_centers<1>(cos, classes, centers, largest, center);
    case 2: return largest_of_centers<2>(cos, classes, centers, largest, center);
    case 3: return largest_of_centers<3>(cos, classes, centers, largest, center);
    case 4: return largest_of_centers<4>(cos, classes, centers, largest, center);
    default: return largest_of_centers<0>(cos, classes, centers, largest, center);
  }
}

template <class T>
static void sub_center_scatter_row(const T* d, const int32_t* center, int64_t classes, int64_t centers, T* d_cos) {
  for (int64_t j = 0; j < classes; j++, d_cos += centers)
    for (int64_t k = 0; k < centers; k++) d_cos[k] = k == center[j] ? d[j] : T(0);
}
