#include "../common/check.h"
#include "../common/optimizers.h"
#include "backend.h"
#include "parallel.h"

#define FM_KERNELS "optimizer_step.inl"
#include "for_each_isa.h"

namespace fm {

void CpuBackend::optimizer_step(const Tensor& weight, const OptimizerState& state, const Tensor& gradient,
                                const OptimizerParams& p) {
  check_optimizer(p, weight, state);
  check_alike("weight", weight, "gradient", gradient);
  dispatch_float(weight.dtype, [&](auto zero) {
    using T = decltype(zero);
    OptimizerStep<T>(p).with([&](const auto& update) {
      const auto kernel = FM_KERNEL(update_range<std::decay_t<decltype(update)>>);
      parallel_ranges(weight.numel(), 16384, [&](int64_t i, int64_t end) {
        T* states[kMostStates] = {};
        for (size_t k = 0; k < state.size(); k++) states[k] = state[k].template data<T>() + i;
        kernel(weight.data<T>() + i, states, gradient.data<T>() + i, T(p.gradient_factor), end - i, update);
      });
    });
  });
}

}  // namespace fm
