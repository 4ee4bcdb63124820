#include "conv2d.h"

#include "conv2d.cuh"
#include "launch.h"
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
template <class T>
struct PackWeight {
  const T* weight;
  WeightOrder order;
  int64_t channels, kernel_width, depth;
  T* packed;
  __device__ void operator()(int64_t i) const {
    const int64_t output = i / depth, k = i % depth, tap = k / channels;
    packed[i] = weight[order.base + tap / kernel_width * order.row + tap % kernel_width * order.column +
                       k % channels * order.channel + output * order.output];
  }
};

template <class T>
void multiply(CudaBackend& on, const ConvProduct& product, const T* source, const T* weight, T* to) {
  const auto& [w, order, target] = product;
  if (w.pixels() == 0) return;
  const WindowGrid grid = grid_of(w, target);
  const int64_t depth = w.depth();
  DeviceScratch scratch(on.allocator());
  T* const packed = scratch.take<T>(target.channels * depth);
  for_each(on.stream(), target.channels * depth,
           PackWeight<T>{weight, order, w.channels, w.kernel_width, depth, packed});
  const dim3 blocks(unsigned(blocks_for(w.pixels(), Tile<T>::kColumns)),
                    unsigned(blocks_for(target.channels, Tile<T>::kRows)));
  launch(on.stream(), blocks, Tile<T>::kThreads, conv_windows_kernel<T>, grid, source, packed, w.pixels(), depth, to);
}

}  // namespace

template <class T>
void plain_conv2d_forward(CudaBackend& on, const ConvShape& s, const T* x, const T* weight, T* y) {
  multiply(on, forward_product(s), x, weight, y);
}

template <class T>
void plain_conv2d_backward_data(CudaBackend& on, const ConvShape& s, const T* dy, const T* weight, T* dx) {
  each_backward_data_product(s, [&](const ConvProduct& product) { multiply(on, product, dy, weight, dx); });
}

template <class T>
void plain_conv2d_backward_weight(CudaBackend& on, const ConvShape& s, const T* dy, const T* x, T* d_weight) {
  const auto& [w, order, target] = forward_product(s);
  const int64_t depth = w.depth(), n = s.outputs * depth;
  const int64_t places = blocks_for(depth, Tile<T>::kColumns), outputs = blocks_for(s.outputs, Tile<T>::kRows);
  const int64_t parts = parts_of_depth(places * outputs, w.pixels());
  DeviceScratch scratch(on.allocator());
  T* const slabs = scratch.take<T>(parts * n);
  launch(on.stream(), dim3(unsigned(places), unsigned(outputs), unsigned(parts)), Tile<T>::kThreads,
         conv_weight_kernel<T>, grid_of(w, target), dy, x, w.pixels(), s.outputs, depth, slabs);
  for_each(on.stream(), n, AddSlabs<T>{slabs, parts, n, s.taps(), s.inputs, d_weight});
}

template void plain_conv2d_forward(CudaBackend&, const ConvShape&, const float*, const float*, float*);
template void plain_conv2d_forward(CudaBackend&, const ConvShape&, const double*, const double*, double*);
template void plain_conv2d_backward_data(CudaBackend&, const ConvShape&, const float*, const float*, float*);
template void plain_conv2d_backward_data(CudaBackend&, const ConvShape&, const double*, const double*, double*);
template void plain_conv2d_backward_weight(CudaBackend&, const ConvShape&, const float*, const float*, float*);
template void plain_conv2d_backward_weight(CudaBackend&, const ConvShape&, const double*, const double*, double*);

Tensor CudaBackend::conv2d_forward(const Tensor& x, const Tensor& weight, ConvParams p) {
  check_same_device(x, weight);
  check_here("x", x);
  check_dtype("weight", weight, x.dtype);
  const ConvShape s(x.shape, weight.shape, p);
  const DeviceGuard guard(device_);
  const Tensor y = empty(x.dtype, s.y());
  if (CudnnConvolutions* cudnn = libraries_.convolutions(x.dtype)) {
    cudnn->forward(s, x.data<float>(), weight.data<float>(), y.data<float>());
    return y;
  }
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    plain_conv2d_forward(*this, s, x.data<T>(), weight.data<T>(), y.data<T>());
  });
  return y;
}

Tensor CudaBackend::conv2d_backward_data(const Tensor& dy, const Tensor& weight, const Shape& x_shape, ConvParams p) {
  check_same_device(dy, weight);
  check_here("dy", dy);
  check_dtype("weight", weight, dy.dtype);
  const ConvShape s(x_shape, weight.shape, p);
  check_shape("dy", dy, s.y());
  const DeviceGuard guard(device_);
  const Tensor dx = empty(dy.dtype, x_shape);
  if (CudnnConvolutions* cudnn = libraries_.convolutions(dy.dtype)) {
    cudnn->backward_data(s, dy.data<float>(), weight.data<float>(), dx.data<float>());
    return dx;
  }
  dispatch_float(dy.dtype, [&](auto zero) {
    using T = decltype(zero);
    plain_conv2d_backward_data(*this, s, dy.data<T>(), weight.data<T>(), dx.data<T>());
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
  const Tensor d_weight = empty(x.dtype, weight_shape);
  if (CudnnConvolutions* cudnn = libraries_.convolutions(x.dtype)) {
    cudnn->backward_weight(s, dy.data<float>(), x.data<float>(), d_weight.data<float>());
    return d_weight;
  }
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    plain_conv2d_backward_weight(*this, s, dy.data<T>(), x.data<T>(), d_weight.data<T>());
  });
  return d_weight;
}

}  // namespace fm
