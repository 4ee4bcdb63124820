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

// A class's rows are taken together: AdamW squares its whole gradient.
template <class Update>
void update_margins(float* m, float* const (&states)[kMostStates], int64_t classes, const int32_t* label,
                    const float* g, int64_t rows, double common, const Update& update) {
  std::vector<int64_t> sorted;
  for (int64_t i = 0; i < rows; i++)
    if (label[i] >= 0) sorted.push_back(i);
  std::stable_sort(sorted.begin(), sorted.end(), [&](int64_t a, int64_t b) { return label[a] < label[b]; });
  parallel_ranges(classes, kGrain, [&](int64_t j, int64_t end) {
    auto row = std::lower_bound(sorted.begin(), sorted.end(), j, [&](int64_t i, int64_t at) { return label[i] < at; });
    for (; j < end; j++) {
      double gradient = common, state[Update::kStates];
      for (; row != sorted.end() && label[*row] == j; ++row) gradient += g[*row];
      for (int k = 0; k < Update::kStates; k++) state[k] = states[k][j];
      m[j] = float(in_range(update(in_range(m[j]), gradient, state)));
      for (int k = 0; k < Update::kStates; k++) states[k][j] = float(state[k]);
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
  float* states[kMostStates] = {};
  for (size_t k = 0; k < state.size(); k++) states[k] = state[k].data<float>();
  OptimizerParams undecayed = p;
  undecayed.weight_decay = 0;
  OptimizerStep<double>(undecayed).with([&](const auto& update) {
    update_margins(margins.data<float>(), states, classes, labels.data<int32_t>(), gradients.data<float>(),
                   labels.dim(0), common, update);
  });
}

}  // namespace fm
