#include "backend.h"
#include "each.cuh"

namespace fm {
namespace {

// y[n, c] = the mean over the pixels of x[n, :, c].
template <class S, class T = Computed<S>>
struct AveragePixels {
  const S* x;
  S* y;
  int64_t pixels, channels;
  __device__ void operator()(int64_t i) const {
    const S* from = x + (i / channels * pixels * channels + i % channels);
    T sum = 0;
    for (int64_t p = 0; p < pixels; p++) sum += T(from[p * channels]);
    y[i] = S(sum * (T(1) / T(pixels)));
  }
};
template <class S, class T = Computed<S>>
struct SpreadPixels {
  const S* dy;
  S* dx;
  int64_t pixels, channels;
  __device__ void operator()(int64_t i) const {
    dx[i] = S(T(dy[i / (pixels * channels) * channels + i % channels]) * (T(1) / T(pixels)));
  }
};
// Every image's [rows, columns] matrix transposed.
template <class S>
struct Transpose {
  const S* from;
  S* to;
  int64_t rows, columns;
  __device__ void operator()(int64_t i) const {
    const int64_t image = i / (rows * columns), at = i % (rows * columns);
    to[i] = from[image * rows * columns + at % rows * columns + at / rows];
  }
};

template <class S>
void transpose(CudaBackend& on, const Tensor& from, int64_t rows, int64_t columns, const Tensor& to) {
  for_each(on.stream(), to.numel(), Transpose<S>{from.data<S>(), to.data<S>(), rows, columns});
}

}  // namespace

Tensor CudaBackend::global_avg_pool_forward(const Tensor& x) {
  check_rank("x", x, 4);
  FM_CHECK(shape, x.dim(1) * x.dim(2) > 0, "expected images of at least one pixel, got x ", x.shape);
  check_here("x", x);
  const DeviceGuard guard(device_);
  return dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    const Tensor y = empty(x.dtype, {x.dim(0), x.dim(3)});
    for_each(stream_, y.numel(), AveragePixels<S>{x.data<S>(), y.data<S>(), x.dim(1) * x.dim(2), x.dim(3)});
    return y;
  });
}

Tensor CudaBackend::global_avg_pool_backward(const Tensor& dy, const Shape& x_shape) {
  FM_CHECK(shape, x_shape.size() == 4, "expected an x_shape with 4 axes, got ", x_shape);
  check_shape("dy", dy, {x_shape[0], x_shape[3]});
  check_here("dy", dy);
  const DeviceGuard guard(device_);
  return dispatch_stored(dy.dtype, [&](auto zero) {
    using S = decltype(zero);
    const Tensor dx = empty(dy.dtype, x_shape);
    for_each(stream_, dx.numel(), SpreadPixels<S>{dy.data<S>(), dx.data<S>(), x_shape[1] * x_shape[2], x_shape[3]});
    return dx;
  });
}

Tensor CudaBackend::flatten_forward(const Tensor& x) {
  check_rank("x", x, 4);
  check_here("x", x);
  const DeviceGuard guard(device_);
  const int64_t pixels = x.dim(1) * x.dim(2), channels = x.dim(3);
  return dispatch_stored(x.dtype, [&](auto zero) {
    const Tensor y = empty(x.dtype, {x.dim(0), pixels * channels});
    transpose<decltype(zero)>(*this, x, pixels, channels, y);
    return y;
  });
}

Tensor CudaBackend::flatten_backward(const Tensor& dy, const Shape& x_shape) {
  FM_CHECK(shape, x_shape.size() == 4, "expected an x_shape with 4 axes, got ", x_shape);
  const int64_t pixels = x_shape[1] * x_shape[2], channels = x_shape[3];
  check_shape("dy", dy, {x_shape[0], pixels * channels});
  check_here("dy", dy);
  const DeviceGuard guard(device_);
  return dispatch_stored(dy.dtype, [&](auto zero) {
    const Tensor dx = empty(dy.dtype, x_shape);
    transpose<decltype(zero)>(*this, dy, channels, pixels, dx);
    return dx;
  });
}

}  // namespace fm
