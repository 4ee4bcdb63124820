// Cosines to logits by a margin: the target's column in double, once a row; the others by margin_transform.inl.
#include "margin_transform.h"

#include "backend.h"
#include "row_check.h"

#define FM_KERNELS "margin_transform.inl"
#include "for_each_isa.h"

namespace fm {
namespace {

template <class T>
struct Transform {
  MarginParams p;
  int64_t N, C;
  const T* cos;
  const int32_t* label;
  const T *margin, *norm;  // or nullptr

  Transform(const Tensor& cosines, const Tensor& labels, const OptionalTensor& margins, const OptionalTensor& norms,
            const MarginParams& params)
      : p(check_margin_transform(cosines, labels, margins, norms, params)), margin(nullptr), norm(nullptr) {
    N = cosines.dim(0), C = cosines.dim(1);
    cos = cosines.data<T>();
    check_labels(labels, C);
    label = labels.data<int32_t>();
    if (margins) {
      margin = margins->data<T>();
      for (int64_t i = 0; i < N; i++)
        if (!is_margin(margin[i])) fail_margin(margin[i], i);
    }
    if (!norms) return;
    norm = norms->data<T>();
    for (int64_t i = 0; i < N; i++)
      if (!is_norm(norm[i])) fail_norm(norm[i], i);
  }

  double norm_of(int64_t i) const { return norm ? double(norm[i]) : 0; }
  double scale_of(int64_t i) const { return transform_scale(p, norm_of(i)); }

  RowCheck<T> check() const { return RowCheck<T>("cosines", kCosineRange, cos, C, kLargestCosine, FM_KERNEL(peak<T>)); }

  // f(method of the target, in double; negatives in T)
  template <class F>
  void with_parts(F&& f) const {
    dispatch_method(p.method, [&](auto tag) {
      using M = typename decltype(tag)::template Of<double>;
      const M method(p, kSineFloor<T>);
      if constexpr (M::binary) f(method, decltype(tag)::template Of<T>::negatives(p));
      else if (p.negatives == Negatives::plain) f(method, PlainNegative<T>{});
      else f(method, ReweightedNegative<T>(p));
      return 0;
    });
  }

  template <class M>
  double quality_of(int64_t i) const {
    return M::quality == Quality::norm ? double(norm[i]) : margin ? double(margin[i]) : p.margin;
  }
  template <class M>
  Phi<double> phi(const M& method, int64_t i) const {
    return target_phi(method, p, double(cos[i * C + label[i]]), quality_of<M>(i));
  }

  template <class M>
  TransformRow<T> row(const M& method, int64_t i) const {
    double margined = 2;
    if (label[i] >= 0) margined = method.margined(clipped_target(p, double(cos[i * C + label[i]])), quality_of<M>(i));
    return transform_row<T, M>(p, scale_of(i), margined);
  }
};

}  // namespace

void CpuBackend::margin_transform_forward(const Tensor& cosines, const Tensor& labels, const OptionalTensor& margins,
                                          const OptionalTensor& norms, const MarginParams& p, const Tensor& logits) {
  dispatch_float(cosines.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Transform<T> all(cosines, labels, margins, norms, p);
    check_result("logits", logits, cosines.shape, cosines);
    T* const to = logits.data<T>();
    const int64_t C = all.C;
    auto check = all.check();
    all.with_parts([&](const auto& method, const auto& negative) {
      using Config = TransformOf<T, std::decay_t<decltype(negative)>>;
      const auto kernel = FM_KERNEL(transform_row<Config>);
      parallel_rows(all.N, C, [&](int64_t i) {
        if (!check.good(i)) return;
        const TransformRow<T> row = all.row(method, i);
        const int64_t label = all.label[i];
        const double z = label < 0 ? 0 : all.scale_of(i) * all.phi(method, i).value + double(row.bias);
        kernel(all.cos + i * C, C, row, negative, to + i * C);
        if (label >= 0) to[i * C + label] = T(z);
      });
    });
    check.finish();
  });
}

