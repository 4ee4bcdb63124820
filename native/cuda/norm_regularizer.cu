// What a method adds to the loss for the norms of the features (MagFace).
#include "../common/methods.h"
#include "backend.h"
#include "report.h"
#include "rows.cuh"
#include "rows.h"

namespace fm {
namespace {

template <class T>
struct Regularized {
  int64_t N;
  const T* norms;
  Labels labels;
  Refusals refused;
  double penalty;
};

// A thread a row: the row's part of the loss, or the norm's gradient.  values or d_norms is nullptr.
template <class T, class M>
__global__ void norm_regularizer_kernel(Regularized<T> on, M method, double d_loss, double* values, T* d_norms) {
  const int64_t i = thread_of_grid();
  if (i >= on.N) return;
  const T norm = on.norms[i];
  if (!is_norm(norm)) return on.refused.note(i);
  Phi<double> g{0, 0};
  if constexpr (M::regularised)
    if (on.labels.of(i) >= 0) g = method.regularizer(double(norm));
  const double weight = on.penalty * on.labels.share();
  if (values) values[i] = weight * g.value;
  if (d_norms) d_norms[i] = saturated<T>(d_loss * weight * g.slope);
}

template <class T>
void launch_regularizer(const Stream& stream, Report& report, const Tensor& norms, const Tensor& labels,
                        const MarginParams& p, double d_loss, double* values, T* d_norms) {
  const T* const norm = norms.data<T>();
  const Labels own = report.labels(labels, std::numeric_limits<int32_t>::max());
  const Refusals refused =
      report.check([&report, norm](int64_t row) { fail_norm(report.read(norm + row, 1)[0], row); });
  const Regularized<T> on{norms.dim(0), norm, own, refused, p.norm_penalty};
  dispatch_method(p.method, [&](auto tag) {
    using M = typename decltype(tag)::template Of<double>;
    launch_for_each(stream, on.N, norm_regularizer_kernel<T, M>, on, M(p, kSineFloor<T>), d_loss, values, d_norms);
    return 0;
  });
}

}  // namespace

double CudaBackend::norm_regularizer_forward(const Tensor& norms, const Tensor& labels, const MarginParams& p) {
  check_norm_regularizer(norms, labels, p);
  check_here("norms", norms);
  const DeviceGuard guard(device_);
  return dispatch_float(norms.dtype, [&](auto zero) -> double {
    using T = decltype(zero);
    Report report(*this);
    double* const values = report.scratch<double>(norms.dim(0));
    launch_regularizer<T>(stream_, report, norms, labels, p, 1, values, nullptr);
    report.add_up(0, values, norms.dim(0));
    return report.finish().sums[0];
  });
}

void CudaBackend::norm_regularizer_backward(const Tensor& norms, const Tensor& labels, const MarginParams& p,
                                            double d_loss, const Tensor& d_norms) {
  check_norm_regularizer(norms, labels, p);
  check_d_loss(d_loss);
  check_result("dNorms", d_norms, norms.shape, norms);
  check_here("norms", norms);
  changed(d_norms);
  const DeviceGuard guard(device_);
  dispatch_float(norms.dtype, [&](auto zero) {
    using T = decltype(zero);
    Report report(*this);
    launch_regularizer<T>(stream_, report, norms, labels, p, d_loss, nullptr, d_norms.data<T>());
    report.finish();
  });
}

}  // namespace fm
