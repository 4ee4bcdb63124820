// Rows of cosines to s·φ + bias, and back.  The target's φ is found first, a thread a row, where alone the margin method
// is known; then rows are swept, where only the kind of negatives is.
#pragma once
#include <cmath>

#include "../common/transform_rows.h"
#include "report.h"
#include "rows.cuh"
#include "rows.h"

namespace fm {

// Of a row, from before its cosines may be written over.
template <class T>
struct TargetRow {
  TransformRow<T> shared;
  double scale;
  Phi<double> phi{0, 0};  // of the target
  int64_t label = -1;
  bool refused = false;
  bool clipped = false;  // the target's logit is one whatever the bias
};

template <class T>
struct Transform {
  MarginParams p;
  int64_t N, C;
  CheckedRows<T> cosines;
  Labels labels;
  const T *margins, *norms;  // [N] or nothing
  Refusals bad_margin, bad_norm;
  TargetRow<T>* rows;  // [N]

  __device__ double norm_of(int64_t i) const { return norms ? double(norms[i]) : 0; }
};

// A thread a row.
template <class T, class M>
__global__ void target_rows_kernel(Transform<T> on, M method) {
  const int64_t i = thread_of_grid();
  if (i >= on.N) return;
  const bool margin_fits = !on.margins || is_margin(on.margins[i]), norm_fits = !on.norms || is_norm(on.norms[i]);
  if (!margin_fits) on.bad_margin.note(i);
  if (!norm_fits) on.bad_norm.note(i);
  TargetRow<T> row;
  row.refused = on.labels.refuses(i) || !margin_fits || !norm_fits;
  row.label = on.labels.of(i);
  row.scale = transform_scale(on.p, on.norm_of(i));
  double margined = 2;
  if (row.label >= 0) {
    const double cos = double(on.cosines.x[i * on.C + row.label]);
    const double quality = M::quality == Quality::norm ? on.norm_of(i)
                           : on.margins                ? double(on.margins[i])
                                                       : on.p.margin;
    row.phi = target_phi(method, on.p, cos, quality);
    margined = method.margined(clipped_target(on.p, cos), quality);
    if constexpr (M::binary) row.clipped = method.clipped(row.phi.value);
  }
  row.shared = transform_row<T, M>(on.p, row.scale, margined);
  on.rows[i] = row;
}

// φ and dφ/dcos of a negative after the clip.
template <class T, class Negative>
__device__ Phi<T> transformed_negative(const TransformRow<T>& row, const Negative& negative, T cos) {
  const T limit = row.limit, clipped = cos > limit ? limit : cos < -limit ? -limit : cos;
  Phi<T> phi = negative.negative(clipped, row.threshold);
  if (clipped != cos) phi.slope *= row.slope_outside;
  return phi;
}

template <class T, class Negative, int kRowThreads>
__global__ void transform_kernel(Transform<T> on, Negative negative, T* logits) {
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= on.N) return;
  const TargetRow<T> row = on.rows[i];
  if (row.refused || !good_row<kRowThreads>(on.cosines, i)) return;
  const T target = T(row.scale * row.phi.value + double(row.shared.bias));
  const T* const cos = on.cosines.x + i * on.C;
  logits += i * on.C;
  for (int64_t j = thread_of_row<kRowThreads>(); j < on.C; j += kRowThreads) {
    const T phi = transformed_negative(row.shared, negative, cos[j]).value;
    logits[j] = j == row.label ? target : row.shared.scale * phi + row.shared.bias;
  }
}

// What is not asked for is nullptr.
template <class T>
struct TransformGradients {
  CheckedRows<T> d;
  T* d_cosines;              // [N, C]
  T *d_margins, *d_norms;    // [N]
  double *d_scale, *d_bias;  // [N], the rows' parts
  Quality quality;
  bool binary;
};

