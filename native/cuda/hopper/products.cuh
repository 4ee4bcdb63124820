// The products of the backward, by one main loop: tiles of 128 rows × up to 256 columns, 64 of the depth at a time.
//
//   TotalsWork    cosines → sums of rows  a: rows of the batch    b: centers                  depth: axes
//   ScoresWork    cosines → dL/dcos       the same
//   FeaturesWork  dX = scores·ŵ           a: scores               b: centers, along the rows  depth: centers
//   WeightsWork   dW = scoresᵀ·e          a: scores, and b: rows of the batch, both along the rows    depth: the batch
//
// A block's producer thread asks the copy engine for stages; two warpgroups multiply 64 of the tile's rows each, and end
// with what the work makes of the sums.  Where a tile has 64 rows of 512 columns, they share the rows and have half of the
// columns each.  TotalsWork is for rows too long for forward.cuh.  The two blocks of a cluster have neighbouring rows of
// tiles and share b, half of it fetched by each.
//
// Scores are sorted by center: the columns of all classes' first centers, then of their second ones …  So a box of
// them has one center's classes, whatever K is, and so has the box of centers that it is multiplied with.
#pragma once
#include "../launch.h"
#include "rows.cuh"
#include "tensor_map.h"

namespace fm::hopper {

constexpr int kTileRows = 128;  // of a block

// Of a tile of cosines: whole classes, and no more than the epilogue has registers for.
template <class M>
constexpr int cosine_columns(int K) {
  return K == 3 ? 192 : (M::plain && K != 2) || K == 8 ? 256 : 128;
}

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

// Half of a b of so many rows that lies along them, by the block of this rank: 64 rows and 64 of the depth a box.
template <int rows, class F>
__device__ __forceinline__ void share_half(uint32_t b, uint32_t rank, const F& box) {
  constexpr int kShare = rows / 64 / int(kMostBlocks);
#pragma unroll
  for (int i = 0; i < kShare; i++) box(b + (kShare * rank + i) * kBoxBytes, 64 * (kShare * int(rank) + i));
}

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
                  Work::Shape::kSharedBytes, product_kernel<Work>, work);
}
// Of a work whose tiles are no sums of each other: two blocks for every two multiprocessors of an H100 or H200.
template <class Work>
void run_tiles(const Stream& stream, const Work& work) {
  constexpr int kClusters = 66;
  run_product(stream, work, work.most_tiles() < kClusters ? work.most_tiles() : kClusters);
}

// --- the rows' sums ----------------------------------------------------------------------------------------------------

// Of a block that keeps its rows from tile to tile: clusters are whole sets of row pairs, and all tiles of one have the
// rows and the group of its first.
struct TotalsState {
  Totals totals[2];

  __device__ void add_to(const DeviceHead<float>& head, const WorkTile& first) {
    const int thread = int(threadIdx.x) - kWarpgroup;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      Totals& mine = totals[h];
      share_totals(mine);
      const int i = first.row0 + thread / kWarp * 16 + thread % kWarp / 4 + 8 * h;
      const int64_t at = first.split * head.N + i;
      if (thread % 4 != 0 || i >= head.N) continue;
      head.group_sums[at] += double(mine.sum);
      head.group_counts[at] += double(mine.count);
      head.group_largest[at] = Max{}(mine.largest, head.group_largest[at]);
    }
  }
};
template <class M, int K_, bool kMaximum>
struct TotalsWork {
  static constexpr int K = K_, kColumns = cosine_columns<M>(K), kClasses = kColumns / K, kShare = kClasses / 2;
  static constexpr uint32_t kBytes = 0;
  using Shape = Product<Along::depth, Along::depth, kColumns, 4, kBytes>;
  using State = TotalsState;

  CUtensorMap rows, centers;
  DeviceHead<float> head;
  M margined;
  Bfloat16* masses;  // or none
  int classes, first_class, steps, row_pairs, class_tiles;

