// The sweep over the classes: cosines in tiles, and what becomes of each at once, so that no [N, C] array exists.
//
// A block has 64 rows of the batch and a group of class tiles, one after the other.  A tile's cosines go to shared
// memory; there a warp takes a row, a lane every 32nd class, and picks the largest of the class's K centers.  A class
// with more centers than a tile has columns is met in pieces and decided after the last.
#pragma once
#include <cmath>
#include <type_traits>

#include "head.h"
#include "reduce.cuh"
#include "tile.cuh"

namespace fm {

// Of a chunk, besides its scores.
template <class T>
struct SweepTask {
  bool maximum = false;  // group_largest: of φ; group_counts: cosines above the threshold; nothing else
  bool totals = false;   // group_sums, group_counts (binary: Σ of slopes), group_largest of the cosine
  T cosine_limit = 2;    // cosines are clipped to ± this, if below 1
  T slope_outside = 0;   // of a clipped cosine
  T* logits = nullptr;   // [N, C] s·φ, except the targets'; or none
  // With totals, of a path that keeps terms: the scores are dL/dcos without their rows' factor, which is not known yet.
  bool terms = false;
  // With totals, of a path that filters (HeadPath::classes_a_mass): each row's part of the sums (binary: of the slopes)
  // in every so many classes, [of all classes, N], rounded up.  0 where a part is with another's.  Or none.
  Bfloat16* masses = nullptr;
};

// f(negative), of the type alone of what becomes of the classes other than the target's: its numbers are the device's.
// plain: whatever the method and its negatives are, φ is the cosine.
template <class T, class F>
void dispatch_negative(const DeviceHead<T>& head, bool plain, F&& f) {
  if (plain || (!head.binary && head.plan.negatives == Negatives::plain)) f(PlainNegative<T>{});
  else if (head.binary) f(BinaryNegative<T>{});
  else f(ReweightedNegative<T>{});
}

// Of one row of the batch, in the registers of its warp.
template <class T>
struct SweepRow {
  T scale, shift, threshold, factor, spread;
  int64_t label;
};

// What one (row, class) adds to its row.
template <class T>
struct RowTotals {
  T sum = 0, count = 0, largest = T(kAbsent);
};

// cos of a class that is not the target's → dL/dcos, or the logit.
template <class T, class Negative>
__device__ T class_score(const SweepTask<T>& task, const Negative& negative, const SweepRow<T>& row, T cos,
                         RowTotals<T>& totals) {
  T phi = cos, slope = 1;
  if (task.cosine_limit < 1) {
    phi = phi > task.cosine_limit ? task.cosine_limit : phi < -task.cosine_limit ? -task.cosine_limit : phi;
    slope = phi == cos ? T(1) : task.slope_outside;
  }
  if (task.maximum && phi > row.threshold) totals.count += 1;
  if constexpr (!Negative::plain) {
    const Phi<T> margined = negative.negative(phi, row.threshold);
    phi = margined.value;
    slope *= margined.slope;
  }
  if (task.maximum) {
    totals.largest = Max{}(phi, totals.largest);
    return 0;
  }
  totals.largest = Max{}(cos, totals.largest);
  const T z = row.scale * phi - row.shift;
  if (task.logits) return z;
  T e;
  if constexpr (Negative::binary) {
    const T small = std::exp(z < 0 ? z : -z);
    e = (z < 0 ? small : T(1)) / (small + 1);
    totals.sum += (z > 0 ? z : T(0)) + std::log1p(small);
    totals.count += e;
  } else {
    e = std::exp(z);
    totals.sum += e;
  }
  return e * slope * row.factor - row.spread;
}

// The larger of two cosines, the first center's where they are equal.
template <class T>
struct Best {
  T cos = T(kAbsent);
  int at = 0x7fffffff;
  __device__ void meet(T other, int where) {
    if (other > cos || (other == cos && where < at)) cos = other, at = where;
  }
};

template <class T>
__device__ void store_tile(const T (&sums)[Tile<T>::kThreadRows][Tile<T>::kThreadColumns], T* to) {
  constexpr int stride = Tile<T>::kColumns + 1;
#pragma unroll
  for (int r = 0; r < Tile<T>::kThreadRows; r++)
#pragma unroll
    for (int c = 0; c < Tile<T>::kThreadColumns; c++) to[tile_row<T>(r) * stride + tile_column<T>(c)] = sums[r][c];
}

template <class T, class E, class Negative>
__global__ void __launch_bounds__(256, sizeof(T) == 4 ? 2 : 1)
    class_sweep_kernel(DeviceHead<T> head, HeadChunk<T, E> chunk, SweepTask<T> task) {
  using S = Tile<T>;
  constexpr int kStride = S::kColumns + 1, kWarps = S::kThreads / kWarp, kTile = S::kRows * kStride;
  __shared__ Four<T> memory[(kTile > S::kStaging ? kTile : S::kStaging) / 4 + 1];  // staging, then the tile
  __shared__ double sums[S::kRows], counts[S::kRows];
  __shared__ T largest[S::kRows], best_cos[S::kRows];
  __shared__ int best_at[S::kRows];
  T* const tile = memory->at;

  const Negative negative = head.numbers->template of<Negative>();
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  const int64_t row0 = int64_t(blockIdx.x) * S::kRows;
  const int rows = int(head.N - row0 < S::kRows ? head.N - row0 : S::kRows);
  const int K = int(head.K), pieces = (K + S::kColumns - 1) / S::kColumns;
  const int64_t a_tile = pieces > 1 ? 1 : S::kColumns / K;  // classes
  constexpr Scaled scaled = std::is_same_v<T, E> ? Scaled::by_row : Scaled::no;
  const int64_t columns = chunk.columns;
  const int64_t tiles = (chunk.last_class - chunk.first_class + a_tile - 1) / a_tile;
  const int64_t first_tile = tiles * blockIdx.y / head.groups, last_tile = tiles * (blockIdx.y + 1) / head.groups;

  if (int(threadIdx.x) < S::kRows) sums[threadIdx.x] = counts[threadIdx.x] = 0, largest[threadIdx.x] = T(kAbsent);

  for (int64_t t = first_tile; t < last_tile; t++) {
    const int64_t class0 = chunk.first_class + t * a_tile;
    const int classes = int(chunk.last_class - class0 < a_tile ? chunk.last_class - class0 : a_tile);
    const int64_t column0 = (class0 - chunk.first_class) * K;

    for (int piece = 0; piece < pieces; piece++) {
      const int begin = piece * S::kColumns;  // of a class in pieces: its center
      const int width = pieces == 1 ? classes * K : K - begin < S::kColumns ? K - begin : S::kColumns;
      T products[S::kThreadRows][S::kThreadColumns];
      clear_tile<T>(products);
      const int depth = int(chunk.depth);
      multiply_tile<T>(memory, 0, head.D, Operand<T, true, Scaled::no, E>{chunk.embeddings + row0 * depth, rows, depth},
                       Operand<T, true, scaled, E>{chunk.weight + (column0 + begin) * depth, width, depth,
                                                   std::is_same_v<T, E> ? chunk.inverse + (column0 + begin) : nullptr},
                       products);
      __syncthreads();
      store_tile<T>(products, tile);
      __syncthreads();
      if (pieces == 1) break;
      for (int r = warp; r < rows; r += kWarps) {
        Best<T> best;
        if (piece > 0) best = {best_cos[r], best_at[r]};
        for (int c = lane; c < width; c += kWarp) best.meet(tile[r * kStride + c], begin + c);
        for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
          const T cos = __shfl_xor_sync(0xffffffffu, best.cos, lanes);
          best.meet(cos, __shfl_xor_sync(0xffffffffu, best.at, lanes));
        }
        if (lane == 0) best_cos[r] = best.cos, best_at[r] = best.at;
        __syncwarp();
      }
    }

    for (int r = warp; r < S::kRows; r += kWarps) {
      const int64_t i = row0 + r;
      T* const cosines = tile + r * kStride;
      if (r >= rows) {
        for (int c = lane; c < S::kColumns; c += kWarp) cosines[c] = 0;
        continue;
      }
      const SweepRow<T> row{head.scale[i],
                            head.shift[i],
                            head.threshold[i],
                            chunk.scores ? head.factor[i] : T(0),
                            chunk.scores ? head.spread[i] : T(0),
                            head.labels[i]};
      RowTotals<T> totals;
      for (int c = lane; c < classes; c += kWarp) {
        Best<T> best;
        if (pieces > 1) best = {best_cos[r], best_at[r]};
        else
          for (int k = 0; k < K; k++) best.meet(cosines[c * K + k], k);
        const bool target = class0 + c == row.label;
        T score = target ? T(0) : class_score(task, negative, row, best.cos, totals);
        if (target && task.totals) head.seen_target_cos[i] = best.cos;
        if (task.logits && !target) task.logits[i * head.C + class0 + c] = score;
        score = T(E(score));
        if (pieces > 1) best_cos[r] = score * best.cos, cosines[0] = score;
        else if (chunk.scores)
          for (int k = 0; k < K; k++) {
            const T mine = k == best.at ? score : T(0);
            chunk.scores[i * chunk.stride + column0 + c * K + k] = E(mine);
            cosines[c * K + k] = mine * best.cos;
          }
      }
      totals.sum = row_reduce<kWarp>(totals.sum, Sum{});
      totals.count = row_reduce<kWarp>(totals.count, Sum{});
      totals.largest = row_reduce<kWarp>(totals.largest, Max{});
      if (lane == 0) {
        sums[r] += totals.sum;
        counts[r] += totals.count;
        largest[r] = Max{}(totals.largest, largest[r]);
      }
      if (pieces > 1 && chunk.scores) {
        __syncwarp();
        for (int k = lane; k < K; k += kWarp)
          chunk.scores[i * chunk.stride + column0 + k] = E(k == best_at[r] ? cosines[0] : T(0));
      }
    }
    __syncthreads();
    if (!chunk.scores) continue;
    for (int c = int(threadIdx.x); c < classes * K; c += S::kThreads) {
      T dot = 0;
      if (pieces == 1)
        for (int r = 0; r < S::kRows; r++) dot += tile[r * kStride + c];
      else
        for (int r = 0; r < rows; r++) dot += c == best_at[r] ? best_cos[r] : T(0);
      chunk.dots[int64_t(blockIdx.x) * columns + column0 + c] = dot;
    }
  }

  if (!task.totals && !task.maximum) return;
  __syncthreads();
  if (int(threadIdx.x) >= rows) return;
  const int64_t at = int64_t(blockIdx.y) * head.N + row0 + threadIdx.x;
  head.group_sums[at] += sums[threadIdx.x];
  head.group_counts[at] += counts[threadIdx.x];
  head.group_largest[at] = Max{}(largest[threadIdx.x], head.group_largest[at]);
}

}  // namespace fm
