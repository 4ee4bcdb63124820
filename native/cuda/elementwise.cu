#include <cmath>

#include "../common/check.h"
#include "../common/random.h"
#include "backend.h"
#include "columns.cuh"
#include "each.cuh"
#include "prelu.cuh"
#include "reduce.cuh"

namespace fm {
namespace {

struct Relu {
  template <class T>
  __device__ T operator()(T x) const {
    return x < 0 ? T(0) : x;  // NaN stays NaN
  }
};
struct ReluSlope {
  template <class T>
  __device__ T operator()(T dy, T y) const {
    return y > 0 ? dy : T(0);
  }
};
template <class T>
struct Convert {
  template <class From>
  __device__ T operator()(From x) const {
    return T(x);
  }
};
struct Times {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a * b;
  }
};
template <class T>
struct Scale {
  T factor;
  __device__ T operator()(T x) const { return x * factor; }
};
template <class T>
struct Affine {
  T factor, offset;
  __device__ T operator()(T x) const { return x * factor + offset; }
};
template <class T>
struct Root {
  T epsilon;
  __device__ T operator()(T x) const { return std::sqrt(x + epsilon); }
};
// dx = dy/(2y); 0 where dy is, even at the root's infinite slope.
struct RootSlope {
  template <class T>
  __device__ T operator()(T dy, T y) const {
    return dy == 0 ? T(0) : dy * T(0.5) / y;
  }
};

template <class T>
struct Plus {
  T bias;
  __device__ T operator()(T x) const { return x + bias; }
};
template <class T>
struct AddBias {
  const T* bias;
  __device__ Plus<T> operator()(int64_t c) const { return {bias[c]}; }
};
template <class T>
struct Bent {
  T slope;
  __device__ T operator()(T x) const { return bent(x, slope); }
};
template <class T>
struct Prelu {
  const T* slope;
  __device__ Bent<T> operator()(int64_t c) const { return {slope[c]}; }
};
// dx, and the terms of d_slope.
template <class S, class T = Computed<S>>
struct PreluBackward {
  using Element = S;
  const S *dy, *x;
  const T* slope;
  S* dx;
  template <int W>
  __device__ void operator()(int64_t i, int64_t c, T (&sums)[W][1]) const {
    const Pack<S, W> values = load_pack<W>(x + i), gradients = load_pack<W>(dy + i);
    Pack<S, W> to;
#pragma unroll
    for (int k = 0; k < W; k++) {
      const T v = T(values.at[k]), g = T(gradients.at[k]);
      to.at[k] = S(unbent(g, v, slope[c + k]));
      sums[k][0] += slope_term(g, v);
    }
    store_pack(dx + i, to);
  }
};

template <class S, class T = Computed<S>>
struct Dropout {
  const S* x;
  S* y;
  T kept;
  uint64_t seed;
  uint32_t below;
  __device__ void operator()(int64_t i) const {
    y[i] = S(random_bits(seed, uint64_t(i)) >= below ? T(x[i]) * kept : T(0));
  }
};
struct ImageToFloat {
  const uint8_t* x;
  float* y;
  __device__ void operator()(int64_t i) const { y[i] = float(x[i]) * (1 / 127.5f) - 1.f; }
};

// make(zero of T): the op that computes in T.
template <class Make>
Tensor map(CudaBackend& on, const Tensor& x, Make&& make) {
  on.check_here("x", x);
  const DeviceGuard guard(on.device());
  return dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    const Tensor y = on.empty(x.dtype, x.shape);
    map_elements(on.stream(), x.numel(), make(Computed<S>{}), y.data<S>(), x.data<S>());
    return y;
  });
}

template <class Op>
void map_into(CudaBackend& on, const Tensor& a, const Tensor& b, const Tensor& y) {
  const DeviceGuard guard(on.device());
  dispatch_stored(a.dtype, [&](auto zero) {
    using S = decltype(zero);
    map_elements(on.stream(), a.numel(), Op{}, y.data<S>(), a.data<S>(), b.data<S>());
  });
}

template <class Op>
Tensor map(CudaBackend& on, const char* a_name, const Tensor& a, const char* b_name, const Tensor& b) {
  check_alike(a_name, a, b_name, b);
  on.check_here(a_name, a);
  const Tensor y = on.empty(a.dtype, a.shape);
  map_into<Op>(on, a, b, y);
  return y;
}

}  // namespace

