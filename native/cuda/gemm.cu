#include "backend.h"
#include "launch.h"
#include "library_ops.h"
#include "slabs.cuh"
#include "tile.cuh"

namespace fm {
namespace {

template <class S, class T = Computed<S>>
struct Product {
  const S *a, *b;
  int64_t rows, depth, columns;
  int64_t a_stride, b_stride;  // from one row in memory to the next
  T* to = nullptr;             // [parts, rows, columns]
};

// A row-major matrix from its tile on: `along_depth` where a row in memory runs along the depth.
template <class T, bool along_depth, class S>
__device__ Operand<T, along_depth, Scaled::no, S> tile_of(const S* x, int64_t first, int64_t extent, int64_t stride,
                                                          int most) {
  return {x + (along_depth ? first * stride : first), operand_rows(extent - first, most), int(stride)};
}

// Blocks: tiles, parts of the depth.
template <class S, bool transpose_a, bool transpose_b>
__global__ void __launch_bounds__(256, 2) matmul_kernel(Product<S> p) {
  using T = Computed<S>;
  using Sizes = Tile<T>;
  __shared__ Four<T> staging[Sizes::kStaging / 4];
  const int64_t row_tiles = (p.rows + Sizes::kRows - 1) / Sizes::kRows;
  const int64_t row0 = blockIdx.x % row_tiles * Sizes::kRows, column0 = blockIdx.x / row_tiles * Sizes::kColumns;
  const int64_t begin = p.depth * blockIdx.y / gridDim.y, end = p.depth * (blockIdx.y + 1) / gridDim.y;
  T sums[Sizes::kThreadRows][Sizes::kThreadColumns];
  clear_tile<T>(sums);
  multiply_tile<T>(staging, begin, end, tile_of<T, !transpose_a>(p.a, row0, p.rows, p.a_stride, Sizes::kRows),
                   tile_of<T, transpose_b>(p.b, column0, p.columns, p.b_stride, Sizes::kColumns), sums);
#pragma unroll
  for (int r = 0; r < Sizes::kThreadRows; r++) {
    const int64_t row = row0 + tile_row<T>(r);
    if (row >= p.rows) continue;
    T* const to = p.to + (blockIdx.y * p.rows + row) * p.columns;
#pragma unroll
    for (int c = 0; c < Sizes::kThreadColumns; c++) {
      const int64_t column = column0 + tile_column<T>(c);
      if (column < p.columns) to[column] = sums[r][c];
    }
  }
}

template <class S>
void run_matmul(CudaBackend& on, Product<S> p, S* to, bool transpose_a, bool transpose_b) {
  using T = Computed<S>;
  const int64_t tiles = blocks_for(p.rows, Tile<T>::kRows) * blocks_for(p.columns, Tile<T>::kColumns);
  const int64_t parts = parts_of_depth(tiles, p.depth), n = p.rows * p.columns;
  DeviceScratch scratch(on.allocator());
  bool directly = false;
  if constexpr (std::is_same_v<S, T>) directly = parts == 1, p.to = to;
  if (!directly) p.to = scratch.take<T>(parts * n);
  const auto kernel = transpose_a   ? transpose_b ? matmul_kernel<S, true, true> : matmul_kernel<S, true, false>
                        : transpose_b ? matmul_kernel<S, false, true>
                                    : matmul_kernel<S, false, false>;
  launch(on.stream(), dim3(unsigned(tiles), unsigned(parts)), Tile<T>::kThreads, kernel, p);
  if (!directly) for_each(on.stream(), n, AddSlabs<T, S>{p.to, parts, n, 1, 1, to});
}

}  // namespace

Tensor CudaBackend::matmul(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b) {
  check_rank("a", a, 2);
  check_rank("b", b, 2);
  check_same_device(a, b);
  check_here("a", a);
  check_dtype("b", b, a.dtype);
  const int64_t rows = a.dim(transpose_a), depth = a.dim(!transpose_a), columns = b.dim(!transpose_b);
  FM_CHECK(shape, b.dim(transpose_b) == depth, "expected inner extents to agree, got ", a.shape, transpose_a ? "ᵀ" : "",
           " · ", b.shape, transpose_b ? "ᵀ" : "");
  FM_CHECK(shape, a.dim(1) <= kWidestRow && b.dim(1) <= kWidestRow, "expected rows of at most ", kWidestRow,
           " elements, got ", a.shape, " and ", b.shape);
  const DeviceGuard guard(device_);
  const Tensor c = empty(a.dtype, {rows, columns});
  dispatch_stored(a.dtype, [&](auto zero) {
    using S = decltype(zero);
    if (CublasltProducts* cublaslt = libraries_->products(a.dtype))
      if (cublaslt->multiply(a.dtype, a.raw(), b.raw(), c.raw(), rows, columns, depth, transpose_a, transpose_b))
        return;
    if (depth == 0) fill(c, 0);
    if (depth > 0 && c.numel() > 0)
      run_matmul(*this, Product<S>{a.data<S>(), b.data<S>(), rows, depth, columns, a.dim(1), b.dim(1)}, c.data<S>(),
                 transpose_a, transpose_b);
  });
  return c;
}

}  // namespace fm
