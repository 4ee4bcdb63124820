#include "class_margins.h"

#include <algorithm>
#include <vector>

#include "../common/check.h"
#include "parallel.h"
#include "row_check.h"

namespace fm {
namespace {

constexpr int64_t kGrain = 16384;

double in_range(double margin) { return std::clamp(margin, 0.0, 1.0); }

// Two passes, between which the rows add themselves to their class.
void sgd_step(float* m, float* v, int64_t classes, const int32_t* label, const float* g, int64_t rows, double common,
              const OptimizerParams& p) {
  parallel_ranges(classes, kGrain, [&](int64_t j, int64_t end) {
    for (; j < end; j++) v[j] = float(p.momentum * v[j] + common);
  });
  for (int64_t i = 0; i < rows; i++)
    if (label[i] >= 0) v[label[i]] += g[i];
  parallel_ranges(classes, kGrain, [&](int64_t j, int64_t end) {
    for (; j < end; j++) m[j] = float(in_range(in_range(m[j]) - p.lr * v[j]));
  });
}

// A square wants a class's whole gradient: its rows are taken together.
void adamw_step(float* m, float* const (&states)[2], int64_t classes, const int32_t* label, const float* g,
                int64_t rows, double common, OptimizerParams p) {
  p.weight_decay = 0;
  const AdamWUpdate<double> update(p);
  std::vector<int64_t> sorted;
  for (int64_t i = 0; i < rows; i++)
    if (label[i] >= 0) sorted.push_back(i);
  std::stable_sort(sorted.begin(), sorted.end(), [&](int64_t a, int64_t b) { return label[a] < label[b]; });
  parallel_ranges(classes, kGrain, [&](int64_t j, int64_t end) {
    auto row = std::lower_bound(sorted.begin(), sorted.end(), j, [&](int64_t i, int64_t at) { return label[i] < at; });
    for (; j < end; j++) {
      double gradient = common, state[] = {states[0][j], states[1][j]};
      for (; row != sorted.end() && label[*row] == j; ++row) gradient += g[*row];
      m[j] = float(in_range(update(in_range(m[j]), gradient, state)));
      states[0][j] = float(state[0]), states[1][j] = float(state[1]);
    }
  });
}

}  // namespace

void class_margins_step(const Tensor& margins, const OptimizerState& state, const Tensor& labels,
                        const Tensor& gradients, double common, const OptimizerParams& p) {
  check_rank("margins", margins, 1);
  check_dtype("margins", margins, Dtype::float32);
  check_optimizer(p, margins, state);
  check_rank("gradients", gradients, 1);
  check_dtype("gradients", gradients, Dtype::float32);
  check_same_device(margins, gradients);
  check_labels_of(labels, gradients);
  const int64_t classes = margins.dim(0);
  check_labels(labels, classes);
  float* const m = margins.data<float>();
  const float* const g = gradients.data<float>();
  const int32_t* const label = labels.data<int32_t>();
  const int64_t rows = labels.dim(0);
  if (p.type == Optimizer::sgd) return sgd_step(m, state[0].data<float>(), classes, label, g, rows, common, p);
  adamw_step(m, {state[0].data<float>(), state[1].data<float>()}, classes, label, g, rows, common, p);
}

}  // namespace fm
