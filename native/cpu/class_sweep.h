// A sweep over the classes: everything of the head that costs N·C·D, in tiles, so that no [N, C] array exists.
//
//   maximum             the row's largest φ, and how many cosines are above its threshold
//   sums                Σ e^(s·φ − shift) over the negatives, top-1
//   sums_and_features   the same, and Σ e^(s·φ − shift)·φ'·ŵ, which becomes a gradient when divided by the row's sum
//   moments             Σ e^(s·cos)·cosᵏ: the sum at every scale near s
//   gradients           G from known sums → dX and dW of the negatives, and the sums again
//   update              G → dW → the optimizer's step of weight and state, while the rows are in cache
//   step                G from known sums → dX, and as `update`; top-1
//   logits              s·φ, written out
//
// moments and step are of plain negatives in float32.
//
// A class has K centers, rows of weight side by side; its cosine is the largest of theirs, and that center alone gets its
// gradient (of equal ones the first).  A binary loss has ln(1 + e^z) and its slope 1/(1 + e^(−z)) where a softmax has e^z
// twice.
//
// e^(s·cos) needs no running maximum, for cosines are bounded; so the first pass can already add up dX.  The target's
// column is known before the sweep: sweeps leave it out (the caller adds it, in double), except that dW of an
// `update` and a `step` has the row's `target_gradient` there.
//
// Classes are cut into tiles of whole classes and tiles into groups; a group adds up its own dX and sums, and groups are added in order.
// Both cuts depend on the sizes alone, so that no result depends on the number of threads.
#pragma once
#include <cstdint>
#include <type_traits>

#include "../common/class_rows.h"
#include "../common/head_checks.h"
#include "../common/head_rows.h"
#include "../common/optimizers.h"

namespace fm {

enum class SweepKind { maximum, sums, sums_and_features, moments, gradients, update, step, logits };

constexpr bool adds_features(SweepKind kind) {
  return kind == SweepKind::sums_and_features || kind == SweepKind::gradients || kind == SweepKind::step;
}
constexpr bool updates_weight(SweepKind kind) { return kind == SweepKind::update || kind == SweepKind::step; }
constexpr bool multiplies_gradient(SweepKind kind) { return kind == SweepKind::gradients || updates_weight(kind); }
constexpr bool ranks_target(SweepKind kind) {
  return kind == SweepKind::sums || kind == SweepKind::sums_and_features || kind == SweepKind::step;
}
constexpr int kMoments = 10;  // enough for scales up to 0.7 away

struct Target {
  int64_t center, row;  // center: a row of weight
};

template <class T>
struct ClassSweep {
  int64_t N, R, D;  // R = C·K rows of weight
  int64_t K = 1;
  const T* embeddings;               // [N, D] unit rows
  const T* weight;                   // [R, D], at `places`
  const int32_t* classes = nullptr;  // [R / K] that take part, or none: all
  const Target* targets;             // sorted by center, then row
  int64_t target_count;
  T cosine_limit = 2;   // cosines are clipped to ± this, if below 1
  T slope_outside = 0;  // of a clipped cosine
  bool project = true;  // dW tangent to its row and divided by ‖w‖

  const T* scale = nullptr;      // [N] s
  const T* shift = nullptr;      // [N] subtracted from every exponent; of a binary loss −bias
  const T* threshold = nullptr;  // [N] above it a negative is hard
  const T* factor = nullptr;     // [N] G = e^(s·φ − shift)·φ'·factor − spread; 0 for a row without a target
  const T* spread = nullptr;     // [N] label smoothing's part of G, the same for every class
  const T* target_gradient = nullptr;  // [N] G of the target
  const T* target_cos = nullptr;       // [N]

  double* sums = nullptr;        // [N]
  double* counts = nullptr;      // [N] hard negatives (maximum), Σ of slopes (binary)
  double* moments = nullptr;     // [N, kMoments]
  T* largest = nullptr;          // [N] over the negatives: the cosine; for `maximum` φ
  T* seen_target_cos = nullptr;  // [N] the target's cosine, rounded as its neighbours in `largest`
  T* d_features = nullptr;       // [N, D] with respect to the embeddings
  T* d_weight = nullptr;         // [R, D]
  // update and step:
  T* weight_out = nullptr;      // weight again, to be written
  T* states[kMostStates] = {};  // [R, D] each, at `places`
  OptimizerStep<T> optimizer;
  T* logits = nullptr;  // [N, C]

  bool rounds_operands = false;  // of the products, to bfloat16: for T float, where the processor has no such products

  // sums_and_features and moments leave the cosines of the first rows of weight in one of these, and 1/‖w‖; update and
  // step take them there.
  T* kept = nullptr;              // as they are
  int16_t* kept_steps = nullptr;  // in steps of 1/32767, for T float
  T* kept_inverse = nullptr;
  int64_t kept_rows = 0;

  ClassRows places() const { return {classes, K}; }
  // Whether cosines are clipped, labels smoothed, or centers several a class.
  bool has_extras() const { return cosine_limit < 1 || spread || K > 1; }

  int64_t bad_row = -1;  // out: the first row of weight that is not finite
};

// What a sweep's kernels are made for.
template <class T, class O, class N, SweepKind k, bool e>
struct SweepConfig {
  using Real = T;
  using Operand = O;
  using Negative = N;
  static constexpr SweepKind kind = k;
  static constexpr bool extras = e;
};
// Kernels are made for what is common and hot; the rest runs in those that can do everything.
template <SweepKind kind, class Negative>
constexpr bool kRareSweep = kind == SweepKind::maximum || kind == SweepKind::moments || kind == SweepKind::logits;

template <SweepKind kind>
using KindOf = std::integral_constant<SweepKind, kind>;

// Runs a sweep whose negatives are as p has them.
void sweep_classes(SweepKind kind, ClassSweep<float>& sweep, const MarginParams& p);
void sweep_classes(SweepKind kind, ClassSweep<double>& sweep, const MarginParams& p);
// What one of the rows of weight takes whose cosines are kept, in steps or as they are.
int64_t kept_bytes(const ClassSweep<float>& sweep, bool in_steps);
int64_t kept_bytes(const ClassSweep<double>& sweep, bool in_steps);
// sweep_classes with products of bfloat16, on Isa::avx512bf16; not `logits`.
void sweep_classes_bf16(SweepKind kind, ClassSweep<float>& sweep, const MarginParams& p);

}  // namespace fm
