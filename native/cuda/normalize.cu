#include "normalize.cuh"

#include "backend.h"
#include "report.h"
#include "rows.h"

namespace fm {
namespace {

// dx = (dy − y⟨dy, y⟩)/‖x‖ + d_norm·y, 0 where ‖x‖ < 1e-12; dx may be dy or y, d_norm and dy nothing.
template <class T, int kRowThreads>
__global__ void normalize_backward_into_kernel(CheckedRows<T> dy, CheckedRows<T> y, CheckedRows<T> norm,
                                               CheckedRows<T> d_norm, int64_t N, T* dx) {
  const int64_t n = row_of_thread<kRowThreads>(), D = y.width;
  if (n >= N) return;
  // All of them: a row is refused by the first check that does, whichever comes first on another row.
  const bool good = good_row<kRowThreads>(y, n) & good_row<kRowThreads>(norm, n) & good_row<kRowThreads>(dy, n) &
                    good_row<kRowThreads>(d_norm, n);
  if (!good) return;
  const T* const unit = y.x + n * D;
  const T* const g = dy.x ? dy.x + n * D : nullptr;
  const int first = thread_of_row<kRowThreads>();
  const T length = norm.x[n], radial = d_norm.x ? d_norm.x[n] : T(0);
  const T along = g ? T(sum_over_row<kRowThreads, T>(D, [&](int64_t d) { return g[d] * unit[d]; })) : T(0);
  dx += n * D;
  for (int64_t d = first; d < D; d += kRowThreads) {
    const T direct = radial * unit[d], across = g ? (g[d] - unit[d] * along) / length : T(0);
    dx[d] = length < T(kSmallestNorm) ? T(0) : in_range(direct + across);
  }
}

}  // namespace

Normalized CudaBackend::normalize_forward(const Tensor& x) {
  check_rank("x", x, 2);
  check_here("x", x);
  const DeviceGuard guard(device_);
  const int64_t N = x.dim(0), D = x.dim(1);
  Normalized out{empty(x.dtype, x.shape), empty(x.dtype, {N})};
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_rows(N, D, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, normalize_forward_kernel<T, row_threads()>, x.data<T>(), out.y.data<T>(),
             out.norm.data<T>(), N, D, nullptr);
    });
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
  dispatch_float(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_rows(N, D, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, normalize_backward_kernel<T, row_threads()>, dy.data<T>(), y.data<T>(),
             norm.data<T>(), dx.data<T>(), N, D);
    });
  });
  return dx;
}

void CudaBackend::normalize_into(const Tensor& x, const Tensor& y, const Tensor& norm) {
  check_normalize_into(x, y, norm);
  check_here("x", x);
  changed(y, norm);
  const DeviceGuard guard(device_);
  const int64_t N = x.dim(0), D = x.dim(1);
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* const from = x.data<T>();
    Report report(*this);
    const Refusals refused = report.check(
        [&](int64_t row) { fail_row_norm("x", T(exact_norm(report.read(from + row * D, D).data(), D)), row); });
    for_rows(N, D, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, normalize_forward_kernel<T, row_threads()>, from, y.data<T>(), norm.data<T>(),
             N, D, refused.lowest);
    });
    report.finish();
  });
}

void CudaBackend::normalize_backward_into(const OptionalTensor& dy, const Tensor& y, const Tensor& norm,
                                          const OptionalTensor& d_norm, const Tensor& dx) {
  check_normalize_backward_into(dy, y, norm, d_norm, dx);
  check_here("y", y);
  changed(dx);
  const DeviceGuard guard(device_);
  const int64_t N = y.dim(0), D = y.dim(1);
  dispatch_float(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    Report report(*this);
    const auto units = report.rows("y", kCosineRange, y.data<T>(), D, kLargestCosine);
    const auto lengths = report.finite_rows("norm", norm.data<T>(), 1);
    const auto gradients = report.rows("dy", kGradientRange, data_or_null<T>(dy), D, kLargestGradient<T>);
    const auto radial = report.rows("dNorm", kGradientRange, data_or_null<T>(d_norm), 1, kLargestGradient<T>);
    for_rows(N, D, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, normalize_backward_into_kernel<T, row_threads()>, gradients, units, lengths,
             radial, N, dx.data<T>());
    });
    report.finish();
  });
}

}  // namespace fm
