// The sweep for the rows' sums: logits never leave the multiprocessor.
//
// A block keeps its 128 rows of the batch in shared memory for its whole life and meets a group of class tiles.  One
// thread asks the copy engine for the tiles, 64 of the depth at a time, through a ring of stages.  Two warpgroups take
// turns on whole tiles: while one multiplies, the other makes exponents of what it has.  The two blocks of a cluster
// have neighbouring rows and share every tile, half of it fetched by each.
//
// A thread has the same four rows in all tiles, so that their sums stay in its registers until the end.
#pragma once
#include "../launch.h"
#include "rows.cuh"
#include "tensor_map.h"

namespace fm::hopper {

template <int K>
struct ForwardTile {
  static constexpr int kRows = 128, kThreads = 3 * kWarpgroup;
  static constexpr int kClasses = classes_a_mass(K), kColumns = kClasses * K, kShare = kClasses / int(kMostBlocks);
  static constexpr uint32_t kStageBytes = kColumns * kRowBytes, kRowsBytes = kRows * kRowBytes;
  static constexpr uint32_t kTotalsBytes = kRows * 3 * sizeof(float);

  static constexpr uint32_t shared_bytes(int64_t steps, int stages) {
    return uint32_t(steps) * kRowsBytes + uint32_t(stages) * (kStageBytes + 16) + kTotalsBytes + 8 + kSwizzle;
  }
  // As many as fit, up to what a warpgroup's turn can be ahead.
  static constexpr int stages(int64_t steps) {
    int n = 8;
    while (shared_bytes(steps, n) > kMostShared) n--;
    return n;
  }
};

template <class M>
struct ForwardTask {
  CUtensorMap rows, centers;
  DeviceHead<float> head;
  M margined;
  Bfloat16* masses;                 // or none
  int classes, first_class, tiles;  // of the chunk
  int steps, stages;                // 64 of the depth each
};

// Blocks: clusters of two blocks of rows, × groups.
template <class M, int K, bool kMaximum>
__global__ void __launch_bounds__(384, 1) forward_kernel(const __grid_constant__ ForwardTask<M> task) {
  using S = ForwardTile<K>;
  const DeviceHead<float>& head = task.head;
  const int steps = task.steps, stages = task.stages;
  const uint32_t rows = shared_memory(), ring = rows + steps * S::kRowsBytes;
  const uint32_t full = ring + stages * S::kStageBytes, empty = full + 8 * stages, rows_full = empty + 8 * stages;
  const uint32_t handover = rows_full + 8;
  const uint32_t rank = cluster_rank();
  const int row_clusters = int((head.N + 2 * S::kRows - 1) / (2 * S::kRows)), cluster = int(blockIdx.x / kMostBlocks);
  const int row0 = (cluster % row_clusters * int(kMostBlocks) + int(rank)) * S::kRows, group = cluster / row_clusters;
  const int first_tile = int(int64_t(task.tiles) * group / head.groups),
            last_tile = int(int64_t(task.tiles) * (group + 1) / head.groups);

  if (threadIdx.x == 0) {
    for (int i = 0; i < stages; i++) init_barrier(full + 8 * i, 1), init_barrier(empty + 8 * i, kMostBlocks);
    init_barrier(rows_full, 1);
    init_given_up(head.report->given_up());
    publish_barriers();
  }
  __syncwarp();
  cluster_barrier();

  if (threadIdx.x < kWarpgroup) {
    give_registers<40>();
    if (threadIdx.x == 0 && given_up()) give_up();  // a kernel before this one had to
    if (threadIdx.x == 0 && first_tile < last_tile && !given_up()) {
      expect_bytes(rows_full, steps * S::kRowsBytes);
      for (int k = 0; k < steps; k++) load_box(rows + k * S::kRowsBytes, &task.rows, rows_full, 64 * k, 0, row0);
      int stage = 0;
      uint32_t phase = 0;
      for (int tile = first_tile; tile < last_tile; tile++)
#pragma unroll 1
        for (int k = 0; k < steps; k++) {
          wait_or_give_up(empty + 8 * stage, phase ^ 1);
          if (given_up()) continue;
          expect_bytes(full + 8 * stage, S::kStageBytes);
          share_centers<K, S::kClasses>(ring + stage * S::kStageBytes, &task.centers, full + 8 * stage, 64 * k,
                                        tile * S::kClasses, rank);
          if (++stage == stages) stage = 0, phase ^= 1;
        }
#pragma unroll 1
      for (int i = 0; i < stages; i++) {
        wait_or_give_up(empty + 8 * stage, phase ^ 1);
        if (++stage == stages) stage = 0, phase ^= 1;
      }
    }
  } else {
    take_registers<232>();
    const int group_thread = int(threadIdx.x) % kWarpgroup, lane = group_thread % kWarp, warp = group_thread / kWarp;
    const int me = int(threadIdx.x) / kWarpgroup - 1;
    const auto row_of = [&](int m, int h) { return row0 + m * 64 + warp * 16 + lane / 4 + h * 8; };
    const M margined = task.margined.now(head);
    Row row[2][2];
    Totals totals[2][2];
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
      for (int h = 0; h < 2; h++) row[m][h] = read_row<M>(head, row_of(m, h));

    float d[2][S::kColumns / 2];
    int stage = 0;
    uint32_t phase = 0;
    const auto skip = [&](int n) {
      for (stage += n; stage >= stages; stage -= stages) phase ^= 1;
    };
    // By one thread a block that has a stake in the stage: products are done for all of a warpgroup at once.
    const auto release = [&](int which) {
      if (group_thread < int(kMostBlocks)) arrive_barrier(empty + 8 * which, group_thread);
    };
    // Turns to multiply are passed by the named barriers 1 and 2; the other warpgroup's arrival gives the first.
    if (first_tile < last_tile) wait_barrier(rows_full, 0);
    if (me == 1 && first_tile < last_tile) arrive_named(1, 2 * kWarpgroup), skip(steps);
    for (int pair = first_tile; pair < last_tile; pair += 2) {
      const int tile = pair + me;
      named_barrier(1 + me, 2 * kWarpgroup);
      if (tile >= last_tile) break;  // the second warpgroup has no last one
      int before = 0;
#pragma unroll 1
      for (int k = 0; k < steps; k++) {
        wait_barrier(full + 8 * stage, phase);
        const uint32_t a = rows + k * S::kRowsBytes, b = ring + stage * S::kStageBytes;
        pin(d[0]), pin(d[1]);
        begin_products();
#pragma unroll
        for (int q = 0; q < 4; q++)
#pragma unroll
          for (int m = 0; m < 2; m++)
            multiply<S::kColumns, int(Along::depth), int(Along::depth)>(
                d[m], descriptor<Along::depth>(a + m * kBoxBytes + q * kDepth16<Along::depth>),
                descriptor<Along::depth>(b + q * kDepth16<Along::depth>), k | q);
        commit_products();
        pin(d[0]), pin(d[1]);
        if (k > 0) wait_products<1>(), release(before);
        before = stage;
        if (++stage == stages) stage = 0, phase ^= 1;
      }
      if (me == 0 || pair + 2 < last_tile) arrive_named(2 - me, 2 * kWarpgroup);
      wait_products<0>();
      pin(d[0]), pin(d[1]);
      release(before);
      skip(steps);

      const int class0 = tile * S::kClasses, left = task.classes - class0;
      Bfloat16* const masses = masses_of(task.masses, head.N, class0 + task.first_class, S::kClasses);
#pragma unroll
      for (int m = 0; m < 2; m++) {
        if (has_exceptions(row[m], class0 + task.first_class, S::kClasses, left)) {
          float* seen[2];
#pragma unroll
          for (int h = 0; h < 2; h++)
            seen[h] = !kMaximum && row_of(m, h) < head.N ? head.seen_target_cos + row_of(m, h) : nullptr;
          take_out<K>(d[m], row[m], class0 + task.first_class, left, seen);
        }
        store_masses(masses, head.N, row_of(m, 0), add_tile<K, kMaximum>(d[m], margined, row[m], totals[m]));
      }
    }

    // Four threads have a row, and so has the other warpgroup.
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        Totals& mine = totals[m][h];
        share_totals(mine);
        const uint32_t at = handover + uint32_t(m * 64 + warp * 16 + lane / 4 + h * 8) * 3 * sizeof(float);
        if (me == 1 && lane % 4 == 0)
          shared_store(at, mine.sum), shared_store(at + 4, mine.count), shared_store(at + 8, mine.largest);
      }
    named_barrier(3, 2 * kWarpgroup);
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        if (me == 1 || lane % 4 != 0 || row_of(m, h) >= head.N) continue;
        const uint32_t from = handover + uint32_t(m * 64 + warp * 16 + lane / 4 + h * 8) * 3 * sizeof(float);
        const Totals& mine = totals[m][h];
        const int64_t at = group * head.N + row_of(m, h);
        head.group_sums[at] += double(mine.sum) + double(shared_load(from));
        head.group_counts[at] += double(mine.count) + double(shared_load(from + 4));
        head.group_largest[at] = Max{}(Max{}(mine.largest, shared_load(from + 8)), head.group_largest[at]);
      }
  }
  if (threadIdx.x == 0 && given_up()) let_boxes_land();
  __syncwarp();
  cluster_barrier();  // the other block may still be sent what this one fetches, and arrive at its barriers
  if (threadIdx.x == 0 && given_up()) head.report->stuck = 1;
}

template <bool kMaximum, int K, class M>
void run_forward(const Stream& stream, const DeviceHead<float>& head, const BfloatChunk& chunk, const M& margined,
                 Bfloat16* masses) {
  using S = ForwardTile<K>;
  const int64_t steps = blocks_for(chunk.depth, 64), classes = chunk.last_class - chunk.first_class;
  ForwardTask<M> task{map_rows(head, chunk, S::kRows),
                      map_centers(head, chunk, S::kShare),
                      head,
                      margined,
                      masses,
                      int(classes),
                      int(chunk.first_class),
                      int(blocks_for(classes, S::kClasses)),
                      int(steps),
                      S::stages(steps)};
  launch_clusters(stream, unsigned(kMostBlocks * blocks_for(head.N, 2 * S::kRows) * head.groups), S::kThreads,
                  kMostBlocks, S::shared_bytes(steps, task.stages), kMostShared, forward_kernel<M, K, kMaximum>, task);
}

}  // namespace fm::hopper
