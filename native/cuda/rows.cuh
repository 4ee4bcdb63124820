// Rows that a warp or a block sweeps: kRowThreads threads each.
#pragma once
#include <cstdint>

#include "../common/host_device.h"
#include "reduce.cuh"

namespace fm {

__device__ inline int64_t thread_of_grid() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

template <int kRowThreads>
__device__ int64_t row_of_thread() {
  return thread_of_grid() / kRowThreads;
}
template <int kRowThreads>
__device__ int thread_of_row() {
  return int(threadIdx.x) % kRowThreads;
}

// Σ f(i) over [0, width): f gives T, of which a thread adds up 64 before it goes on in double.
template <int kRowThreads, class T, class F>
__device__ double sum_over_row(int64_t width, F&& f) {
  constexpr int64_t kStretch = 64 * kRowThreads;
  double total = 0;
  for (int64_t i = thread_of_row<kRowThreads>(); i < width;) {
    const int64_t end = width - i < kStretch ? width : i + kStretch;
    T part = 0;
    for (; i < end; i += kRowThreads) part += f(i);
    total += double(part);
  }
  return row_reduce<kRowThreads>(total, Sum{});
}

// x[at] for all threads of the row, read by the one whose turn it is to write there, which others may not do meanwhile;
// the lowest number where `at` is negative.
template <int kRowThreads, class T>
__device__ T element_of_row(const T* x, int64_t at) {
  const bool mine = at >= 0 && int(at % kRowThreads) == thread_of_row<kRowThreads>();
  return row_reduce<kRowThreads>(mine ? x[at] : -kLargestNumber<T>, Max{});
}

}  // namespace fm
