// A tile of a matrix product on the tensor cores: 128 × 128, of Bfloat16 with sums in float32, by 256 threads.  A warp has
// 32 rows × 64 columns of it, as 2 × 8 fragments of m16n8.
//
// Both operands pass through shared memory in steps of 32 of the depth, two steps ahead of the products.  Pieces of 16
// bytes are moved about within it so that no eight rows which ldmatrix reads together meet in a bank.
#pragma once
#include "ptx.cuh"
#include "reduce.cuh"
#include "tile_sizes.h"

namespace fm {

using TensorSums = float[2][8][4];

// Where a thread's sums[m][j][e] are in the tile.
struct TensorPlace {
  int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  int row0 = warp % 4 * TensorTile::kWarpRows, column0 = warp / 4 * TensorTile::kWarpColumns;

  __device__ int row(int m, int e) const { return row0 + 16 * m + e / 2 * 8 + lane / 4; }
  __device__ int column(int j, int e) const { return column0 + 8 * j + lane % 4 * 2 + e % 2; }
};

__device__ inline int bytes_left(int elements) { return elements >= 8 ? 16 : elements > 0 ? int(elements) * 2 : 0; }

// A matrix whose rows lie along the depth: element (row, k) is x[row_of(row)·stride + k], 0 where row_of is below 0.  x, and
// the stride and every k where a product begins, are at multiples of 8 elements.
struct TensorRows {
  const Bfloat16* from[TensorTile::kPieces];
  bool live[TensorTile::kPieces];

  template <class F>
  __device__ TensorRows(const Bfloat16* x, int64_t stride, const F& row_of) {
#pragma unroll
    for (int i = 0; i < TensorTile::kPieces; i++) {
      const int64_t row = row_of(row_of_piece(i));
      live[i] = row >= 0;
      from[i] = x + (live[i] ? row * stride : 0) + 8 * piece();
    }
  }

  __device__ static int row_of_piece(int i) { return int(threadIdx.x) / 4 + i * (TensorTile::kThreads / 4); }
  __device__ static int piece() { return int(threadIdx.x) % 4; }
  // Of rows of 64 bytes: two rows take up all banks.
  __device__ static Bfloat16* at(Bfloat16* staging, int row, int piece) {
    return staging + row * TensorTile::kDepth + (piece ^ (row / 2 % 4)) * 8;
  }

  __device__ void load(Bfloat16* staging, int k0, int end) const {
    const int bytes = bytes_left(end - k0 - 8 * piece());
#pragma unroll
    for (int i = 0; i < TensorTile::kPieces; i++) {
      const int mine = live[i] ? bytes : 0;
      cp_async_16(at(staging, row_of_piece(i), piece()), mine > 0 ? from[i] + k0 : from[i], mine);
    }
  }
  // As the product's left operand, 16 rows × 16 of the depth, and as its right one, 16 columns × 16.
  __device__ static void left(uint32_t (&to)[4], Bfloat16* staging, int row, int k) {
    const int lane = int(threadIdx.x) % kWarp;
    ldmatrix_x4(to, at(staging, row + lane % 16, k / 8 + lane / 16));
  }
  __device__ static void right(uint32_t (&to)[4], Bfloat16* staging, int column, int k) {
    const int lane = int(threadIdx.x) % kWarp;
    ldmatrix_x4(to, at(staging, column + lane % 8 + lane / 16 * 8, k / 8 + lane / 8 % 2));
  }
};

// A matrix whose rows lie across the depth: element (row, k) is x[k·stride + row], 0 from row `rows` on.
struct TensorColumns {
  const Bfloat16* from;
  int64_t stride;
  int bytes;

  __device__ TensorColumns(const Bfloat16* x, int64_t stride, int rows)
      : from(x + depth_of_piece(0) * stride), stride(stride), bytes(bytes_left(rows - 8 * piece())) {
    if (bytes > 0) from += 8 * piece();
  }

