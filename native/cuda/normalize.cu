#include "normalize.cuh"

#include "backend.h"
#include "launch.h"

namespace fm {
namespace {

constexpr int kBlock = 128;
constexpr int64_t kLongRow = 4096;  // from here on a block shares a row: a warp alone would sweep it 128 times or more

// launch(zero of T, threads a row as a constant, blocks)
template <class F>
void for_rows(const Tensor& x, F&& launch) {
  const int64_t N = x.dim(0), D = x.dim(1);
  if (N == 0) return;
  dispatch_float(x.dtype, [&](auto zero) {
    if (D >= kLongRow) launch(zero, std::integral_constant<int, kBlock>{}, unsigned(N));
    else launch(zero, std::integral_constant<int, kWarp>{}, unsigned((N + kBlock / kWarp - 1) / (kBlock / kWarp)));
  });
}

}  // namespace

Normalized CudaBackend::normalize_forward(const Tensor& x) {
  check_rank("x", x, 2);
  check_here("x", x);
  const DeviceGuard guard(device_);
  const int64_t N = x.dim(0), D = x.dim(1);
  Normalized out{empty(x.dtype, x.shape), empty(x.dtype, {N})};
  for_rows(x, [&](auto zero, auto row_threads, unsigned blocks) {
    using T = decltype(zero);
    launch(stream_, blocks, kBlock, normalize_forward_kernel<T, row_threads()>, x.data<T>(), out.y.data<T>(),
           out.norm.data<T>(), N, D);
  });
  return out;
}

Tensor CudaBackend::normalize_backward(const Tensor& dy, const Tensor& y, const Tensor& norm) {
  check_rank("y", y, 2);
  const int64_t N = y.dim(0), D = y.dim(1);
  check_shape("dy", dy, y.shape);
  check_shape("norm", norm, {N});
  check_here("dy", dy);
  check_here("y", y);
  check_here("norm", norm);
  const DeviceGuard guard(device_);
  Tensor dx = empty(y.dtype, y.shape);
  for_rows(y, [&](auto zero, auto row_threads, unsigned blocks) {
    using T = decltype(zero);
    launch(stream_, blocks, kBlock, normalize_backward_kernel<T, row_threads()>, dy.data<T>(), y.data<T>(),
           norm.data<T>(), dx.data<T>(), N, D);
  });
  return dx;
}

}  // namespace fm
