// A class's cosine is the largest of its K centers' (Deng et al. 2020, Sub-center ArcFace).
#include "backend.h"
#include "report.h"
#include "rows.cuh"
#include "rows.h"

namespace fm {
namespace {

template <class T, int kRowThreads>
__global__ void sub_center_max_kernel(CheckedRows<T> cosines, int64_t N, int64_t C, int64_t K,
                                      T* largest,          // [N, C]
                                      int32_t* centers) {  // [N, C]
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= N || !good_row<kRowThreads>(cosines, i)) return;
  for (int64_t j = thread_of_row<kRowThreads>(); j < C; j += kRowThreads) {
    const T* const cos = cosines.x + (i * C + j) * K;
    T best = cos[0];
    int32_t at = 0;
    for (int64_t k = 1; k < K; k++)
      if (cos[k] > best) best = cos[k], at = int32_t(k);
    largest[i * C + j] = best;
    centers[i * C + j] = at;
  }
}

template <class T, int kRowThreads>
__global__ void sub_center_scatter_kernel(CheckedRows<T> gradients, const int32_t* centers, int64_t N, int64_t C,
                                          int64_t K, Refusals refused, T* d_cosines) {  // [N, C·K]
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= N || !good_row<kRowThreads>(gradients, i)) return;
  const int first = thread_of_row<kRowThreads>();
  int bad = 0;
  for (int64_t j = first; j < C; j += kRowThreads) bad |= centers[i * C + j] < 0 || centers[i * C + j] >= K;
  bad = row_reduce<kRowThreads>(bad, Max{});
  if (bad && first == 0) refused.note(i);
  if (bad) return;
  for (int64_t r = first; r < C * K; r += kRowThreads) {
    const int64_t at = i * C + r / K;
    d_cosines[i * C * K + r] = centers[at] == r % K ? gradients.x[at] : T(0);
  }
}

}  // namespace

void CudaBackend::sub_center_max_forward(const Tensor& cosines, int64_t K, const Tensor& largest,
                                         const Tensor& centers) {
  check_sub_center_max(cosines, K, largest, centers);
  check_here("cosines", cosines);
  changed(largest, centers);
  const DeviceGuard guard(device_);
  const int64_t N = cosines.dim(0), R = cosines.dim(1);
  dispatch_float(cosines.dtype, [&](auto zero) {
    using T = decltype(zero);
    Report report(*this);
    const auto rows = report.finite_rows("cosines", cosines.data<T>(), R);
    for_rows(N, R, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, sub_center_max_kernel<T, row_threads()>, rows, N, R / K, K, largest.data<T>(),
             centers.data<int32_t>());
    });
    report.finish();
  });
}

void CudaBackend::sub_center_max_backward(const Tensor& d_largest, const Tensor& centers, int64_t K,
                                          const Tensor& d_cosines) {
  check_sub_center_max_backward(d_largest, centers, K, d_cosines);
  check_here("dCosines", d_largest);
  changed(d_cosines);
  const DeviceGuard guard(device_);
  const int64_t N = d_largest.dim(0), C = d_largest.dim(1);
  const int32_t* const center = centers.data<int32_t>();
  dispatch_float(d_largest.dtype, [&](auto zero) {
    using T = decltype(zero);
    Report report(*this);
    const auto rows = report.finite_rows("dCosines", d_largest.data<T>(), C);
    const Refusals refused = report.check([&](int64_t row) {
      const std::vector<int32_t> values = report.read(center + row * C, C);
      int64_t j = 0;
      while (values[j] >= 0 && values[j] < K) j++;
      fail_sub_center(values[j], K, row, j);
    });
    for_rows(N, C * K, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, sub_center_scatter_kernel<T, row_threads()>, rows, center, N, C, K, refused,
             d_cosines.data<T>());
    });
    report.finish();
  });
}

}  // namespace fm