  TotalsWork(const DeviceHead<float>& head, const BfloatChunk& chunk, const M& margined, Bfloat16* masses)
      : rows(map_rows(head, chunk, kTileRows)),
        centers(map_centers(head, chunk, kShare)),
        head(head),
        margined(margined),
        masses(masses),
        classes(int(classes_of(chunk))),
        first_class(int(chunk.first_class)),
        steps(int(blocks_for(chunk.depth, 64))),
        row_pairs(int(blocks_for(head.N, 2 * kTileRows))),
        class_tiles(int(blocks_for(classes, kClasses))) {}

  FM_HD int64_t clusters() const { return row_pairs * head.groups; }
  FM_HD int tiles() const { return row_pairs * class_tiles; }
  __device__ HeadReport* report() const { return head.report; }
  __device__ void disown() const { report()->stuck = 1; }
  __device__ bool refused() const { return false; }
  __device__ WorkTile tile(int at, uint32_t rank) const {
    const int class_tile = at / row_pairs;
    return {(at % row_pairs * 2 + int(rank)) * kTileRows, class_tile * kClasses, 0, steps,
            int(class_tile % head.groups)};
  }
  __device__ void load(const WorkTile& tile, int k, uint32_t a, uint32_t b, uint32_t barrier, uint32_t rank) const {
    load_box(a, &rows, barrier, 64 * k, 0, tile.row0);
    share_centers<K, kClasses>(b, &centers, barrier, 64 * k, tile.column0, rank);
  }
  __device__ __forceinline__ void finish(float (&d)[kColumns / 2], const WorkTile& tile, uint32_t, int me,
                                         State& state) const {
    const int thread = int(threadIdx.x) % kWarpgroup, lane = thread % kWarp, warp = thread / kWarp;
    const int mine = tile.row0 + me * 64 + warp * 16 + lane / 4;  // the first of this thread's two rows
    const M margined = this->margined.now(head);
    const Row row[2] = {read_row<M>(head, mine), read_row<M>(head, mine + 8)};
    const int class0 = tile.column0 + first_class, left = classes - tile.column0;
    if (has_exceptions(row, class0, kClasses, left)) {
      float* seen[2];
#pragma unroll
      for (int h = 0; h < 2; h++)
        seen[h] = !kMaximum && mine + 8 * h < head.N ? head.seen_target_cos + mine + 8 * h : nullptr;
      take_out<K>(d, row, class0, left, seen);
    }
    store_masses(masses_of(masses, head.N, class0, classes_a_mass(K)), head.N, mine,
                 add_tile<K, kMaximum>(d, margined, row, state.totals));
  }
  __device__ void end(State& state) const { state.add_to(head, tile(first_tile(), cluster_rank())); }
};

// --- dL/dcos -----------------------------------------------------------------------------------------------------------

// kTerms: in one sweep with the rows' sums, before the factors of the rows can be known: what is left in memory is
// dL/dcos but for its row's factor.
template <class M, int K_, bool kTerms>
struct ScoresWork {
  static constexpr int K = K_, kColumns = kTerms && K == 4 ? 128 : cosine_columns<M>(K);
  static constexpr int kClasses = kColumns / K, kShare = kClasses / 2, kLivePart = kFilterClasses / kClasses;
  static_assert(kFilterClasses % kClasses == 0 && kFilterRows == 2 * kTileRows);
  // The tile as bfloat16 on its way to memory, and four warps' Σ dL/dcos·cos, of each warpgroup.
  static constexpr uint32_t kBytes = 2 * kColumns * (kRowBytes + 4 * sizeof(float));
  static constexpr int kBoxClasses = kClasses < 64 ? kClasses : 64;
  using Shape = Product<Along::depth, Along::depth, kColumns, 3, kBytes>;
  struct Nothing {};
  using State = std::conditional_t<kTerms, TotalsState, Nothing>;

  CUtensorMap rows, centers, out;
  DeviceHead<float> head;
  M margined;
  float* dots;  // [row tiles of 64, columns]; or none
  LiveTiles live;
  Bfloat16* masses;  // with kTerms; or none
  int64_t columns;
  int classes, first_class, steps, row_pairs, class_tiles;

