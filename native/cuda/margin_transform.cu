#include "../common/methods.h"
#include "backend.h"
#include "transform_rows.cuh"

namespace fm {
namespace {

// The targets of all rows.
template <class T>
void launch_targets(const Stream& stream, const Transform<T>& on) {
  dispatch_method(on.p.method, [&](auto tag) {
    using M = typename decltype(tag)::template Of<double>;
    launch_for_each(stream, on.N, target_rows_kernel<T, M>, on, M(on.p, kSineFloor<T>));
    return 0;
  });
}

}  // namespace

void CudaBackend::margin_transform_forward(const Tensor& cosines, const Tensor& labels, const OptionalTensor& margins,
                                           const OptionalTensor& norms, const MarginParams& params,
                                           const Tensor& logits) {
  const MarginParams p = check_margin_transform(cosines, labels, margins, norms, params);
  check_result("logits", logits, cosines.shape, cosines);
  check_here("cosines", cosines);
  changed(logits);
  const DeviceGuard guard(device_);
  dispatch_float(cosines.dtype, [&](auto zero) {
    using T = decltype(zero);
    Report report(*this);
    const Transform<T> on = transform_of<T>(report, cosines, labels, margins, norms, p);
    launch_targets(stream_, on);
    dispatch_negative<T>(p, [&](const auto& negative) { launch_transform(stream_, on, negative, logits.data<T>()); });
    report.finish();
  });
}

MarginTransformSums CudaBackend::margin_transform_backward(const Tensor& d_logits, const Tensor& cosines,
                                                           const Tensor& labels, const OptionalTensor& margins,
                                                           const OptionalTensor& norms, const MarginParams& params,
                                                           const Tensor& d_cosines, const OptionalTensor& d_margins,
                                                           const OptionalTensor& d_norms) {
  const MarginParams p = check_margin_transform(cosines, labels, margins, norms, params);
  check_result("dLogits", d_logits, cosines.shape, cosines);
  check_result("dCosines", d_cosines, cosines.shape, cosines);
  if (d_margins) check_of_rows("dMargins", *d_margins, cosines);
  if (d_norms) check_of_rows("dNorms", *d_norms, cosines);
  check_here("cosines", cosines);
  changed(d_cosines, d_margins, d_norms);
  const DeviceGuard guard(device_);
  return dispatch_float(cosines.dtype, [&](auto zero) -> MarginTransformSums {
    using T = decltype(zero);
    Report report(*this);
    const Transform<T> on = transform_of<T>(report, cosines, labels, margins, norms, p);
    launch_targets(stream_, on);
    const TransformGradients<T> to{
        report.rows("dLogits", kGradientRange, d_logits.data<T>(), on.C, kLargestGradient<T>),
        d_cosines.data<T>(),
        data_or_null<T>(d_margins),
        data_or_null<T>(d_norms),
        report.scratch<double>(on.N),
        report.scratch<double>(on.N),
        quality_of(p.method),
        is_binary(p.method)};
    dispatch_negative<T>(p, [&](const auto& negative) { launch_transform_backward(stream_, on, negative, to); });
    report.add_up(0, to.d_scale, on.N);
    report.add_up(1, to.d_bias, on.N);
    const ReportData sums = report.finish();
    return {saturated<double>(sums.sums[0]), saturated<double>(sums.sums[1])};
  });
}

}  // namespace fm
