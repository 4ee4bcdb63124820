#include "conv2d.h"

#include "allocator.h"
#include "backend.h"
#include "onednn.h"
#include "parallel.h"

#define FM_KERNELS "conv2d.inl"
#include "for_each_isa.h"

namespace fm {

namespace {

// packed[panel][depth][width], zeros beyond the last column.
template <class T>
void pack_weight(const T* weight, WeightOrder order, const ConvWindows& w, int64_t columns, int64_t width, T* packed) {
  const int64_t panels = (columns + width - 1) / width, depth = w.depth();
  // A chunk is a few channels of one panel, put together [tap][channel][column] in a buffer: written directly, the taps of
  // one channel would share a set of the cache wherever their distance is a power of two.
  const int64_t taps = w.kernel_height * w.kernel_width, group = std::clamp<int64_t>(128 / taps, 1, 16);
  const int64_t groups = (w.channels + group - 1) / group, buffer_size = group * taps * width;
  Scratch<T> buffers(size_t(buffer_size) * num_threads());
  parallel_for(panels * groups, [&](int64_t chunk, int thread) {
    const int64_t panel = chunk / groups, first = chunk % groups * group, count = std::min(group, w.channels - first);
    T* buffer = buffers.data() + thread * buffer_size;
    const int64_t used = std::min(width, columns - panel * width);
    if (used < width) std::fill_n(buffer, buffer_size, T(0));
    for (int64_t j = 0; j < used; j++) {
      const T* from = weight + order.base + (panel * width + j) * order.output + first * order.channel;
      for (int64_t c = 0; c < count; c++, from += order.channel) {
        T* to = buffer + c * width + j;
        for (int64_t a = 0; a < w.kernel_height; a++)
          for (int64_t b = 0; b < w.kernel_width; b++, to += count * width)
            *to = from[a * order.row + b * order.column];
      }
    }
    for (int64_t t = 0; t < taps; t++)
      std::copy_n(buffer + t * count * width, count * width, packed + (panel * depth + t * w.channels + first) * width);
  });
}

template <class T>
void multiply(const ConvProduct& product, const T* source, const T* weight, T* to) {
  const auto& [w, order, target] = product;
  const int64_t width = FM_KERNEL(panel_width<T>)(target.channels),
                columns = (target.channels + width - 1) / width * width;
  Scratch<T> packed(size_t(columns) * w.depth());
  pack_weight(weight, order, w, target.channels, width, packed.data());
  const int64_t pixels = w.pixels(), step = width == 3 * FM_KERNEL(lanes<T>)() ? 9 : 14;
  // Smaller tiles where there are few pixels, so that there is work for several threads.
  const int64_t tile = std::clamp((pixels / 16 + step - 1) / step * step, step, kConvTile);
  const int64_t scratch_size = kConvTile * (kConvDepth + 16) + 16;
  Scratch<T> scratch(size_t(scratch_size) * num_threads());
  const auto kernel = FM_KERNEL(conv_tile<T>);
  parallel_for((pixels + tile - 1) / tile, [&](int64_t i, int thread) {
    kernel(source, w, packed.data(), width, to, target, i * tile, std::min(tile, pixels - i * tile),
           scratch.data() + thread * scratch_size);
  });
}

template <class T>
void forward(const ConvShape& s, const T* x, const T* weight, T* y) {
  multiply(forward_product(s), x, weight, y);
}

template <class T>
void backward_data(const ConvShape& s, const T* dy, const T* weight, T* dx) {
  each_backward_data_product(s, [&](const ConvProduct& product) {
    const auto& [w, order, target] = product;
    if (w.depth() > 0) return multiply(product, dy, weight, dx);
    parallel_for(w.images * w.grid_height, [&](int64_t i) {
      const int64_t row = i / w.grid_height * target.height + i % w.grid_height * target.step + target.offset_y;
      for (int64_t column = target.offset_x; column < target.width; column += target.step)
        std::fill_n(dx + (row * target.width + column) * target.channels, target.channels, T(0));
    });
  });
}

template <class T>
void backward_weight(const ConvShape& s, const T* dy, const T* x, T* d_weight) {
  const ConvWindows w = forward_windows(s);
  const int64_t pixels = w.pixels(), depth = w.depth();
  if (pixels == 0) {
    std::fill_n(d_weight, s.outputs * depth, T(0));
    return;
  }
  const int64_t parts = (depth + kWeightDepth - 1) / kWeightDepth;
  const int64_t part = ((depth + parts - 1) / parts + 15) / 16 * 16, pitch = part;
  // Few columns are little work for many threads, so pixels are cut as well; the cuts' sums are added in order.
  const int64_t tiles = (pixels + kWeightTile - 1) / kWeightTile;
  const int64_t slices = std::clamp<int64_t>((16 + parts - 1) / parts, 1, std::max<int64_t>(1, tiles / 2));
  const int64_t slice = (tiles + slices - 1) / slices * kWeightTile;
  const int64_t used = (pixels + slice - 1) / slice;
  const int64_t scratch_size = kWeightTile * pitch + 64;
  Scratch<T> scratch(size_t(scratch_size) * num_threads()), sums(size_t(used * parts) * s.outputs * pitch);
  const auto kernel = FM_KERNEL(conv_weight_chunk<T>);
  parallel_for(used * parts, [&](int64_t chunk, int thread) {
    const int64_t k0 = chunk % parts * part, begin = chunk / parts * slice;
    if (k0 < depth)
      kernel(x, w, dy, s.outputs, begin, std::min(begin + slice, pixels), k0, std::min(k0 + part, depth),
             sums.data() + chunk * s.outputs * pitch, pitch, scratch.data() + thread * scratch_size);
  });
  const int64_t taps = s.kernel_height * s.kernel_width;
  Scratch<T> rows(size_t(depth) * num_threads());
  parallel_for(s.outputs, [&](int64_t o, int thread) {
    T* row = rows.data() + thread * depth;  // [taps][inputs]
    for (int64_t i = 0; i < used; i++)
      for (int64_t k = 0; k < depth; k += part) {
        const T* from = sums.data() + ((i * parts + k / part) * s.outputs + o) * pitch;
        const int64_t count = std::min(part, depth - k);
        if (i == 0) std::copy_n(from, count, row + k);
        else
          for (int64_t j = 0; j < count; j++) row[k + j] += from[j];
      }
    T* to = d_weight + o * depth;
    for (int64_t c = 0; c < s.inputs; c++)
      for (int64_t t = 0; t < taps; t++) to[c * taps + t] = row[t * s.inputs + c];
  });
}

}  // namespace

Tensor CpuBackend::conv2d_forward(const Tensor& x, const Tensor& weight, ConvParams p) {
  check_same_device(x, weight);
  check_dtype("weight", weight, parameter_dtype(x.dtype));
  const ConvShape s(x.shape, weight.shape, p);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor y = cpu_empty<T>(s.y());
    const T *from = x.data<T>(), *w = weight.data<T>();
    if constexpr (sizeof(T) == 4)
      if (onednn_forward(s, from, w, y.data<T>())) return y;
    forward(s, from, w, y.data<T>());
    return y;
  });
}

