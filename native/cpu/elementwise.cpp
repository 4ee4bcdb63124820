#include "../common/check.h"
#include "../common/random.h"
#include "backend.h"
#include "channels.h"
#include "parallel.h"

#define FM_KERNELS "elementwise.inl"
#include "for_each_isa.h"

namespace fm {
namespace {

constexpr int64_t kGrain = 32768;  // elements a chunk

}  // namespace

void CpuBackend::fill(const Tensor& x, double value) {
  const int64_t n = x.numel();
  const auto run = [&](auto element) {
    using T = decltype(element);
    T* to = x.data<T>();
    const auto kernel = FM_KERNEL(fill_range<T>);
    parallel_ranges(n, kGrain, [&](int64_t begin, int64_t end) { kernel(to + begin, end - begin, element); });
  };
  switch (x.dtype) {
    case Dtype::float32: return run(float(value));
    case Dtype::float64: return run(value);
    case Dtype::int32: return run(int32_t(value));
    case Dtype::uint8: return run(uint8_t(value));
    case Dtype::bfloat16: return run(Bfloat16(float(value)));
  }
}

Tensor CpuBackend::cast(const Tensor& x, Dtype dtype) {
  return dispatch_stored(x.dtype, [&](auto from_zero) {
    return dispatch_stored(dtype, [&](auto to_zero) {
      using From = decltype(from_zero);
      using To = decltype(to_zero);
      Tensor y = cpu_empty<To>(x.shape);
      const From* from = x.data<From>();
      To* to = y.data<To>();
      parallel_ranges(x.numel(), kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) to[i] = element_as<To>(from[i]);
      });
      return y;
    });
  });
}

Tensor CpuBackend::relu_forward(const Tensor& x) {
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor y = cpu_empty<T>(x.shape);
    const T* from = x.data<T>();
    T* to = y.data<T>();
    const auto kernel = FM_KERNEL(relu_range<T>);
    parallel_ranges(x.numel(), kGrain, [&](int64_t i, int64_t end) { kernel(from + i, to + i, end - i); });
    return y;
  });
}

Tensor CpuBackend::relu_backward(const Tensor& dy, const Tensor& y) {
  check_alike("y", y, "dy", dy);
  return dispatch_float(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor dx = cpu_empty<T>(y.shape);
    const T *g = dy.data<T>(), *out = y.data<T>();
    T* to = dx.data<T>();
    const auto kernel = FM_KERNEL(relu_backward_range<T>);
    parallel_ranges(y.numel(), kGrain, [&](int64_t i, int64_t end) { kernel(g + i, out + i, to + i, end - i); });
    return dx;
  });
}

Tensor CpuBackend::add(const Tensor& a, const Tensor& b) {
  check_alike("a", a, "b", b);
  return dispatch_float(a.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor y = cpu_empty<T>(a.shape);
    const T *left = a.data<T>(), *right = b.data<T>();
    T* to = y.data<T>();
    const auto kernel = FM_KERNEL(add_range<T>);
    parallel_ranges(a.numel(), kGrain, [&](int64_t i, int64_t end) { kernel(left + i, right + i, to + i, end - i); });
    return y;
  });
}

Tensor CpuBackend::multiply(const Tensor& a, const Tensor& b) {
  check_alike("a", a, "b", b);
  return dispatch_float(a.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor y = cpu_empty<T>(a.shape);
    const T *left = a.data<T>(), *right = b.data<T>();
    T* to = y.data<T>();
    const auto kernel = FM_KERNEL(multiply_range<T>);
    parallel_ranges(a.numel(), kGrain, [&](int64_t i, int64_t end) { kernel(left + i, right + i, to + i, end - i); });
    return y;
  });
}

void CpuBackend::accumulate(const Tensor& into, const Tensor& x) {
  check_alike("into", into, "x", x);
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.data<T>();
    T* to = into.data<T>();
    const auto kernel = FM_KERNEL(add_range<T>);
    parallel_ranges(x.numel(), kGrain, [&](int64_t i, int64_t end) { kernel(to + i, from + i, to + i, end - i); });
  });
}

Tensor CpuBackend::scale(const Tensor& x, double factor) {
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor y = cpu_empty<T>(x.shape);
    const T* from = x.data<T>();
    T* to = y.data<T>();
    const auto kernel = FM_KERNEL(scale_range<T>);
    parallel_ranges(x.numel(), kGrain, [&](int64_t i, int64_t end) { kernel(from + i, T(factor), to + i, end - i); });
    return y;
  });
}

Tensor CpuBackend::affine(const Tensor& x, double factor, double offset) {
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor y = cpu_empty<T>(x.shape);
    const T* from = x.data<T>();
    T* to = y.data<T>();
    const auto kernel = FM_KERNEL(affine_range<T>);
    parallel_ranges(x.numel(), kGrain,
                    [&](int64_t i, int64_t end) { kernel(from + i, T(factor), T(offset), to + i, end - i); });
    return y;
  });
}

