#include <cmath>

#include "../common/check.h"
#include "backend.h"
#include "columns.cuh"
#include "each.cuh"
#include "prelu.cuh"

namespace fm {
namespace {

// From the sums about the channel's first value.
template <class S, class T = Computed<S>>
struct StoreStatistics {
  const S* first;
  T *mean, *inv_std, *running_mean, *running_var;
  double pixels, momentum, epsilon;
  __device__ void operator()(int64_t c, const double (&totals)[2]) const {
    const double off = totals[0] / pixels, exact = double(T(first[c])) + off, left = totals[1] - totals[0] * off;
    const double m2 = left < 0 ? 0 : left;  // rounding; NaN stays NaN
    mean[c] = T(exact);
    inv_std[c] = T(1 / std::sqrt(m2 / pixels + epsilon));
    running_mean[c] = T((1 - momentum) * double(running_mean[c]) + momentum * exact);
    running_var[c] = T((1 - momentum) * double(running_var[c]) + momentum * m2 / (pixels - 1));
  }
};
template <class T>
struct RunningStatistics {
  const T *running_mean, *running_var;
  T *mean, *inv_std;
  double epsilon;
  __device__ void operator()(int64_t c) const {
    mean[c] = running_mean[c];
    inv_std[c] = T(1 / std::sqrt(double(running_var[c]) + epsilon));
  }
};

// Of one channel: (x − mean)·gain + bias.
template <class T>
struct Standardize {
  T mean, gain, bias;
  __device__ T operator()(T x) const { return (x - mean) * gain + bias; }
  __device__ T operator()(T x, T shortcut) const { return (*this)(x) + shortcut; }
};
template <class T>
struct Normalize {
  const T *mean, *inv_std, *weight, *bias;
  __device__ Standardize<T> operator()(int64_t c) const { return {mean[c], weight[c] * inv_std[c], bias[c]}; }
};
// The same, and a PReLU behind it.
template <class T>
struct BentChannel {
  Standardize<T> norm;
  T slope;
  __device__ T operator()(T x) const { return bent(norm(x), slope); }
};
template <class T>
struct Bend {
  Normalize<T> norm;
  const T* slope;
  __device__ BentChannel<T> operator()(int64_t c) const { return {norm(c), slope[c]}; }
};

// Σ dy, Σ dy·(x − mean)
template <class S, class T = Computed<S>>
struct GradientTerms {
  using Element = S;
  const S *dy, *x;
  const T* mean;
  template <int W>
  __device__ void operator()(int64_t i, int64_t c, T (&sums)[W][2]) const {
    const Pack<S, W> values = load_pack<W>(x + i), gradients = load_pack<W>(dy + i);
#pragma unroll
    for (int k = 0; k < W; k++) {
      const T g = T(gradients.at[k]);
      sums[k][0] += g;
      sums[k][1] += g * (T(values.at[k]) - mean[c + k]);
    }
  }
};
// The same of dy in front of a PReLU, and its d_slope.
template <class S, class T = Computed<S>>
struct BentGradientTerms {
  using Element = S;
  const S *dy, *x;
  Bend<T> bend;
  template <int W>
  __device__ void operator()(int64_t i, int64_t c, T (&sums)[W][3]) const {
    const Pack<S, W> values = load_pack<W>(x + i), gradients = load_pack<W>(dy + i);
#pragma unroll
    for (int k = 0; k < W; k++) {
      const BentChannel<T> channel = bend(c + k);
      const T v = T(values.at[k]), dy = T(gradients.at[k]), y = channel.norm(v), g = unbent(dy, y, channel.slope);
      sums[k][0] += g;
      sums[k][1] += g * (v - channel.norm.mean);
      sums[k][2] += slope_term(dy, y);
    }
  }
};
// Of dx = dy·weight·inv_std + (x − mean)·tilt + offset.
template <class T>
struct Line {
  T *tilt, *offset;
};
template <class T>
struct StoreGradients {
  const T *weight, *inv_std;
  T *d_weight, *d_bias, *d_slope;
  Line<T> line;
  double pixels;
  bool batch_statistics;
  template <int kTotals>
  __device__ void operator()(int64_t c, const double (&totals)[kTotals]) const {
    const double spread = double(inv_std[c]), gain = double(weight[c]) * spread;
    d_bias[c] = T(totals[0]);
    d_weight[c] = T(totals[1] * spread);
    if constexpr (kTotals == 3) d_slope[c] = T(totals[2]);
    line.tilt[c] = batch_statistics ? T(-gain * spread * spread * totals[1] / pixels) : T(0);
    line.offset[c] = batch_statistics ? T(-gain * totals[0] / pixels) : T(0);
  }
};
template <class T>
struct InputGradient {
  T mean, gain, tilt, offset;
  __device__ T operator()(T dy, T x) const { return dy * gain + ((x - mean) * tilt + offset); }
};
template <class T>
struct Backward {
  Normalize<T> norm;
  Line<T> line;
  __device__ InputGradient<T> operator()(int64_t c) const {
    return {norm.mean[c], norm.weight[c] * norm.inv_std[c], line.tilt[c], line.offset[c]};
  }
};
template <class T>
struct BentInputGradient {
  BentChannel<T> channel;
  T tilt, offset;
  __device__ T operator()(T dy, T x) const {
    const Standardize<T>& norm = channel.norm;
    return InputGradient<T>{norm.mean, norm.gain, tilt, offset}(unbent(dy, norm(x), channel.slope), x);
  }
};
template <class T>
struct BentBackward {
  Bend<T> bend;
  Line<T> line;
  __device__ BentInputGradient<T> operator()(int64_t c) const { return {bend(c), line.tilt[c], line.offset[c]}; }
};

template <class T>
Normalize<T> norm_of(const Tensor& mean, const Tensor& inv_std, const Tensor& weight, const Tensor& bias) {
  return {mean.data<T>(), inv_std.data<T>(), weight.data<T>(), bias.data<T>()};
}

template <class S, class T = Computed<S>>
Tensor normalized(CudaBackend& on, const Tensor& x, const Normalize<T>& norm, const OptionalTensor& slope,
                  const OptionalTensor& shortcut) {
  const Tensor y = on.empty(x.dtype, x.shape);
  const auto map = [&](const auto& channel, const auto*... from) {
    map_channels(on.stream(), x.numel(), x.shape.back(), channel, y.data<S>(), from...);
  };
  if (slope) map(Bend<T>{norm, slope->data<T>()}, x.data<S>());
  else if (shortcut) map(norm, x.data<S>(), shortcut->data<S>());
  else map(norm, x.data<S>());
  return y;
}

}  // namespace

BatchNormForward CudaBackend::batch_norm_train(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                               const Tensor& running_mean, const Tensor& running_var, double momentum,
                                               double epsilon, const OptionalTensor& slope,
                                               const OptionalTensor& shortcut) {
  check_batch_norm(x, weight, bias, running_mean, running_var, epsilon, slope, shortcut);
  check_here("x", x);
  changed(running_mean, running_var);
  const DeviceGuard guard(device_);
  return dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    using T = Computed<S>;
    const int64_t channels = x.shape.back();
    FM_CHECK(shape, x.numel() > channels, "expected more than one value a channel when training, got x ", x.shape);
    const double pixels = double(x.numel() / channels);
    const Tensor mean = empty(weight.dtype, {channels}), inv_std = empty(weight.dtype, {channels});
    moments_of_columns(*this, x.numel(), channels, x.data<S>(),
                       StoreStatistics<S>{x.data<S>(), mean.data<T>(), inv_std.data<T>(), running_mean.data<T>(),
                                          running_var.data<T>(), pixels, momentum, epsilon});
    const Normalize<T> norm = norm_of<T>(mean, inv_std, weight, bias);
    return BatchNormForward{normalized<S>(*this, x, norm, slope, shortcut), mean, inv_std};
  });
}

