#include "../common/kernel_checks.h"
#include "backend.h"
#include "rows.cuh"
#include "rows.h"

namespace fm {
namespace {

// A thread an element of y [N, D].
template <class T>
__global__ void weighted_sum_kernel(const T* weights, const T* x, int64_t N, int64_t K, int64_t D, T* y) {
  const int64_t at = thread_of_grid();
  if (at >= N * D) return;
  const int64_t i = at / D, d = at % D;
  T sum = 0;
  for (int64_t k = 0; k < K; k++) sum += weights[i * K + k] * x[(i * K + k) * D + d];
  y[at] = sum;
}

// A row of x [N·K, D]: d_weights = ⟨dy, x⟩, dx = weight·dy.
template <class T, int kRowThreads>
__global__ void weighted_sum_backward_kernel(const T* dy, const T* weights, const T* x, int64_t rows, int64_t K,
                                             int64_t D, T* d_weights, T* dx) {
  const int64_t r = row_of_thread<kRowThreads>();
  if (r >= rows) return;
  dy += r / K * D;
  x += r * D;
  dx += r * D;
  const double dot = sum_over_row<kRowThreads, T>(D, [&](int64_t d) { return dy[d] * x[d]; });
  const T weight = weights[r];
  for (int64_t d = thread_of_row<kRowThreads>(); d < D; d += kRowThreads) dx[d] = dy[d] * weight;
  if (thread_of_row<kRowThreads>() == 0) d_weights[r] = T(dot);
}

}  // namespace

Tensor CudaBackend::weighted_sum_forward(const Tensor& weights, const Tensor& x) {
  check_weighted_sum(weights, x);
  check_here("weights", weights);
  const DeviceGuard guard(device_);
  const int64_t N = x.dim(0), K = x.dim(1), D = x.dim(2);
  Tensor y = empty(x.dtype, {N, D});
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch_for_each(stream_, N * D, weighted_sum_kernel<T>, weights.data<T>(), x.data<T>(), N, K, D, y.data<T>());
  });
  return y;
}

WeightedSumGradients CudaBackend::weighted_sum_backward(const Tensor& dy, const Tensor& weights, const Tensor& x) {
  check_weighted_sum_backward(dy, weights, x);
  check_here("dy", dy);
  const DeviceGuard guard(device_);
  const int64_t N = x.dim(0), K = x.dim(1), D = x.dim(2);
  WeightedSumGradients result{empty(x.dtype, weights.shape), empty(x.dtype, x.shape)};
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_rows(N * K, D, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, weighted_sum_backward_kernel<T, row_threads()>, dy.data<T>(),
             weights.data<T>(), x.data<T>(), N * K, K, D, result.d_weights.template data<T>(),
             result.dx.template data<T>());
    });
  });
  return result;
}

}  // namespace fm
