#include "../common/check.h"
#include "../common/optimizers.h"
#include "backend.h"
#include "each.cuh"

namespace fm {
namespace {

template <class T, class Update>
struct UpdateEach {
  T *weight, *states[Update::kStates];
  const T* gradient;
  T factor;
  Update update;
  __device__ void operator()(int64_t i) const {
    T state[Update::kStates];
#pragma unroll
    for (int k = 0; k < Update::kStates; k++) state[k] = states[k][i];
    weight[i] = update(weight[i], factor == 1 ? gradient[i] : gradient[i] * factor, state);
#pragma unroll
    for (int k = 0; k < Update::kStates; k++) states[k][i] = state[k];
  }
};

}  // namespace

void CudaBackend::optimizer_step(const Tensor& weight, const OptimizerState& state, const Tensor& gradient,
                                 const OptimizerParams& p) {
  check_optimizer(p, weight, state);
  check_alike("weight", weight, "gradient", gradient);
  check_here("weight", weight);
  const DeviceGuard guard(device_);
  changed(weight);
  dispatch_float(weight.dtype, [&](auto zero) {
    using T = decltype(zero);
    OptimizerStep<T>(p).with([&](const auto& update) {
      UpdateEach<T, std::decay_t<decltype(update)>> each{
          weight.data<T>(), {}, gradient.data<T>(), T(p.gradient_factor), update};
      for (size_t k = 0; k < state.size(); k++) each.states[k] = state[k].template data<T>();
      for_each(stream_, weight.numel(), each);
    });
  });
}

}  // namespace fm
