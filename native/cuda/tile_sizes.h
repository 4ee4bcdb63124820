// How large the tiles of matrix products are: their kernels are written for it, and the host launches by it.
#pragma once

namespace fm {

// By plain multiply-adds (tile.cuh).
template <class T>
struct Tile {
  static constexpr int kThreads = 256, kSide = 16;  // a block is 16 × 16 threads
  static constexpr int kRows = 64, kColumns = sizeof(T) == 4 ? 128 : 64, kDepth = 16;
  static constexpr int kThreadRows = kRows / kSide, kThreadColumns = kColumns / kSide;
  static constexpr int kRowStride = kRows + 4, kColumnStride = kColumns + 4;
  static constexpr int kStaging = kDepth * (kRowStride + kColumnStride);  // elements of shared memory
};

// On the tensor cores (tensor_tile.cuh).
struct TensorTile {
  static constexpr int kThreads = 256, kRows = 128, kColumns = 128, kDepth = 32, kStages = 3;
  static constexpr int kWarpRows = 32, kWarpColumns = 64, kMostCenters = kWarpColumns / 8;
  static constexpr int kOperand = 128 * kDepth;  // elements of a step; both operands have 128 rows
  static constexpr int kStaging = kStages * 2 * kOperand;
  static constexpr int kPieces = kOperand / 8 / kThreads;  // of 8 elements, a thread, operand and step
};

}  // namespace fm
