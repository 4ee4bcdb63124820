#include "search.h"

#include <limits>
#include <mutex>

#include "../common/kernel_checks.h"
#include "allocator.h"
#include "backend.h"
#include "gemm.h"
#include "parallel.h"

#define FM_KERNELS "search.inl"
#include "for_each_isa.h"

namespace fm {
namespace {

constexpr int64_t kScratch = kGemmRows * (kGemmDepth + 16);
constexpr int64_t kColumns = 512;  // scores a row of one tile

// rows [first, first + count) of x [·, d], packed as the right operand of ·xᵀ.
Panels<float> pack_rows(const float* x, int64_t first, int64_t count, int64_t d, float* packed) {
  const auto pack = FM_KERNEL(pack_panel<float>);
  const int64_t width = 2 * FM_KERNEL(lanes<float>)();
  const MatrixView<float> view{x + first * d, 1, size_t(d)};
  const Panels<float> panels{packed, size_t(d * width), size_t(width), nullptr, width, count};
  parallel_for(panels.count(), [&](int64_t p) {
    pack(view, p * width, std::min(width, count - p * width), d, width, packed + p * d * width);
  });
  return panels;
}
size_t packed_size(int64_t count, int64_t d) { return size_t(count + 32) * d; }

}  // namespace

void nearest(const float* queries, int64_t q, const float* gallery, int64_t g, int64_t d, int k, int32_t* index,
             float* score) {
  check_nearest(g, d, k);
  std::fill(index, index + q * k, -1);
  std::fill(score, score + q * k, -std::numeric_limits<float>::infinity());
  const auto multiply = FM_KERNEL(gemm_rows<float>);
  const auto offer = FM_KERNEL(offer_scores);
  const int64_t part = std::min<int64_t>(g, 8192);  // gallery rows packed at a time
  const int64_t rows = q >= 2 * kGemmRows ? kGemmRows : 14;
  Scratch<float> packed(packed_size(part, d)), scratch(size_t(kScratch + kGemmRows * kColumns) * num_threads());
  for (int64_t first = 0; first < g; first += part) {
    const Panels<float> panels = pack_rows(gallery, first, std::min(part, g - first), d, packed.data());
    const int64_t group = kColumns / panels.width;
    parallel_for((q + rows - 1) / rows, [&](int64_t chunk, int thread) {
      float *copies = scratch.data() + thread * (kScratch + kGemmRows * kColumns), *scores = copies + kScratch;
      const int64_t row = chunk * rows, count = std::min(rows, q - row);
      for (int64_t p = 0; p < panels.count(); p += group) {
        const int64_t end = std::min(p + group, panels.count()), column = p * panels.width;
        multiply({queries + row * d, size_t(d), 1}, count, d, panels, p, end, scores, kColumns, copies);
        for (int64_t r = 0; r < count; r++)
          offer(scores + r * kColumns, std::min(kColumns, panels.columns - column), first + column, k,
                index + (row + r) * k, score + (row + r) * k);
      }
    });
  }
}

Neighbours CpuBackend::nearest(const Tensor& queries, const Tensor& gallery, int64_t k) {
  check_nearest_rows(queries, gallery, k);
  const int64_t q = queries.dim(0);
  Neighbours out{cpu_empty<int32_t>({q, k}), cpu_empty<float>({q, k})};
  fm::nearest(queries.data<float>(), q, gallery.data<float>(), gallery.dim(0), queries.dim(1), int(k),
              out.index.data<int32_t>(), out.score.data<float>());
  return out;
}

void pair_histograms(const float* embeddings, const int32_t* labels, int64_t n, int64_t d, int64_t bins,
                     double* genuine, double* impostor) {
  FM_CHECK(range, bins >= 1 && bins <= (int64_t(1) << 22), "expected 1 to 2^22 bins, got ", bins);
  FM_CHECK(range, d >= 1, "expected d of at least 1, got ", d);
  std::fill(genuine, genuine + bins, 0.0);
  std::fill(impostor, impostor + bins, 0.0);
  const auto multiply = FM_KERNEL(gemm_rows<float>);
  const auto count_row = FM_KERNEL(count_scores);
  Scratch<float> packed(packed_size(n, d)), scratch(size_t(kScratch + kGemmRows * kColumns) * num_threads());
  const Panels<float> panels = pack_rows(embeddings, 0, n, d, packed.data());
  const int64_t group = kColumns / panels.width;

  struct Counts {
    std::vector<uint32_t> genuine, impostor;
    int64_t pairs = 0;  // since the last flush
  };
  std::vector<Counts> counts(num_threads());
  const auto flush = [&](Counts& own) {
    for (size_t i = 0; i < own.genuine.size(); i++) {
      genuine[i] += own.genuine[i];
      impostor[i] += own.impostor[i];
    }
    own = {};
  };
  std::mutex adding;
  parallel_for((n + kGemmRows - 1) / kGemmRows, [&](int64_t chunk, int thread) {
    float *copies = scratch.data() + thread * (kScratch + kGemmRows * kColumns), *scores = copies + kScratch;
    Counts& own = counts[thread];
    const int64_t row = chunk * kGemmRows, size = std::min(kGemmRows, n - row);
    if (own.pairs + size * n >
        int64_t(4000000000)) {  // counts are exact in double, so the order of flushes is no matter
      const std::lock_guard<std::mutex> lock(adding);
      flush(own);
    }
    if (own.genuine.empty()) {
      own.genuine.resize(bins);
      own.impostor.resize(bins);
    }
    own.pairs += size * n;
    for (int64_t p = row / panels.width; p < panels.count(); p += group) {
      const int64_t end = std::min(p + group, panels.count()), column = p * panels.width;
      multiply({embeddings + row * d, size_t(d), 1}, size, d, panels, p, end, scores, kColumns, copies);
      const int64_t stop = std::min(column + kColumns, n);
      for (int64_t r = 0; r < size; r++) {
        const int64_t begin = std::max(column, row + r + 1);
        if (begin < stop)
          count_row(scores + r * kColumns + begin - column, stop - begin, labels[row + r], labels + begin, bins,
                    own.genuine.data(), own.impostor.data());
      }
    }
  });
  for (Counts& own : counts) flush(own);
}

}  // namespace fm