Tensor CudaBackend::relu_forward(const Tensor& x) {
  return map(*this, x, [](auto) { return Relu{}; });
}
Tensor CudaBackend::relu_backward(const Tensor& dy, const Tensor& y) { return map<ReluSlope>(*this, "dy", dy, "y", y); }
Tensor CudaBackend::add(const Tensor& a, const Tensor& b) { return map<Sum>(*this, "a", a, "b", b); }
Tensor CudaBackend::multiply(const Tensor& a, const Tensor& b) { return map<Times>(*this, "a", a, "b", b); }
void CudaBackend::accumulate(const Tensor& into, const Tensor& x) {
  check_alike("into", into, "x", x);
  check_here("into", into);
  changed(into);
  map_into<Sum>(*this, into, x, into);
}
Tensor CudaBackend::scale(const Tensor& x, double factor) {
  return map(*this, x, [&](auto zero) { return Scale<decltype(zero)>{decltype(zero)(factor)}; });
}
Tensor CudaBackend::affine(const Tensor& x, double factor, double offset) {
  return map(*this, x, [&](auto zero) {
    using T = decltype(zero);
    return Affine<T>{T(factor), T(offset)};
  });
}
Tensor CudaBackend::sqrt_forward(const Tensor& x, double epsilon) {
  return map(*this, x, [&](auto zero) { return Root<decltype(zero)>{decltype(zero)(epsilon)}; });
}
Tensor CudaBackend::sqrt_backward(const Tensor& dy, const Tensor& y) { return map<RootSlope>(*this, "dy", dy, "y", y); }

Tensor CudaBackend::add_bias(const Tensor& x, const Tensor& bias) {
  check_rank("x", x, 2);
  check_channels("bias", x, bias);
  check_here("x", x);
  const DeviceGuard guard(device_);
  return dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    const Tensor y = empty(x.dtype, x.shape);
    map_channels(stream_, x.numel(), x.shape.back(), AddBias<Computed<S>>{bias.data<Computed<S>>()}, y.data<S>(),
                 x.data<S>());
    return y;
  });
}

Tensor CudaBackend::prelu_forward(const Tensor& x, const Tensor& slope) {
  check_channels("slope", x, slope);
  check_here("x", x);
  const DeviceGuard guard(device_);
  return dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    const Tensor y = empty(x.dtype, x.shape);
    map_channels(stream_, x.numel(), x.shape.back(), Prelu<Computed<S>>{slope.data<Computed<S>>()}, y.data<S>(),
                 x.data<S>());
    return y;
  });
}

PreluGradients CudaBackend::prelu_backward(const Tensor& dy, const Tensor& x, const Tensor& slope) {
  check_alike("x", x, "dy", dy);
  check_channels("slope", x, slope);
  check_here("x", x);
  const DeviceGuard guard(device_);
  return dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    using T = Computed<S>;
    const int64_t channels = x.shape.back();
    const Tensor dx = empty(x.dtype, x.shape), d_slope = empty(slope.dtype, slope.shape);
    sum_columns<T, 1>(*this, x.numel(), channels,
                      PreluBackward<S>{dy.data<S>(), x.data<S>(), slope.data<T>(), dx.data<S>()},
                      StoreSum<T>{d_slope.data<T>()});
    return PreluGradients{dx, d_slope};
  });
}

Tensor CudaBackend::dropout(const Tensor& x, double rate, double seed) {
  FM_CHECK(range, rate >= 0 && rate < 1, "expected rate in [0, 1), got ", rate);
  FM_CHECK(range, std::abs(seed) <= 9007199254740992.0, "expected a seed of at most 2^53 in magnitude, got ", seed);
  check_here("x", x);
  const DeviceGuard guard(device_);
  return dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    const Tensor y = empty(x.dtype, x.shape);
    for_each(stream_, x.numel(),
             Dropout<S>{x.data<S>(), y.data<S>(), Computed<S>(1 / (1 - rate)), uint64_t(int64_t(seed)),
                        random_threshold(rate)});
    return y;
  });
}

Tensor CudaBackend::image_to_float(const Tensor& x) {
  check_dtype("x", x, Dtype::uint8);
  check_here("x", x);
  const DeviceGuard guard(device_);
  const Tensor y = empty(Dtype::float32, x.shape);
  for_each(stream_, x.numel(), ImageToFloat{x.data<uint8_t>(), y.data<float>()});
  return y;
}

Tensor CudaBackend::cast(const Tensor& x, Dtype dtype) {
  check_here("x", x);
  const DeviceGuard guard(device_);
  return dispatch_stored(x.dtype, [&](auto from) {
    return dispatch_stored(dtype, [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      const Tensor y = empty(dtype, x.shape);
      map_elements(stream_, x.numel(), Convert<Computed<To>>{}, y.data<To>(), x.data<From>());
      return y;
    });
  });
}

}  // namespace fm
