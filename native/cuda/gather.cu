// Rows by index, and their sum back into where they came from.
#include "backend.h"
#include "chains.cuh"
#include "report.h"
#include "rows.cuh"
#include "rows.h"

namespace fm {
namespace {

struct Index {
  const int32_t* at;  // [N]
  int64_t N, rows;
  Refusals refused;

  __device__ bool refuses(int64_t i) const { return at[i] < 0 || at[i] >= rows; }
};

// Word is as large as an element.
template <class Word, int kRowThreads>
__global__ void gather_kernel(Index index, const Word* x, int64_t D, Word* y) {
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= index.N) return;
  if (index.refuses(i)) {
    if (thread_of_row<kRowThreads>() == 0) index.refused.note(i);
    return;
  }
  const Word* const from = x + index.at[i] * D;
  for (int64_t d = thread_of_row<kRowThreads>(); d < D; d += kRowThreads) y[i * D + d] = from[d];
}

// The rows of x that go to one place form a chain.
__global__ void links_kernel(Index index, int32_t* next, bool* first) {
  const int64_t i = thread_of_grid();
  if (i >= index.N) return;
  if (index.refuses(i)) index.refused.note(i);
  const Link link = link_of(index.at, index.N, i);
  next[i] = int32_t(link.next);
  first[i] = link.first;
}

// Nothing is added where an index was refused.
template <class T, int kRowThreads>
__global__ void scatter_add_kernel(Index index, const int32_t* next, const bool* first, const T* x, int64_t D,
                                   T* into) {
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= index.N || !first[i] || *index.refused.lowest != ~0ull) return;
  T* const to = into + index.at[i] * D;
  for (int64_t d = thread_of_row<kRowThreads>(); d < D; d += kRowThreads) {
    T sum = to[d];
    for (int64_t j = i; j >= 0; j = next[j]) sum += x[j * D + d];
    to[d] = sum;
  }
}

Index index_of(Report& report, const Tensor& index, int64_t rows) {
  const int32_t* const at = index.data<int32_t>();
  return {at, index.dim(0), rows,
          report.check([&report, at, rows](int64_t i) { fail_index(report.read(at + i, 1)[0], rows, i); })};
}

template <class F>
void dispatch_word(Dtype dtype, F&& f) {
  switch (size_of(dtype)) {
    case 1: return f(uint8_t{});
    case 2: return f(uint16_t{});
    case 4: return f(uint32_t{});
    default: return f(uint64_t{});
  }
}

}  // namespace

Tensor CudaBackend::gather_rows(const Tensor& x, const Tensor& index) {
  check_gather(x, index);
  check_here("x", x);
  const DeviceGuard guard(device_);
  const int64_t D = x.dim(1);
  Tensor y = empty(x.dtype, {index.dim(0), D});
  Report report(*this);
  const Index from = index_of(report, index, x.dim(0));
  dispatch_word(x.dtype, [&](auto zero) {
    using Word = decltype(zero);
    for_rows(from.N, D, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, gather_kernel<Word, row_threads()>, from, static_cast<const Word*>(x.raw()), D,
             static_cast<Word*>(y.raw()));
    });
  });
  report.finish();
  return y;
}

void CudaBackend::scatter_add_rows(const Tensor& into, const Tensor& index, const Tensor& x) {
  check_scatter_add(into, index, x);
  check_here("into", into);
  const DeviceGuard guard(device_);
  changed(into);
  const int64_t D = into.dim(1);
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Report report(*this);
    const Index to = index_of(report, index, into.dim(0));
    FM_CHECK(shape, to.N <= std::numeric_limits<int32_t>::max(), "expected fewer than 2^31 rows, got ", to.N);
    int32_t* const next = report.scratch<int32_t>(to.N);
    bool* const first = report.scratch<bool>(to.N);
    launch_for_each(stream_, to.N, links_kernel, to, next, first);
    for_rows(to.N, D, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, scatter_add_kernel<T, row_threads()>, to, next, first, x.data<T>(), D,
             into.data<T>());
    });
    report.finish();
  });
}

}  // namespace fm