  ScoresWork(const DeviceHead<float>& head, const BfloatChunk& chunk, const M& margined, Bfloat16* masses = nullptr)
      : rows(map_rows(head, chunk, kTileRows)),
        centers(map_centers(head, chunk, kShare)),
        out(map_scores(head, chunk, kBoxClasses, 64)),
        head(head),
        margined(margined),
        dots(chunk.dots),
        live(chunk.live),
        masses(masses),
        columns(chunk.columns),
        classes(int(classes_of(chunk))),
        first_class(int(chunk.first_class)),
        steps(int(blocks_for(chunk.depth, 64))),
        row_pairs(int(blocks_for(head.N, 2 * kTileRows))),
        class_tiles(int(blocks_for(classes, kClasses))) {}

  FM_HD int64_t clusters() const { return row_pairs * head.groups; }
  FM_HD int most_tiles() const { return row_pairs * class_tiles; }
  __device__ int tiles() const { return live.tiles ? live.begins[filter_blocks(classes)] * kLivePart : most_tiles(); }
  __device__ HeadReport* report() const { return head.report; }
  __device__ void disown() const { report()->stuck = 1; }
  __device__ bool refused() const { return false; }
  __device__ WorkTile tile(int at, uint32_t rank) const {
    int class_tile = at / row_pairs, pair = at % row_pairs;
    if (live.tiles) {
      const int found = live.tiles[at / kLivePart];
      class_tile = found / row_pairs * kLivePart + at % kLivePart, pair = found % row_pairs;
    }
    return {(pair * 2 + int(rank)) * kTileRows, class_tile * kClasses, 0, steps, int(class_tile % head.groups)};
  }
  __device__ void load(const WorkTile& tile, int k, uint32_t a, uint32_t b, uint32_t barrier, uint32_t rank) const {
    load_box(a, &rows, barrier, 64 * k, 0, tile.row0);
    share_centers<K, kClasses>(b, &centers, barrier, 64 * k, tile.column0, rank);
  }
  __device__ __forceinline__ void finish(float (&d)[kColumns / 2], const WorkTile& tile, uint32_t own, int me,
                                         State& state) const {
    const int thread = int(threadIdx.x) % kWarpgroup, lane = thread % kWarp, warp = thread / kWarp;
    const int row0 = tile.row0 + me * 64;
    const int mine = row0 + warp * 16 + lane / 4;  // the first of this thread's two rows
    const uint32_t staged = own + me * kColumns * kRowBytes,
                   sums = own + 2 * kColumns * kRowBytes + me * kColumns * 4 * uint32_t(sizeof(float));
    const M margined = this->margined.now(head);
    const Row row[2] = {read_row<M>(head, mine), read_row<M>(head, mine + 8)};
    float factor[2], spread[2], *seen[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int i = mine + h * 8;
      factor[h] = !kTerms && i < head.N ? head.factor[i] : 0;
      spread[h] = !kTerms && i < head.N ? head.spread[i] : 0;
      seen[h] = kTerms && i < head.N ? head.seen_target_cos + i : nullptr;
    }
    const int class0 = tile.column0 + first_class, left = classes - tile.column0;
    if (has_exceptions(row, class0, kClasses, left)) take_out<K>(d, row, class0, left, seen);

    if (thread == 0) wait_stores_read();
    named_barrier(1 + me, kWarpgroup);  // the staging is free
    Masses had{};
    if constexpr (kTerms) {
      had = term_tile<K>(d, margined, row, state.totals);
    } else {
      score_tile<K>(d, margined, row, factor, spread, dots != nullptr, [&](int k, int j, float dot) {
        const int column = k * kClasses + (j + lane / 8) * 8 + lane % 4 * 2 + lane / 4 % 2;
        shared_store(sums + uint32_t(warp * kColumns + column) * sizeof(float), dot);
      });
    }
    // Pieces of 16 bytes, turned as the engine's swizzle of a box's rows has them.
    constexpr uint32_t kRow = kBoxClasses * 2, kTurn = kRow - 16;
    const uint32_t r = uint32_t(warp * 16 + lane / 8 % 2 * 8 + lane % 8);
#pragma unroll
    for (int j = 0; j < kColumns / 8; j += 2) {
      const uint32_t column = uint32_t(8 * (j + lane / 16)), box = column / kBoxClasses;
      const uint32_t to = box * 64 * kRow + r * kRow + column % kBoxClasses * 2;
      uint32_t elements[4];
#pragma unroll
      for (int q = 0; q < 4; q++) elements[q] = pack_bfloat16(d[4 * j + 2 * q], d[4 * j + 2 * q + 1]);
      store_matrices(staged + (to ^ ((to >> 3) & (kTurn & 0x70))), elements);
    }
    publish_to_engine();
    named_barrier(1 + me, kWarpgroup);  // staged
    if (thread == 0) {
#pragma unroll
      for (int box = 0; box < kColumns / kBoxClasses; box++)
        store_box(&out, staged + box * 64 * kRow, tile.column0 + box * kBoxClasses % kClasses,
                  box * kBoxClasses / kClasses, row0);
      commit_stores();
    }
    if constexpr (kTerms) {
      store_masses(masses_of(masses, head.N, class0, classes_a_mass(K)), head.N, mine,
                   had);  // the scores' registers are free
    } else {
      if (!dots || row0 >= head.N) return;
      for (int column = thread; column < kColumns; column += kWarpgroup) {
        if (column % kClasses >= left) continue;
        float dot = 0;
#pragma unroll
        for (int w = 0; w < 4; w++) dot += shared_load(sums + uint32_t(w * kColumns + column) * sizeof(float));
        dots[int64_t(row0 / 64) * columns + int64_t(tile.column0 + column % kClasses) * K + column / kClasses] = dot;
      }
    }
  }
  __device__ void end(State& state) const {
    wait_stores();
    if constexpr (kTerms) state.add_to(head, tile(first_tile(), cluster_rank()));
  }
};