MarginTransformSums CpuBackend::margin_transform_backward(const Tensor& d_logits, const Tensor& cosines,
                                                          const Tensor& labels, const OptionalTensor& margins,
                                                          const OptionalTensor& norms, const MarginParams& p,
                                                          const Tensor& d_cosines, const OptionalTensor& d_margins,
                                                          const OptionalTensor& d_norms) {
  return dispatch_float(cosines.dtype, [&](auto zero) -> MarginTransformSums {
    using T = decltype(zero);
    const Transform<T> all(cosines, labels, margins, norms, p);
    const int64_t N = all.N, C = all.C;
    check_result("dLogits", d_logits, cosines.shape, cosines);
    check_result("dCosines", d_cosines, cosines.shape, cosines);
    if (d_margins) check_of_rows("dMargins", *d_margins, cosines);
    if (d_norms) check_of_rows("dNorms", *d_norms, cosines);
    T *const to = d_cosines.data<T>(), *const to_margin = d_margins ? d_margins->data<T>() : nullptr,
             *const to_norm = d_norms ? d_norms->data<T>() : nullptr;
    const T* const d = d_logits.data<T>();
    std::vector<MarginTransformSums> of_row(N, {0, 0});
    auto check = all.check();
    RowCheck<T> check_d("dLogits", kGradientRange, d, C, kLargestGradient<T>, FM_KERNEL(peak<T>));
    all.with_parts([&](const auto& method, const auto& negative) {
      using M = std::decay_t<decltype(method)>;
      using Config = TransformOf<T, std::decay_t<decltype(negative)>>;
      const auto kernel = FM_KERNEL(transform_backward_row<Config>);
      parallel_rows(N, C, [&](int64_t i) {
        if (!check.good(i) || !check_d.good(i)) return;
        const TransformRow<T> row = all.row(method, i);
        const int64_t at = i * C, label = all.label[i];
        const Phi<double> phi = label < 0 ? Phi<double>{0, 0} : all.phi(method, i);
        const double g = label < 0 ? 0 : double(d[at + label]), scale = all.scale_of(i);
        // The label's column is left out: its sums are not to be had by taking away.
        const int64_t before = label < 0 ? C : label;
        TransformSums sums = kernel(d + at, all.cos + at, before, row, negative, to + at);
        if (label >= 0) {
          const int64_t next = label + 1;
          const TransformSums rest =
              kernel(d + at + next, all.cos + at + next, C - next, row, negative, to + at + next);
          sums.with_phi += rest.with_phi + g * phi.value;
          bool clipped = false;  // a logit that is one whatever the bias
          if constexpr (M::binary) clipped = method.clipped(phi.value);
          sums.alone += rest.alone + (clipped ? 0 : g);
          to[at + label] = saturated<T>(g * phi.slope * scale);
        }
        const bool moves = scale_moves(all.p, all.norm_of(i));
        const double by_scale = !all.p.scale_by_norm ? 1 : moves ? double(all.norm[i]) : 0;
        of_row[i] = {sums.with_phi * by_scale, M::binary ? sums.alone : 0};
        const double d_quality = g * phi.slope_quality * scale;
        if (to_margin) to_margin[i] = M::quality == Quality::margin ? saturated<T>(d_quality) : T(0);
        if (to_norm)
          to_norm[i] =
              saturated<T>((M::quality == Quality::norm ? d_quality : 0) + (moves ? sums.with_phi * all.p.scale : 0));
      });
    });
    check.finish();
    check_d.finish();
    MarginTransformSums total{0, 0};
    for (const MarginTransformSums& each : of_row) total.d_scale += each.d_scale, total.d_bias += each.d_bias;
    return {saturated<double>(total.d_scale), saturated<double>(total.d_bias)};
  });
}

}  // namespace fm
