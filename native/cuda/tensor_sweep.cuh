// The sweep over the classes on the tensor cores, made of what head_sweep.cuh makes of a cosine.
//
// A thread keeps its part of a tile in registers: of each of its rows, two neighbours of every eight columns.  A warp's 64
// columns are eight blocks of eight; one after the other are the centers of the same eight classes, so that the largest
// of a class's centers is found without asking another thread.  dL/dcos leaves through shared memory, in the order of
// the columns; dots are added up over the rows by shuffles.
#pragma once
#include "head_sweep.cuh"
#include "tensor_tile.cuh"

namespace fm {

// A tile of classes with K centers each.
struct TensorClasses {
  int K, blocks;  // blocks of eight classes, of a warp

  __device__ explicit TensorClasses(int K) : K(K), blocks(TensorTile::kMostCenters / K) {}
  __device__ int a_warp() const { return 8 * blocks; }
  __device__ int a_tile() const { return 2 * a_warp(); }

  // The row of weight, from the tile's first on, that is the tile's column n; −1 where it has none.
  __device__ int row_of(int n, int classes) const {
    const int half = n / TensorTile::kWarpColumns, block = n % TensorTile::kWarpColumns / 8;
    const int at = half * a_warp() + block / K * 8 + n % 8;
    return block < blocks * K && at < classes ? at * K + block % K : -1;
  }
};

template <class Negative, bool kScores, bool kOneCenter>
__global__ void __launch_bounds__(TensorTile::kThreads, 1)
    tensor_sweep_kernel(DeviceHead<float> head, HeadChunk<float, Bfloat16> chunk, SweepTask<float> task) {
  if constexpr (kHasTensorCores) {
    using S = TensorTile;
    constexpr int kStride = S::kColumns + 8;  // of the scores' tile
    __shared__ Four<float> memory[S::kStaging / 8];
    static_assert(S::kRows * kStride * 2 + 4 * S::kColumns * 4 <= int(sizeof memory));
    Bfloat16* const staging = reinterpret_cast<Bfloat16*>(memory);
    float* const warp_dots = reinterpret_cast<float*>(staging + S::kRows * kStride);  // [4, kColumns]

    const Negative negative = head.numbers->of<Negative>();
    const TensorPlace place;
    const int64_t row0 = int64_t(blockIdx.x) * S::kRows;
    const int rows_here = int(head.N - row0 < S::kRows ? head.N - row0 : S::kRows);
    const TensorClasses tile(kOneCenter ? 1 : int(head.K));
    const int K = tile.K, a_tile = tile.a_tile(), depth = int(chunk.depth);
    const int64_t tiles = (chunk.last_class - chunk.first_class + a_tile - 1) / a_tile;
    const int64_t first_tile = tiles * blockIdx.y / head.groups, last_tile = tiles * (blockIdx.y + 1) / head.groups;
    const auto classes_of = [&](int64_t t) {
      const int64_t left = chunk.last_class - chunk.first_class - t * a_tile;
      return int(left < a_tile ? left : a_tile);
    };

    SweepRow<float> rows[2][2];
    int labels[2][2];
    RowTotals<float> totals[2][2];             // of the tile; largest of all
    float sums[2][2] = {}, counts[2][2] = {};  // of the tiles before: few enough for float32
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const int64_t i = row0 + place.row(m, 2 * h);
        rows[m][h] = {0, 0, 2, 0, 0, -1};
        labels[m][h] = -1;
        if (i >= head.N) continue;
        rows[m][h] = {head.scale[i], head.shift[i], head.threshold[i], 0, 0, -1};
        labels[m][h] = head.labels[i];
        if (kScores) rows[m][h].factor = head.factor[i], rows[m][h].spread = head.spread[i];
      }

    const TensorRows embeddings(chunk.embeddings + row0 * depth, depth,
                                [&](int row) { return row < rows_here ? row : -1; });
    const auto weight_of = [&](int64_t t) {
      const int classes = classes_of(t);
      return TensorRows(chunk.weight + t * a_tile * K * depth, depth, [&](int n) { return tile.row_of(n, classes); });
    };
    if (!kScores && first_tile < last_tile) begin_tensor_tile(staging, embeddings, weight_of(first_tile), 0, depth);

    for (int64_t t = first_tile; t < last_tile; t++) {
      const TensorRows weight = weight_of(t);
      TensorSums cosines;
      clear_tensor_tile(cosines);
      if (kScores) begin_tensor_tile(staging, embeddings, weight, 0, depth);
      finish_tensor_tile(staging, embeddings, weight, 0, depth, cosines);
      if (!kScores && t + 1 < last_tile) begin_tensor_tile(staging, embeddings, weight_of(t + 1), 0, depth);

      const int64_t class0 = chunk.first_class + t * a_tile, column0 = t * a_tile * K;
      const int classes = classes_of(t);
      int targets[2][2];  // of the tile's classes
#pragma unroll
      for (int m = 0; m < 2; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
          const int64_t label = labels[m][h] - class0;
          targets[m][h] = label >= 0 && label < classes ? int(label) : -1;
        }

      Best<float> best[2][4];
      int k = 0, first_of_block = place.column0 / S::kWarpColumns * tile.a_warp();
#pragma unroll
      for (int j = 0; j < 8; j++) {
        if (!kOneCenter && j >= tile.blocks * K) break;
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
          for (int e = 0; e < 4; e++) {
            if (k == 0) best[m][e] = {cosines[m][j][e], 0};
            else best[m][e].meet(cosines[m][j][e], k);
          }
        if (!kOneCenter && ++k < K) continue;
        k = 0;

        const int c = first_of_block + place.lane % 4 * 2;  // and the next
        first_of_block += 8;
        uint32_t scores[2][2];  // pairs of neighbours
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
          for (int h = 0; h < 2; h++) {
            float score[2] = {0, 0};
#pragma unroll
            for (int e = 0; e < 2; e++) {
              const float cos = best[m][2 * h + e].cos;
              if (c + e == targets[m][h]) {
                if (task.totals) head.seen_target_cos[row0 + place.row(m, 2 * h)] = cos;
              } else if (c + e < classes) {
                SweepTask<float> own = task;
                own.logits = nullptr;
                if (kScores) own.maximum = false;
                score[e] = class_score(own, negative, rows[m][h], cos, totals[m][h]);
              }
            }
            scores[m][h] = kScores ? round_pair(score[0], score[1]) : 0;
          }
        for (int center = 0; kScores && center < K; center++) {
          float dots[2] = {0, 0};  // of these columns, over this thread's rows
#pragma unroll
          for (int m = 0; m < 2; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
              uint32_t mine = scores[m][h];
              if (best[m][2 * h].at != center) mine &= 0xffff0000u;
              if (best[m][2 * h + 1].at != center) mine &= 0x0000ffffu;
              dots[0] += first_of(mine) * best[m][2 * h].cos;
              dots[1] += second_of(mine) * best[m][2 * h + 1].cos;
              Bfloat16* const to = staging + place.row(m, 2 * h) * kStride + c * K + center;
              if (kOneCenter) *reinterpret_cast<uint32_t*>(to) = mine;
              else to[0].bits = uint16_t(mine), to[K].bits = uint16_t(mine >> 16);
            }
#pragma unroll
          for (int e = 0; e < 2; e++) {
            for (int lanes = 4; lanes < kWarp; lanes *= 2) dots[e] += __shfl_xor_sync(0xffffffffu, dots[e], lanes);
            if (place.lane < 4) warp_dots[place.warp % 4 * S::kColumns + (c + e) * K + center] = dots[e];
          }
        }
      }

#pragma unroll
      for (int m = 0; m < 2; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
          sums[m][h] += totals[m][h].sum;
          counts[m][h] += totals[m][h].count;
          totals[m][h].sum = totals[m][h].count = 0;
        }
      if (!kScores) continue;

      __syncthreads();
      const int whole = a_tile * K, left = int(chunk.stride - column0 < whole ? chunk.stride - column0 : whole);
      for (int piece = int(threadIdx.x); piece < rows_here * (left / 8); piece += S::kThreads) {
        const int row = piece / (left / 8), column = piece % (left / 8) * 8;
        *reinterpret_cast<Four<float>*>(chunk.scores + (row0 + row) * chunk.stride + column0 + column) =
            *reinterpret_cast<const Four<float>*>(staging + row * kStride + column);
      }
      for (int column = int(threadIdx.x); column < classes * K; column += S::kThreads) {
        float dot = 0;
        for (int warp = 0; warp < 4; warp++) dot += warp_dots[warp * S::kColumns + column];
        chunk.dots[int64_t(blockIdx.x) * chunk.columns + column0 + column] = dot;
      }
      __syncthreads();  // the tile was read
    }

    if (!task.totals && !task.maximum) return;
    // Four lanes have a row's columns, and so have two warps.
    struct Part {
      float sum, count, largest;
    };
    Part* const parts = reinterpret_cast<Part*>(memory);
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
      for (int h = 0; h < 2; h++)
        for (int lanes = 1; lanes < 4; lanes *= 2) {
          sums[m][h] += __shfl_xor_sync(0xffffffffu, sums[m][h], lanes);
          counts[m][h] += __shfl_xor_sync(0xffffffffu, counts[m][h], lanes);
          float& largest = totals[m][h].largest;
          largest = Max{}(__shfl_xor_sync(0xffffffffu, largest, lanes), largest);
        }
#pragma unroll
    for (int side = 1; side >= 0; side--) {
      __syncthreads();
      if (place.warp / 4 != side || place.lane % 4 != 0) continue;
#pragma unroll
      for (int m = 0; m < 2; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
          const int row = place.row(m, 2 * h);
          Part& part = parts[row];
          if (side == 1) {
            part = {sums[m][h], counts[m][h], totals[m][h].largest};
          } else if (row < rows_here) {
            const int64_t at = int64_t(blockIdx.y) * head.N + row0 + row;
            head.group_sums[at] += double(sums[m][h]) + part.sum;
            head.group_counts[at] += double(counts[m][h]) + part.count;
            head.group_largest[at] = Max{}(Max{}(totals[m][h].largest, part.largest), head.group_largest[at]);
          }
        }
    }
  }
}

}  // namespace fm
