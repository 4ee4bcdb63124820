#include "rows.inl"

// to[j] = ‖x_row − x_j‖² for j in [row + 1, rows), four at a time.
template <class T>
static void squared_distances_row(const T* x, int64_t row, int64_t rows, int64_t width, T* to) {
  const T* own = x + row * width;
  int64_t j = row + 1;
  for (; j + 4 <= rows; j += 4) {
    const T* other = x + j * width;
    Vec<T> sums[4] = {};
    each_vector<T>(width, [&](int64_t i, int lanes) FM_BODY {
      const Vec<T> v = load_part(own + i, lanes);
#pragma GCC unroll 4
      for (int k = 0; k < 4; k++) {
        const Vec<T> difference = v - load_part(other + k * width + i, lanes);
        sums[k] = sums[k] + difference * difference;
      }
    });
    for (int k = 0; k < 4; k++) to[j + k] = sum_lanes<T>(sums[k]);
  }
  for (; j < rows; j++) {
    Vec<T> sum{};
    each_vector<T>(width, [&](int64_t i, int lanes) FM_BODY {
      const Vec<T> difference = load_part(own + i, lanes) - load_part(x + j * width + i, lanes);
      sum = sum + difference * difference;
    });
    to[j] = sum_lanes<T>(sum);
  }
}

// dx of one row; a pair that no one asks about costs nothing.
template <class T>
static void squared_distances_backward_row(const T* dy, const T* x, int64_t row, int64_t rows, int64_t width, T* dx) {
  const T* own = x + row * width;
  for (int64_t i = 0; i < width; i++) dx[i] = T(0);
  for (int64_t j = 0; j < rows; j++) {
    const T weight = 2 * (dy[row * rows + j] + dy[j * rows + row]);
    if (j == row || weight == T(0)) continue;
    const Vec<T> w = splat(weight);
    const T* other = x + j * width;
    each_vector<T>(width, [&](int64_t i, int lanes) FM_BODY {
      const Vec<T> difference = load_part(own + i, lanes) - load_part(other + i, lanes);
      store_part(dx + i, load_part(dx + i, lanes) + w * difference, lanes);
    });
  }
}
