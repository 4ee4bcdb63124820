#include "../common/kernel_checks.h"
#include "backend.h"
#include "parallel.h"

#define FM_KERNELS "weighted_sum.inl"
#include "for_each_isa.h"

namespace fm {
namespace {

int64_t rows_a_chunk(const Tensor& x) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, x.dim(1) * x.dim(2)));
}

}  // namespace

Tensor CpuBackend::weighted_sum_forward(const Tensor& weights, const Tensor& x) {
  check_weighted_sum(weights, x);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t rows = x.dim(0), terms = x.dim(1), width = x.dim(2);
    Tensor y = cpu_empty<T>({rows, width});
    const T *w = weights.data<T>(), *from = x.data<T>();
    T* to = y.data<T>();
    const auto kernel = FM_KERNEL(weighted_sum_rows<T>);
    parallel_ranges(rows, rows_a_chunk(x), [&](int64_t i, int64_t end) {
      kernel(w + i * terms, from + i * terms * width, end - i, terms, width, to + i * width);
    });
    return y;
  });
}

WeightedSumGradients CpuBackend::weighted_sum_backward(const Tensor& dy, const Tensor& weights, const Tensor& x) {
  check_weighted_sum_backward(dy, weights, x);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t rows = x.dim(0), terms = x.dim(1), width = x.dim(2);
    WeightedSumGradients result{cpu_empty<T>(weights.shape), cpu_empty<T>(x.shape)};
    const T *g = dy.data<T>(), *w = weights.data<T>(), *from = x.data<T>();
    T *d_weights = result.d_weights.data<T>(), *dx = result.dx.data<T>();
    const auto kernel = FM_KERNEL(weighted_sum_backward_rows<T>);
    parallel_ranges(rows, rows_a_chunk(x), [&](int64_t i, int64_t end) {
      const int64_t at = i * terms;
      kernel(g + i * width, w + at, from + at * width, end - i, terms, width, d_weights + at, dx + at * width);
    });
    return result;
  });
}

}  // namespace fm
