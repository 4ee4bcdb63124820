#include "conv2d.h"

#include "conv2d.cuh"
#include "launch.h"
#include "library_ops.h"
#include "slabs.cuh"

namespace fm {
namespace {

WindowGrid grid_of(const ConvWindows& w, const ConvTarget& t) {
  FM_CHECK(shape, w.pixels() <= INT32_MAX - 256, "expected at most 2^31 pixels a call, got ", w.pixels(),
           ": lower batchSize");
  FM_CHECK(shape, w.depth() <= kWidestRow && t.channels <= 65535 * int64_t(Tile<double>::kRows),
           "expected fewer channels, got ", w.channels, " and ", t.channels);
  return {int(w.grid_height), int(w.grid_width), int(w.height),
          int(w.width),       int(w.channels),   std::max(1, int(w.kernel_width)),
          int(w.step),        int(w.offset_y),   int(w.offset_x),
          int(t.height),      int(t.width),      int(t.channels),
          int(t.step),        int(t.offset_y),   int(t.offset_x)};
}

// packed[output][kernel row][kernel column][channel]
template <class T, class S>
struct PackWeight {
  const T* weight;
  WeightOrder order;
  int64_t channels, kernel_width, depth;
  S* packed;
  __device__ void operator()(int64_t i) const {
    const int64_t output = i / depth, k = i % depth, tap = k / channels;
    packed[i] = element_as<S>(weight[order.base + tap / kernel_width * order.row + tap % kernel_width * order.column +
                                     k % channels * order.channel + output * order.output]);
  }
};

template <class T, class S>
void multiply(CudaBackend& on, const ConvProduct& product, const S* source, const T* weight, S* to) {
  const auto& [w, order, target] = product;
  if (w.pixels() == 0) return;
  const WindowGrid grid = grid_of(w, target);
  const int64_t depth = w.depth();
  DeviceScratch scratch(on.allocator());
  S* const packed = scratch.take<S>(target.channels * depth);
  for_each(on.stream(), target.channels * depth,
           PackWeight<T, S>{weight, order, w.channels, w.kernel_width, depth, packed});
  const dim3 blocks(unsigned(blocks_for(w.pixels(), Tile<T>::kColumns)),
                    unsigned(blocks_for(target.channels, Tile<T>::kRows)));
  launch(on.stream(), blocks, Tile<T>::kThreads, conv_windows_kernel<T, S>, grid, source, packed, w.pixels(), depth,
         to);
}

}  // namespace

template <class S, class T>
void plain_conv2d_forward(CudaBackend& on, const ConvShape& s, const S* x, const T* weight, S* y) {
  multiply(on, forward_product(s), x, weight, y);
}

template <class S, class T>
void plain_conv2d_backward_data(CudaBackend& on, const ConvShape& s, const S* dy, const T* weight, S* dx) {
  each_backward_data_product(s, [&](const ConvProduct& product) { multiply(on, product, dy, weight, dx); });
}

template <class S, class T>
void plain_conv2d_backward_weight(CudaBackend& on, const ConvShape& s, const S* dy, const S* x, T* d_weight) {
  const auto& [w, order, target] = forward_product(s);
  const int64_t depth = w.depth(), n = s.outputs * depth;
  const int64_t places = blocks_for(depth, Tile<T>::kColumns), outputs = blocks_for(s.outputs, Tile<T>::kRows);
  const int64_t parts = parts_of_depth(places * outputs, w.pixels());
  DeviceScratch scratch(on.allocator());
  T* const slabs = scratch.take<T>(parts * n);
  launch(on.stream(), dim3(unsigned(places), unsigned(outputs), unsigned(parts)), Tile<T>::kThreads,
         conv_weight_kernel<T, S>, grid_of(w, target), dy, x, w.pixels(), s.outputs, depth, slabs);
  for_each(on.stream(), n, AddSlabs<T>{slabs, parts, n, s.taps(), s.inputs, d_weight});
}

Tensor CudaBackend::conv2d_forward(const Tensor& x, const Tensor& weight, ConvParams p) {
  check_same_device(x, weight);
  check_here("x", x);
  check_dtype("weight", weight, parameter_dtype(x.dtype));
  const ConvShape s(x.shape, weight.shape, p);
  const DeviceGuard guard(device_);
  const Tensor y = empty(x.dtype, s.y());
  dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    if constexpr (CudnnConvolutions::takes<S>)
      if (CudnnConvolutions* cudnn = libraries_->convolutions(x.dtype))
        if (cudnn->forward(s, x.data<S>(), weight.data<float>(), y.data<S>())) return;
    plain_conv2d_forward(*this, s, x.data<S>(), weight.data<Computed<S>>(), y.data<S>());
  });
  return y;
}

Tensor CudaBackend::conv2d_backward_data(const Tensor& dy, const Tensor& weight, const Shape& x_shape, ConvParams p) {
  check_same_device(dy, weight);
  check_here("dy", dy);
  check_dtype("weight", weight, parameter_dtype(dy.dtype));
  const ConvShape s(x_shape, weight.shape, p);
  check_shape("dy", dy, s.y());
  const DeviceGuard guard(device_);
  const Tensor dx = empty(dy.dtype, x_shape);
  dispatch_stored(dy.dtype, [&](auto zero) {
    using S = decltype(zero);
    if constexpr (CudnnConvolutions::takes<S>)
      if (CudnnConvolutions* cudnn = libraries_->convolutions(dy.dtype))
        if (cudnn->backward_data(s, dy.data<S>(), weight.data<float>(), dx.data<S>())) return;
    plain_conv2d_backward_data(*this, s, dy.data<S>(), weight.data<Computed<S>>(), dx.data<S>());
  });
  return dx;
}

Tensor CudaBackend::conv2d_backward_weight(const Tensor& dy, const Tensor& x, const Shape& weight_shape, ConvParams p) {
  check_same_device(dy, x);
  check_here("dy", dy);
  check_dtype("dy", dy, x.dtype);
  const ConvShape s(x.shape, weight_shape, p);
  check_shape("dy", dy, s.y());
  const DeviceGuard guard(device_);
  const Tensor d_weight = empty(parameter_dtype(x.dtype), weight_shape);
  dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    if constexpr (CudnnConvolutions::takes<S>)
      if (CudnnConvolutions* cudnn = libraries_->convolutions(x.dtype))
        if (cudnn->backward_weight(s, dy.data<S>(), x.data<S>(), d_weight.data<float>())) return;
    plain_conv2d_backward_weight(*this, s, dy.data<S>(), x.data<S>(), d_weight.data<Computed<S>>());
  });
  return d_weight;
}

}  // namespace fm
