// A class's cosine is the largest of its K centers' (Deng et al. 2020, Sub-center ArcFace).
#include "backend.h"
#include "row_check.h"

#define FM_KERNELS "sub_center_max.inl"
#include "for_each_isa.h"

namespace fm {
void CpuBackend::sub_center_max_forward(const Tensor& cosines, int64_t K, const Tensor& largest,
                                        const Tensor& centers) {
  check_sub_center_max(cosines, K, largest, centers);
  const int64_t N = cosines.dim(0), R = cosines.dim(1), C = R / K;
  dispatch_float(cosines.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* const cos = cosines.data<T>();
    T* const to = largest.data<T>();
    int32_t* const center = centers.data<int32_t>();
    RowCheck<T> check("cosines", "", cos, R, std::numeric_limits<T>::max(), FM_KERNEL(peak<T>));
    const auto kernel = FM_KERNEL(sub_center_max_row<T>);
    parallel_rows(N, R, [&](int64_t i) {
      if (check.good(i)) kernel(cos + i * R, C, K, to + i * C, center + i * C);
    });
    check.finish();
  });
}

void CpuBackend::sub_center_max_backward(const Tensor& d_largest, const Tensor& centers, int64_t K,
                                         const Tensor& d_cosines) {
  check_sub_center_max_backward(d_largest, centers, K, d_cosines);
  const int64_t N = d_largest.dim(0), C = d_largest.dim(1);
  dispatch_float(d_largest.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* const d = d_largest.data<T>();
    const int32_t* const center = centers.data<int32_t>();
    T* const to = d_cosines.data<T>();
    RowCheck<T> check("dCosines", "", d, C, std::numeric_limits<T>::max(), FM_KERNEL(peak<T>));
    FirstBad bad;
    const auto kernel = FM_KERNEL(sub_center_scatter_row<T>);
    parallel_rows(N, C * K, [&](int64_t i) {
      if (!check.good(i)) return;
      uint32_t largest = 0;  // a negative number is a large one
      for (int64_t j = 0; j < C; j++) largest = std::max(largest, uint32_t(center[i * C + j]));
      if (largest >= uint32_t(K)) return bad.report(i);
      kernel(d + i * C, center + i * C, C, K, to + i * C * K);
    });
    check.finish();
    if (bad.row() < 0) return;
    const int32_t* row = center + bad.row() * C;
    const int64_t j = std::find_if(row, row + C, [&](int32_t k) { return k < 0 || k >= K; }) - row;
    fail_sub_center(row[j], K, bad.row(), j);
  });
}

}  // namespace fm
