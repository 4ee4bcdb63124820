// What the head's kernels read and write, all on the device.  Letters as in backend.h; R = C·K rows of weight.
#pragma once
#include <cstdint>

#include "../common/head_rows.h"

namespace fm {

// What a call reports, read by the host once, at its end.  Until then nothing waits: kernels that would change what they
// must not look at failed() themselves.
struct HeadReport {
  static constexpr int64_t kNone = INT64_MAX;
  // The lowest row of the batch, or of weight, that is refused.
  unsigned long long bad_label, bad_margin, bad_feature, bad_lse, bad_center;
  double loss, regularizer, correct, labelled, d_scale, d_bias;

  FM_HD bool failed() const {
    constexpr unsigned long long none = kNone;
    return bad_label < none || bad_margin < none || bad_feature < none || bad_lse < none || bad_center < none;
  }
};

template <class T>
struct DeviceHead {
  int64_t N, C, K, D, R;
  const T *x, *w;
  const int32_t* labels;  // [N]
  const T* margins;       // [N] or none
  MarginParams p;
  bool binary;
  Quality quality;

  HeadReport* report;
  HeadRow* rows;     // [N]
  T* embeddings;     // [N, D] unit rows
  T* target_rows;    // [N, D] the target's row of weight, as it was before the step
  int64_t* centers;  // [N] the target's row of weight, −1 without one
  int32_t* next;     // [N] the next row of the batch with the same center, −1 at the end
  int32_t* first;    // [R] the first such row, −1 where a center is nobody's target
  T* inverse;        // [R] 1 / max(‖w‖, kTiny)

  T *scale, *shift, *threshold, *factor, *spread, *target_gradient, *target_cos;  // [N]
  T *largest, *seen_target_cos;                                                   // [N]
  double *sums, *counts;                                                          // [N]

  int64_t groups;                     // of class tiles, each with its own part of the sums
  double *group_sums, *group_counts;  // [groups, N]
  T* group_largest;                   // [groups, N]
  double* sum_of_centers;             // [D] Σ ŵ, for label smoothing; or none
};

// Of a row of weight, as DeviceHead::inverse has it.
template <class T>
FM_HD bool has_direction(T inverse) {
  return inverse < T(1 / kTiny);
}

constexpr double kAbsent = -1e30;  // a "cosine" below every other

}  // namespace fm