template <class T, class Negative, int kRowThreads>
__global__ void transform_backward_kernel(Transform<T> on, Negative negative, TransformGradients<T> to) {
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= on.N) return;
  const TargetRow<T> row = on.rows[i];
  if (row.refused) return;
  const bool good = good_row<kRowThreads>(on.cosines, i) & good_row<kRowThreads>(to.d, i);
  if (!good) return;
  const T *const d = to.d.x + i * on.C, *const cos = on.cosines.x + i * on.C;
  T* const d_cos = to.d_cosines + i * on.C;
  const double at_label = double(element_of_row<kRowThreads>(d, row.label)), target = row.label < 0 ? 0 : at_label;
  // The target is left out: these sums are not to be had by taking away.
  double with_phi = 0, alone = 0;
  for (int64_t j = thread_of_row<kRowThreads>(); j < on.C;) {
    constexpr int64_t kStretch = 64 * kRowThreads;
    const int64_t end = on.C - j < kStretch ? on.C : j + kStretch;
    T part = 0, part_alone = 0;
    for (; j < end; j += kRowThreads) {
      const T g = j == row.label ? T(0) : d[j];
      const Phi<T> phi = transformed_negative(row.shared, negative, cos[j]);
      part += g * phi.value;
      part_alone += g;
      d_cos[j] = j == row.label ? saturated<T>(target * row.phi.slope * row.scale)
                                : in_range(g * phi.slope * row.shared.scale);
    }
    with_phi += double(part);
    alone += double(part_alone);
  }
  with_phi = row_reduce<kRowThreads>(with_phi, Sum{}) + target * row.phi.value;
  alone = row_reduce<kRowThreads>(alone, Sum{}) + (row.clipped ? 0 : target);
  if (thread_of_row<kRowThreads>() != 0) return;
  const double norm = on.norm_of(i), d_quality = target * row.phi.slope_quality * row.scale;
  const bool moves = scale_moves(on.p, norm);
  to.d_scale[i] = with_phi * (!on.p.scale_by_norm ? 1 : moves ? norm : 0);
  to.d_bias[i] = to.binary ? alone : 0;
  if (to.d_margins) to.d_margins[i] = to.quality == Quality::margin ? saturated<T>(d_quality) : T(0);
  if (to.d_norms)
    to.d_norms[i] = saturated<T>((to.quality == Quality::norm ? d_quality : 0) + (moves ? with_phi * on.p.scale : 0));
}

// --- on the host ---------------------------------------------------------------------------------------------------

template <class T>
Transform<T> transform_of(Report& report, const Tensor& cosines, const Tensor& labels, const OptionalTensor& margins,
                          const OptionalTensor& norms, const MarginParams& p) {
  const int64_t N = cosines.dim(0), C = cosines.dim(1);
  Transform<T> on{p,
                  N,
                  C,
                  {},
                  report.labels(labels, C),
                  data_or_null<T>(margins),
                  data_or_null<T>(norms),
                  {},
                  {},
                  report.scratch<TargetRow<T>>(N)};
  on.bad_margin = report.check([&report, on](int64_t row) { fail_margin(report.read(on.margins + row, 1)[0], row); });
  on.bad_norm = report.check([&report, on](int64_t row) { fail_norm(report.read(on.norms + row, 1)[0], row); });
  on.cosines = report.rows("cosines", kCosineRange, cosines.data<T>(), C, kLargestCosine);
  return on;
}

template <class T, class Negative>
void launch_transform(const Stream& stream, const Transform<T>& on, const Negative& negative, T* logits) {
  for_rows(on.N, on.C, [&](auto row_threads, unsigned blocks) {
    launch(stream, blocks, kRowBlock, transform_kernel<T, Negative, row_threads()>, on, negative, logits);
  });
}
template <class T, class Negative>
void launch_transform_backward(const Stream& stream, const Transform<T>& on, const Negative& negative,
                               const TransformGradients<T>& to) {
  for_rows(on.N, on.C, [&](auto row_threads, unsigned blocks) {
    launch(stream, blocks, kRowBlock, transform_backward_kernel<T, Negative, row_threads()>, on, negative, to);
  });
}

}  // namespace fm
