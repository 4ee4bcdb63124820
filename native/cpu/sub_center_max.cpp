// A class's cosine is the largest of its K centers' (Deng et al. 2020, Sub-center ArcFace).
#include "backend.h"
#include "row_check.h"

#define FM_KERNELS "sub_center_max.inl"
#include "for_each_isa.h"

namespace fm {
namespace {

void check_sub_centers(int64_t K) { FM_CHECK(range, K >= 1 && K <= 1024, "expected subCenters in [1, 1024], got ", K); }

}  // namespace

void CpuBackend::sub_center_max_forward(const Tensor& cosines, int64_t K, const Tensor& largest,
                                        const Tensor& centers) {
  check_rows("cosines", cosines);
  check_sub_centers(K);
  const int64_t N = cosines.dim(0), R = cosines.dim(1), C = R / K;
  FM_CHECK(shape, R % K == 0, "expected cosines [N, C * ", K, "] for ", K, " centers a class, got ", cosines.shape);
  check_result("out.cosines", largest, {N, C}, cosines);
  check_shape("out.centers", centers, {N, C});
  check_dtype("out.centers", centers, Dtype::int32);
  check_same_device(centers, cosines);
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
  check_rows("dCosines", d_largest);
  check_sub_centers(K);
  const int64_t N = d_largest.dim(0), C = d_largest.dim(1);
  check_shape("centers", centers, {N, C});
  check_dtype("centers", centers, Dtype::int32);
  check_same_device(centers, d_largest);
  check_result("out", d_cosines, {N, C * K}, d_largest);
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
    fail(ErrorKind::range, "expected centers in [0, ", K, "), got ", row[j], " at row ", bad.row(), ", class ", j);
  });
}

}  // namespace fm
