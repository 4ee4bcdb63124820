// The gradients' two matrix products, of a chunk of classes whose dL/dcos are known: its scores.
#pragma once
#include <type_traits>

#include "../common/optimizers.h"
#include "head.h"
#include "tile.cuh"

namespace fm {

// slabs[split] += scores·ŵ over the split's part of the chunk.  Blocks: rows, axes, splits.
template <class T, class E>
__global__ void __launch_bounds__(256, 2)
    features_product_kernel(DeviceHead<T> head, HeadChunk<T, E> chunk, T* __restrict__ slabs) {  // [splits, N, D]
  using S = Tile<T>;
  __shared__ Four<T> staging[S::kStaging / 4];
  constexpr Scaled scaled = std::is_same_v<T, E> ? Scaled::by_depth : Scaled::no;
  const int64_t row0 = int64_t(blockIdx.x) * S::kRows, axis0 = int64_t(blockIdx.y) * S::kColumns;
  const int64_t begin = chunk.columns * blockIdx.z / gridDim.z, end = chunk.columns * (blockIdx.z + 1) / gridDim.z;
  T sums[S::kThreadRows][S::kThreadColumns];
  clear_tile<T>(sums);
  multiply_tile<T>(staging, begin, end,
                   Operand<T, true, Scaled::no, E>{chunk.scores + row0 * chunk.stride,
                                                   operand_rows(head.N - row0, S::kRows), int(chunk.stride)},
                   Operand<T, false, scaled, E>{chunk.weight + axis0, operand_rows(head.D - axis0, S::kColumns),
                                                int(chunk.depth), chunk.inverse},
                   sums);
#pragma unroll
  for (int r = 0; r < S::kThreadRows; r++) {
    const int64_t i = row0 + tile_row<T>(r);
    if (i >= head.N) continue;
#pragma unroll
    for (int c = 0; c < S::kThreadColumns; c++) {
      const int64_t axis = axis0 + tile_column<T>(c);
      if (axis < head.D) slabs[(int64_t(blockIdx.z) * head.N + i) * head.D + axis] += sums[r][c];
    }
  }
}

// Where dW goes.
template <class T>
struct WeightTask {
  bool project;  // dW tangent to its row and divided by ‖w‖
  T* d_weight;   // [R, D]
  // in place of d_weight, with the targets' part:
  T *weight, *states[kMostStates];  // [R, D] each, at the head's `places`
  Optimizer optimizer;
  const OptimizerStep<T>* numbers;  // on the device: a launch that is recorded once serves steps of other numbers

  // Runs f with an update of the type that a row gets; its numbers are the device's.
  template <class F>
  void with_update(F&& f) const {
    if (!weight) f(NoUpdate{});
    else if (optimizer == Optimizer::adamw) f(AdamWUpdate<T>{});
    else f(SgdUpdate<T>{});
  }
  template <class Update>
  __device__ Update update() const {
    if constexpr (Update::kStates > 0) return numbers->template of<Update>();
    else return {};
  }
};

// What becomes of a row of dW: on the tangent of its row of weight it is (dW − ŵ·⟨dW, ŵ⟩)/‖w‖, and
// ⟨dW, ŵ⟩ = Σᵢ dL/dcos·cos is `dot`.
template <class T>
struct WeightRow {
  const T* w;
  const WeightTask<T>& task;
  T across, along;

  __device__ WeightRow(const DeviceHead<T>& head, const WeightTask<T>& task, int64_t center, T dot)
      : w(head.w), task(task) {
    const T inverse = has_direction(head.inverse[center]) ? head.inverse[center] : T(0);
    across = task.project || inverse == 0 ? inverse : T(1);
    along = task.project ? dot * inverse : T(0);
  }
  // Of so many neighbours, at a place of memory that is a multiple of as many.
  // Gives back what now is there.
  template <int kCount, class Update>
  __device__ Some<T, kCount> take(int64_t at, const T (&sums)[kCount], const Update& update) const {
    const auto some = [at](const T* x) { return *reinterpret_cast<const Some<T, kCount>*>(x + at); };
    const Some<T, kCount> before = some(w);
    Some<T, kCount> to;
#pragma unroll
    for (int e = 0; e < kCount; e++) to.at[e] = across * (sums[e] - along * before.at[e]);
    if constexpr (Update::kStates > 0) {
      Some<T, kCount> kept[Update::kStates];
#pragma unroll
      for (int k = 0; k < Update::kStates; k++) kept[k] = some(task.states[k]);
#pragma unroll
      for (int e = 0; e < kCount; e++) {
        T state[Update::kStates];
#pragma unroll
        for (int k = 0; k < Update::kStates; k++) state[k] = kept[k].at[e];
        to.at[e] = update(before.at[e], to.at[e], state);
#pragma unroll
        for (int k = 0; k < Update::kStates; k++) kept[k].at[e] = state[k];
      }
#pragma unroll
      for (int k = 0; k < Update::kStates; k++) *reinterpret_cast<Some<T, kCount>*>(task.states[k] + at) = kept[k];
    }
    *reinterpret_cast<Some<T, kCount>*>((Update::kStates > 0 ? task.weight : task.d_weight) + at) = to;
    return to;
  }
};

// dW = scoresᵀ·e.  Blocks: centers, axes.
template <class T, class E, class Update>
__global__ void __launch_bounds__(256, 2)
    weights_product_kernel(DeviceHead<T> head, HeadChunk<T, E> chunk, WeightTask<T> task) {
  using S = Tile<T>;
  constexpr bool kUpdate = Update::kStates > 0;
  __shared__ Four<T> staging[S::kStaging / 4];
  if (kUpdate && head.report->failed()) return;
  const int64_t column0 = int64_t(blockIdx.x) * S::kRows, axis0 = int64_t(blockIdx.y) * S::kColumns;
  T sums[S::kThreadRows][S::kThreadColumns];
  clear_tile<T>(sums);
  multiply_tile<T>(staging, 0, head.N,
                   Operand<T, false, Scaled::no, E>{chunk.scores + column0,
                                                    operand_rows(chunk.columns - column0, S::kRows), int(chunk.stride)},
                   Operand<T, false, Scaled::no, E>{chunk.embeddings + axis0, operand_rows(head.D - axis0, S::kColumns),
                                                    int(chunk.depth)},
                   sums);

  const Update update = task.template update<Update>();
  const int64_t row_tiles = (head.N + S::kRows - 1) / S::kRows;
#pragma unroll
  for (int r = 0; r < S::kThreadRows; r++) {
    const int64_t column = column0 + tile_row<T>(r);
    if (column >= chunk.columns) continue;
    const int64_t center = chunk.first_class * head.K + column;
    T dot = 0;
    for (int64_t tile = 0; tile < row_tiles; tile++) dot += chunk.dots[tile * chunk.columns + column];
    if (kUpdate)
      for (int64_t i = head.first[center]; i >= 0; i = head.next[i]) {
        const T g = head.target_gradient[i];
        dot += g * head.target_cos[i];
#pragma unroll
        for (int c = 0; c < S::kThreadColumns; c++) {
          const int64_t axis = axis0 + tile_column<T>(c);
          if (axis < head.D) sums[r][c] += g * head.embeddings[i * head.D + axis];
        }
      }
    const WeightRow<T> row(head, task, center, dot);
    const int64_t place = head.places()(center);
#pragma unroll
    for (int c = 0; c < S::kThreadColumns; c++) {
      const int64_t axis = axis0 + tile_column<T>(c);
      if (axis < head.D) row.take(place * head.D + axis, {sums[r][c]}, update);
    }
  }
}

}  // namespace fm
