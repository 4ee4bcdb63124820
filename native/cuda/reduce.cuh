// Reductions over the threads that share a row.  The order is fixed, so that the same input gives the same bits.
#pragma once

namespace fm {

constexpr int kWarp = 32;

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Min {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};
struct Max {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// The reduction over kRowThreads consecutive threads, given to all of them: a warp, or the whole block.
template <int kRowThreads, class T, class Op>
__device__ T row_reduce(T value, Op op) {
  static_assert(kRowThreads % kWarp == 0 && kRowThreads <= 1024);
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) value = op(value, __shfl_xor_sync(0xffffffffu, value, lanes));
  if constexpr (kRowThreads > kWarp) {
    __shared__ T partial[kRowThreads / kWarp];
    if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = partial[0];
    for (int warp = 1; warp < kRowThreads / kWarp; warp++) value = op(value, partial[warp]);
    __syncthreads();  // partial may be written again
  }
  return value;
}

}  // namespace fm