// --- dX ----------------------------------------------------------------------------------------------------------------

struct FeaturesWork {
  static constexpr uint32_t kBytes = 0;
  static constexpr int kBlockSteps = kFilterClasses / 64;
  static constexpr int kColumns = 256;
  using Shape = Product<Along::depth, Along::rows, kColumns, 4, kBytes>;
  struct State {};

  CUtensorMap scores, centers;
  HeadReport* to_report;
  float* slabs;  // [splits, N, D]
  int64_t N, D;
  int row_pairs, axis_tiles, class_steps, steps, splits, block_steps, class_blocks;
  LiveTiles live;

  FeaturesWork(const DeviceHead<float>& head, const BfloatChunk& chunk, float* slabs, int64_t splits)
      : scores(map_scores(head, chunk, 64, kTileRows)),
        centers(map_centers(head, chunk, 64)),
        to_report(head.report),
        slabs(slabs),
        N(head.N),
        D(head.D),
        row_pairs(int(blocks_for(N, 2 * kTileRows))),
        axis_tiles(int(blocks_for(D, kColumns))),
        class_steps(int(blocks_for(classes_of(chunk), 64))),
        steps(int(head.K) * class_steps),
        splits(int(splits < steps ? splits : steps)),
        block_steps(int(head.K) * kBlockSteps),
        class_blocks(int(filter_blocks(classes_of(chunk)))),
        live(chunk.live) {}

