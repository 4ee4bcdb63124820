// Squared Euclidean distances of all pairs of rows, as sums of squared differences: ‖a‖² + ‖b‖² − 2⟨a, b⟩ would lose
// the small ones, which a square root then divides by.
#include "../common/kernel_checks.h"
#include "backend.h"
#include "parallel.h"

#define FM_KERNELS "distances.inl"
#include "for_each_isa.h"

namespace fm {

Tensor CpuBackend::squared_distances_forward(const Tensor& x) {
  check_rank("x", x, 2);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t rows = x.dim(0), width = x.dim(1);
    Tensor y = cpu_empty<T>({rows, rows});
    const T* from = x.data<T>();
    T* to = y.data<T>();
    const auto kernel = FM_KERNEL(squared_distances_row<T>);
    parallel_for(rows, [&](int64_t i) {
      kernel(from, i, rows, width, to + i * rows);
      to[i * rows + i] = 0;
    });
    parallel_for(rows, [&](int64_t i) {
      for (int64_t j = 0; j < i; j++) to[i * rows + j] = to[j * rows + i];
    });
    return y;
  });
}

Tensor CpuBackend::squared_distances_backward(const Tensor& dy, const Tensor& x) {
  check_squared_distances_backward(dy, x);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t rows = x.dim(0), width = x.dim(1);
    Tensor dx = cpu_empty<T>(x.shape);
    const T *g = dy.data<T>(), *from = x.data<T>();
    T* to = dx.data<T>();
    const auto kernel = FM_KERNEL(squared_distances_backward_row<T>);
    parallel_for(rows, [&](int64_t i) { kernel(g, from, i, rows, width, to + i * width); });
    return dx;
  });
}

}  // namespace fm
