// AdaptiveFace's margins by class, which are the CPU's whatever device the head is on.
#pragma once
#include "../common/backend.h"

namespace fm {

// The optimizer's step without decay, of margins and their state, float32 [C] each.  The gradient of a class is `common`
// plus the gradients of the rows with its label; margins are clamped to [0, 1] before and after.
void class_margins_step(const Tensor& margins, const OptimizerState& state,
                        const Tensor& labels,     // [N]; -1 = of no class
                        const Tensor& gradients,  // [N], float32
                        double common, const OptimizerParams& p);

}  // namespace fm
