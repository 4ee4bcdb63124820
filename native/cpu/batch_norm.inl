// Passes over one chunk of rows (channels.h).
#include "rows.inl"

// mean[width], m2[width]: the chunk's mean and Σ (x − mean)² a column.  n = 16 rows are summed about the first of them,
// which is within √n deviations of their mean: a mean far from 0 costs no digits, and the first being far from the others
// about n²·2⁻²⁴ of the variance at most.  What n rows have is joined by Chan's formula.
constexpr int64_t kRowsOfMoments = 16;
template <class T>
static void moments_chunk(const T* x, int64_t count, int64_t width, T* block, double* mean, double* m2) {
  T *sum = block, *square = block + width;
  fill_columns(mean, width, 0.0);
  fill_columns(m2, width, 0.0);
  const auto join = [&](const T* about, int64_t columns, double before, double rows) {
    const double share = rows / (before + rows), cross = before * share;
    for (int64_t j = 0; j < columns; j++) {
      const double off = double(sum[j]) / rows, delta = double(about[j]) + off - mean[j];
      const double inside = double(square[j]) - double(sum[j]) * off;
      mean[j] += delta * share;
      m2[j] += (inside < 0 ? 0 : inside) + delta * delta * cross;  // below 0 by rounding; NaN stays NaN
    }
  };
  const int64_t rows = count / width, left = count % width;
  for (int64_t row = 0; row < rows; row += kRowsOfMoments) {
    const int64_t size = std::min(kRowsOfMoments, rows - row);
    fill_columns(block, 2 * width, T(0));
    sum_moment_columns(x + row * width, size, width, sum, square);
    join(x + row * width, width, double(row), double(size));
  }
  if (left > 0) {  // the first pixels of one more row
    fill_columns(block, 2 * width, T(0));
    join(x + rows * width, left, double(rows), 1);
  }
}

// Of the elements i, in the columns j.
template <class T>
FM_INLINE Vec<T> normed(const Norm<T>& norm, const T* x, int64_t i, int64_t j, int lanes) {
  const Vec<T> centered = load_part(x + i, lanes) - load_part(norm.mean + j, lanes);
  return centered * load_part(norm.gain + j, lanes) + load_part(norm.bias + j, lanes);
}

// y = norm(x), plus shortcut where there is one.
template <class T>
static void normalize_chunk(const T* x, int64_t count, int64_t width, const Norm<T>& norm, const T* shortcut, T* y) {
  const auto store_rows = [&](auto&& behind) FM_BODY {  // behind(normed, i, j, lanes)
    each_row_vector<T>(count, width, [&](int64_t i, int64_t j, int lanes) FM_BODY {
      store_part(y + i, behind(normed(norm, x, i, j, lanes), i, j, lanes), lanes);
    });
  };
  if (norm.slope)
    store_rows([&](Vec<T> v, int64_t, int64_t j, int lanes)
                   FM_BODY { return bent<T>(v, load_part(norm.slope + j, lanes)); });
  else if (shortcut)
    store_rows([&](Vec<T> v, int64_t i, int64_t, int lanes) FM_BODY { return v + load_part(shortcut + i, lanes); });
  else store_rows([](Vec<T> v, int64_t, int64_t, int) FM_BODY { return v; });
}

// sums[0][width] = Σ dy,  sums[1][width] = Σ dy·(x − mean),  with a slope also sums[2][width] = Σ dy·min(y, 0).
// block: these sums in T, and with a slope kRowsInT rows.
template <class T>
static void backward_sums_chunk(const T* dy, const T* x, int64_t count, int64_t width, const Norm<T>& norm, T* block,
                                double* sums) {
  const int64_t kinds = norm.slope ? 3 : 2;
  T *sum = block, *product = sum + width;
  fill_columns(sums, kinds * width, 0.0);
  for (int64_t start = 0; start < count; start += kRowsInT * width) {
    const int64_t size = std::min(kRowsInT * width, count - start), rows = size / width;
    const T *g = dy + start, *from = x + start;
    fill_columns(block, kinds * width, T(0));
    if (norm.slope) {
      T *d_slope = product + width, *in_front = d_slope + width;
      each_row_vector<T>(size, width, [&](int64_t i, int64_t j, int lanes) FM_BODY {
        const Vec<T> y = normed(norm, from, i, j, lanes), gradient = load_part(g + i, lanes);
        store_part(in_front + i, unbent<T>(gradient, y, load_part(norm.slope + j, lanes)), lanes);
        store_part(d_slope + j, load_part(d_slope + j, lanes) + slope_term<T>(gradient, y), lanes);
      });
      g = in_front;
    }
    sum_product_columns(g, from, rows, width, norm.mean, sum, product);
    for (int64_t j = 0; j < size % width; j++) {
      const T gradient = g[rows * width + j];
      sum[j] += gradient;
      product[j] += gradient * (from[rows * width + j] - norm.mean[j]);
    }
    for (int64_t j = 0; j < kinds * width; j++) sums[j] += double(block[j]);
  }
}

// dx = dy·gain + (x − mean)·tilt + offset
template <class T>
static void backward_chunk(const T* dy, const T* x, int64_t count, int64_t width, const Norm<T>& norm, const T* tilt,
                           const T* offset, T* dx) {
  const auto store_rows = [&](auto&& gradient) FM_BODY {  // gradient(i, j, lanes)
    each_row_vector<T>(count, width, [&](int64_t i, int64_t j, int lanes) FM_BODY {
      const Vec<T> centered = load_part(x + i, lanes) - load_part(norm.mean + j, lanes);
      const Vec<T> shared = centered * load_part(tilt + j, lanes) + load_part(offset + j, lanes);
      store_part(dx + i, gradient(i, j, lanes) * load_part(norm.gain + j, lanes) + shared, lanes);
    });
  };
  if (norm.slope)
    store_rows([&](int64_t i, int64_t j, int lanes) FM_BODY {
      return unbent<T>(load_part(dy + i, lanes), normed(norm, x, i, j, lanes), load_part(norm.slope + j, lanes));
    });
  else store_rows([&](int64_t i, int64_t, int lanes) FM_BODY { return load_part(dy + i, lanes); });
}
