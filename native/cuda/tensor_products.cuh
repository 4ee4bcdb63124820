// The gradients' two matrix products on the tensor cores, to the same end as those of head_products.cuh.
#pragma once
#include "head_products.cuh"
#include "tensor_tile.cuh"

namespace fm {

// slabs[split] += scores·ŵ over the split's part of the chunk, which is in whole steps of the depth.
// Blocks: rows, axes, splits.
template <class T>
__global__ void __launch_bounds__(TensorTile::kThreads, 1)
    tensor_features_kernel(DeviceHead<T> head, HeadChunk<T, Bfloat16> chunk, T* __restrict__ slabs) {  // [splits, N, D]
  if constexpr (kHasTensorCores) {
    using S = TensorTile;
    __shared__ Four<float> memory[S::kStaging / 8];
    Bfloat16* const staging = reinterpret_cast<Bfloat16*>(memory);
    const int64_t row0 = int64_t(blockIdx.x) * S::kRows, axis0 = int64_t(blockIdx.y) * S::kColumns;
    const int64_t steps = (chunk.columns + S::kDepth - 1) / S::kDepth;
    const int begin = int(steps * blockIdx.z / gridDim.z) * S::kDepth;
    const int whole = int(steps * (blockIdx.z + 1) / gridDim.z) * S::kDepth;
    const int end = whole < chunk.columns ? whole : int(chunk.columns);
    const int rows = operand_rows(head.N - row0, S::kRows);
    const TensorRows scores(chunk.scores + row0 * chunk.stride, chunk.stride,
                            [&](int row) { return row < rows ? row : -1; });
    const TensorColumns weight(chunk.weight + axis0, chunk.depth, operand_rows(head.D - axis0, S::kColumns));
    TensorSums sums;
    clear_tensor_tile(sums);
    begin_tensor_tile(staging, scores, weight, begin, end);
    finish_tensor_tile(staging, scores, weight, begin, end, sums);

    const TensorPlace place;
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const int row = place.row(m, 2 * h);
        if (row >= rows) continue;
        T* const to = slabs + (int64_t(blockIdx.z) * head.N + row0 + row) * head.D;
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
          for (int e = 0; e < 2; e++) {
            const int64_t axis = axis0 + place.column(j, e);
            if (axis < head.D) to[axis] += sums[m][j][2 * h + e];
          }
      }
  }
}

// dW = scoresᵀ·e, on the tangent of its row.  Blocks: centers, axes.
template <class T, class Update>
__global__ void __launch_bounds__(TensorTile::kThreads, 1)
    tensor_weights_kernel(DeviceHead<T> head, HeadChunk<T, Bfloat16> chunk, WeightTask<T> task) {
  if constexpr (kHasTensorCores) {
    using S = TensorTile;
    constexpr bool kUpdate = Update::kStates > 0;
    __shared__ Four<float> memory[S::kStaging / 8];
    Bfloat16* const staging = reinterpret_cast<Bfloat16*>(memory);
    if (kUpdate && head.report->failed()) return;
    const int64_t column0 = int64_t(blockIdx.x) * S::kRows, axis0 = int64_t(blockIdx.y) * S::kColumns;
    const int N = int(head.N), row_tiles = (N + S::kRows - 1) / S::kRows;
    const TensorColumns scores(chunk.scores + column0, chunk.stride, operand_rows(chunk.columns - column0, S::kRows));
    const TensorColumns embeddings(chunk.embeddings + axis0, chunk.depth, operand_rows(head.D - axis0, S::kColumns));
    TensorSums sums;
    clear_tensor_tile(sums);
    begin_tensor_tile(staging, scores, embeddings, 0, N);
    finish_tensor_tile(staging, scores, embeddings, 0, N, sums);

    const Update update = task.template update<Update>();
    const TensorPlace place;
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const int64_t column = column0 + place.row(m, 2 * h);
        if (column >= chunk.columns) continue;
        const int64_t center = chunk.first_class * head.K + column;
        T dot = 0;
        for (int tile = 0; tile < row_tiles; tile++) dot += chunk.dots[tile * chunk.columns + column];
        if (kUpdate)
          for (int64_t i = head.first[center]; i >= 0; i = head.next[i]) {
            const T g = head.target_gradient[i];
            dot += g * head.target_cos[i];
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
              for (int e = 0; e < 2; e++) {
                const int64_t axis = axis0 + place.column(j, e);
                if (axis < head.D) sums[m][j][2 * h + e] += g * head.embeddings[i * head.D + axis];
              }
          }
        const WeightRow<T> row(head, task, center, dot);
        const int64_t first = head.places()(center) * head.D;
#pragma unroll
        for (int j = 0; j < 8; j++) {
          const int64_t axis = axis0 + place.column(j, 0), at = first + axis;
          const T pair[2] = {sums[m][j][2 * h], sums[m][j][2 * h + 1]};
          if (head.D % 2 == 0) {
            if (axis < head.D) row.take(at, pair, update);
          } else {
            for (int e = 0; e < 2; e++)
              if (axis + e < head.D) row.take(at + e, {pair[e]}, update);
          }
        }
      }
  }
}

}  // namespace fm
