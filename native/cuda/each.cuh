// Kernels that do one thing with each element.  What they do is a value with operator(): of for_each its fields are what it
// reads and writes, of the maps it is a formula.
#pragma once
#include <cstdint>
#include <type_traits>

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

template <class F>
void for_each(const Stream& stream, int64_t n, const F& f) {
  if (n == 0) return;
  const int64_t lanes = n < kMostLanes ? n : kMostLanes;
  launch(stream, unsigned(blocks_for(lanes, kEachThreads)), kEachThreads, each_kernel<F>, f, n);
}

// W neighbours, which cross between memory and a thread at once.
template <class T, int W>
struct alignas(W * sizeof(T) < 16 ? W * sizeof(T) : 16) Pack {
  T at[W];
};
template <int W, class T>
__device__ Pack<T, W> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, W>*>(from);
}

template <int W, class T>
__device__ void store_pack(T* to, const Pack<T, W>& pack) {
  *reinterpret_cast<Pack<T, W>*>(to) = pack;
}

// f(W as a constant): as many elements as kBytes hold, or one where rows of `extent` do not come out even.
template <class S, int kBytes = 16, class F>
void with_pack(int64_t extent, F&& f) {
  constexpr int kMost = kBytes > int(sizeof(S)) ? kBytes / int(sizeof(S)) : 1;
  if (extent % kMost == 0) f(std::integral_constant<int, kMost>{});
  else f(std::integral_constant<int, 1>{});
}

// y = op_of(k)(x…) for the neighbours k of a pack; y may be one of x.
template <int W, class S, class OpOf, class... X>
__device__ void map_pack(int64_t at, const OpOf& op_of, S* y, const X*... x) {
  Pack<S, W> to;
  const auto compute = [&](const Pack<X, W>&... from) {
#pragma unroll
    for (int k = 0; k < W; k++) to.at[k] = S(op_of(k)(Computed<X>(from.at[k])...));
  };
  compute(load_pack<W>(x + at)...);
  store_pack(y + at, to);
}

template <int W, class Op, class S, class... X>
__global__ void __launch_bounds__(256) map_kernel(Op op, int64_t packs, S* y, const X*... x) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < packs; i += step)
    map_pack<W>(
        i * W, [&](int) -> const Op& { return op; }, y, x...);
}

// channel(c) makes the operation of channel c, the place on the last axis.  A thread's packs are `lanes` apart, a multiple
// of the channels, so that it makes its operations once.  Of bfloat16 that is eight: four blocks a multiprocessor bound them
// to 64 registers.
template <int W, class Channel, class S, class... X>
__global__ void __launch_bounds__(256, 4)
    map_channels_kernel(Channel channel, int64_t packs, int64_t lanes, int64_t channel_packs, S* y, const X*... x) {
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (first >= lanes) return;
  using Op = decltype(channel(0));
  Op ops[W];
#pragma unroll
  for (int k = 0; k < W; k++) ops[k] = channel(first % channel_packs * W + k);
  for (int64_t i = first; i < packs; i += lanes)
    map_pack<W>(
        i * W, [&](int k) -> const Op& { return ops[k]; }, y, x...);
}

// y = op(x…), element by element.
template <class Op, class S, class... X>
void map_elements(const Stream& stream, int64_t n, const Op& op, S* y, const X*... x) {
  if (n == 0) return;
  with_pack<S>(n, [&](auto w) {
    constexpr int W = w();
    const int64_t packs = n / W, lanes = packs < kMostLanes ? packs : kMostLanes;
    launch(stream, unsigned(blocks_for(lanes, kEachThreads)), kEachThreads, map_kernel<W, Op, S, X...>, op, packs, y,
           x...);
  });
}

// y = channel(c)(x…).
template <class Channel, class S, class... X>
void map_channels(const Stream& stream, int64_t n, int64_t channels, const Channel& channel, S* y, const X*... x) {
  if (n == 0) return;
  with_pack<S>(channels, [&](auto w) {
    constexpr int W = w();
    const int64_t packs = n / W, a_row = channels / W, most = packs < kMostLanes ? packs : kMostLanes;
    const int64_t lanes = most < a_row ? a_row : most / a_row * a_row;
    launch(stream, unsigned(blocks_for(lanes, kEachThreads)), kEachThreads, map_channels_kernel<W, Channel, S, X...>,
           channel, packs, lanes, a_row, y, x...);
  });
}

}  // namespace fm
