// What the head's kernels read and write, all on the device.  Letters as in backend.h; R = C·K rows of weight, C of the
// classes that take part.
#pragma once
#include <cmath>
#include <cstdint>

#include "../common/bfloat16.h"
#include "../common/class_rows.h"
#include "../common/head_rows.h"

namespace fm {

// What a call reports, read by the host once, at its end.  Until then nothing waits: kernels that would change what they
// must not look at failed() themselves.
struct HeadReport {
  static constexpr int64_t kNone = INT64_MAX;
  // The lowest row of the batch, or of weight, that is refused.
  unsigned long long bad_label, bad_margin, bad_feature, bad_lse, bad_center;
  double loss, regularizer, correct, labelled, d_scale, d_bias;
  // Set where a kernel gave up waiting: before the update, which is then left out, or in it.
  unsigned long long stuck, half_stepped;
  // Set where the update left a row of weight whose norm takes more than a sum of squares: its unit row is not there.
  unsigned long long unusual;
  unsigned long long tiles;  // of LiveTiles, where some may be left out

  FM_HD bool given_up() const { return stuck || half_stepped; }
  FM_HD bool failed() const {
    constexpr unsigned long long none = kNone;
    return stuck || bad_label < none || bad_margin < none || bad_feature < none || bad_lse < none || bad_center < none;
  }
};

// What the host reads of MarginParams, to choose kernels by and how they are launched.
struct HeadPlan {
  Method method;
  Negatives negatives;
  Gradient gradient;
  double cosine_epsilon;
  int sub_centers;
  bool project, smooths, shifts;  // smooths: there is label smoothing; shifts: e^(s·φ) needs one
};

// All else is read on the device, so that launches of one plan serve any numbers.
template <class T>
struct HeadNumbers {
  MarginParams p;
  ReweightedNegative<T> reweighted;
  BinaryNegative<T> binary;

  HeadNumbers() = default;
  explicit HeadNumbers(const MarginParams& p) : p(p), reweighted(p), binary() {
    dispatch_method(p.method, [&](auto tag) {
      using M = typename decltype(tag)::template Of<T>;
      if constexpr (M::binary) binary = M::negatives(p);
      return 0;
    });
  }
  template <class Negative>
  FM_HD Negative of() const {
    if constexpr (Negative::plain) return {};
    else if constexpr (Negative::binary) return binary;
    else return reweighted;
  }
};

template <class T>
struct DeviceHead {
  int64_t N, C, K, D, R;
  const T *x, *w;          // w's rows at their `places`
  const int32_t* classes;  // [C] that take part, or none: all
  const int32_t* labels;   // [N]
  const T* margins;        // [N] or none
  HeadPlan plan;
  const HeadNumbers<T>* numbers;
  bool binary;
  Quality quality;

  HeadReport* report;
  HeadRow* rows;     // [N]
  T* embeddings;     // [N, D] unit rows
  T* target_rows;    // [N, D] the target's row of weight, as it was before the step
  int64_t* centers;  // [N] the target's row of the R, −1 without one
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

  FM_HD const MarginParams& p() const { return numbers->p; }
  FM_HD ClassRows places() const { return {classes, K}; }
};

// Rows of bfloat16 operands begin at multiples of 16 bytes, and their depth is in whole steps of a tile.
constexpr int64_t kDepthStep = 32, kScoreStep = 8;

// The tiles of dL/dcos that a step has, where it leaves others out: of kFilterRows rows and kFilterClasses of a chunk's
// classes, counted from its first (head_filter.cuh).
constexpr int kFilterRows = 256, kFilterClasses = 256;
FM_HD int64_t filter_blocks(int64_t classes) { return (classes + kFilterClasses - 1) / kFilterClasses; }
FM_HD int64_t filter_row_blocks(int64_t N) { return (N + kFilterRows - 1) / kFilterRows; }
struct LiveTiles {
  int32_t* tiles = nullptr;   // class block·row blocks + row block, ascending; none: all tiles are there
  int32_t* begins = nullptr;  // [class blocks + 1] where a class block's tiles begin
  int32_t* blocks = nullptr;  // [row blocks, class blocks] of each block of rows its class blocks, ascending
  int32_t* counts = nullptr;  // [row blocks] how many
};

// A chunk of classes, as the head's three products read and write it.  E is what they multiply: T, or Bfloat16.  Of
// Bfloat16 the rows of weight are unit rows, and all rows are 0 from D on.
template <class T, class E>
struct HeadChunk {
  int64_t first_class, last_class, columns;  // columns = (last − first)·K
  int64_t depth;                             // of the operands' rows: D, of Bfloat16 in whole kDepthSteps
  const E* embeddings;                       // [N, depth] unit rows
  const E* weight;                           // [columns, depth]
  const T* inverse;                          // [columns] makes unit rows of weight; none of Bfloat16
  int64_t stride;                            // K times the classes in whole kScoreSteps
  E* scores;                                 // [N, stride] dL/dcos, 0 of the target's class, in a path's order; or none
  T* dots;                                   // [row tiles, columns] Σᵢ dL/dcos·cos of the tile's rows; with scores
  E* units;                                  // weight, to be renewed by a step; or none
  LiveTiles live{};                          // what of the scores is there and is read
};

// Of a row of weight, as DeviceHead::inverse has it.
template <class T>
FM_HD bool has_direction(T inverse) {
  return inverse < T(1 / kTiny);
}

// Whether 1/√Σw² is a row's 1/‖w‖, without underflow or overflow on the way.
template <class T>
FM_HD bool is_usual_square(T square) {
  return square > T(sizeof(T) == 4 ? 1e-18 : 1e-200) && square < T(sizeof(T) == 4 ? 1e30 : 1e200);
}
// The same bits wherever a norm is found: no compiler's choice of what it fuses.
template <class T>
FM_HD T add_squares(T sum, T a, T b) {
  return std::fma(b, b, std::fma(a, a, sum));
}
template <class T>
FM_HD T inverse_root(T square) {
  return T(1) / std::sqrt(square);
}

constexpr double kAbsent = -1e30;  // a "cosine" below every other

}  // namespace fm