BatchNormForward CudaBackend::batch_norm_eval(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                              const Tensor& running_mean, const Tensor& running_var, double epsilon,
                                              const OptionalTensor& slope, const OptionalTensor& shortcut) {
  check_batch_norm(x, weight, bias, running_mean, running_var, epsilon, slope, shortcut);
  check_here("x", x);
  const DeviceGuard guard(device_);
  return dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    using T = Computed<S>;
    const int64_t channels = x.shape.back();
    const Tensor mean = empty(weight.dtype, {channels}), inv_std = empty(weight.dtype, {channels});
    for_each(stream_, channels,
             RunningStatistics<T>{running_mean.data<T>(), running_var.data<T>(), mean.data<T>(), inv_std.data<T>(),
                                  epsilon});
    const Normalize<T> norm = norm_of<T>(mean, inv_std, weight, bias);
    return BatchNormForward{normalized<S>(*this, x, norm, slope, shortcut), mean, inv_std};
  });
}

// With x̂ = (x − mean)·inv_std over n pixels:  d_bias = Σ dy,  d_weight = Σ dy·x̂,
//   dx = weight·inv_std·(dy − d_bias/n − x̂·d_weight/n), without the two means where mean and inv_std are constants.
// Behind a PReLU, dy·slope takes dy's place where y ≤ 0, and d_slope = Σ dy·min(y, 0), y computed again.
BatchNormGradients CudaBackend::batch_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                                    const Tensor& bias, const Tensor& mean, const Tensor& inv_std,
                                                    bool batch_statistics, const OptionalTensor& slope) {
  check_batch_norm_backward(dy, x, weight, bias, mean, inv_std, slope);
  check_here("x", x);
  const DeviceGuard guard(device_);
  return dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    using T = Computed<S>;
    const int64_t channels = x.shape.back();
    const double pixels = channels > 0 ? double(x.numel() / channels) : 0;
    BatchNormGradients result{
        empty(x.dtype, x.shape), empty(weight.dtype, weight.shape), empty(weight.dtype, weight.shape), {}};
    if (slope) result.d_slope = empty(slope->dtype, slope->shape);
    DeviceScratch scratch(allocator_);
    T* const of_line = scratch.take<T>(2 * channels);
    const Line<T> line{of_line, of_line + channels};
    const Normalize<T> norm = norm_of<T>(mean, inv_std, weight, bias);
    const StoreGradients<T> store{norm.weight,
                                  norm.inv_std,
                                  result.d_weight.data<T>(),
                                  result.d_bias.data<T>(),
                                  slope ? result.d_slope->data<T>() : nullptr,
                                  line,
                                  pixels,
                                  batch_statistics};
    const auto map = [&](const auto& channel) {
      map_channels(stream_, x.numel(), channels, channel, result.dx.data<S>(), dy.data<S>(), x.data<S>());
    };
    if (slope) {
      const Bend<T> bend{norm, slope->data<T>()};
      sum_columns<T, 3>(*this, x.numel(), channels, BentGradientTerms<S>{dy.data<S>(), x.data<S>(), bend}, store);
      map(BentBackward<T>{bend, line});
    } else {
      sum_columns<T, 2>(*this, x.numel(), channels, GradientTerms<S>{dy.data<S>(), x.data<S>(), norm.mean}, store);
      map(Backward<T>{norm, line});
    }
    return result;
  });
}

}  // namespace fm
