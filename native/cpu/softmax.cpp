// Softmax over short rows, such as group probabilities.  The margin head has its own, which never holds its rows.
#include <algorithm>
#include <cmath>

#include "../common/kernel_checks.h"
#include "backend.h"
#include "parallel.h"

namespace fm {
namespace {

int64_t rows_a_chunk(int64_t width) { return std::max<int64_t>(1, 4096 / std::max<int64_t>(1, width)); }

// y = f over the rows of x [N, K]: f(x, K, y).
template <class F>
Tensor over_rows(const Tensor& x, F&& f) {
  check_softmax(x);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor y = cpu_empty<T>(x.shape);
    const int64_t width = x.dim(1);
    const T* from = x.data<T>();
    T* to = y.data<T>();
    parallel_ranges(x.dim(0), rows_a_chunk(width), [&](int64_t row, int64_t end) {
      for (; row < end; row++) f(from + row * width, width, to + row * width, row);
    });
    return y;
  });
}

template <class T>
double log_sum_exp(const T* x, int64_t width) {
  const double largest = double(*std::max_element(x, x + width));
  double sum = 0;
  for (int64_t i = 0; i < width; i++) sum += std::exp(double(x[i]) - largest);
  return largest + std::log(sum);
}

}  // namespace

Tensor CpuBackend::softmax_forward(const Tensor& x) {
  return over_rows(x, [](const auto* from, int64_t width, auto* to, int64_t) {
    const double lse = log_sum_exp(from, width);
    for (int64_t i = 0; i < width; i++) to[i] = std::exp(double(from[i]) - lse);
  });
}

// p_i = exp(x_i)/Σ exp:  dx = p·(dy − ⟨dy, p⟩)
Tensor CpuBackend::softmax_backward(const Tensor& dy, const Tensor& y) {
  check_alike("y", y, "dy", dy);
  return over_rows(y, [&](const auto* p, int64_t width, auto* to, int64_t row) {
    const auto* g = dy.data<std::remove_cvref_t<decltype(*p)>>() + row * width;
    double along = 0;
    for (int64_t i = 0; i < width; i++) along += double(g[i]) * double(p[i]);
    for (int64_t i = 0; i < width; i++) to[i] = double(p[i]) * (double(g[i]) - along);
  });
}

Tensor CpuBackend::log_softmax_forward(const Tensor& x) {
  return over_rows(x, [](const auto* from, int64_t width, auto* to, int64_t) {
    const double lse = log_sum_exp(from, width);
    for (int64_t i = 0; i < width; i++) to[i] = double(from[i]) - lse;
  });
}

// y_i = x_i − lse:  dx = dy − exp(y)·Σ dy
Tensor CpuBackend::log_softmax_backward(const Tensor& dy, const Tensor& y) {
  check_alike("y", y, "dy", dy);
  return over_rows(y, [&](const auto* log_p, int64_t width, auto* to, int64_t row) {
    const auto* g = dy.data<std::remove_cvref_t<decltype(*log_p)>>() + row * width;
    double sum = 0;
    for (int64_t i = 0; i < width; i++) sum += double(g[i]);
    for (int64_t i = 0; i < width; i++) to[i] = double(g[i]) - std::exp(double(log_p[i])) * sum;
  });
}

}  // namespace fm