  FM_HD int most_tiles() const { return row_pairs * axis_tiles * splits; }
  __device__ int tiles() const { return most_tiles(); }
  __device__ HeadReport* report() const { return to_report; }
  __device__ void disown() const { report()->stuck = 1; }
  __device__ bool refused() const { return false; }
  __device__ WorkTile tile(int at, uint32_t rank) const {
    const int axis_tile = at % axis_tiles, pair = at / axis_tiles % row_pairs, split = at / axis_tiles / row_pairs;
    const int64_t there = live.tiles ? live.counts[pair] * block_steps : steps;
    int first = int(there * split / splits), last = int(there * (split + 1) / splits);
    if (first == last) first = int(there), last = first + 1;  // a step of zeros
    return {(pair * 2 + int(rank)) * kTileRows, axis_tile * kColumns, first, last, split};
  }
  __device__ void load(const WorkTile& tile, int k, uint32_t a, uint32_t b, uint32_t barrier, uint32_t rank) const {
    int center = k / class_steps, at = k % class_steps * 64;
    if (live.tiles) {
      const int pair = tile.row0 / kFilterRows, block = k / block_steps, step = k % block_steps;
      const bool there = block < live.counts[pair];
      center = step / kBlockSteps;
      at = (there ? live.blocks[int64_t(pair) * class_blocks + block] : class_blocks) * kFilterClasses +
           step % kBlockSteps * 64;
    }
    load_box(a, &scores, barrier, at, center, tile.row0);
    share_half<kColumns>(
        b, rank, [&](uint32_t to, int axis) { share_box(to, &centers, barrier, tile.column0 + axis, center, at, 3); });
  }
  __device__ __forceinline__ void finish(float (&d)[kColumns / 2], const WorkTile& tile, uint32_t, int me,
                                         State&) const {
    const int thread = int(threadIdx.x) % kWarpgroup, lane = thread % kWarp, warp = thread / kWarp;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int64_t i = tile.row0 + me * 64 + warp * 16 + lane / 4 + h * 8;
      if (i >= N) continue;
      float* const to = slabs + (tile.split * N + i) * D + tile.column0 + lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < kColumns / 8; j++) {
        if (tile.column0 + 8 * j >= D) continue;
        float2* const pair = reinterpret_cast<float2*>(to + 8 * j);
        *pair = float2{pair->x + d[4 * j + 2 * h], pair->y + d[4 * j + 2 * h + 1]};
      }
    }
  }
  __device__ void end(const State&) const {}
};

// --- dW ----------------------------------------------------------------------------------------------------------------

// As weights_product_kernel: projects dW, and writes it, or adds the targets' part and takes the optimizer's step.
//
// groups: 0, of rows longer than a tile, whose ⟨dW, ŵ⟩ come from the scores' sweep; otherwise a tile has whole rows, of
// one warpgroup or of both.  Then ⟨dW, ŵ⟩ is of the dW that is there, and the new row leaves as a unit row, too: a
// step reads no row of weight but here.
template <class Update, int groups>
struct WeightsWork {
  static constexpr bool kUpdate = Update::kStates > 0, kWhole = groups > 0;
  static constexpr int kColumns = 256, kGroups = kWhole ? groups : 1, kBlockSteps = kFilterRows / 64;
  // Two numbers that the warpgroups of a row tell each other, and the two before them.
  static constexpr uint32_t kBytes = kGroups == 2 ? 2 * 2 * 64 * sizeof(float) : 0;
  using Shape = Product<Along::rows, Along::rows, kColumns, kGroups == 2 ? 3 : 4, kBytes, kGroups>;
  struct State {
    uint32_t turn = 0;
  };

  CUtensorMap scores, rows;
  DeviceHead<float> head;
  WeightTask<float> task;
  const float* dots;
  Bfloat16* units;  // [columns, depth] to be renewed; or none
  int64_t columns, depth;
  int classes, first_class, steps, class_pairs, axis_tiles, row_blocks;
  LiveTiles live;

