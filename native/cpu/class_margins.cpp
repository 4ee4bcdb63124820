#include "class_margins.h"

#include <algorithm>

#include "../common/check.h"
#include "parallel.h"
#include "row_check.h"

namespace fm {

// Nothing is allocated: it follows a step that has moved the weights, and must not fail.
void class_margins_step(const Tensor& margins, const Tensor& velocity, const Tensor& labels, const Tensor& gradients,
                        double common, SgdParams sgd) {
  constexpr int64_t kGrain = 16384;
  check_rank("margins", margins, 1);
  check_dtype("margins", margins, Dtype::float32);
  check_alike("margins", margins, "velocity", velocity);
  check_rank("gradients", gradients, 1);
  check_dtype("gradients", gradients, Dtype::float32);
  check_same_device(margins, gradients);
  check_labels_of(labels, gradients);
  const int64_t classes = margins.dim(0);
  check_labels(labels, classes);
  float *m = margins.data<float>(), *v = velocity.data<float>();
  const float* g = gradients.data<float>();
  const int32_t* label = labels.data<int32_t>();
  parallel_ranges(classes, kGrain, [&](int64_t j, int64_t end) {
    for (; j < end; j++) v[j] = float(sgd.momentum * v[j] + common);
  });
  for (int64_t i = 0; i < labels.dim(0); i++)
    if (label[i] >= 0) v[label[i]] += g[i];
  parallel_ranges(classes, kGrain, [&](int64_t j, int64_t end) {
    for (; j < end; j++) m[j] = float(std::clamp(std::clamp(double(m[j]), 0.0, 1.0) - sgd.lr * v[j], 0.0, 1.0));
  });
}

}  // namespace fm
