// A binary loss a class, as SphereFace2 and UniFace have it:
//   L = w₊·ln(1 + e^−z_y) + w₋·Σ_{j≠y} ln(1 + e^z_j)
#include <cmath>

#include "backend.h"
#include "report.h"
#include "rows.cuh"
#include "rows.h"

namespace fm {
namespace {

template <class T>
struct BinaryEntropy {
  int64_t N, C;
  CheckedRows<T> logits;
  Labels labels;
  double positive, negative;  // weights
};

template <class T, int kRowThreads>
__global__ void binary_entropy_kernel(BinaryEntropy<T> on, double* losses, T* row_loss) {
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= on.N || !good_row<kRowThreads>(on.logits, i)) return;
  const int64_t label = on.labels.of(i);
  const int first = thread_of_row<kRowThreads>();
  const T* const row = on.logits.x + i * on.C;
  if (label < 0) {
    if (first == 0) losses[i] = row_loss[i] = 0;
    return;
  }
  const double negatives = sum_over_row<kRowThreads, T>(on.C, [&](int64_t j) {
    const T z = row[j];
    return j == label ? T(0) : (z > 0 ? z : T(0)) + std::log1p(std::exp(z < 0 ? z : -z));
  });
  if (first != 0) return;
  const double z = row[label], positive = (z < 0 ? -z : 0) + std::log1p(std::exp(-std::fabs(z)));
  const double loss = saturated<double>(on.positive * positive + on.negative * negatives);
  losses[i] = loss * on.labels.share();
  row_loss[i] = saturated<T>(loss);
}

// An element needs no other of its row: d_logits may be the logits.
template <class T, int kRowThreads>
__global__ void binary_entropy_backward_kernel(BinaryEntropy<T> on, double d_loss, T* d_logits) {
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= on.N || !good_row<kRowThreads>(on.logits, i)) return;
  const int64_t label = on.labels.of(i);
  const T* const row = on.logits.x + i * on.C;
  d_logits += i * on.C;
  const double weight = d_loss * on.labels.share();
  const T factor = T(weight * on.negative);
  for (int64_t j = thread_of_row<kRowThreads>(); j < on.C; j += kRowThreads) {
    if (j == label) {
      const double z = row[j], e = std::exp(-std::fabs(z));
      d_logits[j] = saturated<T>(-weight * on.positive * (z > 0 ? e / (1 + e) : 1 / (1 + e)));
      continue;
    }
    const T z = row[j], small = std::exp(z < 0 ? z : -z);
    d_logits[j] = label < 0 ? T(0) : (z < 0 ? small : T(1)) * (factor / (small + 1));
  }
}

template <class T>
BinaryEntropy<T> binary_entropy_of(Report& report, const Tensor& logits, const Tensor& labels, double positive,
                                   double negative) {
  const int64_t C = logits.dim(1);
  const Labels own = report.labels(labels, C);
  return {logits.dim(0), C,        report.rows("logits", kGradientRange, logits.data<T>(), C, kLargestGradient<T>),
          own,           positive, negative};
}

}  // namespace

double CudaBackend::binary_cross_entropy_forward(const Tensor& logits, const Tensor& labels, double positive_weight,
                                                 double negative_weight, const Tensor& row_loss) {
  check_binary_cross_entropy(logits, labels, positive_weight, negative_weight);
  check_of_rows("out.rowLoss", row_loss, logits);
  check_here("logits", logits);
  changed(row_loss);
  const DeviceGuard guard(device_);
  return dispatch_float(logits.dtype, [&](auto zero) -> double {
    using T = decltype(zero);
    Report report(*this);
    const BinaryEntropy<T> on = binary_entropy_of<T>(report, logits, labels, positive_weight, negative_weight);
    double* const losses = report.scratch<double>(on.N);
    for_rows(on.N, on.C, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, binary_entropy_kernel<T, row_threads()>, on, losses, row_loss.data<T>());
    });
    report.add_up(0, losses, on.N);
    return report.finish().sums[0];
  });
}

void CudaBackend::binary_cross_entropy_backward(const Tensor& logits, const Tensor& labels, double positive_weight,
                                                double negative_weight, double d_loss, const Tensor& d_logits) {
  check_binary_cross_entropy(logits, labels, positive_weight, negative_weight);
  check_result("out", d_logits, logits.shape, logits);
  check_d_loss(d_loss);
  check_here("logits", logits);
  changed(d_logits);
  const DeviceGuard guard(device_);
  dispatch_float(logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    Report report(*this);
    const BinaryEntropy<T> on = binary_entropy_of<T>(report, logits, labels, positive_weight, negative_weight);
    for_rows(on.N, on.C, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, binary_entropy_backward_kernel<T, row_threads()>, on, d_loss,
             d_logits.data<T>());
    });
    report.finish();
  });
}

}  // namespace fm