  WeightsWork(const DeviceHead<float>& head, const BfloatChunk& chunk, const WeightTask<float>& task)
      : scores(map_scores(head, chunk, 64, 64)),
        rows(map_rows(head, chunk, 64)),
        head(head),
        task(task),
        dots(chunk.dots),
        units(kUpdate ? chunk.units : nullptr),
        columns(chunk.columns),
        depth(chunk.depth),
        classes(int(classes_of(chunk))),
        first_class(int(chunk.first_class)),
        steps(int(blocks_for(head.N, 64))),
        class_pairs(int(blocks_for(classes, 2 * Shape::kRows))),
        axis_tiles(int(blocks_for(head.D, kGroups * kColumns))),
        row_blocks(int(filter_row_blocks(head.N))),
        live(chunk.live) {}

  // A tile's row is a class; the centers are taken one after the other.
  FM_HD int most_tiles() const { return int(head.K) * class_pairs * axis_tiles; }
  __device__ int tiles() const { return most_tiles(); }
  __device__ HeadReport* report() const { return head.report; }
  __device__ void disown() const { (kUpdate ? report()->half_stepped : report()->stuck) = 1; }
  __device__ bool refused() const { return kUpdate && head.report->failed(); }
  __device__ WorkTile tile(int at, uint32_t rank) const {
    const int pair = at / axis_tiles, row0 = (pair % class_pairs * 2 + int(rank)) * Shape::kRows;
    const int there = live.tiles ? live_rows(row0) * kBlockSteps : steps;
    return {row0, at % axis_tiles * kColumns, 0, there > 0 ? there : 1, pair / class_pairs};
  }
  __device__ void load(const WorkTile& tile, int k, uint32_t a, uint32_t b, uint32_t barrier, uint32_t rank) const {
    if (live.tiles) k = live_step(tile.row0, k);
#pragma unroll
    for (int i = 0; i < Shape::kRows / 64; i++)
      load_box(a + i * kBoxBytes, &scores, barrier, tile.row0 + 64 * i, tile.split, 64 * k);
    share_half<kGroups * kColumns>(
        b, rank, [&](uint32_t to, int axis) { share_box(to, &rows, barrier, tile.column0 + axis, 0, 64 * k, 3); });
  }
  __device__ __forceinline__ void finish(float (&d)[kColumns / 2], const WorkTile& tile, uint32_t own, int me,
                                         State& state) const {
    const int thread = int(threadIdx.x) % kWarpgroup, lane = thread % kWarp, warp = thread / kWarp;
    const int axis0 = tile.column0 + (kGroups == 2 ? me * kColumns : 0);  // of the warpgroup
    const int row0 = tile.row0 + (kGroups == 2 ? 0 : me * 64) + warp * 16 + lane / 4;
    const Update update = task.update<Update>();
    float dot[2] = {0, 0};
    // Of row h: computed where needed, which leaves the registers to the sums.
    const auto inside = [&](int h) { return row0 + 8 * h < classes; };
    const auto column = [&](int h) { return inside(h) ? (row0 + 8 * h) * int(head.K) + tile.split : tile.split; };
    const auto center = [&](int h) { return first_class * head.K + column(h); };
    // Of this thread's axes of row h, a pair at a time: f(i, at), the pair d[i] and d[i + 1] and its place in the weight.
    const auto for_pairs = [&](int h, const auto& f) {
      const int64_t at = center(h) * head.D + axis0 + lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < kColumns / 8; j++)
        if (axis0 + 8 * j < head.D) f(4 * j + 2 * h, at + 8 * j);
    };
    if constexpr (kUpdate)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        if (!inside(h)) continue;
        for (int64_t i = head.first[center(h)]; i >= 0; i = head.next[i]) {
          const float g = head.target_gradient[i];
          if (!kWhole && lane % 4 == 0) dot[h] += g * head.target_cos[i];
          const float* const e = head.embeddings + i * head.D - center(h) * head.D;
          for_pairs(h, [&](int at, int64_t axis) {
            const float2 pair = *reinterpret_cast<const float2*>(e + axis);
            d[at] += g * pair.x;
            d[at + 1] += g * pair.y;
          });
        }
      }
    if (task.project) {
      const int64_t row_tiles = (head.N + 63) / 64;
#pragma unroll
      for (int h = 0; h < 2; h++) {
        if constexpr (kWhole) {
          if (inside(h))
            for_pairs(h, [&](int at, int64_t axis) {
              const float2 w = *reinterpret_cast<const float2*>(head.w + axis);
              dot[h] = fmaf(d[at], w.x, dot[h]);
              dot[h] = fmaf(d[at + 1], w.y, dot[h]);
            });
        } else {
          for (int k = lane % 4; k < tile.last_step; k += 4) {
            const int64_t t = live.tiles ? live_step(tile.row0, k) : k;
            if (t < row_tiles) dot[h] += dots[t * columns + column(h)];
          }
        }
      }
      over_row(dot, own, me, state);
      if constexpr (kWhole)
#pragma unroll
        for (int h = 0; h < 2; h++) dot[h] *= head.inverse[center(h)];
    }
    float square[2] = {0, 0};
