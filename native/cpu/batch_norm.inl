// Passes over one chunk of rows (channels.h).  Sums run in T over blocks of 64 rows, and in double over the blocks.
#include "rows.inl"

constexpr int64_t kBlock = 64;

// mean[width], m2[width]: the chunk's mean and Σ (x − mean)² a column.  Each block is read twice, the second time from
// cache, about its own mean, so that a mean far from 0 costs no digits; blocks are joined by Chan's formula.
template <class T>
static void moments_chunk(const T* x, int64_t count, int64_t width, T* block, double* mean, double* m2) {
  T *sum = block, *square = block + width;
  fill_columns(mean, width, 0.0);
  fill_columns(m2, width, 0.0);
  const auto join = [&](int64_t columns, double before, double rows) {
    const double share = rows / (before + rows), cross = before * share;
    for (int64_t j = 0; j < columns; j++) {
      const double delta = double(sum[j]) - mean[j];
      mean[j] += delta * share;
      m2[j] += double(square[j]) + delta * delta * cross;
    }
  };
  const int64_t rows = count / width, left = count % width;
  for (int64_t row = 0; row < rows; row += kBlock) {
    const int64_t size = std::min(kBlock, rows - row);
    const T* from = x + row * width;
    const Vec<T> inverse = splat(T(1) / T(size));
    for (int64_t j = 0; j < width; j += kLanes<T>) store(sum + j, Vec<T>{});
    sum_columns(from, size, width, sum);
    for (int64_t j = 0; j < width; j += kLanes<T>) {
      store(sum + j, load(sum + j) * inverse);
      store(square + j, Vec<T>{});
    }
    sum_square_columns(from, size, width, sum, square);
    join(width, double(row), double(size));
  }
  if (left > 0) {  // the first pixels of one more row
    for (int64_t j = 0; j < left; j++) {
      sum[j] = x[rows * width + j];
      square[j] = 0;
    }
    join(left, double(rows), 1);
  }
}

// y = (x − mean)·factor + bias
template <class T>
static void normalize_chunk(const T* x, int64_t count, int64_t width, const T* mean, const T* factor, const T* bias,
                            T* y) {
  each_row_vector<T>(count, width, [&](int64_t i, int64_t j, int lanes) FM_BODY {
    const Vec<T> centered = load_part(x + i, lanes) - load_part(mean + j, lanes);
    store_part(y + i, centered * load_part(factor + j, lanes) + load_part(bias + j, lanes), lanes);
  });
}

// sums[0][width] = Σ dy,  sums[1][width] = Σ dy·(x − mean)
template <class T>
static void backward_sums_chunk(const T* dy, const T* x, int64_t count, int64_t width, const T* mean, T* block,
                                double* sums) {
  T *sum = block, *product = block + width;
  fill_columns(sums, 2 * width, 0.0);
  for (int64_t start = 0; start < count; start += kBlock * width) {
    const int64_t size = std::min(kBlock * width, count - start), rows = size / width;
    fill_columns(block, 2 * width, T(0));
    sum_product_columns(dy + start, x + start, rows, width, mean, sum, product);
    for (int64_t j = 0; j < size % width; j++) {
      const T g = dy[start + rows * width + j];
      sum[j] += g;
      product[j] += g * (x[start + rows * width + j] - mean[j]);
    }
    for (int64_t j = 0; j < 2 * width; j++) sums[j] += double(block[j]);
  }
}

// dx = dy·factor + (x − mean)·slope + offset
template <class T>
static void backward_chunk(const T* dy, const T* x, int64_t count, int64_t width, const T* mean, const T* factor,
                           const T* slope, const T* offset, T* dx) {
  each_row_vector<T>(count, width, [&](int64_t i, int64_t j, int lanes) FM_BODY {
    const Vec<T> centered = load_part(x + i, lanes) - load_part(mean + j, lanes);
    const Vec<T> shared = centered * load_part(slope + j, lanes) + load_part(offset + j, lanes);
    store_part(dx + i, load_part(dy + i, lanes) * load_part(factor + j, lanes) + shared, lanes);
  });
}
