// The optimizer's step of a head's rows that took no part in it.
#pragma once
#include "../common/optimizers.h"

namespace fm {

// As by a gradient of 0, of all rows of weight [C·K, D] and of its state but those of `classes` [S], ascending.
void move_other_rows(const Tensor& weight, const OptimizerState& state, const Tensor& classes, int64_t K,
                     const OptimizerParams& p);

}  // namespace fm
