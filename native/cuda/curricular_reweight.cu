// CurricularFace's reweighting alone (Huang et al. 2020, arXiv:2004.00288): the cosine of a negative above cos(θ_y + m)
// becomes c·(t + c).  The threshold is constant in the gradient.
#include "../common/methods.h"
#include "backend.h"
#include "transform_rows.cuh"

namespace fm {
namespace {

// A thread a row: the target stays as it is.
template <class T>
__global__ void kept_targets_kernel(Transform<T> on, ArcFace<double> method) {
  const int64_t i = thread_of_grid();
  if (i >= on.N) return;
  TargetRow<T> row;
  row.refused = on.labels.refuses(i);
  row.label = on.labels.of(i);
  row.scale = 1;
  double margined = 2;
  if (row.label >= 0) {
    const double cos = double(on.cosines.x[i * on.C + row.label]);
    row.phi = {cos, 1};
    margined = method.margined(cos, on.p.margin);
  }
  row.shared = transform_row<T, ArcFace<double>>(on.p, 1, margined);
  on.rows[i] = row;
}

template <class T>
Transform<T> reweighting_of(Report& report, const Stream& stream, const Tensor& cosines, const Tensor& labels,
                            const MarginParams& p) {
  const Transform<T> on = transform_of<T>(report, cosines, labels, std::nullopt, std::nullopt, p);
  launch_for_each(stream, on.N, kept_targets_kernel<T>, on, ArcFace<double>(p, kSineFloor<T>));
  return on;
}

}  // namespace

void CudaBackend::curricular_reweight_forward(const Tensor& cosines, const Tensor& labels, double t, double margin,
                                              const Tensor& reweighted) {
  const MarginParams p = check_curricular(t, margin);
  check_labelled_rows("cosines", cosines, labels);
  check_result("out", reweighted, cosines.shape, cosines);
  check_here("cosines", cosines);
  changed(reweighted);
  const DeviceGuard guard(device_);
  dispatch_float(cosines.dtype, [&](auto zero) {
    using T = decltype(zero);
    Report report(*this);
    const Transform<T> on = reweighting_of<T>(report, stream_, cosines, labels, p);
    launch_transform(stream_, on, ReweightedNegative<T>(p), reweighted.data<T>());
    report.finish();
  });
}

void CudaBackend::curricular_reweight_backward(const Tensor& d_reweighted, const Tensor& cosines, const Tensor& labels,
                                               double t, double margin, const Tensor& d_cosines) {
  const MarginParams p = check_curricular(t, margin);
  check_labelled_rows("cosines", cosines, labels);
  check_result("dReweighted", d_reweighted, cosines.shape, cosines);
  check_result("dCosines", d_cosines, cosines.shape, cosines);
  check_here("cosines", cosines);
  changed(d_cosines);
  const DeviceGuard guard(device_);
  dispatch_float(cosines.dtype, [&](auto zero) {
    using T = decltype(zero);
    Report report(*this);
    const Transform<T> on = reweighting_of<T>(report, stream_, cosines, labels, p);
    const TransformGradients<T> to{
        report.rows("dReweighted", kGradientRange, d_reweighted.data<T>(), on.C, kLargestGradient<T>),
        d_cosines.data<T>(),
        nullptr,
        nullptr,
        report.scratch<double>(on.N),
        report.scratch<double>(on.N),
        Quality::none,
        false};
    launch_transform_backward(stream_, on, ReweightedNegative<T>(p), to);
    report.finish();
  });
}

}  // namespace fm