#pragma unroll
    for (int h = 0; h < 2; h++) {
      if (!inside(h)) continue;
      const WeightRow<float> row(head, task, center(h), dot[h]);
      for_pairs(h, [&](int at, int64_t axis) {
        const Some<float, 2> now = row.take(axis, {d[at], d[at + 1]}, update);
        if constexpr (kWhole) {
          d[at] = now.at[0], d[at + 1] = now.at[1];
          square[h] = add_squares(square[h], now.at[0], now.at[1]);
        }
      });
    }
    if (!kWhole || !units) return;
    over_row(square, own, me, state);
#pragma unroll
    for (int h = 0; h < 2; h++) {
      if (!inside(h)) continue;
      if (!is_usual_square(square[h])) head.report->unusual = 1;
      const float inverse = inverse_root(square[h]);
      for_pairs(h, [&](int at, int64_t axis) {
        *reinterpret_cast<uint32_t*>(units + column(h) * depth + axis - center(h) * head.D) =
            pack_bfloat16(d[at] * inverse, d[at + 1] * inverse);
      });
      if (lane % 4 == 0 && (kGroups == 1 || me == 0)) head.inverse[center(h)] = inverse;
    }
  }
  __device__ void end(const State&) const {}

 private:
  // Of the blocks of rows that are there for the classes of a tile from row0 on: how many, and the k-th step of them, one
  // beyond the batch where there is none.
  __device__ int live_rows(int row0) const {
    const int block = row0 / kFilterClasses;  // of both blocks of a cluster
    return live.begins[block + 1] - live.begins[block];
  }
  __device__ int live_step(int row0, int k) const {
    if (live_rows(row0) == 0) return row_blocks * kBlockSteps;
    const int found = live.tiles[live.begins[row0 / kFilterClasses] + k / kBlockSteps];
    return found % row_blocks * kBlockSteps + k % kBlockSteps;
  }

  // The sum over the threads that have a row, to all of them, in the order of weight_rows_kernel.
  __device__ __forceinline__ void over_row(float (&values)[2], uint32_t own, int me, State& state) const {
    const int thread = int(threadIdx.x) % kWarpgroup, row = thread / kWarp * 16 + thread % kWarp / 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      values[h] += __shfl_xor_sync(0xffffffffu, values[h], 1);
      values[h] += __shfl_xor_sync(0xffffffffu, values[h], 2);
    }
    if constexpr (kGroups == 2) {
      // What was told two turns ago has been read: the barrier of the last turn is between.
      const uint32_t told = own + state.turn++ % 2 * (2 * 64 * uint32_t(sizeof(float)));
      const auto place = [&](int group, int h) {
        return told + uint32_t(group * 64 + row + 8 * h) * uint32_t(sizeof(float));
      };
#pragma unroll
      for (int h = 0; h < 2; h++)
        if (thread % 4 == 0) shared_store(place(me, h), values[h]);
      named_barrier(1, 2 * kWarpgroup);
#pragma unroll
      for (int h = 0; h < 2; h++) values[h] = shared_load(place(0, h)) + shared_load(place(1, h));
    }
  }
};

}  // namespace fm::hopper
