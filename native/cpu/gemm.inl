#include "tile.inl"

// to[K][width] = columns [first, first + count) of b, zeros beyond.
template <class T>
static void pack_panel(MatrixView<T> b, int64_t first, int64_t count, int64_t depth, int64_t width, T* to) {
  const T* from = b.data + first * b.column;
  if (b.column == 1) {
    for (int64_t k = 0; k < depth; k++, to += width, from += b.row) {
      for (int64_t j = 0; j < count; j++) to[j] = from[j];
      for (int64_t j = count; j < width; j++) to[j] = T(0);
    }
    return;
  }
  for (int64_t k0 = 0; k0 < depth; k0 += 16) {  // a cache line of each column at a time
    const int64_t k1 = std::min(k0 + 16, depth);
    for (int64_t j = 0; j < count; j++)
      for (int64_t k = k0; k < k1; k++) to[k * width + j] = from[k * b.row + j * b.column];
    for (int64_t j = count; j < width; j++)
      for (int64_t k = k0; k < k1; k++) to[k * width + j] = T(0);
  }
}

// C[rows, panels first … last] = A·B; c is C's element at the first row and the first panel.  scratch: gemm_scratch() elements.
template <class T>
static void gemm_rows(MatrixView<T> a, int64_t rows, int64_t depth, const Panels<T>& b, int64_t first, int64_t last,
                      T* c, size_t c_row, T* scratch) {
  constexpr int64_t kPitch = kGemmDepth + 16;
  for (int64_t k0 = 0; k0 < depth; k0 += kGemmDepth) {
    const int64_t size = std::min(kGemmDepth, depth - k0);
    const T* left = a.data + k0 * a.column;
    size_t left_row = a.row, left_step = a.column;
    if (a.column == 1 && last - first > 3) {  // rows a power of two apart would share a set of the cache
      for (int64_t r = 0; r < rows; r++) std::copy_n(left + r * a.row, size, scratch + r * kPitch);
      left = scratch;
      left_row = kPitch;
    }
    for (int64_t p = first; p < last; p++) {
      const int64_t columns = std::min(b.width, b.columns - p * b.width);
      const bool packed_tail = b.tail && columns < b.width;
      const size_t k_step = packed_tail ? size_t(b.width) : b.k_step;
      const T* right = (packed_tail ? b.tail : b.data + p * b.panel_step) + k0 * k_step;
      const EvenRows<T> to{c + (p - first) * b.width, c_row};
      if (left_row == 1) tiles(b.width, left, UnitRow{}, left_step, right, k_step, size, rows, to, k0 > 0, columns);
      else tiles(b.width, left, left_row, left_step, right, k_step, size, rows, to, k0 > 0, columns);
    }
  }
}
