// A matrix product's tiles as a grid, and where their sums go.
#pragma once
#include "launch.h"
#include "tile.cuh"

namespace fm {

template <class T>
using TileSums = T[Tile<T>::kThreadRows][Tile<T>::kThreadColumns];

// to[row, column] of a tile that begins at (row0, column0), of a matrix [rows, columns].
template <class T>
__device__ void store_sums(const TileSums<T>& sums, int64_t row0, int64_t rows, int64_t column0, int64_t columns,
                           T* to) {
  using S = Tile<T>;
#pragma unroll
  for (int r = 0; r < S::kThreadRows; r++) {
    const int64_t i = row0 + tile_row<T>(r);
    if (i >= rows) continue;
#pragma unroll
    for (int c = 0; c < S::kThreadColumns; c++) {
      const int64_t j = column0 + tile_column<T>(c);
      if (j < columns) to[i * columns + j] = sums[r][c];
    }
  }
}

// Blocks of tiles for [rows, columns]; a grid has no more than 65535 in its second direction.
template <class T>
dim3 tiles_of(int64_t rows, int64_t columns, int64_t splits = 1) {
  return dim3(unsigned(blocks_for(columns, Tile<T>::kColumns)), unsigned(blocks_for(rows, Tile<T>::kRows)),
              unsigned(splits));
}

}  // namespace fm
