// Sums over all axes but the last, [rows, columns] → [columns], in a fixed order and in two passes: blocks sum a chunk of
// rows, and a second kernel the chunks.  A thread sums in T over 64 rows (16 of moments) and in double over those, as the
// CPU does.  Loops are unrolled so that a thread has eight loads on their way, unless it stores between them.
#pragma once
#include <cstdint>

#include "backend.h"
#include "each.cuh"

namespace fm {

constexpr int kColumnLanes = 32, kColumnWays = 8, kColumnThreads = kColumnLanes * kColumnWays;
constexpr int kTotalWays = 16, kTotalThreads = kColumnLanes * kTotalWays;
constexpr int kRowsInT = 64, kRowsOfMoments = 16;

// The ways' totals of each column, added in order; to be used where column_way() is 0.
template <int kWays, int kTotals>
__device__ void add_ways(double (&total)[kTotals]) {
  __shared__ double ways[kWays][kTotals][kColumnLanes];
  const int lane = threadIdx.x % kColumnLanes, way = threadIdx.x / kColumnLanes;
  for (int s = 0; s < kTotals; s++) ways[way][s][lane] = total[s];
  __syncthreads();
  for (int s = 0; s < kTotals; s++) {
    total[s] = ways[0][s][lane];
    for (int w = 1; w < kWays; w++) total[s] += ways[w][s][lane];
  }
}
__device__ inline int column_way() { return int(threadIdx.x) / kColumnLanes; }
__device__ inline int64_t column_of_thread() { return int64_t(blockIdx.x) * kColumnLanes + threadIdx.x % kColumnLanes; }
// Of a thread from `row` on, at most `most` at once.
__device__ inline int rows_of_thread(int64_t row, int64_t end, int most) {
  const int64_t left = (end - row + kColumnWays - 1) / kColumnWays;
  return left < most ? int(left) : most;
}

// parts[chunk][sum][column], of the W columns from c on.
template <int kSums, int kTotals>
__device__ void store_parts(double (&total)[kTotals], int64_t c, int64_t columns, double* parts) {
  add_ways<kColumnWays>(total);
  if (column_way() > 0 || c >= columns) return;
  for (int k = 0; k < kTotals; k++) parts[(blockIdx.y * kSums + k % kSums) * columns + c + k / kSums] = total[k];
}

// Parts: Σ over the chunk's rows of what f(i, column, sums) adds to sums, of W columns a thread.
// Blocks: columns, chunks; four of them a multiprocessor, for otherwise the compiler aims at more and spills.
template <class T, int kSums, int W, class F>
__global__ void __launch_bounds__(kColumnThreads, 4)
    column_sums_kernel(F f, int64_t rows, int64_t columns, int64_t rows_a_chunk, double* parts) {
  const int64_t c = column_of_thread() * W, begin = blockIdx.y * rows_a_chunk;
  const int64_t end = begin + rows_a_chunk < rows ? begin + rows_a_chunk : rows;
  double total[W * kSums] = {};
  for (int64_t row = begin + column_way(); c < columns && row < end;) {
    T sums[W][kSums] = {};
    const int count = rows_of_thread(row, end, kRowsInT);
#pragma unroll 8
    for (int i = 0; i < count; i++) f((row + i * kColumnWays) * columns + c, c, sums);
    row += int64_t(count) * kColumnWays;
    for (int k = 0; k < W * kSums; k++) total[k] += double(sums[k / kSums][k % kSums]);
  }
  store_parts<kSums>(total, c, columns, parts);
}

// Parts: Σ (x − f) and Σ (x − f)², f the column's first value.  Of a thread's n = 16 rows the sums are about the first of
// them, which is within √n standard deviations of their mean: a mean far from 0 costs no digits, and the first being far
// from the others about n²·2⁻²⁴ of the variance at most.
template <class T, int W, class S>
__global__ void __launch_bounds__(kColumnThreads, 4)
    column_moments_kernel(const S* x, int64_t rows, int64_t columns, int64_t rows_a_chunk, double* parts) {
  const int64_t c = column_of_thread() * W, begin = blockIdx.y * rows_a_chunk;
  const int64_t end = begin + rows_a_chunk < rows ? begin + rows_a_chunk : rows;
  double total[W * 2] = {};
  for (int64_t row = begin + column_way(); c < columns && row < end;) {
    const Pack<S, W> about = load_pack<W>(x + row * columns + c);
    T sum[W] = {}, square[W] = {};
    const int count = rows_of_thread(row, end, kRowsOfMoments);
#pragma unroll 8
    for (int i = 0; i < count; i++) {
      const Pack<S, W> values = load_pack<W>(x + (row + i * kColumnWays) * columns + c);
#pragma unroll
      for (int k = 0; k < W; k++) {
        const T d = T(values.at[k]) - T(about.at[k]);
        sum[k] += d;
        square[k] += d * d;
      }
    }
    for (int k = 0; k < W; k++) {
      const double off = double(T(about.at[k])) - double(T(x[c + k])), of_off = count * off;
      total[2 * k] += double(sum[k]) + of_off;
      total[2 * k + 1] += double(square[k]) + off * (2 * double(sum[k]) + of_off);
    }
    row += int64_t(count) * kColumnWays;
  }
  store_parts<2>(total, c, columns, parts);
}

// f(column, totals over all chunks)
template <int kSums, class F>
__global__ void __launch_bounds__(kTotalThreads)
    column_totals_kernel(F f, const double* parts, int chunks, int64_t columns) {
  const int64_t c = column_of_thread();
  double total[kSums] = {};
  if (c < columns) {
#pragma unroll 8
    for (int chunk = column_way(); chunk < chunks; chunk += kTotalWays)
      for (int s = 0; s < kSums; s++) total[s] += parts[(int64_t(chunk) * kSums + s) * columns + c];
  }
  add_ways<kTotalWays>(total);
  if (column_way() == 0 && c < columns) f(c, total);
}

// sum_chunks(W as a constant, blocks, rows, rows a chunk, parts) launches what sums; finish(column, totals) takes the sums.
template <int kSums, class S, class SumChunks, class Finish>
void in_chunks(CudaBackend& on, int64_t elements, int64_t columns, const SumChunks& sum_chunks, const Finish& finish) {
  if (columns == 0) return;
  constexpr int64_t kBlocks = 512, kFewestRows = kColumnWays * 8;
  const int64_t rows = elements / columns;
  with_pack<S, 4>(columns, [&](auto w) {
    constexpr int W = w();
    const unsigned tiles = unsigned(blocks_for(columns, kColumnLanes * W));
    int64_t chunks = kBlocks / tiles < 1 ? 1 : kBlocks / tiles;
    if (chunks > blocks_for(rows, kFewestRows)) chunks = blocks_for(rows, kFewestRows);
    DeviceScratch scratch(on.allocator());
    double* const parts = scratch.take<double>(chunks * kSums * columns);
    if (rows > 0) sum_chunks(w, dim3(tiles, unsigned(chunks)), rows, blocks_for(rows, chunks), parts);
    launch(on.stream(), unsigned(blocks_for(columns, kColumnLanes)), kTotalThreads, column_totals_kernel<kSums, Finish>,
           finish, parts, int(chunks), columns);
  });
}

// add(i, column, sums) meets each element once, of W neighbours the first, and adds its terms; finish(column, totals)
// takes them.
template <class T, int kSums, class Add, class Finish>
void sum_columns(CudaBackend& on, int64_t elements, int64_t columns, const Add& add, const Finish& finish) {
  const auto sum_chunks = [&](auto w, dim3 blocks, int64_t rows, int64_t rows_a_chunk, double* parts) {
    launch(on.stream(), blocks, kColumnThreads, column_sums_kernel<T, kSums, w(), Add>, add, rows, columns,
           rows_a_chunk, parts);
  };
  in_chunks<kSums, typename Add::Element>(on, elements, columns, sum_chunks, finish);
}

// finish(column, {Σ (x − f), Σ (x − f)²}), f the column's first value; x is read once.
template <class S, class Finish>
void moments_of_columns(CudaBackend& on, int64_t elements, int64_t columns, const S* x, const Finish& finish) {
  const auto sum_chunks = [&](auto w, dim3 blocks, int64_t rows, int64_t rows_a_chunk, double* parts) {
    launch(on.stream(), blocks, kColumnThreads, column_moments_kernel<Computed<S>, w(), S>, x, rows, columns,
           rows_a_chunk, parts);
  };
  in_chunks<2, S>(on, elements, columns, sum_chunks, finish);
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
