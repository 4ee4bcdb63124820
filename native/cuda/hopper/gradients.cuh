// dX and dW, from scores that are sorted by center (scores.cuh).
#pragma once
#include "products.cuh"

namespace fm::hopper {

// Half of a b of so many rows that lies along them, by the block of this rank: 64 rows and 64 of the depth a box.
template <int rows, class F>
__device__ __forceinline__ void share_half(uint32_t b, uint32_t rank, const F& box) {
  constexpr int kShare = rows / 64 / int(kMostBlocks);
#pragma unroll
  for (int i = 0; i < kShare; i++) box(b + (kShare * rank + i) * kBoxBytes, 64 * (kShare * int(rank) + i));
}

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
    const auto place = [&](int h) { return head.places().of(first_class + row0 + 8 * h, tile.split) * head.D; };
    // Of this thread's axes of row h, a pair at a time: f(i, at), the pair d[i] and d[i + 1] and its place, the row's being
    // `first`.
    const auto for_pairs = [&](int h, int64_t first, const auto& f) {
      const int64_t at = first + axis0 + lane % 4 * 2;
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
          for_pairs(h, i * head.D, [&](int at, int64_t axis) {
            const float2 pair = *reinterpret_cast<const float2*>(head.embeddings + axis);
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
            for_pairs(h, place(h), [&](int at, int64_t axis) {
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
      for_pairs(h, place(h), [&](int at, int64_t axis) {
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
      for_pairs(h, column(h) * depth, [&](int at, int64_t axis) {
        *reinterpret_cast<uint32_t*>(units + axis) = pack_bfloat16(d[at] * inverse, d[at + 1] * inverse);
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
