// −log softmax of the label's logit.  A row's exponents are shifted by its largest negative, so that the loss of a
// learned row keeps its digits: with S = Σ_{j≠y} e^(z_j − top) ≥ 1,
//   a = top + ln S − z_y,  loss = ln(1 + e^a),  lse = z_y + loss
//   dL/dz_y = −σ(a),  dL/dz_j = e^(z_j − top)/S·σ(a)
// Label smoothing ε over C classes makes the loss (1 − ε)·loss_y + ε·mean_j loss_j = loss + ε·(z_y − mean z).
#include <cmath>

#include "backend.h"
#include "report.h"
#include "rows.cuh"
#include "rows.h"

namespace fm {
namespace {

template <class T>
struct CrossEntropy {
  int64_t N, C;
  CheckedRows<T> logits;
  Labels labels;
  double smoothing;
};

// Of the negatives, which may be none: their largest, and S.
struct Others {
  double top, sum;
};
template <int kRowThreads, class T>
__device__ Others others_of(const T* z, int64_t C, int64_t label) {
  T top = -kLargestNumber<T>;
  for (int64_t j = thread_of_row<kRowThreads>(); j < C; j += kRowThreads)
    if (j != label) top = Max{}(z[j], top);
  top = row_reduce<kRowThreads>(top, Max{});
  const double sum =
      sum_over_row<kRowThreads, T>(C, [&](int64_t j) { return j == label ? T(0) : std::exp(z[j] - top); });
  return {double(top), sum};
}
// a of the formulas; −∞ where the target is the only class.
__device__ inline double above(const Others& others, double target) {
  return others.sum > 0 ? (others.top - target) + std::log(others.sum) : -double(INFINITY);
}

template <class T, int kRowThreads>
__global__ void cross_entropy_kernel(CrossEntropy<T> on, double* losses, T* row_loss, T* lse) {
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= on.N || !good_row<kRowThreads>(on.logits, i)) return;
  const int64_t label = on.labels.of(i);
  const T* const row = on.logits.x + i * on.C;
  const Others others = others_of<kRowThreads>(row, on.C, label);
  double mean = 0;
  if (on.smoothing > 0) {
    const T share = T(1.0 / double(on.C));
    mean = sum_over_row<kRowThreads, T>(on.C, [&](int64_t j) { return row[j] * share; });
  }
  if (thread_of_row<kRowThreads>() != 0) return;
  if (label < 0) {
    losses[i] = 0;
    row_loss[i] = 0;
    lse[i] = saturated<T>(others.top + std::log(others.sum));
    return;
  }
  const double z = row[label], a = above(others, z);
  const double more = std::log1p(std::exp(-std::fabs(a)));  // from the larger of the two to their sum
  lse[i] = saturated<T>(a > 0 ? others.top + std::log(others.sum) + more : z + more);
  double loss = saturated<double>(a > 0 ? a + more : more);
  if (on.smoothing > 0) loss += on.smoothing * saturated<double>(z - mean);
  loss = saturated<double>(loss);
  losses[i] = loss * on.labels.share();
  row_loss[i] = saturated<T>(loss);
}

// d_logits may be the logits.
template <class T, int kRowThreads>
__global__ void cross_entropy_backward_kernel(CrossEntropy<T> on, double d_loss, T* d_logits) {
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= on.N || !good_row<kRowThreads>(on.logits, i)) return;
  const int64_t label = on.labels.of(i);
  const int first = thread_of_row<kRowThreads>();
  const T* const row = on.logits.x + i * on.C;
  d_logits += i * on.C;
  if (label < 0) {
    for (int64_t j = first; j < on.C; j += kRowThreads) d_logits[j] = 0;
    return;
  }
  const double z = double(element_of_row<kRowThreads>(row, label));
  const Others others = others_of<kRowThreads>(row, on.C, label);
  const double a = above(others, z), e = std::exp(-std::fabs(a)), missing = a > 0 ? 1 / (1 + e) : e / (1 + e);
  const double weight = d_loss * on.labels.share(), spread = on.smoothing / double(on.C);
  const T top = T(others.top), factor = others.sum > 0 ? T(weight * missing / others.sum) : T(0);
  const T from_all = T(weight * spread), target = T(weight * (on.smoothing - missing - spread));
  for (int64_t j = first; j < on.C; j += kRowThreads)
    d_logits[j] = j == label ? target : std::exp(row[j] - top) * factor - from_all;
}

template <class T>
CrossEntropy<T> cross_entropy_of(Report& report, const Tensor& logits, const Tensor& labels, double smoothing) {
  const int64_t C = logits.dim(1);
  const Labels own = report.labels(labels, C);
  return {logits.dim(0), C, report.finite_rows("logits", logits.data<T>(), C), own, smoothing};
}

}  // namespace

double CudaBackend::softmax_cross_entropy_forward(const Tensor& logits, const Tensor& labels, double label_smoothing,
                                                  const Tensor& row_loss, const Tensor& lse) {
  check_softmax_cross_entropy(logits, labels, label_smoothing);
  check_of_rows("out.rowLoss", row_loss, logits);
  check_of_rows("out.lse", lse, logits);
  check_here("logits", logits);
  changed(row_loss, lse);
  const DeviceGuard guard(device_);
  return dispatch_float(logits.dtype, [&](auto zero) -> double {
    using T = decltype(zero);
    Report report(*this);
    const CrossEntropy<T> on = cross_entropy_of<T>(report, logits, labels, label_smoothing);
    double* const losses = report.scratch<double>(on.N);
    for_rows(on.N, on.C, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, cross_entropy_kernel<T, row_threads()>, on, losses, row_loss.data<T>(),
             lse.data<T>());
    });
    report.add_up(0, losses, on.N);
    return report.finish().sums[0];
  });
}

void CudaBackend::softmax_cross_entropy_backward(const Tensor& logits, const Tensor& labels, double label_smoothing,
                                                 double d_loss, const Tensor& d_logits) {
  check_softmax_cross_entropy(logits, labels, label_smoothing);
  check_result("out", d_logits, logits.shape, logits);
  check_d_loss(d_loss);
  check_here("logits", logits);
  changed(d_logits);
  const DeviceGuard guard(device_);
  dispatch_float(logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    Report report(*this);
    const CrossEntropy<T> on = cross_entropy_of<T>(report, logits, labels, label_smoothing);
    for_rows(on.N, on.C, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, cross_entropy_backward_kernel<T, row_threads()>, on, d_loss,
             d_logits.data<T>());
    });
    report.finish();
  });
}

}  // namespace fm
