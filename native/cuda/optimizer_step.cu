#include "../common/check.h"
#include "backend.h"
#include "each.cuh"

namespace fm {
namespace {

template <class T>
struct SgdStep {
  T *weight, *velocity;
  const T* gradient;
  T lr, momentum, weight_decay;
  __device__ void operator()(int64_t i) const {
    const T w = weight[i], v = momentum * velocity[i] + (gradient[i] + weight_decay * w);
    velocity[i] = v;
    weight[i] = w - lr * v;
  }
};

}  // namespace

void CudaBackend::sgd_step(const Tensor& weight, const Tensor& velocity, const Tensor& gradient, SgdParams sgd) {
  check_alike("weight", weight, "velocity", velocity);
  check_alike("weight", weight, "gradient", gradient);
  check_here("weight", weight);
  const DeviceGuard guard(device_);
  dispatch_float(weight.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_each(stream_, weight.numel(),
             SgdStep<T>{weight.data<T>(), velocity.data<T>(), gradient.data<T>(), T(sgd.lr), T(sgd.momentum),
                        T(sgd.weight_decay)});
  });
}

}  // namespace fm