Tensor CpuBackend::conv2d_backward_data(const Tensor& dy, const Tensor& weight, const Shape& x_shape, ConvParams p) {
  check_same_device(dy, weight);
  check_dtype("weight", weight, parameter_dtype(dy.dtype));
  const ConvShape s(x_shape, weight.shape, p);
  check_shape("dy", dy, s.y());
  return dispatch_float(dy.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor dx = cpu_empty<T>(x_shape);
    const T *g = dy.data<T>(), *w = weight.data<T>();
    if constexpr (sizeof(T) == 4)
      if (onednn_backward_data(s, g, w, dx.data<T>())) return dx;
    backward_data(s, g, w, dx.data<T>());
    return dx;
  });
}

Tensor CpuBackend::conv2d_backward_weight(const Tensor& dy, const Tensor& x, const Shape& weight_shape, ConvParams p) {
  check_same_device(dy, x);
  check_dtype("dy", dy, x.dtype);
  const ConvShape s(x.shape, weight_shape, p);
  check_shape("dy", dy, s.y());
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor d_weight = cpu_empty<T>(weight_shape);
    const T *g = dy.data<T>(), *from = x.data<T>();
    if constexpr (sizeof(T) == 4)
      if (onednn_backward_weight(s, g, from, d_weight.data<T>())) return d_weight;
    backward_weight(s, g, from, d_weight.data<T>());
    return d_weight;
  });
}

}  // namespace fm
