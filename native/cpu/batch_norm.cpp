#include <cmath>

#include "../common/check.h"
#include "backend.h"
#include "channels.h"
#include "parallel.h"

namespace fm {
namespace {

// Parameters repeated over a row: y = (x − mean)·gain + bias, then a PReLU's slope where there is one.
template <class T>
struct Norm {
  const T *mean, *gain, *bias, *slope;
};

}  // namespace
}  // namespace fm

#define FM_KERNELS "batch_norm.inl"
#include "for_each_isa.h"

namespace fm {
namespace {

template <class T>
class WideNorm {
 public:
  WideNorm(const ChannelRows& rows, const Tensor& weight, const Tensor& bias, const Tensor& mean, const Tensor& inv_std,
           const OptionalTensor& slope)
      : values_(4 * size_t(rows.width)) {
    T *wide_mean = values_.data(), *gain = wide_mean + rows.width, *wide_bias = gain + rows.width,
      *wide_slope = slope ? wide_bias + rows.width : nullptr;
    rows.spread(mean.data<T>(), wide_mean);
    rows.spread(bias.data<T>(), wide_bias);
    if (slope) rows.spread(slope->data<T>(), wide_slope);
    for (int64_t i = 0; i < rows.width; i++)
      gain[i] = weight.data<T>()[i % rows.channels] * inv_std.data<T>()[i % rows.channels];
    norm_ = {wide_mean, gain, wide_bias, wide_slope};
  }
  const Norm<T>& operator*() const { return norm_; }

 private:
  Scratch<T> values_;
  Norm<T> norm_;
};

template <class T>
Tensor normalized(const Tensor& x, const ChannelRows& rows, const WideNorm<T>& norm, const OptionalTensor& shortcut) {
  Tensor y = cpu_empty<T>(x.shape);
  const T *from = x.data<T>(), *added = shortcut ? shortcut->data<T>() : nullptr;
  T* to = y.data<T>();
  const auto kernel = FM_KERNEL(normalize_chunk<T>);
  parallel_for(rows.chunks, [&](int64_t i) {
    const int64_t at = rows.begin(i);
    kernel(from + at, rows.size(i), rows.width, *norm, added ? added + at : nullptr, to + at);
  });
  return y;
}

// mean[channels] and m2[channels] = Σ (x − mean)² of the whole tensor.
template <class T>
void moments(const T* x, const ChannelRows& rows, double* mean, double* m2) {
  const int64_t width = rows.width;
  Scratch<double> parts(2 * size_t(rows.chunks) * width);
  Scratch<T> block(2 * size_t(width) * num_threads());
  const auto kernel = FM_KERNEL(moments_chunk<T>);
  parallel_for(rows.chunks, [&](int64_t i, int thread) {
    double* part = parts.data() + 2 * i * width;
    kernel(x + rows.begin(i), rows.size(i), width, block.data() + 2 * thread * width, part, part + width);
  });
  const double pixels = double(rows.pixels());
  const auto each = [&](auto&& f) {  // f(channel, part's column, the rows that it has seen)
    for (int64_t i = 0; i < rows.chunks; i++) {
      const int64_t whole = rows.size(i) / width, left = rows.size(i) % width;
      for (int64_t j = 0; j < width; j++)
        f(j % rows.channels, parts.data() + 2 * i * width + j, double(whole + (j < left)));
    }
  };
  std::fill(mean, mean + rows.channels, 0.0);
  std::fill(m2, m2 + rows.channels, 0.0);
  each([&](int64_t c, const double* part, double count) { mean[c] += part[0] * count; });
  for (int64_t c = 0; c < rows.channels; c++) mean[c] /= pixels;
  each([&](int64_t c, const double* part, double count) {
    const double delta = part[0] - mean[c];
    m2[c] += part[width] + delta * delta * count;
  });
}

}  // namespace

BatchNormForward CpuBackend::batch_norm_train(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                              const Tensor& running_mean, const Tensor& running_var, double momentum,
                                              double epsilon, const OptionalTensor& slope,
                                              const OptionalTensor& shortcut) {
  check_batch_norm(x, weight, bias, running_mean, running_var, epsilon, slope, shortcut);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const ChannelRows rows(x);
    const int64_t channels = x.shape.back();
    FM_CHECK(shape, x.numel() > channels, "expected more than one value a channel when training, got x ", x.shape);
    const double pixels = double(rows.pixels());
    Scratch<double> batch(2 * size_t(channels));
    double *batch_mean = batch.data(), *m2 = batch_mean + channels;
    moments(x.data<T>(), rows, batch_mean, m2);
    Tensor mean = cpu_empty<T>({channels}), inv_std = cpu_empty<T>({channels});
    T *mean_to = running_mean.data<T>(), *var_to = running_var.data<T>();
    for (int64_t c = 0; c < channels; c++) {
      mean.data<T>()[c] = T(batch_mean[c]);
      inv_std.data<T>()[c] = T(1 / std::sqrt(m2[c] / pixels + epsilon));
      mean_to[c] = T((1 - momentum) * double(mean_to[c]) + momentum * batch_mean[c]);
      var_to[c] = T((1 - momentum) * double(var_to[c]) + momentum * m2[c] / (pixels - 1));
    }
    const WideNorm<T> norm(rows, weight, bias, mean, inv_std, slope);
    return BatchNormForward{normalized<T>(x, rows, norm, shortcut), mean, inv_std};
  });
}

