// What a method adds to the loss for the norms of the features (MagFace).
#include <vector>

#include "../common/methods.h"
#include "backend.h"
#include "row_check.h"

namespace fm {
namespace {

// f(row, regulariser as Phi) for the rows with a target; returns how many there are.
template <class T, class F>
int64_t each_regularizer(const Tensor& norms, const Tensor& labels, const MarginParams& p, F&& f) {
  check_norm_regularizer(norms, labels, p);
  const int64_t labelled = check_labels(labels, std::numeric_limits<int32_t>::max());
  const T* norm = norms.data<T>();
  const int32_t* label = labels.data<int32_t>();
  dispatch_method(p.method, [&](auto tag) {
    using M = typename decltype(tag)::template Of<double>;
    const M method(p, kSineFloor<T>);
    for (int64_t i = 0; i < norms.dim(0); i++) {
      if (!is_norm(norm[i])) fail_norm(norm[i], i);
      Phi<double> phi{0, 0};
      if constexpr (M::regularised)
        if (label[i] >= 0) phi = method.regularizer(double(norm[i]));
      f(i, phi, labelled);
    }
    return 0;
  });
  return labelled;
}

}  // namespace

double CpuBackend::norm_regularizer_forward(const Tensor& norms, const Tensor& labels, const MarginParams& p) {
  return dispatch_float(norms.dtype, [&](auto zero) {
    double total = 0;
    const int64_t labelled = each_regularizer<decltype(zero)>(
        norms, labels, p, [&](int64_t, const Phi<double>& g, int64_t) { total += g.value; });
    return labelled ? p.norm_penalty * total / double(labelled) : 0;
  });
}

void CpuBackend::norm_regularizer_backward(const Tensor& norms, const Tensor& labels, const MarginParams& p,
                                           double d_loss, const Tensor& d_norms) {
  dispatch_float(norms.dtype, [&](auto zero) {
    using T = decltype(zero);
    check_d_loss(d_loss);
    check_result("dNorms", d_norms, norms.shape, norms);
    T* const to = d_norms.data<T>();
    each_regularizer<T>(norms, labels, p, [&](int64_t i, const Phi<double>& g, int64_t labelled) {
      to[i] = labelled ? saturated<T>(d_loss * p.norm_penalty * g.slope / double(labelled)) : T(0);
    });
  });
}

}  // namespace fm
