// What the head does once a row of the batch or of weight, around the sweeps.  No kernel waits for the host: what is
// refused is noted in the report, and whoever changes something looks there first.
#pragma once
#include <cmath>

#include "../common/head_checks.h"
#include "chains.cuh"
#include "head.h"
#include "rows.cuh"
#include "tile.cuh"

namespace fm {

constexpr int kRowThreads = 128;
constexpr int kReportThreads = 256;

__device__ inline void refuse(unsigned long long& lowest, int64_t row) { atomicMin(&lowest, (unsigned long long)row); }

template <class T>
__global__ void fill_rows_kernel(T* x, int64_t n, T value) {
  const int64_t i = thread_of_grid();
  if (i < n) x[i] = value;
}

template <class T>
__global__ void store_kernel(T value, T* to) {
  *to = value;
}

template <class T>
__global__ void clear_report_kernel(DeviceHead<T> head) {
  constexpr unsigned long long none = HeadReport::kNone;
  *head.report = HeadReport{none, none, none, none, none, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
}

// --- before the sweeps -------------------------------------------------------------------------------------------

// One block.
template <class T>
__global__ void check_labels_kernel(DeviceHead<T> head) {
  double labelled = 0;
  for (int64_t i = threadIdx.x; i < head.N; i += kReportThreads) {
    const int64_t label = head.labels[i];
    if (label < -1 || label >= head.C) refuse(head.report->bad_label, i);
    if (head.margins && !is_margin(head.margins[i])) refuse(head.report->bad_margin, i);
    labelled += label >= 0;
  }
  labelled = row_reduce<kReportThreads>(labelled, Sum{});
  if (threadIdx.x == 0) head.report->labelled = labelled;
}

// ‖x‖ in double, shared by kThreads threads; not finite if an element is not.
template <int kThreads, class T>
__device__ double exact_norm_of(const T* x, int64_t D, int thread) {
  double largest = 0, bad = 0;
  for (int64_t d = thread; d < D; d += kThreads) {
    const double a = std::fabs(double(x[d]));
    if (a <= 1.7976931348623157e308) largest = Max{}(a, largest);
    else bad = 1;
  }
  bad = row_reduce<kThreads>(bad, Max{});
  largest = row_reduce<kThreads>(largest, Max{});
  if (bad > 0) return double(INFINITY);
  const double unit = largest < 1e-300 ? 1e-300 : largest;
  double total = 0;
  for (int64_t d = thread; d < D; d += kThreads) total += (x[d] / unit) * (x[d] / unit);
  return unit * std::sqrt(row_reduce<kThreads>(total, Sum{}));
}

// A block a row of the batch: its norm, unit row, and target's center.
template <class T>
__global__ void head_rows_kernel(DeviceHead<T> head) {
  const int64_t i = blockIdx.x, D = head.D;
  const int thread = int(threadIdx.x);
  const T* const x = head.x + i * D;
  HeadRow row;
  set_norm(row, head.p(), exact_norm_of<kRowThreads>(x, D, thread));
  const bool finite = row.norm <= 1.7976931348623157e308;
  if (!finite && thread == 0) refuse(head.report->bad_feature, i);
  for (int64_t d = thread; d < D; d += kRowThreads) head.embeddings[i * D + d] = T(x[d] * row.inverse);
  const int64_t label = head.labels[i];
  row.label = label >= 0 && label < head.C ? label : -1;
  if (row.label >= 0 && finite)
    for (int64_t center = row.label * head.K; center < (row.label + 1) * head.K; center++) {
      const T* const w = head.w + head.places()(center) * D;
      const double norm = exact_norm_of<kRowThreads>(w, D, thread), inverse = 1 / (norm > kTiny ? norm : kTiny);
      if (!(norm <= 1.7976931348623157e308)) {
        if (thread == 0) refuse(head.report->bad_center, center);
        continue;
      }
      double cos = 0;
      for (int64_t d = thread; d < D; d += kRowThreads) cos += (x[d] * row.inverse) * (w[d] * inverse);
      cos = row_reduce<kRowThreads>(cos, Sum{});
      if (row.center >= 0 && cos <= row.cos) continue;
      row.center = center, row.cos = cos, row.class_inverse = inverse;
    }
  for (int64_t d = thread; d < D; d += kRowThreads)
    head.target_rows[i * D + d] = row.center < 0 ? T(0) : head.w[head.places()(row.center) * D + d];
  if (thread != 0) return;
  head.rows[i] = row;
  head.centers[i] = row.center;
  head.scale[i] = T(row.scale);
  head.shift[i] = head.binary ? T(-head.p().bias) : T(0);
  head.spread[i] = head.factor[i] = 0;
}

// A thread a row.  φ of the target; what a margin method is, is known here alone.
template <class T, class M>
__global__ void target_kernel(DeviceHead<T> head) {
  const int64_t i = thread_of_grid();
  if (i >= head.N) return;
  HeadRow& row = head.rows[i];
  const M method(head.p(), kSineFloor<T>);
  if (row.label >= 0) set_target(row, method, head.p(), head.margins ? double(head.margins[i]) : head.p().margin);
  head.target_cos[i] = T(row.cos);
  head.threshold[i] = T(hard_above(head.p(), row.threshold));
}

// A thread a row: who else has its target.
template <class T>
__global__ void chains_kernel(DeviceHead<T> head) {
  const int64_t i = thread_of_grid();
  if (i >= head.N) return;
  const int64_t center = head.centers[i];
  const Link link = center < 0 ? Link{false, -1} : link_of(head.centers, head.N, i);
  head.next[i] = int32_t(link.next);
  if (link.first) head.first[center] = int32_t(i);
}

// Eight threads a row of weight: 1/‖w‖, and if there is room the unit row in E, 0 from D to depth.
//
// Threads 0 to 3 have the axes of the first 256 of every 512, the others those of the second, two of every 8 each: a path
// whose step leaves unit rows adds up in this order, too, and so has the same bits.
constexpr int kWeightThreads = 8;
template <class T, class E>
__global__ void weight_rows_kernel(DeviceHead<T> head, E* units, int64_t depth) {
  const int64_t j = thread_of_grid() / kWeightThreads;
  const int lane = int(threadIdx.x) % kWarp, thread = lane % kWeightThreads;
  const int64_t D = head.D;
  const T* const w = head.w + head.places()(j < head.R ? j : 0) * D;
  const bool pairs = D % 2 == 0;
  const auto pair_at = [&](int64_t d) {
    if (pairs) return *reinterpret_cast<const Some<T, 2>*>(w + d);
    return Some<T, 2>{{w[d], d + 1 < D ? w[d + 1] : T(0)}};
  };
  const auto for_pairs = [&](int64_t end, const auto& f) {
    for (int64_t half = thread / 4 * 256; half < end; half += 512)
#pragma unroll 8
      for (int64_t d = half + thread % 4 * 2; d < (end < half + 256 ? end : half + 256); d += 8) f(d);
  };
  T square = 0;
  for_pairs(D, [&](int64_t d) {
    const Some<T, 2> pair = pair_at(d);
    square = add_squares(square, pair.at[0], pair.at[1]);
  });
#pragma unroll
  for (int lanes = 1; lanes < kWeightThreads; lanes *= 2) square += __shfl_xor_sync(0xffffffffu, square, lanes);
  T inverse = inverse_root(square);
  // The warp looks at the rows whose norm takes more than this, one after the other.
  for (int row = 0; row < kWarp / kWeightThreads; row++) {
    const bool mine = lane / kWeightThreads == row && j < head.R;
    if (!__any_sync(0xffffffffu, mine && !is_usual_square(square))) continue;
    const int64_t at = j - lane / kWeightThreads + row;
    const double norm = exact_norm_of<kWarp>(head.w + head.places()(at) * D, D, lane);
    if (lane == 0 && !(norm <= 1.7976931348623157e308)) refuse(head.report->bad_center, at);
    if (mine) inverse = T(1 / (norm > kTiny ? norm : kTiny));
  }
  if (j >= head.R) return;
  if (thread == 0) head.inverse[j] = inverse;
  if (!units) return;
  for_pairs(depth, [&](int64_t d) {
    const Some<T, 2> pair = d < D ? pair_at(d) : Some<T, 2>{};
    *reinterpret_cast<Some<E, 2>*>(units + j * depth + d) = {{E(pair.at[0] * inverse), E(pair.at[1] * inverse)}};
  });
}

// A warp a row: to[row] = x[row]·scale[row] (or as it is) in E, 0 from D to depth.  x: at `places` of rows from `first`.
template <class T, class E>
__global__ void round_rows_kernel(const T* x, ClassRows places, int64_t first, const T* scale, int64_t rows, int64_t D,
                                  E* to, int64_t depth) {
  const int64_t j = thread_of_grid() / kWarp;
  if (j >= rows) return;
  const T by = scale ? scale[j] : T(1);
  const T* const row = x + places(first + j) * D;
  for (int64_t d = threadIdx.x % kWarp; d < depth; d += kWarp) to[j * depth + d] = E(d < D ? row[d] * by : T(0));
}

// A thread a number: what was left out of the terms that went into the slabs.  slabs: [splits, N, D].
template <class T>
__global__ void scale_slabs_kernel(DeviceHead<T> head, T* slabs, int64_t splits) {
  const int64_t i = thread_of_grid(), a_split = head.N * head.D;
  if (i < splits * a_split) slabs[i] *= head.factor[i % a_split / head.D];
}

// Σ ŵ of a chunk of classes.  Blocks: chunks, axes.
template <class T>
__global__ void sum_centers_kernel(DeviceHead<T> head, double* parts) {  // [chunks, D]
  const int64_t axis = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
  if (axis >= head.D) return;
  double total = 0;
  for (int64_t j = head.R * blockIdx.x / gridDim.x; j < head.R * (blockIdx.x + 1) / gridDim.x; j++)
    total += double(head.w[head.places()(j) * head.D + axis]) * double(head.inverse[j]);
  parts[int64_t(blockIdx.x) * head.D + axis] = total;
}
template <class T>
__global__ void add_centers_kernel(DeviceHead<T> head, const double* parts, int64_t chunks) {
  const int64_t axis = thread_of_grid();
  if (axis >= head.D) return;
  double total = 0;
  for (int64_t chunk = 0; chunk < chunks; chunk++) total += parts[chunk * head.D + axis];
  head.sum_of_centers[axis] = total;
}

// --- between sweeps ----------------------------------------------------------------------------------------------

// A thread a row: the groups' parts, in their order.
template <class T>
__global__ void add_groups_kernel(DeviceHead<T> head) {
  const int64_t i = thread_of_grid();
  if (i >= head.N) return;
  double sum = 0, count = 0;
  T largest = T(kAbsent);
  for (int64_t group = 0; group < head.groups; group++) {
    sum += head.group_sums[group * head.N + i];
    count += head.group_counts[group * head.N + i];
    largest = Max{}(head.group_largest[group * head.N + i], largest);
  }
  head.sums[i] = sum;
  head.counts[i] = count;
  head.largest[i] = largest;
}

// The shift is the row's largest exponent, of the negatives alone: below a target far above them their sum would
// underflow.  Without any it is the target's.
template <class T>
__global__ void shift_kernel(DeviceHead<T> head) {
  const int64_t i = thread_of_grid();
  if (i >= head.N) return;
  const HeadRow& row = head.rows[i];
  double top = row.scale * double(head.largest[i]);
  if (row.label >= 0 && head.C == 1) top = row.scale * row.phi.value;
  head.shift[i] = T(top);
}

// A warp a row: its lse and loss.
template <class T>
__global__ void finish_rows_kernel(DeviceHead<T> head) {
  const int64_t i = thread_of_grid() / kWarp;
  const int lane = int(threadIdx.x) % kWarp;
  if (i >= head.N) return;
  HeadRow& row = head.rows[i];
  const bool smooth = !head.binary && row.label >= 0 && head.plan.smooths;
  double along = 0;
  if (smooth)
    for (int64_t d = lane; d < head.D; d += kWarp)
      along += (head.x[i * head.D + d] * row.inverse) * head.sum_of_centers[d];
  along = row_reduce<kWarp>(along, Sum{});
  if (lane != 0) return;
  if (head.binary) finish_binary(row, head.p(), head.sums[i]);
  else finish_softmax(row, head.shift[i], head.sums[i]);
  // Σ of the logits: every φ but the target's is a cosine.
  if (smooth) row.loss += smoothing_loss(row, head.p(), double(head.C), row.scale * (row.phi.value - row.cos + along));
}

// A backward's lse is what its forward returned.
template <class T>
__global__ void load_lse_kernel(DeviceHead<T> head, const T* lse, bool shifts) {
  const int64_t i = thread_of_grid();
  if (i >= head.N) return;
  HeadRow& row = head.rows[i];
  row.lse = lse[i];
  if (!(std::fabs(row.lse) <= 1.7976931348623157e308)) refuse(head.report->bad_lse, i);
  if (shifts) head.shift[i] = T(row.lse);
  row.shift = head.shift[i];
}

// Summed rather than 1 − e^(z − lse): of a row that is nearly learned, the rounding of lse would be all that is left.
template <class T>
__global__ void missing_kernel(DeviceHead<T> head) {
  const int64_t i = thread_of_grid();
  if (i >= head.N) return;
  HeadRow& row = head.rows[i];
  if (head.binary) finish_binary(row, head.p(), head.sums[i]);
  else row.missing = head.sums[i] * probability_factor<T>(row, head.p(), false);
}

// d_loss: of the mean over the rows that have a target.
template <class T>
__global__ void gradient_kernel(DeviceHead<T> head, double d_loss) {
  const int64_t i = thread_of_grid();
  if (i >= head.N) return;
  const double labelled = head.report->labelled, weight = labelled > 0 ? d_loss / labelled : 0;
  const RowGradient g =
      set_gradient<T>(head.rows[i], head.p(), head.binary, double(head.C), weight, head.binary ? head.counts[i] : 0);
  head.factor[i] = T(g.factor);
  head.spread[i] = T(g.spread);
  head.target_gradient[i] = T(g.target);
}

// --- after the sweeps --------------------------------------------------------------------------------------------

// A block a row.  From what the negatives have, and the target: (d − e⟨d, e⟩)/‖x‖, and along e what the norm has.
template <class T>
__global__ void finish_features_kernel(DeviceHead<T> head, const T* slabs, int64_t splits, double d_loss,
                                       T* d_features) {
  const int64_t i = blockIdx.x, D = head.D;
  const int thread = int(threadIdx.x);
  HeadRow& row = head.rows[i];
  d_features += i * D;
  if (row.label < 0) {
    for (int64_t d = thread; d < D; d += kRowThreads) d_features[d] = 0;
    return;
  }
  const double inverse = row.inverse, target = double(head.target_gradient[i]) * row.class_inverse;
  const T *x = head.x + i * D, *w = head.target_rows + i * D;
  const auto negatives_at = [&](int64_t d) {
    double sum = 0;
    for (int64_t split = 0; split < splits; split++) sum += slabs[(split * head.N + i) * D + d];
    return sum;
  };
  double negatives = 0, targets = 0;  // along e
  for (int64_t d = thread; d < D; d += kRowThreads) {
    const double e = x[d] * inverse;
    negatives += negatives_at(d) * e;
    targets += target * w[d] * e;
  }
  negatives = row_reduce<kRowThreads>(negatives, Sum{});
  targets = row_reduce<kRowThreads>(targets, Sum{});
  __shared__ double along_norm;
  if (thread == 0) {
    const double labelled = head.report->labelled, weight = labelled > 0 ? d_loss / labelled : 0;
    along_norm = finish_norm(row, head.p(), head.quality, weight, negatives);
  }
  __syncthreads();
  for (int64_t d = thread; d < D; d += kRowThreads) {
    const double e = x[d] * inverse;
    const double across = negatives_at(d) + target * w[d] - (negatives + targets) * e;
    d_features[d] = row.has_direction ? T(across * inverse + along_norm * e) : T(0);
  }
}

// A block a row of the batch that is the first of its center: adds the targets to what the negatives have.
template <class T>
__global__ void finish_weight_kernel(DeviceHead<T> head, T* d_weight) {
  const int64_t i = blockIdx.x, D = head.D, center = head.centers[i];
  if (center < 0 || head.first[center] != i) return;
  const double inverse = head.rows[i].class_inverse;
  if (inverse >= 1 / kTiny) return;  // a center without direction
  const bool project = head.plan.project;
  const double scale = project ? inverse : 1;
  const T* const w = head.w + center * D;
  for (int64_t d = threadIdx.x; d < D; d += kRowThreads) {
    T total = d_weight[center * D + d];
    for (int64_t j = i; j >= 0; j = head.next[j]) {
      const HeadRow& row = head.rows[j];
      const double along = project ? row.cos * inverse : 0;
      total += T(double(head.target_gradient[j]) * scale * (head.x[j * D + d] * row.inverse - along * w[d]));
    }
    d_weight[center * D + d] = total;
  }
}

// One block: the sums over the rows, in an order of their own.
template <class T>
__global__ void report_kernel(DeviceHead<T> head) {
  double loss = 0, regularizer = 0, correct = 0, d_scale = 0, d_bias = 0;
  for (int64_t i = threadIdx.x; i < head.N; i += kReportThreads) {
    const HeadRow& row = head.rows[i];
    loss += row.loss;
    regularizer += row.regularizer;
    correct += row.label >= 0 && head.seen_target_cos[i] >= head.largest[i];
    d_scale += row.d_scale;
    d_bias += row.d_bias;
  }
  loss = row_reduce<kReportThreads>(loss, Sum{});
  regularizer = row_reduce<kReportThreads>(regularizer, Sum{});
  correct = row_reduce<kReportThreads>(correct, Sum{});
  d_scale = row_reduce<kReportThreads>(d_scale, Sum{});
  d_bias = row_reduce<kReportThreads>(d_bias, Sum{});
  if (threadIdx.x != 0) return;
  HeadReport& report = *head.report;
  const double share = report.labelled > 0 ? 1 / report.labelled : 0;
  report.regularizer = regularizer * share;
  report.loss = loss * share + (head.p().norm_penalty > 0 ? head.p().norm_penalty * report.regularizer : 0);
  report.correct = correct;
  report.d_scale = d_scale;
  report.d_bias = d_bias;
}

// Fields of the rows as tensors [N]; what is not asked for is nullptr.
template <class T>
struct RowOutputs {
  T *norm = nullptr, *cos = nullptr, *loss = nullptr, *lse = nullptr, *d_margin = nullptr;
  T *negatives = nullptr, *nearest = nullptr, *hard = nullptr;
  int32_t* center = nullptr;
  T* logits = nullptr;  // [N, C], the target's
};
template <class T>
__global__ void row_outputs_kernel(DeviceHead<T> head, RowOutputs<T> out) {
  const int64_t i = thread_of_grid();
  if (i >= head.N) return;
  const HeadRow& row = head.rows[i];
  if (out.norm) out.norm[i] = T(row.norm);
  if (out.cos) out.cos[i] = T(row.cos);
  if (out.loss) out.loss[i] = T(row.loss);
  if (out.lse) out.lse[i] = T(row.lse);
  if (out.d_margin) out.d_margin[i] = T(row.d_quality);
  if (out.negatives) out.negatives[i] = T(double(head.shift[i]) + std::log(head.sums[i]));
  if (out.nearest) out.nearest[i] = Max{}(head.largest[i], T(-1));
  if (out.hard) out.hard[i] = row.label < 0 ? T(0) : T(head.counts[i]);
  if (out.center) out.center[i] = row.label < 0 ? -1 : int32_t(row.center % head.K);
  if (out.logits && row.label >= 0)
    out.logits[i * head.C + row.label] = T(row.scale * row.phi.value + (head.binary ? head.p().bias : 0));
}

// The threshold of `hard` is φ itself.
template <class T>
__global__ void inspect_kernel(DeviceHead<T> head) {
  const int64_t i = thread_of_grid();
  if (i < head.N) head.threshold[i] = T(head.rows[i].phi.value);
}

}  // namespace fm
