#include "optimizer_step.h"

#include <algorithm>

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

void move_other_rows(const Tensor& weight, const OptimizerState& state, const Tensor& classes, int64_t K,
                     const OptimizerParams& p) {
  constexpr int64_t kGrain = 128;  // classes
  const int64_t C = weight.dim(0) / K, a_class = K * weight.dim(1);
  const int32_t* const taking_part = classes.data<int32_t>();
  dispatch_float(weight.dtype, [&](auto zero) {
    using T = decltype(zero);
    OptimizerStep<T>(p).with([&](const auto& update) {
      const auto kernel = FM_KERNEL(update_range<std::decay_t<decltype(update)>>);
      const auto move = [&](int64_t first, int64_t end) {
        T* states[kMostStates] = {};
        for (size_t k = 0; k < state.size(); k++) states[k] = state[k].template data<T>() + first * a_class;
        kernel(weight.data<T>() + first * a_class, states, nullptr, T(1), (end - first) * a_class, update);
      };
      parallel_ranges(C, kGrain, [&](int64_t first, int64_t end) {
        const int32_t* const last = taking_part + classes.numel();
        for (auto next = std::lower_bound(taking_part, last, first); next != last && *next < end; first = *next++ + 1)
          move(first, *next);
        move(first, end);
      });
    });
  });
}

}  // namespace fm
