// Matrices for the GEMM kernels of gemm.inl.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fm {

// Element (i, j) is at data[i·row + j·column].
template <class T>
struct MatrixView {
  const T* data;
  size_t row, column;
};

// The right operand [K, columns] as panels of `width` columns.  Packed: panel p is contiguous [K][width].  In place: a
// row-major matrix; a last panel that is not whole is packed at `tail`.
template <class T>
struct Panels {
  const T* data;
  size_t panel_step, k_step;
  const T* tail;
  int64_t width, columns;
  int64_t count() const { return (columns + width - 1) / width; }
};

constexpr int64_t kGemmRows = 112;   // rows of C a chunk, a multiple of the micro-kernel's 14
constexpr int64_t kGemmDepth = 256;  // k a pass: a packed panel of it fits the L1 cache

// C[rows, columns] = A[rows, depth]·B[depth, columns]; C's rows are c_row elements apart.
template <class T>
void gemm(MatrixView<T> a, MatrixView<T> b, int64_t rows, int64_t depth, int64_t columns, T* c, size_t c_row);

}  // namespace fm
