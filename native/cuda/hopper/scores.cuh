// Cosines, and what becomes of a tile of them: the rows' sums, where rows are too long for forward.cuh, and dL/dcos.
//
// Scores are sorted by center: the columns of all classes' first centers, then of their second ones …  So a box of
// them has one center's classes, whatever K is, and so has the box of centers that it is multiplied with.
#pragma once
#include "products.cuh"

namespace fm::hopper {

// Of a tile of cosines: whole classes, and no more than the epilogue has registers for.
template <class M>
constexpr int cosine_columns(int K) {
  return K == 3 ? 192 : (M::plain && K != 2) || K == 8 ? 256 : 128;
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

}  // namespace fm::hopper
