// Cosines between rows, [N, D] × [R, D] → [N, R].  Weight is taken in blocks of rows, so that what is normalised beside
// the arguments is one block, however many rows there are.
#include "../common/head_rows.h"
#include "allocator.h"
#include "backend.h"
#include "gemm.h"
#include "row_check.h"

#define FM_KERNELS "cosine_logits.inl"
#include "for_each_isa.h"

namespace fm {
namespace {

constexpr int64_t kBlock = 4096;  // rows of weight

// Rows of unit length, and what they were divided by.
template <class T>
struct UnitRows {
  int64_t D;
  Scratch<T> rows, norms;

  UnitRows(int64_t most, int64_t D) : D(D), rows(size_t(most) * D), norms(size_t(most)) {}

  void take(const char* what, const T* x, int64_t first, int64_t count) {
    const auto kernel = FM_KERNEL(normalize_rows<T>);
    parallel_ranges(count, std::max<int64_t>(1, 16384 / D), [&](int64_t begin, int64_t end) {
      kernel(x + (first + begin) * D, end - begin, D, rows.data() + begin * D, norms.data() + begin);
    });
    check_norms(what, norms.data(), count, first);
  }
  // d with respect to the unit rows → to the rows, in place or not: (d − e⟨d, e⟩)/‖x‖, or d itself unless `project`.
  void project(const T* d, int64_t count, bool project, T* to) const {
    const auto kernel = FM_KERNEL(normalize_backward_row<T>);
    parallel_rows(count, D, [&](int64_t i) {
      if (norms[i] < T(kTiny)) return std::fill_n(to + i * D, D, T(0)), void();
      if (project) kernel(d + i * D, rows.data() + i * D, norms[i], T(0), D, to + i * D);
    });
  }
};

}  // namespace

void CpuBackend::cosine_logits_forward(const Tensor& features, const Tensor& weight, const Tensor& cosines) {
  const int64_t R = check_cosine_logits(features, weight), N = features.dim(0), D = features.dim(1);
  check_result("out", cosines, {N, R}, features);
  dispatch_float(features.dtype, [&](auto zero) {
    using T = decltype(zero);
    UnitRows<T> embeddings(N, D), block(std::min(R, kBlock), D);
    embeddings.take("features", features.data<T>(), 0, N);
    for (int64_t first = 0; first < R; first += kBlock) {
      const int64_t count = std::min(kBlock, R - first);
      block.take("weight", weight.data<T>(), first, count);
      gemm<T>({embeddings.rows.data(), size_t(D), 1}, {block.rows.data(), 1, size_t(D)}, N, D, count,
              cosines.data<T>() + first, size_t(R));
    }
  });
}

void CpuBackend::cosine_logits_backward(const Tensor& d_cosines, const Tensor& features, const Tensor& weight,
                                        bool project, const OptionalTensor& d_features,
                                        const OptionalTensor& d_weight) {
  const int64_t R = check_cosine_logits(features, weight), N = features.dim(0), D = features.dim(1);
  check_result("dCosines", d_cosines, {N, R}, features);
  if (d_features) check_result("out.dFeatures", *d_features, features.shape, features);
  if (d_weight) check_result("out.dWeight", *d_weight, weight.shape, weight);
  dispatch_float(features.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* const d = d_cosines.data<T>();
    RowCheck<T> check("dCosines", kGradientRange, d, R, kLargestGradient<T>, FM_KERNEL(peak<T>));
    parallel_rows(N, R, [&](int64_t i) { check.good(i); });
    check.finish();
    UnitRows<T> embeddings(N, D), block(std::min(R, kBlock), D);
    embeddings.take("features", features.data<T>(), 0, N);
    const int64_t size = d_features ? N * D : 0;
    Scratch<T> part(size);
    Scratch<double> sum(size);  // over the blocks
    std::fill_n(sum.data(), size, 0.0);
    const auto add = FM_KERNEL(add_range<T>);
    for (int64_t first = 0; first < R; first += kBlock) {
      const int64_t count = std::min(kBlock, R - first);
      block.take("weight", weight.data<T>(), first, count);
      if (d_weight) {
        T* const to = d_weight->data<T>() + first * D;
        gemm<T>({d + first, 1, size_t(R)}, {embeddings.rows.data(), size_t(D), 1}, count, N, D, to, size_t(D));
        block.project(to, count, project, to);
      }
      if (!d_features) continue;
      gemm<T>({d + first, size_t(R), 1}, {block.rows.data(), size_t(D), 1}, N, count, D, part.data(), size_t(D));
      parallel_ranges(size, 32768, [&](int64_t i, int64_t end) { add(part.data() + i, end - i, sum.data() + i); });
    }
    if (!d_features) return;
    for (int64_t i = 0; i < size; i++) part[i] = saturated<T>(sum[i]);
    embeddings.project(part.data(), N, true, d_features->data<T>());
  });
}

}  // namespace fm
