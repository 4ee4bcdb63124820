#include "../common/check.h"
#include "backend.h"
#include "parallel.h"

#define FM_KERNELS "optimizer_step.inl"
#include "for_each_isa.h"

namespace fm {

void CpuBackend::sgd_step(const Tensor& weight, const Tensor& velocity, const Tensor& gradient, SgdParams sgd) {
  check_alike("weight", weight, "velocity", velocity);
  check_alike("weight", weight, "gradient", gradient);
  dispatch_float(weight.dtype, [&](auto zero) {
    using T = decltype(zero);
    T *w = weight.data<T>(), *v = velocity.data<T>();
    const T* g = gradient.data<T>();
    const auto kernel = FM_KERNEL(sgd_range<T>);
    parallel_ranges(weight.numel(), 16384, [&](int64_t i, int64_t end) {
      kernel(w + i, v + i, g + i, end - i, T(sgd.lr), T(sgd.momentum), T(sgd.weight_decay));
    });
  });
}

}  // namespace fm
