#include <atomic>

#include "../common/check.h"
#include "backend.h"
#include "channels.h"
#include "parallel.h"

#define FM_KERNELS "reduce.inl"
#include "for_each_isa.h"

namespace fm {
namespace {
constexpr int64_t kGrain = 65536;  // elements a chunk

// Σ part(first, count) over chunks, added up in their order.
template <class Part>
double sum_of_parts(int64_t n, Part&& part) {
  std::vector<double> parts((n + kGrain - 1) / kGrain);
  parallel_ranges(n, kGrain, [&](int64_t i, int64_t end) { parts[i / kGrain] = part(i, end - i); });
  double total = 0;
  for (double each : parts) total += each;
  return total;
}
}  // namespace

double CpuBackend::sum(const Tensor& x) {
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.data<T>();
    const auto kernel = FM_KERNEL(sum_range<T>);
    return sum_of_parts(x.numel(), [&](int64_t i, int64_t count) { return kernel(from + i, count); });
  });
}

double CpuBackend::dot(const Tensor& a, const Tensor& b) {
  check_alike("a", a, "b", b);
  return dispatch_float(a.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T *left = a.data<T>(), *right = b.data<T>();
    const auto kernel = FM_KERNEL(dot_range<T>);
    return sum_of_parts(a.numel(), [&](int64_t i, int64_t count) { return kernel(left + i, right + i, count); });
  });
}

double CpuBackend::sum_of_squares(const std::vector<Tensor>& xs) {
  double total = 0;
  for (const Tensor& x : xs) {
    total += dispatch_float(x.dtype, [&](auto zero) {
      using T = decltype(zero);
      const T* from = x.data<T>();
      const auto kernel = FM_KERNEL(squares_range<T>);
      return sum_of_parts(x.numel(), [&](int64_t i, int64_t count) { return kernel(from + i, count); });
    });
  }
  return total;
}

bool CpuBackend::all_finite(const Tensor& x) {
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.data<T>();
    std::atomic<bool> finite{true};
    const auto kernel = FM_KERNEL(finite_range<T>);
    parallel_ranges(x.numel(), kGrain, [&](int64_t i, int64_t end) {
      if (finite.load(std::memory_order_relaxed) && !kernel(from + i, end - i)) finite = false;
    });
    return finite.load();
  });
}

Tensor CpuBackend::sum_rows(const Tensor& x) {
  check_rank("x", x, 2);
  return dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const ChannelRows rows(x);
    const int64_t width = rows.width;
    Tensor y = cpu_empty<T>({x.dim(1)});
    Scratch<T> block(size_t(width) * num_threads());
    Scratch<double> parts(size_t(rows.chunks) * width);
    const T* from = x.data<T>();
    const auto kernel = FM_KERNEL(sum_rows_chunk<T>);
    parallel_for(rows.chunks, [&](int64_t i, int thread) {
      kernel(from + rows.begin(i), rows.size(i), width, block.data() + thread * width, parts.data() + i * width);
    });
    for (int64_t c = 0; c < x.dim(1); c++) {
      double total = 0;
      for (int64_t i = 0; i < rows.chunks; i++)
        for (int64_t j = c; j < width; j += rows.channels) total += parts[i * width + j];
      y.data<T>()[c] = T(total);
    }
    return y;
  });
}

}  // namespace fm
