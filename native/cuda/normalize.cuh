// y = x / max(‖x‖, 1e-12) over rows, and its gradient: kRowThreads threads a row, a warp or a block.
// Elements are read twice; the second time they come from the cache, so that memory is the limit either way.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

#include "rows.cuh"

namespace fm {

constexpr double kSmallestNorm = 1e-12;

// A sum of squares in this range lost nothing to overflow, and no more than rounding to underflow.
template <class T>
constexpr T kFewestSquares = std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon();
template <class T>
constexpr T kMostSquares = std::numeric_limits<T>::max();

template <class T>
__device__ T divisor(T norm) {
  return norm < T(kSmallestNorm) ? T(kSmallestNorm) : norm;  // NaN stays NaN
}

template <int kRowThreads, class T>
__device__ T row_largest(const T* x, int64_t D) {
  T largest = 0;
  for (int64_t d = threadIdx.x % kRowThreads; d < D; d += kRowThreads) largest = Max{}(std::abs(x[d]), largest);
  return row_reduce<kRowThreads>(largest, Max{});
}

// ‖x / by‖
template <int kRowThreads, class T>
__device__ T scaled_norm(const T* x, int64_t D, T by) {
  T scaled = 0;
  for (int64_t d = threadIdx.x % kRowThreads; d < D; d += kRowThreads) {
    const T ratio = x[d] / by;
    scaled += ratio * ratio;
  }
  return std::sqrt(row_reduce<kRowThreads>(scaled, Sum{}));
}

// ‖x‖.  Squares overflow from 1e19 and lose bits below 1e-19 in float32; such rows, and only they, are swept again
// with elements divided by the largest.
template <int kRowThreads, class T>
__device__ T row_norm(const T* x, int64_t D) {
  const int first = threadIdx.x % kRowThreads;

  T squares = 0;
  for (int64_t d = first; d < D; d += kRowThreads) squares += x[d] * x[d];
  squares = row_reduce<kRowThreads>(squares, Sum{});
  if ((squares >= kFewestSquares<T> && squares <= kMostSquares<T>) || squares != squares) return std::sqrt(squares);

  const T largest = row_largest<kRowThreads>(x, D);
  if (!(largest > 0 && largest <= kMostSquares<T>)) return largest;
  return largest * scaled_norm<kRowThreads>(x, D, largest);
}

// y may be x.  refused, unless it is nullptr: the lowest row without a finite norm, whose y stays as it was.
template <class T, int kRowThreads>
__global__ void normalize_forward_kernel(const T* x,  // [N, D]
                                         T* y,        // [N, D]
                                         T* norm,     // [N]
                                         int64_t N, int64_t D, unsigned long long* refused) {
  const int64_t n = row_of_thread<kRowThreads>();
  if (n >= N) return;
  x += n * D;
  y += n * D;
  const int first = thread_of_row<kRowThreads>();
  const T length = row_norm<kRowThreads>(x, D);
  if (refused && !(length <= kMostSquares<T>)) {
    if (first == 0) atomicMin(refused, (unsigned long long)n);
    return;
  }
  if (first == 0) norm[n] = length;
  if (length > kMostSquares<T>) {  // infinite, and the row may not be
    const T largest = row_largest<kRowThreads>(x, D), rest = scaled_norm<kRowThreads>(x, D, largest);
    for (int64_t d = first; d < D; d += kRowThreads)
      y[d] = largest <= kMostSquares<T> ? x[d] / largest / rest : x[d] / length;
    return;
  }
  const T scale = divisor(length);
  for (int64_t d = first; d < D; d += kRowThreads) y[d] = x[d] / scale;
}

// dx = (dy − y⟨dy, y⟩) / max(‖x‖, 1e-12)
template <class T, int kRowThreads>
__global__ void normalize_backward_kernel(const T* __restrict__ dy,    // [N, D]
                                          const T* __restrict__ y,     // [N, D]
                                          const T* __restrict__ norm,  // [N]
                                          T* __restrict__ dx,          // [N, D]
                                          int64_t N, int64_t D) {
  const int64_t n = row_of_thread<kRowThreads>();
  if (n >= N) return;
  dy += n * D;
  y += n * D;
  dx += n * D;
  const int first = threadIdx.x % kRowThreads;
  T dot = 0;
  for (int64_t d = first; d < D; d += kRowThreads) dot += dy[d] * y[d];
  dot = row_reduce<kRowThreads>(dot, Sum{});
  const T scale = divisor(norm[n]);
  for (int64_t d = first; d < D; d += kRowThreads) dx[d] = (dy[d] - y[d] * dot) / scale;
}

}  // namespace fm
