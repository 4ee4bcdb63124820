// Kernels that do one thing with each element.  What they do is a value with operator(): its fields are what it reads
// and writes.
#pragma once
#include <cstdint>

#include "../common/bfloat16.h"
#include "launch.h"

namespace fm {

constexpr unsigned kEachThreads = 256;
constexpr int64_t kMostLanes = int64_t(4096) * kEachThreads;  // beyond, a thread takes several elements

// f(i)
template <class F>
__global__ void __launch_bounds__(256) each_kernel(F f, int64_t n) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}

// f(i, c), c the place on the last axis.  A thread's elements are `lanes` apart, a multiple of `channels`, so that it
// has one c.
template <class F>
__global__ void __launch_bounds__(256) each_channel_kernel(F f, int64_t n, int64_t lanes, int64_t channels) {
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (first >= lanes) return;
  const int64_t c = first % channels;
  for (int64_t i = first; i < n; i += lanes) f(i, c);
}

template <class F>
void for_each(const Stream& stream, int64_t n, const F& f) {
  if (n == 0) return;
  const int64_t lanes = n < kMostLanes ? n : kMostLanes;
  launch(stream, unsigned(blocks_for(lanes, kEachThreads)), kEachThreads, each_kernel<F>, f, n);
}

template <class F>
void for_each_channel(const Stream& stream, int64_t n, int64_t channels, const F& f) {
  if (n == 0) return;
  const int64_t most = n < kMostLanes ? n : kMostLanes;
  const int64_t lanes = most < channels ? channels : most / channels * channels;
  launch(stream, unsigned(blocks_for(lanes, kEachThreads)), kEachThreads, each_channel_kernel<F>, f, n, lanes,
         channels);
}

// y = op(x) and y = op(a, b), element by element; y may be one of them.
template <class S, class Op, class T = Computed<S>>
struct Map {
  Op op;
  const S* x;
  S* y;
  __device__ void operator()(int64_t i) const { y[i] = S(op(T(x[i]))); }
};
template <class S, class Op, class T = Computed<S>>
struct Map2 {
  Op op;
  const S *a, *b;
  S* y;
  __device__ void operator()(int64_t i) const { y[i] = S(op(T(a[i]), T(b[i]))); }
};

}  // namespace fm
