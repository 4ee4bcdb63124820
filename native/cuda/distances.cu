// Squared Euclidean distances of all pairs of rows, as sums of squared differences: ‖a‖² + ‖b‖² − 2⟨a, b⟩ would lose
// the small ones, which a square root then divides by.
#include "../common/kernel_checks.h"
#include "backend.h"
#include "rows.cuh"
#include "rows.h"

namespace fm {
namespace {

constexpr int kSide = 16;  // a block has 16 × 16 pairs, and meets 16 axes at a time

// (i, j) and (j, i) add up the same squares in the same order.
template <class T>
__global__ void distances_kernel(const T* x, int64_t N, int64_t D, T* y) {
  __shared__ T rows[kSide][kSide + 1], columns[kSide][kSide + 1];
  const int lane = int(threadIdx.x) % kSide, line = int(threadIdx.x) / kSide;
  const int64_t i = int64_t(blockIdx.y) * kSide + line, j = int64_t(blockIdx.x) * kSide + lane;
  const int64_t other = int64_t(blockIdx.x) * kSide + line;
  T sum = 0;
  for (int64_t d0 = 0; d0 < D; d0 += kSide) {
    const int64_t d = d0 + lane;
    rows[line][lane] = i < N && d < D ? x[i * D + d] : T(0);
    columns[line][lane] = other < N && d < D ? x[other * D + d] : T(0);
    __syncthreads();
    for (int k = 0; k < kSide; k++) {
      const T difference = rows[line][k] - columns[lane][k];
      sum += difference * difference;
    }
    __syncthreads();
  }
  if (i < N && j < N) y[i * N + j] = i == j ? T(0) : sum;
}

// dx of one row, an axis a thread; a pair that no one asks about costs nothing.  Blocks: rows, axes.
template <class T>
__global__ void distances_backward_kernel(const T* dy, const T* x, int64_t N, int64_t D, T* dx) {
  const int64_t i = blockIdx.x, step = int64_t(gridDim.y) * blockDim.x;
  for (int64_t d = int64_t(blockIdx.y) * blockDim.x + threadIdx.x; d < D; d += step) {
    const T own = x[i * D + d];
    T sum = 0;
    for (int64_t j = 0; j < N; j++) {
      const T weight = 2 * (dy[i * N + j] + dy[j * N + i]);
      if (j != i && weight != 0) sum += weight * (own - x[j * D + d]);
    }
    dx[i * D + d] = sum;
  }
}

}  // namespace

Tensor CudaBackend::squared_distances_forward(const Tensor& x) {
  check_rank("x", x, 2);
  check_here("x", x);
  const DeviceGuard guard(device_);
  const int64_t N = x.dim(0), D = x.dim(1);
  constexpr int64_t kMostRows = int64_t(65535) * kSide;
  FM_CHECK(shape, N <= kMostRows, "expected at most ", kMostRows, " rows, got ", N);
  Tensor y = empty(x.dtype, {N, N});
  if (N == 0) return y;
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned tiles = unsigned(blocks_for(N, kSide));
    launch(stream_, dim3(tiles, tiles), kSide * kSide, distances_kernel<T>, x.data<T>(), N, D, y.data<T>());
  });
  return y;
}

Tensor CudaBackend::squared_distances_backward(const Tensor& dy, const Tensor& x) {
  check_squared_distances_backward(dy, x);
  check_here("dy", dy);
  const DeviceGuard guard(device_);
  const int64_t N = x.dim(0), D = x.dim(1);
  Tensor dx = empty(x.dtype, x.shape);
  if (dx.numel() == 0) return dx;
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const unsigned axes = unsigned(std::min<int64_t>(blocks_for(D, kRowBlock), 65535));
    launch(stream_, dim3(unsigned(N), axes), kRowBlock, distances_backward_kernel<T>, dy.data<T>(), x.data<T>(), N, D,
           dx.data<T>());
  });
  return dx;
}

}  // namespace fm
