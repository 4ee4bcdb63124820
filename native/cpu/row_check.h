// What the separate kernels ask of their arguments: rows that are finite and not too large, labels of a class.
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>

#include "../common/kernel_checks.h"
#include "parallel.h"

namespace fm {

// Calls f(row) for every row, in chunks that depend on the width alone.
template <class F>
void parallel_rows(int64_t rows, int64_t width, F&& f) {
  parallel_ranges(rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) f(i);
  });
}

// The first of the rows that something is wrong with, whichever thread meets it first.
class FirstBad {
 public:
  void report(int64_t row) {
    int64_t seen = row_.load();
    while (row < seen && !row_.compare_exchange_weak(seen, row)) {}
  }
  int64_t row() const {
    const int64_t row = row_.load();
    return row == kNone ? -1 : row;
  }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> row_{kNone};
};

// Rows of x, each looked at when it is about to be used, while it is on its way to the cache anyway.
// x: [N, width]; peak: the kernel of that name; wanted: the range in words, for values above `limit` in magnitude.
template <class T>
class RowCheck {
 public:
  RowCheck(const char* what, const char* wanted, const T* x, int64_t width, double limit, T (*peak)(const T*, int64_t))
      : what_(what),
        wanted_(wanted),
        x_(x),
        width_(width),
        limit_(T(std::min(limit, double(std::numeric_limits<T>::max())))),
        peak_(peak) {}

  bool good(int64_t row) {
    if (peak_(x_ + row * width_, width_) <= limit_) return true;
    bad_.report(row);
    return false;
  }
  void finish() const {
    const int64_t row = bad_.row();
    if (row < 0) return;
    int64_t k = 0;
    while (std::fabs(x_[row * width_ + k]) <= limit_) k++;
    fail_element(what_, wanted_, x_[row * width_ + k], row, k);
  }

 private:
  const char *what_, *wanted_;
  const T* x_;
  int64_t width_;
  T limit_;
  T (*peak_)(const T*, int64_t);
  FirstBad bad_;
};

template <class T>
void check_norms(const char* what, const T* norm, int64_t rows, int64_t first = 0) {
  for (int64_t i = 0; i < rows; i++)
    if (!std::isfinite(norm[i])) fail_row_norm(what, norm[i], first + i);
}

// In [−1, classes); returns how many rows have a target.
inline int64_t check_labels(const Tensor& labels, int64_t classes) {
  const int32_t* label = labels.data<int32_t>();
  int64_t labelled = 0;
  for (int64_t i = 0; i < labels.dim(0); i++) {
    if (label[i] < -1 || label[i] >= classes) fail_label(label[i], classes, i);
    labelled += label[i] >= 0;
  }
  return labelled;
}

// Mean over the rows with a target; each row's part is divided first, so that a sum of large ones stays finite.
template <class T>
double mean_of_rows(const T* of_row, const int32_t* label, int64_t rows, int64_t labelled) {
  double mean = 0;
  for (int64_t i = 0; i < rows; i++)
    if (label[i] >= 0) mean += of_row[i] / double(labelled);
  return mean;
}

}  // namespace fm
