// Rows by index, and their sum back into where they came from.
#include <algorithm>
#include <cstring>

#include "../common/kernel_checks.h"
#include "backend.h"
#include "parallel.h"

namespace fm {
namespace {

const int32_t* checked_index(const Tensor& index, int64_t rows) {
  const int32_t* at = index.data<int32_t>();
  for (int64_t i = 0; i < index.dim(0); i++)
    if (at[i] < 0 || at[i] >= rows) fail_index(at[i], rows, i);
  return at;
}

}  // namespace

Tensor CpuBackend::gather_rows(const Tensor& x, const Tensor& index) {
  check_gather(x, index);
  const int32_t* at = checked_index(index, x.dim(0));
  const int64_t count = index.dim(0);
  const size_t bytes = size_t(x.dim(1)) * size_of(x.dtype);
  Tensor y = empty(x.dtype, {count, x.dim(1)});
  const auto* from = static_cast<const char*>(x.raw());
  auto* to = static_cast<char*>(y.raw());
  const int64_t grain = std::max<int64_t>(1, 65536 / int64_t(std::max<size_t>(1, bytes)));
  parallel_ranges(count, grain, [&](int64_t i, int64_t end) {
    for (; i < end; i++) std::memcpy(to + size_t(i) * bytes, from + size_t(at[i]) * bytes, bytes);
  });
  return y;
}

void CpuBackend::scatter_add_rows(const Tensor& into, const Tensor& index, const Tensor& x) {
  check_scatter_add(into, index, x);
  const int64_t width = into.dim(1);
  const int32_t* at = checked_index(index, into.dim(0));
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.data<T>();
    T* to = into.data<T>();
    // By columns: rows that meet in one place are added in their order, whoever takes the columns.
    parallel_ranges(width, 64, [&](int64_t column, int64_t end) {
      for (int64_t i = 0; i < x.dim(0); i++) {
        T* sum = to + at[i] * width;
        for (int64_t j = column; j < end; j++) sum[j] += from[i * width + j];
      }
    });
  });
}

}  // namespace fm