Tensor CpuBackend::sqrt_forward(const Tensor& x, double epsilon) {
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor y = cpu_empty<T>(x.shape);
    const T* from = x.data<T>();
    T* to = y.data<T>();
    const auto kernel = FM_KERNEL(sqrt_range<T>);
    parallel_ranges(x.numel(), kGrain, [&](int64_t i, int64_t end) { kernel(from + i, T(epsilon), to + i, end - i); });
    return y;
  });
}

Tensor CpuBackend::sqrt_backward(const Tensor& dy, const Tensor& y) {
  check_alike("y", y, "dy", dy);
  return dispatch_float(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor dx = cpu_empty<T>(y.shape);
    const T *g = dy.data<T>(), *root = y.data<T>();
    T* to = dx.data<T>();
    const auto kernel = FM_KERNEL(sqrt_backward_range<T>);
    parallel_ranges(y.numel(), kGrain, [&](int64_t i, int64_t end) { kernel(g + i, root + i, to + i, end - i); });
    return dx;
  });
}

Tensor CpuBackend::add_bias(const Tensor& x, const Tensor& bias) {
  check_rank("x", x, 2);
  check_channels("bias", x, bias);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const ChannelRows rows(x);
    Tensor y = cpu_empty<T>(x.shape);
    Scratch<T> wide(rows.width);
    rows.spread(bias.data<T>(), wide.data());
    const T* from = x.data<T>();
    T* to = y.data<T>();
    const auto kernel = FM_KERNEL(add_bias_range<T>);
    parallel_for(rows.chunks, [&](int64_t i) {
      kernel(from + rows.begin(i), wide.data(), to + rows.begin(i), rows.size(i), rows.width);
    });
    return y;
  });
}

Tensor CpuBackend::prelu_forward(const Tensor& x, const Tensor& slope) {
  check_channels("slope", x, slope);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const ChannelRows rows(x);
    Tensor y = cpu_empty<T>(x.shape);
    Scratch<T> wide(rows.width);
    rows.spread(slope.data<T>(), wide.data());
    const T* from = x.data<T>();
    T* to = y.data<T>();
    const auto kernel = FM_KERNEL(prelu_range<T>);
    parallel_for(rows.chunks, [&](int64_t i) {
      kernel(from + rows.begin(i), wide.data(), to + rows.begin(i), rows.size(i), rows.width);
    });
    return y;
  });
}

PreluGradients CpuBackend::prelu_backward(const Tensor& dy, const Tensor& x, const Tensor& slope) {
  check_alike("x", x, "dy", dy);
  check_channels("slope", x, slope);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const ChannelRows rows(x);
    Tensor dx = cpu_empty<T>(x.shape), d_slope = cpu_empty<T>(slope.shape);
    Scratch<T> wide(rows.width), block_sums(size_t(rows.width) * num_threads());
    Scratch<double> sums(size_t(rows.chunks) * rows.width);
    rows.spread(slope.data<T>(), wide.data());
    const T *g = dy.data<T>(), *from = x.data<T>();
    T* to = dx.data<T>();
    const auto kernel = FM_KERNEL(prelu_backward_range<T>);
    parallel_for(rows.chunks, [&](int64_t i, int thread) {
      const int64_t at = rows.begin(i);
      kernel(g + at, from + at, wide.data(), to + at, rows.size(i), rows.width, block_sums.data() + thread * rows.width,
             sums.data() + i * rows.width);
    });
    for (int64_t c = 0; c < rows.channels; c++) {
      double total = 0;
      for (int64_t i = 0; i < rows.chunks; i++)
        for (int64_t j = c; j < rows.width; j += rows.channels) total += sums[i * rows.width + j];
      d_slope.data<T>()[c] = T(total);
    }
    return PreluGradients{dx, d_slope};
  });
}

Tensor CpuBackend::dropout(const Tensor& x, double rate, double seed) {
  FM_CHECK(range, rate >= 0 && rate < 1, "expected rate in [0, 1), got ", rate);
  FM_CHECK(range, std::abs(seed) <= 9007199254740992.0, "expected a seed of at most 2^53 in magnitude, got ", seed);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor y = cpu_empty<T>(x.shape);
    const T* from = x.data<T>();
    T* to = y.data<T>();
    const auto key = uint64_t(int64_t(seed));
    const auto kernel = FM_KERNEL(dropout_range<T>);
    parallel_ranges(x.numel(), kGrain,
                    [&](int64_t i, int64_t end) { kernel(from + i, to + i, end - i, i, rate, key); });
    return y;
  });
}

Tensor CpuBackend::image_to_float(const Tensor& x) {
  check_dtype("x", x, Dtype::uint8);
  Tensor y = cpu_empty<float>(x.shape);
  const uint8_t* from = x.data<uint8_t>();
  float* to = y.data<float>();
  const auto kernel = FM_KERNEL(image_range);
  parallel_ranges(x.numel(), kGrain, [&](int64_t i, int64_t end) { kernel(from + i, to + i, end - i); });
  return y;
}

}  // namespace fm
