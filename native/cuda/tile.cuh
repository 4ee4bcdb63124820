// A tile of a matrix product by plain multiply-adds: 256 threads, 64 rows × 128 columns in float32, × 64 in float64.
//
// Both operands pass through shared memory 8 deep, laid out so that a thread reads its 4 rows and each 4 of its columns
// as one vector; the next 8 are already on their way from memory meanwhile.
#pragma once
#include <cstdint>

#include "tile_sizes.h"

namespace fm {

template <class T>
struct alignas(16) Four {
  T at[4];
};
template <class T, int kCount>
struct alignas(kCount * sizeof(T)) Some {
  T at[kCount];
};

// The column of the tile that is a thread's c-th.
template <class T>
__device__ int tile_column(int c) {
  return int(threadIdx.x) % 16 * 4 + c / 4 * 64 + c % 4;
}
template <class T>
__device__ int tile_row(int r) {
  return int(threadIdx.x) / 16 * 4 + r;
}

// A matrix as a tile's operand: element (row, k) is x[row·stride + k], or where along_depth is false x[k·stride + row];
// times scale[row] or scale[k].  0 from row `rows` on.  E: as it is in memory.
enum class Scaled { no, by_row, by_depth };
template <class T, bool along_depth_, Scaled scaled = Scaled::no, class E = T>
struct Operand {
  static constexpr bool along_depth = along_depth_;
  const E* x;
  int rows, stride;
  const T* scale = nullptr;

  // A thread's share of a step of the depth, of `extent` rows: the first element's place, and from one to the next
  // kStep rows, or where neighbours in memory are neighbouring rows kStep of the depth.
  template <int extent>
  static constexpr int kStep = along_depth ? Tile<T>::kThreads / Tile<T>::kDepth : Tile<T>::kThreads / extent;
  template <int extent>
  __device__ static int first_row() {
    return int(threadIdx.x) % (along_depth ? Tile<T>::kThreads : extent) / (along_depth ? Tile<T>::kDepth : 1);
  }
  template <int extent>
  __device__ static int first_depth() {
    return along_depth ? int(threadIdx.x) % Tile<T>::kDepth : int(threadIdx.x) / extent;
  }

  // The step begins at k0 and is `left` long, if that is less than kDepth.  Within it, offsets fit an int.
  template <int extent, int n>
  __device__ void load(int64_t k0, int64_t left, T (&values)[n]) const {
    const int row = first_row<extent>(), depth = first_depth<extent>(), step = kStep<extent>;
    const E* const from = along_depth ? x + k0 + (row * stride + depth) : x + k0 * stride + (depth * stride + row);
#pragma unroll
    for (int i = 0; i < n; i++) {
      const int r = along_depth ? row + i * step : row, k = along_depth ? depth : depth + i * step;
      values[i] = 0;
      if (r >= rows || k >= left) continue;
      values[i] = T(from[i * (step * stride)]);
      if constexpr (scaled == Scaled::by_row) values[i] *= scale[r];
      if constexpr (scaled == Scaled::by_depth) values[i] *= (scale + k0)[k];
    }
  }
  // row_stride: of the staging, from one depth to the next.
  template <int extent, int n>
  __device__ static void stage(const T (&values)[n], T* to, int row_stride) {
    const int row = first_row<extent>(), depth = first_depth<extent>(), step = kStep<extent>;
#pragma unroll
    for (int i = 0; i < n; i++)
      to[(along_depth ? depth : depth + i * step) * row_stride + (along_depth ? row + i * step : row)] = values[i];
  }
};

constexpr int64_t kWidestRow = INT32_MAX / 128;  // of an operand in memory: a tile's offsets are ints

__device__ inline int operand_rows(int64_t left, int most) { return int(left < most ? left : most); }

// sums[r][c] += Σ a(row, k)·b(column, k) over k in [begin, end).
template <class T, class A, class B>
__device__ void multiply_tile(Four<T>* staging, int64_t begin, int64_t end, const A& a, const B& b,
                              T (&sums)[Tile<T>::kThreadRows][Tile<T>::kThreadColumns]) {
  using S = Tile<T>;
  constexpr int kA = S::kRows * S::kDepth / S::kThreads, kB = S::kColumns * S::kDepth / S::kThreads;
  T* const rows = staging->at;
  T* const columns = rows + S::kDepth * S::kRowStride;
  T next_a[kA], next_b[kB];
  a.template load<S::kRows>(begin, end - begin, next_a);
  b.template load<S::kColumns>(begin, end - begin, next_b);
  for (int64_t k0 = begin; k0 < end; k0 += S::kDepth) {
    __syncthreads();  // the staging was read
    A::template stage<S::kRows>(next_a, rows, S::kRowStride);
    B::template stage<S::kColumns>(next_b, columns, S::kColumnStride);
    __syncthreads();
    const int64_t next = k0 + S::kDepth;
    if (next < end) {
      a.template load<S::kRows>(next, end - next, next_a);
      b.template load<S::kColumns>(next, end - next, next_b);
    }
#pragma unroll 2
    for (int k = 0; k < S::kDepth; k++) {
      const Four<T> x = *reinterpret_cast<const Four<T>*>(rows + k * S::kRowStride + tile_row<T>(0));
#pragma unroll
      for (int quad = 0; quad < S::kThreadColumns / 4; quad++) {
        const Four<T> y = *reinterpret_cast<const Four<T>*>(columns + k * S::kColumnStride + tile_column<T>(4 * quad));
#pragma unroll
        for (int r = 0; r < S::kThreadRows; r++)
#pragma unroll
          for (int c = 0; c < 4; c++) sums[r][4 * quad + c] += x.at[r] * y.at[c];
      }
    }
  }
}

template <class T>
__device__ void clear_tile(T (&sums)[Tile<T>::kThreadRows][Tile<T>::kThreadColumns]) {
#pragma unroll
  for (int r = 0; r < Tile<T>::kThreadRows; r++)
#pragma unroll
    for (int c = 0; c < Tile<T>::kThreadColumns; c++) sums[r][c] = 0;
}

}  // namespace fm
