#include "../common/check.h"
#include "backend.h"
#include "columns.cuh"
#include "reduce.cuh"

#include <vector>

namespace fm {
namespace {

constexpr int kBlock = 256;

// parts[block] = Σ f(i), in T over 64 elements of a thread and in double over those.
template <class T, class F>
__global__ void __launch_bounds__(kBlock) sum_kernel(F f, int64_t n, double* parts) {
  const int64_t step = int64_t(gridDim.x) * kBlock;
  double total = 0;
  for (int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x; i < n;) {
    const int64_t left = (n - i + step - 1) / step;
    const int count = left < 64 ? int(left) : 64;
    T sum = 0;
#pragma unroll 8
    for (int k = 0; k < count; k++) sum += f(i + k * step);
    total += double(sum);
    i += count * step;
  }
  total = row_reduce<kBlock>(total, Sum{});
  if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

constexpr int64_t sum_blocks(int64_t n) {
  constexpr int64_t kMostBlocks = 512, kElements = 16 * kBlock;
  return blocks_for(n, kElements) < kMostBlocks ? blocks_for(n, kElements) : kMostBlocks;
}
// The host adds the blocks' parts, in order: it waits for the number in any case.
double read_sum(CudaBackend& on, const double* parts, int64_t count) {
  std::vector<double> host(static_cast<size_t>(count));
  on.read(host.data(), parts, host.size() * sizeof(double));
  double total = 0;
  for (double part : host) total += part;
  return total;
}

template <class T, class F>
double sum_of(CudaBackend& on, int64_t n, const F& f) {
  if (n == 0) return 0;
  const DeviceGuard guard(on.device());
  DeviceScratch scratch(on.allocator());
  double* const parts = scratch.take<double>(sum_blocks(n));
  launch(on.stream(), unsigned(sum_blocks(n)), kBlock, sum_kernel<T, F>, f, n, parts);
  return read_sum(on, parts, sum_blocks(n));
}

template <class S, class T = Computed<S>>
struct Value {
  const S* x;
  __device__ T operator()(int64_t i) const { return T(x[i]); }
};
template <class S, class T = Computed<S>>
struct Product {
  const S *a, *b;
  __device__ T operator()(int64_t i) const { return T(a[i]) * T(b[i]); }
};
template <class S>
struct Square {
  const S* x;
  __device__ double operator()(int64_t i) const {
    const double value = double(Computed<S>(x[i]));
    return value * value;
  }
};
// 0 for finite x and NaN for the others, and NaN stays in the sum.
template <class S, class T = Computed<S>>
struct Nothing {
  const S* x;
  __device__ T operator()(int64_t i) const { return T(x[i]) * T(0); }
};

}  // namespace

double CudaBackend::sum(const Tensor& x) {
  check_here("x", x);
  return dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    return sum_of<Computed<S>>(*this, x.numel(), Value<S>{x.data<S>()});
  });
}

double CudaBackend::dot(const Tensor& a, const Tensor& b) {
  check_alike("a", a, "b", b);
  check_here("a", a);
  return dispatch_stored(a.dtype, [&](auto zero) {
    using S = decltype(zero);
    return sum_of<Computed<S>>(*this, a.numel(), Product<S>{a.data<S>(), b.data<S>()});
  });
}

double CudaBackend::sum_of_squares(const std::vector<Tensor>& xs) {
  int64_t blocks = 0;
  for (const Tensor& x : xs) {
    check_here("x", x);
    blocks += sum_blocks(x.numel());
  }
  if (blocks == 0) return 0;
  const DeviceGuard guard(device_);
  DeviceScratch scratch(allocator_);
  double* const parts = scratch.take<double>(blocks);
  int64_t first = 0;
  for (const Tensor& x : xs) {
    if (x.numel() == 0) continue;
    dispatch_stored(x.dtype, [&](auto zero) {
      using S = decltype(zero);
      launch(stream_, unsigned(sum_blocks(x.numel())), kBlock, sum_kernel<double, Square<S>>, Square<S>{x.data<S>()},
             x.numel(), parts + first);
    });
    first += sum_blocks(x.numel());
  }
  return read_sum(*this, parts, blocks);
}

bool CudaBackend::all_finite(const Tensor& x) {
  check_here("x", x);
  return dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    return sum_of<Computed<S>>(*this, x.numel(), Nothing<S>{x.data<S>()}) == 0;
  });
}

Tensor CudaBackend::sum_rows(const Tensor& x) {
  check_rank("x", x, 2);
  check_here("x", x);
  const DeviceGuard guard(device_);
  return dispatch_stored(x.dtype, [&](auto zero) {
    using S = decltype(zero);
    using T = Computed<S>;
    const Tensor y = empty(parameter_dtype(x.dtype), {x.dim(1)});
    sum_columns<T, 1>(*this, x.numel(), x.dim(1), Elements<S>{x.data<S>()}, StoreSum<T>{y.data<T>()});
    return y;
  });
}

}  // namespace fm
