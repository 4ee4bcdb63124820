// A binary loss a class, as SphereFace2 and UniFace have it:
//   L = w₊·ln(1 + e^−z_y) + w₋·Σ_{j≠y} ln(1 + e^z_j)
#include <vector>

#include "backend.h"
#include "row_check.h"

#define FM_KERNELS "binary_cross_entropy.inl"
#include "for_each_isa.h"

namespace fm {
namespace {

template <class T>
struct BinaryEntropy {
  int64_t N, C, labelled;
  const T* z;
  const int32_t* label;

  BinaryEntropy(const Tensor& logits, const Tensor& labels, double positive, double negative) {
    check_binary_cross_entropy(logits, labels, positive, negative);
    N = logits.dim(0), C = logits.dim(1);
    labelled = check_labels(labels, C);
    z = logits.data<T>();
    label = labels.data<int32_t>();
  }
  RowCheck<T> check() const {
    return RowCheck<T>("logits", kGradientRange, z, C, kLargestGradient<T>, FM_KERNEL(peak<T>));
  }
};

}  // namespace

double CpuBackend::binary_cross_entropy_forward(const Tensor& logits, const Tensor& labels, double positive_weight,
                                                double negative_weight, const Tensor& row_loss) {
  return dispatch_float(logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    const BinaryEntropy<T> all(logits, labels, positive_weight, negative_weight);
    check_of_rows("out.rowLoss", row_loss, logits);
    T* const to = row_loss.data<T>();
    std::vector<double> losses(all.N);
    auto check = all.check();
    const auto kernel = FM_KERNEL(sum_of_softplus<T>);
    parallel_rows(all.N, all.C, [&](int64_t i) {
      if (!check.good(i)) return;
      to[i] = 0;
      const int64_t label = all.label[i];
      if (label < 0) return;
      const T* const row = all.z + i * all.C;
      const double z = row[label], positive = std::max(-z, 0.0) + std::log1p(std::exp(-std::fabs(z)));
      const double negatives = kernel(row, label) + kernel(row + label + 1, all.C - label - 1);
      losses[i] = saturated<double>(positive_weight * positive + negative_weight * negatives);
      to[i] = saturated<T>(losses[i]);
    });
    check.finish();
    return mean_of_rows(losses.data(), all.label, all.N, all.labelled);
  });
}

void CpuBackend::binary_cross_entropy_backward(const Tensor& logits, const Tensor& labels, double positive_weight,
                                               double negative_weight, double d_loss, const Tensor& d_logits) {
  dispatch_float(logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    const BinaryEntropy<T> all(logits, labels, positive_weight, negative_weight);
    check_result("out", d_logits, logits.shape, logits);
    check_d_loss(d_loss);
    T* const to = d_logits.data<T>();
    const double weight = all.labelled ? d_loss / double(all.labelled) : 0;
    auto check = all.check();
    const auto kernel = FM_KERNEL(sigmoid_row<T>);
    parallel_rows(all.N, all.C, [&](int64_t i) {
      if (!check.good(i)) return;
      T* const row = to + i * all.C;
      const int64_t label = all.label[i];
      if (label < 0) return std::fill_n(row, all.C, T(0)), void();
      const double z = all.z[i * all.C + label], e = std::exp(-std::fabs(z));
      kernel(all.z + i * all.C, all.C, T(weight * negative_weight), row);
      row[label] = saturated<T>(-weight * positive_weight * (z > 0 ? e / (1 + e) : 1 / (1 + e)));
    });
    check.finish();
  });
}

}  // namespace fm
