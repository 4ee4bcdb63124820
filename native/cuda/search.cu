// Exact search: scores of a part of the queries with a part of the gallery, from which each query's list takes what is
// better than its last.
#include <algorithm>

#include "../common/kernel_checks.h"
#include "backend.h"
#include "rows.cuh"
#include "rows.h"
#include "tile_matrix.cuh"

namespace fm {
namespace {

constexpr int64_t kMostAxes = int64_t(1) << 23;  // offsets within a step of a tile fit an int
constexpr int64_t kQueries = 1024, kLeastGallery = 4096;

struct Lists {
  int32_t* index;  // [q, k]
  float* score;    // [q, k], descending
  int64_t k;
};

__global__ void clear_lists_kernel(Lists lists, int64_t count) {
  const int64_t i = thread_of_grid();
  if (i < count) lists.index[i] = -1, lists.score[i] = -INFINITY;
}

// scores[row, column] = ⟨query, gallery row⟩.  Blocks: gallery, queries.
__global__ void __launch_bounds__(256, 2)
    scores_kernel(const float* queries, int64_t q, const float* gallery, int64_t g, int64_t d, float* scores) {
  using S = Tile<float>;
  __shared__ Four<float> staging[S::kStaging / 4];
  const int64_t column0 = int64_t(blockIdx.x) * S::kColumns, row0 = int64_t(blockIdx.y) * S::kRows;
  float sums[S::kThreadRows][S::kThreadColumns];
  clear_tile<float>(sums);
  multiply_tile<float>(
      staging, 0, d, Operand<float, true>{queries + row0 * d, operand_rows(q - row0, S::kRows), int(d)},
      Operand<float, true>{gallery + column0 * d, operand_rows(g - column0, S::kColumns), int(d)}, sums);
  store_sums<float>(sums, row0, q, column0, g, scores);
}

// Puts a score into a list, below those that are not less; for all lanes of a warp.
__device__ void insert(float* score, int32_t* index, int64_t k, float own, int32_t at, int lane) {
  // From the end: a place takes its neighbour's entry before that is moved itself.
  for (int64_t base = (k - 1) / kWarp * kWarp; base >= 0; base -= kWarp) {
    const int64_t place = base + lane;
    const bool below = place < k && own > score[place], moved = below && place > 0 && own > score[place - 1];
    const float entry = moved ? score[place - 1] : own;
    const int32_t its = moved ? index[place - 1] : at;
    __syncwarp();
    if (below) score[place] = entry, index[place] = its;
    __syncwarp();
    if (base > 0 && !(own > score[base - 1])) return;
  }
}

// A warp a query: offers scores [q, count] of gallery rows first, first + 1, … to its list.
__global__ void offer_kernel(Lists lists, const float* scores, int64_t q, int64_t count, int64_t first) {
  const int64_t i = row_of_thread<kWarp>();
  if (i >= q) return;
  const int lane = thread_of_row<kWarp>();
  const int64_t k = lists.k;
  scores += i * count;
  float* const list = lists.score + i * k;
  int32_t* const index = lists.index + i * k;
  float last = list[k - 1];
  for (int64_t base = 0; base < count; base += kWarp) {
    const int64_t at = base + lane;
    float own = at < count ? scores[at] : -INFINITY;
    if (!(own > last)) own = -INFINITY;  // NaN is no neighbour
    for (;;) {
      const float best = row_reduce<kWarp>(own, Max{});
      if (!(best > last)) break;
      // Of equal ones the lowest index.
      const int winner = row_reduce<kWarp>(own == best ? lane : kWarp, Min{});
      insert(list, index, k, best, int32_t(first + base + winner), lane);
      if (lane == winner) own = -INFINITY;
      last = list[k - 1];
    }
  }
}

}  // namespace

Neighbours CudaBackend::nearest(const Tensor& queries, const Tensor& gallery, int64_t k) {
  check_nearest_rows(queries, gallery, k);
  check_here("queries", queries);
  const int64_t q = queries.dim(0), g = gallery.dim(0), d = queries.dim(1);
  FM_CHECK(shape, d <= kMostAxes, "expected rows of at most ", kMostAxes, ", got ", d);
  const DeviceGuard guard(device_);
  Neighbours out{empty(Dtype::int32, {q, k}), empty(Dtype::float32, {q, k})};
  if (q == 0) return out;
  const float *from = queries.data<float>(), *rows = gallery.data<float>();
  const Lists all{out.index.data<int32_t>(), out.score.data<float>(), k};
  launch_for_each(stream_, q * k, clear_lists_kernel, all, q * k);
  const int64_t some = std::min(q, kQueries);
  const int64_t part = std::min(g, std::max(kLeastGallery, scratch_bytes() / (some * int64_t(sizeof(float)))));
  DeviceScratch scratch(allocator_);
  float* const scores = scratch.take<float>(some * part);
  for (int64_t row = 0; row < q; row += some) {
    const int64_t count = std::min(some, q - row);
    const Lists lists{all.index + row * k, all.score + row * k, k};
    for (int64_t first = 0; first < g; first += part) {
      const int64_t width = std::min(part, g - first);
      launch(stream_, tiles_of<float>(count, width), Tile<float>::kThreads, scores_kernel, from + row * d, count,
             rows + first * d, width, d, scores);
      launch(stream_, unsigned(blocks_for(count, kRowBlock / kWarp)), kRowBlock, offer_kernel, lists, scores, count,
             width, first);
    }
  }
  return out;
}

}  // namespace fm
