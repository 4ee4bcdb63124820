// −log softmax of the label's logit.  A row's exponents are shifted by its largest negative, so that the loss of a
// learned row keeps its digits: with S = Σ_{j≠y} e^(z_j − top) ≥ 1,
//   a = top + ln S − z_y,  loss = ln(1 + e^a),  lse = z_y + loss
//   dL/dz_y = −σ(a),  dL/dz_j = e^(z_j − top)/S·σ(a)
// Label smoothing ε over C classes makes the loss (1 − ε)·loss_y + ε·mean_j loss_j = loss + ε·(z_y − mean z).
#include <vector>

#include "backend.h"
#include "row_check.h"

#define FM_KERNELS "softmax_cross_entropy.inl"
#include "for_each_isa.h"

namespace fm {
namespace {

template <class T>
struct CrossEntropy {
  int64_t N, C, labelled;
  const T* z;
  const int32_t* label;
  double smoothing;
  T (*const largest)(const T*, int64_t) = FM_KERNEL(largest_of<T>);
  double (*const sum)(const T*, int64_t, T, T*) = FM_KERNEL(sum_of_exp<T>);

  CrossEntropy(const Tensor& logits, const Tensor& labels, double smoothing) : smoothing(smoothing) {
    check_softmax_cross_entropy(logits, labels, smoothing);
    N = logits.dim(0), C = logits.dim(1);
    labelled = check_labels(labels, C);
    z = logits.data<T>();
    label = labels.data<int32_t>();
  }
  RowCheck<T> check() const {
    return RowCheck<T>("logits", "", z, C, std::numeric_limits<T>::max(), FM_KERNEL(peak<T>));
  }

  // Of the negatives, which may be none: their largest, and S.  e^(z_j − top) goes to `to` unless it is null.
  struct Negatives {
    double top, sum;
  };
  Negatives negatives(int64_t i, T* to) const {
    const T* const row = z + i * C;
    const int64_t before = label[i] < 0 ? C : label[i], next = label[i] < 0 ? C : label[i] + 1;
    const T top = std::max(largest(row, before), largest(row + next, C - next));
    const double left = sum(row, before, top, to);
    return {double(top), left + sum(row + next, C - next, top, to ? to + next : nullptr)};
  }
  // a of the formulas; −∞ where the target is the only class.
  static double above(const Negatives& n, double target) {
    return n.sum > 0 ? (n.top - target) + std::log(n.sum) : -std::numeric_limits<double>::infinity();
  }
};

}  // namespace

double CpuBackend::softmax_cross_entropy_forward(const Tensor& logits, const Tensor& labels, double label_smoothing,
                                                 const Tensor& row_loss, const Tensor& lse) {
  return dispatch_float(logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    const CrossEntropy<T> all(logits, labels, label_smoothing);
    check_of_rows("out.rowLoss", row_loss, logits);
    check_of_rows("out.lse", lse, logits);
    T *const to_loss = row_loss.data<T>(), *const to_lse = lse.data<T>();
    std::vector<double> losses(all.N);
    auto check = all.check();
    const auto scaled = FM_KERNEL(sum_of_scaled<T>);
    parallel_rows(all.N, all.C, [&](int64_t i) {
      if (!check.good(i)) return;
      const auto n = all.negatives(i, nullptr);
      if (all.label[i] < 0) {
        to_loss[i] = 0;
        to_lse[i] = saturated<T>(n.top + std::log(n.sum));
        return;
      }
      const double z = all.z[i * all.C + all.label[i]], a = all.above(n, z);
      const double more = std::log1p(std::exp(-std::fabs(a)));  // from the larger of the two to their sum
      to_lse[i] = saturated<T>(a > 0 ? n.top + std::log(n.sum) + more : z + more);
      double loss = saturated<double>(a > 0 ? a + more : more);
      if (all.smoothing > 0)
        loss += all.smoothing * saturated<double>(z - scaled(all.z + i * all.C, all.C, T(1.0 / double(all.C))));
      losses[i] = saturated<double>(loss);
      to_loss[i] = saturated<T>(loss);
    });
    check.finish();
    return mean_of_rows(losses.data(), all.label, all.N, all.labelled);
  });
}

void CpuBackend::softmax_cross_entropy_backward(const Tensor& logits, const Tensor& labels, double label_smoothing,
                                                double d_loss, const Tensor& d_logits) {
  dispatch_float(logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    const CrossEntropy<T> all(logits, labels, label_smoothing);
    check_result("out", d_logits, logits.shape, logits);
    check_d_loss(d_loss);
    T* const to = d_logits.data<T>();
    const double weight = all.labelled ? d_loss / double(all.labelled) : 0;
    const double share = all.smoothing / double(all.C);
    auto check = all.check();
    const auto scale = FM_KERNEL(scale_row<T>);
    parallel_rows(all.N, all.C, [&](int64_t i) {
      if (!check.good(i)) return;
      T* const row = to + i * all.C;
      if (all.label[i] < 0) return std::fill_n(row, all.C, T(0)), void();
      const double z = all.z[i * all.C + all.label[i]];
      const auto n = all.negatives(i, row);
      const double a = all.above(n, z), e = std::exp(-std::fabs(a)), missing = a > 0 ? 1 / (1 + e) : e / (1 + e);
      row[all.label[i]] = 0;  // what was there is no exponential
      scale(row, all.C, n.sum > 0 ? T(weight * missing / n.sum) : T(0), T(weight * share));
      row[all.label[i]] = T(weight * (all.smoothing - missing - share));
    });
    check.finish();
  });
}

}  // namespace fm