BatchNormForward CpuBackend::batch_norm_eval(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                             const Tensor& running_mean, const Tensor& running_var, double epsilon,
                                             const OptionalTensor& slope, const OptionalTensor& shortcut) {
  check_batch_norm(x, weight, bias, running_mean, running_var, epsilon, slope, shortcut);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t channels = x.shape.back();
    Tensor mean = cpu_empty<T>({channels}), inv_std = cpu_empty<T>({channels});
    for (int64_t c = 0; c < channels; c++) {
      mean.data<T>()[c] = running_mean.data<T>()[c];
      inv_std.data<T>()[c] = T(1 / std::sqrt(double(running_var.data<T>()[c]) + epsilon));
    }
    const ChannelRows rows(x);
    const WideNorm<T> norm(rows, weight, bias, mean, inv_std, slope);
    return BatchNormForward{normalized<T>(x, rows, norm, shortcut), mean, inv_std};
  });
}

// With x̂ = (x − mean)·inv_std over n pixels:  d_bias = Σ dy,  d_weight = Σ dy·x̂,
//   dx = weight·inv_std·(dy − d_bias/n − x̂·d_weight/n), without the two means where mean and inv_std are constants.
// Behind a PReLU, dy·slope takes dy's place where y ≤ 0, and d_slope = Σ dy·min(y, 0), y computed again.
BatchNormGradients CpuBackend::batch_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                                   const Tensor& bias, const Tensor& mean, const Tensor& inv_std,
                                                   bool batch_statistics, const OptionalTensor& slope) {
  check_batch_norm_backward(dy, x, weight, bias, mean, inv_std, slope);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const ChannelRows rows(x);
    const int64_t width = rows.width, channels = x.shape.back();
    const double pixels = double(rows.pixels());
    const WideNorm<T> norm(rows, weight, bias, mean, inv_std, slope);
    const int64_t kinds = slope ? 3 : 2, scratch = kinds * width + (slope ? kRowsInT * width : 0);
    Scratch<T> block(size_t(scratch) * num_threads()), wide(2 * size_t(width));
    T *tilt = wide.data(), *offset = tilt + width;

    Scratch<double> parts(size_t(kinds * rows.chunks * width)), totals(size_t(kinds * channels));
    const T *g = dy.data<T>(), *from = x.data<T>();
    const auto sums = FM_KERNEL(backward_sums_chunk<T>);
    parallel_for(rows.chunks, [&](int64_t i, int thread) {
      sums(g + rows.begin(i), from + rows.begin(i), rows.size(i), width, *norm, block.data() + thread * scratch,
           parts.data() + i * kinds * width);
    });
    std::fill(totals.data(), totals.data() + kinds * channels, 0.0);
    for (int64_t part = 0; part < rows.chunks * kinds; part++)
      for (int64_t j = 0; j < width; j++) totals[part % kinds * channels + j % channels] += parts[part * width + j];
    const double *d_bias_sum = totals.data(), *product = d_bias_sum + channels, *d_slope_sum = product + channels;

    BatchNormGradients result{cpu_empty<T>(x.shape), cpu_empty<T>(weight.shape), cpu_empty<T>(weight.shape), {}};
    if (slope) result.d_slope = cpu_empty<T>(slope->shape);
    for (int64_t c = 0; c < channels; c++) {
      result.d_weight.data<T>()[c] = T(product[c] * double(inv_std.data<T>()[c]));
      result.d_bias.data<T>()[c] = T(d_bias_sum[c]);
      if (slope) result.d_slope->data<T>()[c] = T(d_slope_sum[c]);
    }
    for (int64_t i = 0; i < width; i++) {
      const int64_t c = i % channels;
      const double spread = double(inv_std.data<T>()[c]), gain = double(weight.data<T>()[c]) * spread;
      tilt[i] = batch_statistics ? T(-gain * spread * spread * product[c] / pixels) : T(0);
      offset[i] = batch_statistics ? T(-gain * d_bias_sum[c] / pixels) : T(0);
    }
    T* to = result.dx.data<T>();
    const auto backward = FM_KERNEL(backward_chunk<T>);
    parallel_for(rows.chunks, [&](int64_t i) {
      const int64_t at = rows.begin(i);
      backward(g + at, from + at, rows.size(i), width, *norm, tilt, offset, to + at);
    });
    return result;
  });
}

}  // namespace fm
