// Cosines between rows, [N, D] × [R, D] → [N, R], by the plain tiles.  Nothing is normalised in memory: rows are
// multiplied by 1/‖·‖ on their way into a tile.
#include <algorithm>

#include "backend.h"
#include "normalize.cuh"
#include "report.h"
#include "rows.h"
#include "tile_matrix.cuh"

namespace fm {
namespace {

// Offsets within a step of a tile fit an int: 64 rows of R, 128 of D.
constexpr int64_t kMostColumns = int64_t(1) << 25, kMostAxes = int64_t(1) << 23;
constexpr int64_t kProductBlocks = 512;  // about; dX is cut into as many sums as that takes

// Rows whose direction counts.
template <class T>
struct Directions {
  const T* x;  // [count, D]
  int64_t count, D;
  T *norm, *inverse;  // [count]; 1/max(‖x‖, 1e-12)
  Refusals refused;
};

template <class T, int kRowThreads>
__global__ void norms_kernel(Directions<T> rows) {
  const int64_t i = row_of_thread<kRowThreads>();
  if (i >= rows.count) return;
  const T norm = row_norm<kRowThreads>(rows.x + i * rows.D, rows.D);
  if (thread_of_row<kRowThreads>() != 0) return;
  if (!(norm <= kMostSquares<T>)) rows.refused.note(i);
  rows.norm[i] = norm;
  rows.inverse[i] = T(1) / divisor(norm);
}

template <class T, int kRowThreads>
__global__ void check_rows_kernel(CheckedRows<T> rows, int64_t N) {
  const int64_t i = row_of_thread<kRowThreads>();
  if (i < N) good_row<kRowThreads>(rows, i);
}

// Blocks: rows of weight, rows of the batch.
template <class T>
__global__ void __launch_bounds__(256, 2) cosines_kernel(Directions<T> features, Directions<T> weight, T* cosines) {
  using S = Tile<T>;
  __shared__ Four<T> staging[S::kStaging / 4];
  const int64_t column0 = int64_t(blockIdx.x) * S::kColumns, row0 = int64_t(blockIdx.y) * S::kRows;
  const int64_t D = features.D;
  TileSums<T> sums;
  clear_tile<T>(sums);
  multiply_tile<T>(
      staging, 0, D,
      Operand<T, true, Scaled::by_row>{features.x + row0 * D, operand_rows(features.count - row0, S::kRows), int(D),
                                       features.inverse + row0},
      Operand<T, true, Scaled::by_row>{weight.x + column0 * D, operand_rows(weight.count - column0, S::kColumns),
                                       int(D), weight.inverse + column0},
      sums);
  store_sums<T>(sums, row0, features.count, column0, weight.count, cosines);
}

// slabs[split] = d·ŵ over the split's part of the rows of weight.  Blocks: axes, rows of the batch, splits.
template <class T>
__global__ void __launch_bounds__(256, 2)
    feature_slabs_kernel(const T* d, int64_t N, Directions<T> weight, T* slabs) {  // [splits, N, D]
  using S = Tile<T>;
  __shared__ Four<T> staging[S::kStaging / 4];
  const int64_t axis0 = int64_t(blockIdx.x) * S::kColumns, row0 = int64_t(blockIdx.y) * S::kRows;
  const int64_t R = weight.count, D = weight.D;
  const int64_t begin = R * blockIdx.z / gridDim.z, end = R * (blockIdx.z + 1) / gridDim.z;
  TileSums<T> sums;
  clear_tile<T>(sums);
  multiply_tile<T>(staging, begin, end, Operand<T, true>{d + row0 * R, operand_rows(N - row0, S::kRows), int(R)},
                   Operand<T, false, Scaled::by_depth>{weight.x + axis0, operand_rows(D - axis0, S::kColumns), int(D),
                                                       weight.inverse},
                   sums);
  store_sums<T>(sums, row0, N, axis0, D, slabs + int64_t(blockIdx.z) * N * D);
}

// to = dᵀ·e, of `count` rows of weight from `first` on.  Blocks: axes, rows of weight.
template <class T>
__global__ void __launch_bounds__(256, 2)
    weight_product_kernel(const T* d, int64_t R, int64_t first, int64_t count, Directions<T> features,
                          T* to) {  // [count, D]
  using S = Tile<T>;
  __shared__ Four<T> staging[S::kStaging / 4];
  const int64_t axis0 = int64_t(blockIdx.x) * S::kColumns, row0 = int64_t(blockIdx.y) * S::kRows;
  const int64_t D = features.D;
  TileSums<T> sums;
  clear_tile<T>(sums);
  multiply_tile<T>(staging, 0, features.count,
                   Operand<T, false>{d + first + row0, operand_rows(count - row0, S::kRows), int(R)},
                   Operand<T, false, Scaled::by_depth>{features.x + axis0, operand_rows(D - axis0, S::kColumns), int(D),
                                                       features.inverse},
                   sums);
  store_sums<T>(sums, row0, count, axis0, D, to);
}

// Σ slabs, with respect to the unit rows, → with respect to the rows: (d − e⟨d, e⟩)/‖x‖, or d itself unless `project`.
// The rows are those from `first` on; d_x may be x.
template <class T, int kRowThreads>
__global__ void project_kernel(Directions<T> rows, int64_t first, int64_t count, const T* slabs, int64_t splits,
                               bool project, T* d_x) {  // slabs [splits, count, D]
  const int64_t n = row_of_thread<kRowThreads>(), D = rows.D, i = first + n;
  if (n >= count) return;
  if (!(rows.norm[i] <= kMostSquares<T>)) return;  // refused; d_x may be the row that the error tells of
  const T* const x = rows.x + i * D;
  const int thread = thread_of_row<kRowThreads>();
  const double inverse = double(rows.inverse[i]);
  const auto sum_at = [&](int64_t d) {
    double sum = 0;
    for (int64_t split = 0; split < splits; split++) sum += double(slabs[(split * count + n) * D + d]);
    return double(saturated<T>(sum));
  };
  double along = 0;
  if (project)
    along = sum_over_row<kRowThreads, double>(D, [&](int64_t d) { return sum_at(d) * (double(x[d]) * inverse); });
  const bool has_direction = rows.norm[i] >= T(kSmallestNorm);
  for (int64_t d = thread; d < D; d += kRowThreads) {
    const double sum = sum_at(d), e = double(x[d]) * inverse;
    d_x[i * D + d] = !has_direction ? T(0) : saturated<T>(project ? (sum - e * along) * inverse : sum);
  }
}

template <class T>
Directions<T> directions_of(Report& report, const Stream& stream, const char* what, const Tensor& x) {
  const int64_t count = x.dim(0), D = x.dim(1);
  const T* const from = x.data<T>();
  const Directions<T> rows{from,
                           count,
                           D,
                           report.scratch<T>(count),
                           report.scratch<T>(count),
                           report.check([&report, what, from, D](int64_t row) {
                             fail_row_norm(what, T(exact_norm(report.read(from + row * D, D).data(), D)), row);
                           })};
  for_rows(count, D, [&](auto row_threads, unsigned blocks) {
    launch(stream, blocks, kRowBlock, norms_kernel<T, row_threads()>, rows);
  });
  return rows;
}

template <class T>
void launch_project(const Stream& stream, const Directions<T>& rows, int64_t first, int64_t count, const T* slabs,
                    int64_t splits, bool project, T* d_x) {
  for_rows(count, rows.D, [&](auto row_threads, unsigned blocks) {
    launch(stream, blocks, kRowBlock, project_kernel<T, row_threads()>, rows, first, count, slabs, splits, project,
           d_x);
  });
}

int64_t check_extents(const Tensor& features, const Tensor& weight) {
  const int64_t R = check_cosine_logits(features, weight), N = features.dim(0), D = features.dim(1);
  constexpr int64_t kMostRows = int64_t(65535) * Tile<double>::kRows;
  FM_CHECK(shape, N <= kMostRows, "expected at most ", kMostRows, " rows, got ", N);
  FM_CHECK(shape, R <= kMostColumns, "expected at most ", kMostColumns, " rows of weight, got ", R);
  FM_CHECK(shape, D <= kMostAxes, "expected rows of at most ", kMostAxes, ", got ", D);
  return R;
}

}  // namespace

void CudaBackend::cosine_logits_forward(const Tensor& features, const Tensor& weight, const Tensor& cosines) {
  const int64_t R = check_extents(features, weight), N = features.dim(0);
  check_result("out", cosines, {N, R}, features);
  check_here("features", features);
  changed(cosines);
  const DeviceGuard guard(device_);
  dispatch_float(features.dtype, [&](auto zero) {
    using T = decltype(zero);
    Report report(*this);
    const Directions<T> embeddings = directions_of<T>(report, stream_, "features", features),
                        centers = directions_of<T>(report, stream_, "weight", weight);
    launch(stream_, tiles_of<T>(N, R), Tile<T>::kThreads, cosines_kernel<T>, embeddings, centers, cosines.data<T>());
    report.finish();
  });
}

void CudaBackend::cosine_logits_backward(const Tensor& d_cosines, const Tensor& features, const Tensor& weight,
                                         bool project, const OptionalTensor& d_features,
                                         const OptionalTensor& d_weight) {
  const int64_t R = check_extents(features, weight), N = features.dim(0), D = features.dim(1);
  check_result("dCosines", d_cosines, {N, R}, features);
  if (d_features) check_result("out.dFeatures", *d_features, features.shape, features);
  if (d_weight) check_result("out.dWeight", *d_weight, weight.shape, weight);
  check_here("features", features);
  changed(d_features, d_weight);
  const DeviceGuard guard(device_);
  dispatch_float(features.dtype, [&](auto zero) {
    using T = decltype(zero);
    Report report(*this);
    const T* const d = d_cosines.data<T>();
    const CheckedRows<T> gradients = report.rows("dCosines", kGradientRange, d, R, kLargestGradient<T>);
    for_rows(N, R, [&](auto row_threads, unsigned blocks) {
      launch(stream_, blocks, kRowBlock, check_rows_kernel<T, row_threads()>, gradients, N);
    });
    const Directions<T> embeddings = directions_of<T>(report, stream_, "features", features),
                        centers = directions_of<T>(report, stream_, "weight", weight);

    // Weight and features may be written over: whatever reads them comes first.
    const int64_t tiles = blocks_for(N, Tile<T>::kRows) * blocks_for(D, Tile<T>::kColumns);
    const int64_t splits = std::min(std::max<int64_t>(1, kProductBlocks / tiles), blocks_for(R, 64));
    T* const slabs = d_features ? report.scratch<T>(splits * N * D) : nullptr;
    if (d_features)
      launch(stream_, tiles_of<T>(N, D, splits), Tile<T>::kThreads, feature_slabs_kernel<T>, d, N, centers, slabs);
    if (d_weight) {
      const int64_t affordable = std::min<int64_t>(scratch_bytes() / (D * int64_t(sizeof(T))), 65535 * Tile<T>::kRows);
      const int64_t chunk = std::min(R, std::max<int64_t>(affordable, Tile<T>::kRows));
      T* const product = report.scratch<T>(chunk * D);
      for (int64_t first = 0; first < R; first += chunk) {
        const int64_t count = std::min(chunk, R - first);
        launch(stream_, tiles_of<T>(count, D), Tile<T>::kThreads, weight_product_kernel<T>, d, R, first, count,
               embeddings, product);
        launch_project<T>(stream_, centers, first, count, product, 1, project, d_weight->data<T>());
      }
    }
    if (d_features) launch_project<T>(stream_, embeddings, 0, N, slabs, splits, true, d_features->data<T>());
    report.finish();
  });
}

}  // namespace fm
