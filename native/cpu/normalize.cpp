#include "../common/check.h"
#include "../common/head_rows.h"
#include "backend.h"
#include "parallel.h"
#include "row_check.h"

#define FM_KERNELS "normalize.inl"
#include "for_each_isa.h"

namespace fm {
namespace {
int64_t rows_a_chunk(int64_t width) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width)); }
}  // namespace

template <class T>
static void normalize_all(const T* x, int64_t rows, int64_t width, T* y, T* norm) {
  const auto kernel = FM_KERNEL(normalize_rows<T>);
  parallel_ranges(rows, rows_a_chunk(width), [&](int64_t begin, int64_t end) {
    kernel(x + begin * width, end - begin, width, y + begin * width, norm + begin);
  });
}

Normalized CpuBackend::normalize_forward(const Tensor& x) {
  check_rank("x", x, 2);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Normalized result{cpu_empty<T>(x.shape), cpu_empty<T>({x.dim(0)})};
    normalize_all(x.data<T>(), x.dim(0), x.dim(1), result.y.template data<T>(), result.norm.template data<T>());
    return result;
  });
}

void CpuBackend::normalize_into(const Tensor& x, const Tensor& y, const Tensor& norm) {
  check_normalize_into(x, y, norm);
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    normalize_all(x.data<T>(), x.dim(0), x.dim(1), y.data<T>(), norm.data<T>());
    check_norms("x", norm.data<T>(), x.dim(0));
  });
}

void CpuBackend::normalize_backward_into(const OptionalTensor& dy, const Tensor& y, const Tensor& norm,
                                         const OptionalTensor& d_norm, const Tensor& dx) {
  check_normalize_backward_into(dy, y, norm, d_norm, dx);
  dispatch_float(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t rows = y.dim(0), width = y.dim(1);
    const auto peak_of = FM_KERNEL(peak<T>);
    const T *g = dy ? dy->data<T>() : nullptr, *unit = y.data<T>(), *length = norm.data<T>(),
            *radial = d_norm ? d_norm->data<T>() : nullptr;
    T* const to = dx.data<T>();
    RowCheck<T> check_y("y", kCosineRange, unit, width, kLargestCosine, peak_of);
    RowCheck<T> check_g("dy", kGradientRange, g, width, kLargestGradient<T>, peak_of);
    RowCheck<T> check_radial("dNorm", kGradientRange, radial, 1, kLargestGradient<T>, peak_of);
    RowCheck<T> check_length("norm", "", length, 1, std::numeric_limits<T>::max(), peak_of);
    const auto kernel = FM_KERNEL(normalize_backward_row<T>);
    parallel_rows(rows, width, [&](int64_t i) {
      if (!check_y.good(i) || !check_length.good(i) || (g && !check_g.good(i)) || (radial && !check_radial.good(i)))
        return;
      if (length[i] < T(kTiny)) return std::fill_n(to + i * width, width, T(0)), void();
      kernel(g ? g + i * width : nullptr, unit + i * width, length[i], radial ? radial[i] : T(0), width,
             to + i * width);
    });
    check_y.finish();
    check_length.finish();
    if (g) check_g.finish();
    if (radial) check_radial.finish();
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
