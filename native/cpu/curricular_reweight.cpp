// CurricularFace's reweighting alone (Huang et al. 2020, arXiv:2004.00288): the cosine of a negative above cos(θ_y + m)
// becomes c·(t + c).  The threshold is constant in the gradient.
#include "backend.h"
#include "margin_transform.h"
#include "row_check.h"

#define FM_KERNELS "margin_transform.inl"
#include "for_each_isa.h"

namespace fm {
namespace {

template <class T>
struct Reweighting {
  using Config = TransformOf<T, ReweightedNegative<T>>;
  MarginParams p;
  ArcFace<double> method;
  ReweightedNegative<T> negative;
  int64_t N, C;
  const T* cos;
  const int32_t* label;

  Reweighting(const Tensor& cosines, const Tensor& labels, const MarginParams& p)
      : p(p), method(p, kSineFloor<T>), negative(p) {
    check_labelled_rows("cosines", cosines, labels);
    N = cosines.dim(0), C = cosines.dim(1);
    check_labels(labels, C);
    cos = cosines.data<T>();
    label = labels.data<int32_t>();
  }
  RowCheck<T> check() const { return RowCheck<T>("cosines", kCosineRange, cos, C, kLargestCosine, FM_KERNEL(peak<T>)); }
  TransformRow<T> row(int64_t i) const {
    TransformRow<T> row;
    if (label[i] >= 0) row.threshold = T(method.margined(double(cos[i * C + label[i]]), p.margin));
    return row;
  }
};

}  // namespace

void CpuBackend::curricular_reweight_forward(const Tensor& cosines, const Tensor& labels, double t, double margin,
                                             const Tensor& reweighted) {
  dispatch_float(cosines.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Reweighting<T> all(cosines, labels, check_curricular(t, margin));
    check_result("out", reweighted, cosines.shape, cosines);
    T* const to = reweighted.data<T>();
    auto check = all.check();
    const auto kernel = FM_KERNEL(transform_row<typename Reweighting<T>::Config>);
    parallel_rows(all.N, all.C, [&](int64_t i) {
      if (!check.good(i)) return;
      const int64_t at = i * all.C, label = all.label[i];
      const T target = label < 0 ? T(0) : all.cos[at + label];
      kernel(all.cos + at, all.C, all.row(i), all.negative, to + at);
      if (label >= 0) to[at + label] = target;
    });
    check.finish();
  });
}

void CpuBackend::curricular_reweight_backward(const Tensor& d_reweighted, const Tensor& cosines, const Tensor& labels,
                                              double t, double margin, const Tensor& d_cosines) {
  dispatch_float(cosines.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Reweighting<T> all(cosines, labels, check_curricular(t, margin));
    check_result("dReweighted", d_reweighted, cosines.shape, cosines);
    check_result("dCosines", d_cosines, cosines.shape, cosines);
    const T* const d = d_reweighted.data<T>();
    T* const to = d_cosines.data<T>();
    auto check = all.check();
    RowCheck<T> check_d("dReweighted", kGradientRange, d, all.C, kLargestGradient<T>, FM_KERNEL(peak<T>));
    const auto kernel = FM_KERNEL(transform_backward_row<typename Reweighting<T>::Config>);
    parallel_rows(all.N, all.C, [&](int64_t i) {
      if (!check.good(i) || !check_d.good(i)) return;
      const int64_t at = i * all.C, label = all.label[i];
      const T target = label < 0 ? T(0) : d[at + label];
      kernel(d + at, all.cos + at, all.C, all.row(i), all.negative, to + at);
      if (label >= 0) to[at + label] = target;
    });
    check.finish();
    check_d.finish();
  });
}

}  // namespace fm
