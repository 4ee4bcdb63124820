#include "gemm.h"

#include "allocator.h"
#include "backend.h"
#include "parallel.h"

#define FM_KERNELS "gemm.inl"
#include "for_each_isa.h"

namespace fm {
namespace {

constexpr int64_t kScratch = kGemmRows * (kGemmDepth + 16);

}  // namespace

template <class T>
void gemm(MatrixView<T> a, MatrixView<T> b, int64_t rows, int64_t depth, int64_t columns, T* c, size_t c_row) {
  if (b.row == 1 && b.column != 1 && rows <= kGemmRows / 2 && columns > rows) {
    // Few rows times a transposed matrix: packing b would cost more than the product, so b becomes the left operand.
    Scratch<T> transposed(size_t(rows) * columns);
    gemm<T>({b.data, b.column, b.row}, {a.data, a.column, a.row}, columns, depth, rows, transposed.data(), rows);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = 0; j < columns; j++) c[r * c_row + j] = transposed[j * rows + r];
    return;
  }
  const auto pack = FM_KERNEL(pack_panel<T>);
  const auto multiply = FM_KERNEL(gemm_rows<T>);
  const int64_t width = FM_KERNEL(panel_width<T>)(columns);
  const int64_t count = (columns + width - 1) / width, whole = columns / width;
  const bool in_place = b.column == 1 && rows <= kGemmRows / 2;  // too few rows to repay the packing
  const int64_t packed_first = in_place ? whole : 0;
  Scratch<T> packed(size_t(count - packed_first) * depth * width), scratch(size_t(kScratch) * num_threads());
  parallel_for(count - packed_first, [&](int64_t i) {
    const int64_t first = (packed_first + i) * width;
    pack(b, first, std::min(width, columns - first), depth, width, packed.data() + i * depth * width);
  });
  const Panels<T> panels =
      in_place ? Panels<T>{b.data, size_t(width), b.row, packed.data(), width, columns}
               : Panels<T>{packed.data(), size_t(depth * width), size_t(width), nullptr, width, columns};
  const int64_t group = 8;  // panels a chunk
  const int64_t row_chunks = (rows + kGemmRows - 1) / kGemmRows, column_chunks = (count + group - 1) / group;
  parallel_for(row_chunks * column_chunks, [&](int64_t chunk, int thread) {
    const int64_t row = chunk % row_chunks * kGemmRows, first = chunk / row_chunks * group;
    multiply({a.data + row * a.row, a.row, a.column}, std::min(kGemmRows, rows - row), depth, panels, first,
             std::min(first + group, count), c + row * c_row + first * width, c_row,
             scratch.data() + thread * kScratch);
  });
}
template void gemm(MatrixView<float>, MatrixView<float>, int64_t, int64_t, int64_t, float*, size_t);
template void gemm(MatrixView<double>, MatrixView<double>, int64_t, int64_t, int64_t, double*, size_t);

Tensor CpuBackend::matmul(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b) {
  check_rank("a", a, 2);
  check_rank("b", b, 2);
  check_same_device(a, b);
  check_dtype("b", b, a.dtype);
  const int64_t rows = a.dim(transpose_a), depth = a.dim(!transpose_a), columns = b.dim(!transpose_b);
  FM_CHECK(shape, b.dim(transpose_b) == depth, "expected inner extents to agree, got ", a.shape, transpose_a ? "ᵀ" : "",
           " · ", b.shape, transpose_b ? "ᵀ" : "");
  return dispatch_float(a.dtype, [&](auto zero) {
    using T = decltype(zero);
    Tensor c = cpu_empty<T>({rows, columns});
    if (depth == 0) fill(c, 0);
    if (depth == 0 || rows == 0 || columns == 0) return c;
    MatrixView<T> left{a.data<T>(), size_t(a.dim(1)), 1}, right{b.data<T>(), size_t(b.dim(1)), 1};
    if (transpose_a) std::swap(left.row, left.column);
    if (transpose_b) std::swap(right.row, right.column);
    gemm(left, right, rows, depth, columns, c.data<T>(), size_t(columns));
    return c;
  });
}

}  // namespace fm
