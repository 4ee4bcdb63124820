// Which tiles of dL/dcos a step computes, where it may leave some out (HeadOptions::gradient_filter).
//
// A tile has kFilterRows rows of the batch and kFilterClasses classes.  The sweep for the sums leaves what each row has
// of them in every few classes: its masses.  Once the rows' log-sum-exp is known, a tile is left out if none of its rows
// has more of its probability there than the tile's classes are of all, times `most`.  So a row loses at most `most` of
// its probability, and its dL/dcos at most most·s·(weight of its loss)·(largest φ') in all.
//
// Lists of the tiles that are there, one chunk of classes after the other, are made on the device: the host knows only
// how many there are at most.
#pragma once
#include "head.h"
#include "reduce.cuh"
#include "rows.cuh"

namespace fm {

// How a step's classes are cut: first [0, kept), then `most` at a time; all but C are multiples of kFilterClasses.
struct ClassChunks {
  int64_t C, kept, most;

  FM_HD int64_t chunk_from(int64_t first_class) const {
    return first_class < kept ? 0 : (kept > 0) + (first_class - kept) / most;
  }
  FM_HD int64_t count() const { return (kept > 0) + (C - kept + most - 1) / most; }
  FM_HD int64_t first(int64_t chunk) const {
    return kept > 0 ? (chunk > 0 ? kept + (chunk - 1) * most : 0) : chunk * most;
  }
  FM_HD int64_t last(int64_t chunk) const {
    const int64_t end = kept > 0 && chunk == 0 ? kept : first(chunk) + most;
    return end < C ? end : C;
  }
};

// Where a chunk's lists are among those of all.
FM_HD LiveTiles live_tiles_of(const LiveTiles& all, const ClassChunks& chunks, int64_t chunk, int64_t N) {
  const int64_t block = chunks.first(chunk) / kFilterClasses, row_blocks = filter_row_blocks(N);
  return {all.tiles + block * row_blocks, all.begins + block + chunk, all.blocks + block * row_blocks,
          all.counts + chunk * row_blocks};
}

// A thread a row: what its mass may be for each class of a tile that is left out.
template <class T>
__global__ void filter_limits_kernel(DeviceHead<T> head, double most, double* limits) {
  const int64_t i = thread_of_grid();
  if (i >= head.N) return;
  const HeadRow& row = head.rows[i];
  limits[i] =
      row.label < 0 ? double(INFINITY) : most / (double(head.C) * probability_factor<T>(row, head.p(), head.binary));
}

// A block a block of classes; live: [class blocks, row blocks].
__global__ static void find_live_kernel(int64_t N, int64_t C, const Bfloat16* masses, int64_t classes_a_mass,
                                        const double* limits, uint8_t* live) {
  const int64_t class0 = int64_t(blockIdx.x) * kFilterClasses, row_blocks = filter_row_blocks(N);
  const int64_t classes = C - class0 < kFilterClasses ? C - class0 : kFilterClasses;
  const int64_t first = class0 / classes_a_mass, end = (class0 + classes + classes_a_mass - 1) / classes_a_mass;
  for (int64_t row_block = 0; row_block < row_blocks; row_block++) {
    const int64_t i = row_block * kFilterRows + threadIdx.x;
    int needed = 0;
    if (i < N) {
      float mass = 0;
      for (int64_t m = first; m < end; m++) mass += float(masses[m * N + i]);
      needed = !(double(mass) <= limits[i] * double(classes));  // so is a NaN
    }
    needed = row_reduce<kFilterRows>(needed, Max{});
    if (threadIdx.x == 0) live[blockIdx.x * row_blocks + row_block] = uint8_t(needed);
  }
}

// By a block: f(i, before, mine) for all i < n, `before` of those below i and `mine`, i, being `is`.  Returns how many are.
template <int kThreads, class Is, class F>
__device__ int number_in_order(int n, const Is& is, const F& f) {
  __shared__ int of_warp[kThreads / kWarp];
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  int before = 0;
  for (int first = 0; first < n; first += kThreads) {
    const int i = first + int(threadIdx.x);
    const bool mine = i < n && is(i);
    const unsigned votes = __ballot_sync(0xffffffffu, mine);
    if (lane == 0) of_warp[warp] = __popc(votes);
    __syncthreads();
    int at = before + __popc(votes & ((1u << lane) - 1));
    for (int w = 0; w < kThreads / kWarp; w++) {
      if (w < warp) at += of_warp[w];
      before += of_warp[w];
    }
    if (i < n) f(i, at, mine);
    __syncthreads();  // of_warp may be written again
  }
  return before;
}

constexpr int kListThreads = 256;
// A block a chunk.
__global__ static void list_live_kernel(int64_t N, ClassChunks chunks, const uint8_t* live, LiveTiles all,
                                        HeadReport* report) {
  const int64_t chunk = blockIdx.x, first = chunks.first(chunk);
  const int row_blocks = int(filter_row_blocks(N)), blocks = int(filter_blocks(chunks.last(chunk) - first));
  const LiveTiles to = live_tiles_of(all, chunks, chunk, N);
  const uint8_t* const mine = live + first / kFilterClasses * row_blocks;
  const int there = number_in_order<kListThreads>(
      blocks * row_blocks, [&](int i) { return mine[i] != 0; },
      [&](int i, int at, bool is) {
        if (i % row_blocks == 0) to.begins[i / row_blocks] = at;
        if (is) to.tiles[at] = i;
      });
  if (threadIdx.x == 0) {
    to.begins[blocks] = there;
    atomicAdd(&report->tiles, (unsigned long long)there);
  }
  for (int row_block = 0; row_block < row_blocks; row_block++) {
    const int of_row = number_in_order<kListThreads>(
        blocks, [&](int i) { return mine[int64_t(i) * row_blocks + row_block] != 0; },
        [&](int i, int at, bool is) {
          if (is) to.blocks[int64_t(row_block) * blocks + at] = i;
        });
    if (threadIdx.x == 0) to.counts[row_block] = of_row;
  }
}

}  // namespace fm
