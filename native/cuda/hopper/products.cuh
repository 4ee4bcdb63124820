// Matrix products of one main loop: tiles of 128 rows × up to 256 columns, 64 of the depth at a time.
//
//   scores.cuh     TotalsWork    cosines → sums of rows  a: rows of the batch    b: centers                  depth: axes
//                  ScoresWork    cosines → dL/dcos       the same
//   gradients.cuh  FeaturesWork  dX = scores·ŵ           a: scores               b: centers, along the rows  depth: centers
//                  WeightsWork   dW = scoresᵀ·e          a: scores, and b: rows of the batch, both along the rows    depth: the batch
//
// A block's producer thread asks the copy engine for stages; two warpgroups multiply 64 of the tile's rows each, and end
// with what the work makes of the sums.  Where a tile has 64 rows of 512 columns, they share the rows and have half of the
// columns each.  The two blocks of a cluster have neighbouring rows of tiles and share b, half of it fetched by each.
#pragma once
#include "../launch.h"
#include "rows.cuh"
#include "tensor_map.h"

namespace fm::hopper {

constexpr int kTileRows = 128;  // of a block

// Of a block: its rows, the columns, and its part of the depth in steps of 64, one at least.
struct WorkTile {
  int row0, column0, first_step, last_step, split;
};

// columns: of a warpgroup.  groups: how many of the two warpgroups share a row of the tile.
template <Along a_along_, Along b_along_, int columns, int stages, uint32_t work_bytes, int groups = 1>
struct Product {
  static constexpr Along a_along = a_along_, b_along = b_along_;
  static constexpr int kColumns = columns, kStages = stages, kThreads = 3 * kWarpgroup, kRows = kTileRows / groups;
  static constexpr uint32_t kA = kRows * kRowBytes, kB = groups * columns * kRowBytes, kStageBytes = kA + kB;
  // From a warpgroup's part of a stage to the other's.
  static constexpr uint32_t kNextA = groups == 1 ? kBoxBytes : 0, kNextB = groups == 1 ? 0 : columns * kRowBytes;
  static constexpr uint32_t kSharedBytes = stages * (kStageBytes + 16) + work_bytes + kSwizzle;
  static_assert(kSharedBytes <= kMostShared);
};

// Of this block's cluster.
__device__ inline int first_tile() { return int(blockIdx.x / kMostBlocks); }

template <class Work>
__global__ void __launch_bounds__(384, 1) product_kernel(const __grid_constant__ Work work) {
  using S = typename Work::Shape;
  if (work.refused()) return;
  const uint32_t a0 = shared_memory(), b0 = a0 + S::kStages * S::kA, own = b0 + S::kStages * S::kB;
  const uint32_t full = own + Work::kBytes, empty = full + 8 * S::kStages;
  const uint32_t rank = cluster_rank();
  const int tiles = work.tiles();
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kStages; i++)
      init_barrier(full + 8 * i, 1), init_barrier(empty + 8 * i, 2 * kMostBlocks);  // two warpgroups of each block
    init_given_up(work.report()->given_up());
    publish_barriers();
  }
  __syncwarp();
  cluster_barrier();

  if (threadIdx.x < kWarpgroup) {
    give_registers<40>();
    if (threadIdx.x == 0 && given_up()) give_up();  // a kernel before this one had to
    if (threadIdx.x == 0) {
      int stage = 0;
      uint32_t phase = 0;
      for (int at = first_tile(); at < tiles; at += int(gridDim.x / kMostBlocks)) {
        const WorkTile tile = work.tile(at, rank);
#pragma unroll 1
        for (int k = tile.first_step; k < tile.last_step; k++) {
          wait_or_give_up(empty + 8 * stage, phase ^ 1);
          if (given_up()) continue;
          expect_bytes(full + 8 * stage, S::kStageBytes);
          work.load(tile, k, a0 + stage * S::kA, b0 + stage * S::kB, full + 8 * stage, rank);
          if (++stage == S::kStages) stage = 0, phase ^= 1;
        }
      }
#pragma unroll 1
      for (int i = 0; i < S::kStages; i++) {
        wait_or_give_up(empty + 8 * stage, phase ^ 1);
        if (++stage == S::kStages) stage = 0, phase ^= 1;
      }
    }
  } else {
    take_registers<232>();
    const int group_thread = int(threadIdx.x) % kWarpgroup, me = int(threadIdx.x) / kWarpgroup - 1;
    const auto release = [&](int which) {
      if (group_thread < int(kMostBlocks)) arrive_barrier(empty + 8 * which, group_thread);
    };
    typename Work::State state;
    float d[S::kColumns / 2];
    int stage = 0;
    uint32_t phase = 0;
    for (int at = first_tile(); at < tiles; at += int(gridDim.x / kMostBlocks)) {
      const WorkTile tile = work.tile(at, rank);
      int before = 0;
#pragma unroll 1
      for (int k = tile.first_step; k < tile.last_step; k++) {
        wait_barrier(full + 8 * stage, phase);
        const uint32_t a = a0 + stage * S::kA + me * S::kNextA, b = b0 + stage * S::kB + me * S::kNextB;
        pin(d);
        begin_products();
#pragma unroll
        for (int q = 0; q < 4; q++)
          multiply<S::kColumns, int(S::a_along), int(S::b_along)>(
              d, descriptor<S::a_along>(a + q * kDepth16<S::a_along>),
              descriptor<S::b_along>(b + q * kDepth16<S::b_along>), (k - tile.first_step) | q);
        commit_products();
        pin(d);
        if (k > tile.first_step) wait_products<1>(), release(before);
        before = stage;
        if (++stage == S::kStages) stage = 0, phase ^= 1;
      }
      wait_products<0>();
      pin(d);
      release(before);
      work.finish(d, tile, own, me, state);
    }
    work.end(state);
  }
  if (threadIdx.x == 0 && given_up()) let_boxes_land();
  __syncwarp();
  cluster_barrier();  // the other block may still be sent what this one fetches, and arrive at its barriers
  if (threadIdx.x == 0 && given_up()) work.disown();
}

template <class Work>
void run_product(const Stream& stream, const Work& work, int64_t clusters) {
  launch_clusters(stream, unsigned(kMostBlocks * clusters), Work::Shape::kThreads, kMostBlocks,
                  Work::Shape::kSharedBytes, kMostShared, product_kernel<Work>, work);
}
// Of a work whose tiles are no sums of each other: two blocks for every two multiprocessors of an H100 or H200.
template <class Work>
void run_tiles(const Stream& stream, const Work& work) {
  constexpr int kClusters = 66;
  run_product(stream, work, work.most_tiles() < kClusters ? work.most_tiles() : kClusters);
}

}  // namespace fm::hopper