  __device__ static int depth_of_piece(int i) { return int(threadIdx.x) / 16 + i * (TensorTile::kThreads / 16); }
  __device__ static int piece() { return int(threadIdx.x) % 16; }
  __device__ static Bfloat16* at(Bfloat16* staging, int k, int piece) {
    return staging + k * 128 + (piece ^ (k % 8)) * 8;
  }

  __device__ void load(Bfloat16* staging, int k0, int end) const {
#pragma unroll
    for (int i = 0; i < TensorTile::kPieces; i++) {
      const bool live = k0 + depth_of_piece(i) < end;
      cp_async_16(at(staging, depth_of_piece(i), piece()),
                  live ? from + (k0 + i * (TensorTile::kThreads / 16)) * stride : from - depth_of_piece(0) * stride,
                  live ? bytes : 0);
    }
  }
  __device__ static void left(uint32_t (&to)[4], Bfloat16* staging, int row, int k) {
    const int lane = int(threadIdx.x) % kWarp;
    ldmatrix_x4_trans(to, at(staging, k + lane % 8 + lane / 16 * 8, row / 8 + lane / 8 % 2));
  }
  __device__ static void right(uint32_t (&to)[4], Bfloat16* staging, int column, int k) {
    const int lane = int(threadIdx.x) % kWarp;
    ldmatrix_x4_trans(to, at(staging, k + lane % 16, column / 8 + lane / 16));
  }
};

// --- the product over k in [begin, end) --------------------------------------------------------------------------------

template <class A, class B>
__device__ void load_step(Bfloat16* staging, int stage, const A& a, const B& b, int k0, int end) {
  staging += stage * 2 * TensorTile::kOperand;
  a.load(staging, k0, end);
  b.load(staging + TensorTile::kOperand, k0, end);
}

// The first steps' copies.  Whatever was in the staging has been read.
template <class A, class B>
__device__ void begin_tensor_tile(Bfloat16* staging, const A& a, const B& b, int begin, int end) {
  using S = TensorTile;
#pragma unroll
  for (int stage = 0; stage < S::kStages - 1; stage++) {
    if (begin + stage * S::kDepth < end) load_step(staging, stage, a, b, begin + stage * S::kDepth, end);
    cp_async_commit();
  }
}

// sums[m][j][e] += Σ a(row, k)·b(column, k), once begun.  The staging is free when it returns.
template <class A, class B>
__device__ void finish_tensor_tile(Bfloat16* staging, const A& a, const B& b, int begin, int end, TensorSums& sums) {
  using S = TensorTile;
  const TensorPlace place;
  int stage = 0;
  for (int k0 = begin; k0 < end; k0 += S::kDepth) {
    cp_async_wait<S::kStages - 2>();
    __syncthreads();  // this step is there, and the one before was read
    const int next = k0 + (S::kStages - 1) * S::kDepth;
    if (next < end) load_step(staging, stage == 0 ? S::kStages - 1 : stage - 1, a, b, next, end);
    cp_async_commit();
    Bfloat16* const left = staging + stage * 2 * S::kOperand;
    Bfloat16* const right = left + S::kOperand;
#pragma unroll
    for (int k = 0; k < S::kDepth; k += 16) {
      uint32_t rows[2][4], columns[4][4];
#pragma unroll
      for (int m = 0; m < 2; m++) A::left(rows[m], left, place.row0 + 16 * m, k);
#pragma unroll
      for (int j = 0; j < 4; j++) B::right(columns[j], right, place.column0 + 16 * j, k);
#pragma unroll
      for (int m = 0; m < 2; m++)
#pragma unroll
        for (int j = 0; j < 8; j++)
          mma_16816(sums[m][j], rows[m], columns[j / 2][j % 2 * 2], columns[j / 2][j % 2 * 2 + 1]);
    }
    stage = stage == S::kStages - 1 ? 0 : stage + 1;
  }
  __syncthreads();
}

__device__ inline void clear_tensor_tile(TensorSums& sums) {
#pragma unroll
  for (int m = 0; m < 2; m++)
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) sums[m][j][e] = 0;
}

}  // namespace fm
