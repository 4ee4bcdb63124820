#include "backend.h"
#include "check.h"
#include "parallel.h"

#define FM_KERNELS "normalize.inl"
#include "for_each_isa.h"

namespace fm {
namespace {
int64_t rows_a_chunk(int64_t width) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width)); }
}  // namespace

Normalized CpuBackend::normalize_forward(const Tensor& x) {
  check_rank("x", x, 2);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t rows = x.dim(0), width = x.dim(1);
    Normalized result{cpu_empty<T>(x.shape), cpu_empty<T>({rows})};
    const T* from = x.data<T>();
    T *y = result.y.data<T>(), *norm = result.norm.data<T>();
    const auto kernel = FM_KERNEL(normalize_rows<T>);
    parallel_ranges(rows, rows_a_chunk(width), [&](int64_t begin, int64_t end) {
      kernel(from + begin * width, end - begin, width, y + begin * width, norm + begin);
    });
    return result;
  });
}

Tensor CpuBackend::normalize_backward(const Tensor& dy, const Tensor& y, const Tensor& norm) {
  check_rank("y", y, 2);
  check_alike("y", y, "dy", dy);
  check_same_device(y, norm);
  check_shape("norm", norm, {y.dim(0)});
  return dispatch_float(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t rows = y.dim(0), width = y.dim(1);
    Tensor dx = cpu_empty<T>(y.shape);
    const T *g = dy.data<T>(), *unit = y.data<T>(), *length = norm.data<T>();
    T* to = dx.data<T>();
    const auto kernel = FM_KERNEL(normalize_backward_rows<T>);
    parallel_ranges(rows, rows_a_chunk(width), [&](int64_t begin, int64_t end) {
      kernel(g + begin * width, unit + begin * width, length + begin, end - begin, width, to + begin * width);
    });
    return dx;
  });
}

}  // namespace fm
