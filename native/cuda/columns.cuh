// Sums over all axes but the last, [rows, columns] → [columns], in a fixed order and in two passes: blocks sum a chunk of
// rows, and a second kernel the chunks.  A thread sums in T over 64 rows and in double over those, as the CPU does.
#pragma once
#include <cstdint>

#include "backend.h"
#include "each.cuh"

namespace fm {

constexpr int kColumnLanes = 32, kColumnWays = 8, kColumnThreads = kColumnLanes * kColumnWays;
constexpr int kRowsInT = 64;

// The ways' totals of each column, added in order; to be used where column_way() is 0.
template <int kTotals>
__device__ void add_ways(double (&total)[kTotals]) {
  __shared__ double ways[kColumnWays][kTotals][kColumnLanes];
  const int lane = threadIdx.x % kColumnLanes, way = threadIdx.x / kColumnLanes;
  for (int s = 0; s < kTotals; s++) ways[way][s][lane] = total[s];
  __syncthreads();
  for (int s = 0; s < kTotals; s++) {
    total[s] = ways[0][s][lane];
    for (int w = 1; w < kColumnWays; w++) total[s] += ways[w][s][lane];
  }
}
__device__ inline int column_way() { return int(threadIdx.x) / kColumnLanes; }
__device__ inline int64_t column_of_thread() { return int64_t(blockIdx.x) * kColumnLanes + threadIdx.x % kColumnLanes; }

// parts[chunk][sum][column] = Σ over the chunk's rows of what f(i, column, sums) adds to sums, of W columns a thread.
// Blocks: columns, chunks; four of them a multiprocessor, for otherwise the compiler aims at more and spills.
template <class T, int kSums, int W, class F>
__global__ void __launch_bounds__(kColumnThreads, 4)
    column_sums_kernel(F f, int64_t rows, int64_t columns, int64_t rows_a_chunk, double* parts) {
  const int64_t c = column_of_thread() * W, begin = blockIdx.y * rows_a_chunk;
  const int64_t end = begin + rows_a_chunk < rows ? begin + rows_a_chunk : rows;
  double total[W * kSums] = {};
  for (int64_t row = begin + column_way(); c < columns && row < end;) {
    T sums[W][kSums] = {};
    for (int i = 0; i < kRowsInT && row < end; i++, row += kColumnWays) f(row * columns + c, c, sums);
    for (int k = 0; k < W * kSums; k++) total[k] += double(sums[k / kSums][k % kSums]);
  }
  add_ways(total);
  if (column_way() > 0 || c >= columns) return;
  for (int k = 0; k < W * kSums; k++) parts[(blockIdx.y * kSums + k % kSums) * columns + c + k / kSums] = total[k];
}

// f(column, totals over all chunks)
template <int kSums, class F>
__global__ void __launch_bounds__(kColumnThreads)
    column_totals_kernel(F f, const double* parts, int64_t chunks, int64_t columns) {
  const int64_t c = column_of_thread();
  double total[kSums] = {};
  for (int64_t chunk = column_way(); c < columns && chunk < chunks; chunk += kColumnWays)
    for (int s = 0; s < kSums; s++) total[s] += parts[(chunk * kSums + s) * columns + c];
  add_ways(total);
  if (column_way() == 0 && c < columns) f(c, total);
}

// add(i, column, sums) meets each element once, of W neighbours the first, and adds its terms; finish(column, totals)
// takes them.
template <class T, int kSums, class Add, class Finish>
void sum_columns(CudaBackend& on, int64_t elements, int64_t columns, const Add& add, const Finish& finish) {
  if (columns == 0) return;
  constexpr int64_t kBlocks = 1024, kFewestRows = kColumnWays * 8;
  const int64_t rows = elements / columns;
  with_pack<typename Add::Element, 4>(columns, [&](auto w) {
    constexpr int W = w();
    const unsigned tiles = unsigned(blocks_for(columns, kColumnLanes * W));
    int64_t chunks = kBlocks / tiles < 1 ? 1 : kBlocks / tiles;
    if (chunks > blocks_for(rows, kFewestRows)) chunks = blocks_for(rows, kFewestRows);
    DeviceScratch scratch(on.allocator());
    double* const parts = scratch.take<double>(chunks * kSums * columns);
    if (rows > 0) {
      const int64_t rows_a_chunk = blocks_for(rows, chunks);
      launch(on.stream(), dim3(tiles, unsigned(chunks)), kColumnThreads, column_sums_kernel<T, kSums, W, Add>, add,
             rows, columns, rows_a_chunk, parts);
    }
    launch(on.stream(), unsigned(blocks_for(columns, kColumnLanes)), kColumnThreads,
           column_totals_kernel<kSums, Finish>, finish, parts, chunks, columns);
  });
}

template <class S, class T = Computed<S>>
struct Elements {
  using Element = S;
  const S* x;
  template <int W>
  __device__ void operator()(int64_t i, int64_t, T (&sums)[W][1]) const {
    const Pack<S, W> values = load_pack<W>(x + i);
#pragma unroll
    for (int k = 0; k < W; k++) sums[k][0] += T(values.at[k]);
  }
};
template <class T>
struct StoreSum {
  T* to;
  __device__ void operator()(int64_t c, const double (&totals)[1]) const { to[c] = T(totals[0]); }
};

}  // namespace fm
