#include "backend.h"
#include "parallel.h"

#define FM_KERNELS "pool.inl"
#include "for_each_isa.h"

namespace fm {

Tensor CpuBackend::global_avg_pool_forward(const Tensor& x) {
  check_rank("x", x, 4);
  FM_CHECK(shape, x.dim(1) * x.dim(2) > 0, "expected images of at least one pixel, got x ", x.shape);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t pixels = x.dim(1) * x.dim(2), channels = x.dim(3);
    Tensor y = cpu_empty<T>({x.dim(0), channels});
    const T* from = x.data<T>();
    T* to = y.data<T>();
    const auto kernel = FM_KERNEL(average_pixels<T>);
    parallel_for(x.dim(0),
                 [&](int64_t n) { kernel(from + n * pixels * channels, pixels, channels, to + n * channels); });
    return y;
  });
}

Tensor CpuBackend::global_avg_pool_backward(const Tensor& dy, const Shape& x_shape) {
  FM_CHECK(shape, x_shape.size() == 4, "expected an x_shape with 4 axes, got ", x_shape);
  check_shape("dy", dy, {x_shape[0], x_shape[3]});
  return dispatch_float(dy.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t pixels = x_shape[1] * x_shape[2], channels = x_shape[3];
    Tensor dx = cpu_empty<T>(x_shape);
    const T* from = dy.data<T>();
    T* to = dx.data<T>();
    const auto kernel = FM_KERNEL(spread_pixels<T>);
    parallel_for(x_shape[0],
                 [&](int64_t n) { kernel(from + n * channels, pixels, channels, to + n * pixels * channels); });
    return dx;
  });
}

Tensor CpuBackend::flatten_forward(const Tensor& x) {
  check_rank("x", x, 4);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t pixels = x.dim(1) * x.dim(2), channels = x.dim(3), size = pixels * channels;
    Tensor y = cpu_empty<T>({x.dim(0), size});
    const T* from = x.data<T>();
    T* to = y.data<T>();
    const auto kernel = FM_KERNEL(transpose<T>);
    parallel_for(x.dim(0), [&](int64_t n) { kernel(from + n * size, pixels, channels, to + n * size); });
    return y;
  });
}

Tensor CpuBackend::flatten_backward(const Tensor& dy, const Shape& x_shape) {
  FM_CHECK(shape, x_shape.size() == 4, "expected an x_shape with 4 axes, got ", x_shape);
  const int64_t pixels = x_shape[1] * x_shape[2], channels = x_shape[3], size = pixels * channels;
  check_shape("dy", dy, {x_shape[0], size});
  return dispatch_float(dy.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor dx = cpu_empty<T>(x_shape);
    const T* from = dy.data<T>();
    T* to = dx.data<T>();
    const auto kernel = FM_KERNEL(transpose<T>);
    parallel_for(x_shape[0], [&](int64_t n) { kernel(from + n * size, channels, pixels, to + n * size); });
    return dx;
  });
}

}  // namespace fm
