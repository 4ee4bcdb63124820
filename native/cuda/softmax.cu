// Softmax over short rows, such as group probabilities.  The margin head has its own, which never holds its rows.
#include <cmath>

#include "../common/kernel_checks.h"
#include "backend.h"
#include "rows.cuh"
#include "rows.h"

namespace fm {
namespace {

// Which of the two, and its gradient:
//   softmax     p_i = e^(x_i − lse)   dx = p·(dy − ⟨dy, p⟩)
//   logarithm   y_i = x_i − lse       dx = dy − e^y·Σ dy
enum class Of { softmax, logarithm };

template <class T, Of of, int kRowThreads>
__global__ void softmax_kernel(const T* x, T* y, int64_t N, int64_t K) {
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= N) return;
  x += i * K;
  y += i * K;
  T top = -kLargestNumber<T>;
  for (int64_t k = thread_of_row<kRowThreads>(); k < K; k += kRowThreads) top = Max{}(x[k], top);
  const double largest = double(row_reduce<kRowThreads>(top, Max{}));
  const double lse = largest + std::log(sum_over_row<kRowThreads, double>(
                                   K, [&](int64_t k) { return std::exp(double(x[k]) - largest); }));
  for (int64_t k = thread_of_row<kRowThreads>(); k < K; k += kRowThreads) {
    const double logarithm = double(x[k]) - lse;
    y[k] = T(of == Of::softmax ? std::exp(logarithm) : logarithm);
  }
}

template <class T, Of of, int kRowThreads>
__global__ void softmax_backward_kernel(const T* dy, const T* y, T* dx, int64_t N, int64_t K) {
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= N) return;
  dy += i * K;
  y += i * K;
  dx += i * K;
  const double sum = sum_over_row<kRowThreads, double>(
      K, [&](int64_t k) { return double(dy[k]) * (of == Of::softmax ? double(y[k]) : 1); });
  for (int64_t k = thread_of_row<kRowThreads>(); k < K; k += kRowThreads)
    dx[k] = T(of == Of::softmax ? double(y[k]) * (double(dy[k]) - sum) : double(dy[k]) - std::exp(double(y[k])) * sum);
}

template <Of of>
Tensor forward(CudaBackend& gpu, const Tensor& x) {
  check_softmax(x);
  gpu.check_here("x", x);
  Tensor y = gpu.empty(x.dtype, x.shape);
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_rows(x.dim(0), x.dim(1), [&](auto row_threads, unsigned blocks) {
      launch(gpu.stream(), blocks, kRowBlock, softmax_kernel<T, of, row_threads()>, x.data<T>(), y.data<T>(), x.dim(0),
             x.dim(1));
    });
  });
  return y;
}

template <Of of>
Tensor backward(CudaBackend& gpu, const Tensor& dy, const Tensor& y) {
  check_alike("y", y, "dy", dy);
  check_softmax(y);
  gpu.check_here("y", y);
  Tensor dx = gpu.empty(y.dtype, y.shape);
  dispatch_float(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_rows(y.dim(0), y.dim(1), [&](auto row_threads, unsigned blocks) {
      launch(gpu.stream(), blocks, kRowBlock, softmax_backward_kernel<T, of, row_threads()>, dy.data<T>(), y.data<T>(),
             dx.data<T>(), y.dim(0), y.dim(1));
    });
  });
  return dx;
}

}  // namespace

Tensor CudaBackend::softmax_forward(const Tensor& x) {
  const DeviceGuard guard(device_);
  return forward<Of::softmax>(*this, x);
}
Tensor CudaBackend::softmax_backward(const Tensor& dy, const Tensor& y) {
  const DeviceGuard guard(device_);
  return backward<Of::softmax>(*this, dy, y);
}
Tensor CudaBackend::log_softmax_forward(const Tensor& x) {
  const DeviceGuard guard(device_);
  return forward<Of::logarithm>(*this, x);
}
Tensor CudaBackend::log_softmax_backward(const Tensor& dy, const Tensor& y) {
  const DeviceGuard guard(device_);
  return backward<Of::logarithm>(*this, dy, y);
}

}  // namespace fm
