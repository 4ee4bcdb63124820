// What a call's kernels refuse and the sums that it returns: a few words on the device, read once, at its end.  Nothing
// waits before; a kernel that meets a row it must refuse notes it and leaves that row's results alone.
#pragma once
#include <functional>
#include <vector>

#include "../common/kernel_checks.h"
#include "backend.h"
#include "launch.h"
#include "reduce.cuh"

namespace fm {

struct ReportData {
  static constexpr int kChecks = 8, kSums = 2;
  unsigned long long lowest[kChecks];  // the lowest row that a check refuses, the largest number where there is none
  double labelled;                     // rows with a target
  double sums[kSums];
};

// --- on the device -----------------------------------------------------------------------------------------------

struct Refusals {
  unsigned long long* lowest;
  __device__ void note(int64_t row) const { atomicMin(lowest, (unsigned long long)row); }
};

// Rows of x [N, width], or nothing, whose elements are to be at most `limit` in magnitude.
template <class T>
struct CheckedRows {
  const T* x = nullptr;
  int64_t width = 0;
  T limit = 0;
  Refusals refused{nullptr};
};

// For all kThreads threads of the row.
template <int kThreads, class T>
__device__ bool good_row(const CheckedRows<T>& rows, int64_t row) {
  if (!rows.x) return true;
  const T* const x = rows.x + row * rows.width;
  const int first = int(threadIdx.x) % kThreads;
  int bad = 0;
  for (int64_t i = first; i < rows.width; i += kThreads) bad |= !(std::fabs(x[i]) <= rows.limit);  // NaN is bad
  bad = row_reduce<kThreads>(bad, Max{});
  if (bad && first == 0) rows.refused.note(row);
  return !bad;
}

// int32 [N] in [−1, classes).
struct Labels {
  const int32_t* at;
  int64_t classes;
  const double* labelled;  // how many rows have a target

  // −1 also for what is refused.
  __device__ int64_t of(int64_t row) const {
    const int64_t label = at[row];
    return label >= 0 && label < classes ? label : -1;
  }
  __device__ bool refuses(int64_t row) const { return at[row] < -1 || at[row] >= classes; }
  // What a mean over the rows with a target gives each.
  __device__ double share() const { return *labelled > 0 ? 1 / *labelled : 0; }
};

// x, or the largest number of its sign.
template <class T>
__device__ T in_range(T x) {
  return x > kLargestNumber<T> ? kLargestNumber<T> : x < -kLargestNumber<T> ? -kLargestNumber<T> : x;
}

// --- on the host ---------------------------------------------------------------------------------------------------

template <class T>
T* data_or_null(const OptionalTensor& x) {
  return x ? x->data<T>() : nullptr;
}

class Report {
 public:
  explicit Report(CudaBackend& gpu);

  // A check, and what is said of the lowest row that it refuses.  Of several that refuse, the first speaks.
  Refusals check(std::function<void(int64_t row)> say);

  // wanted: the limit in words.
  template <class T>
  CheckedRows<T> rows(const char* what, const char* wanted, const T* x, int64_t width, double limit) {
    const double largest = kLargestNumber<T>;
    const T most = T(limit < largest ? limit : largest);
    if (!x) return {};
    return {x, width, most, check([this, what, wanted, x, width, most](int64_t row) {
              const std::vector<T> values = read(x + row * width, width);
              int64_t k = 0;
              while (std::fabs(values[k]) <= most) k++;
              fail_element(what, wanted, values[k], row, k);
            })};
  }
  template <class T>
  CheckedRows<T> finite_rows(const char* what, const T* x, int64_t width) {
    return rows(what, "", x, width, kLargestNumber<T>);
  }
  Labels labels(const Tensor& labels, int64_t classes);

  template <class T>
  T* scratch(int64_t count) {
    return scratch_.take<T>(count);
  }
  template <class T>
  std::vector<T> read(const T* from, int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    gpu_.read(values.data(), from, values.size() * sizeof(T));
    return values;
  }
  // Σ of_row[N], which the report will hold as sums[which].
  void add_up(int which, const double* of_row, int64_t N);

  // Waits for the device; throws what was refused.
  ReportData finish();

 private:
  CudaBackend& gpu_;
  DeviceScratch scratch_;
  ReportData* on_device_;
  std::vector<std::function<void(int64_t)>> checks_;
};

}  // namespace fm
