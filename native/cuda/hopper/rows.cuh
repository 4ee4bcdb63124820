// What becomes of a warp's cosines as they lie in the registers of a product: 16 rows of the batch, of which a thread has
// two, and `blocks` blocks of 8 centers.  With K centers a class the tile is sorted by center: block j + k·(blocks/K) has
// the k-th centers of the classes of block j, so that a class's centers are one thread's.
#pragma once
#include "../head_path.h"
#include "../head_products.cuh"
#include "../head_sweep.cuh"
#include "../reduce.cuh"
#include "ptx.cuh"

namespace fm::hopper {

constexpr float kLog2e = 1.4426950408889634f;
// Below every cosine: e^ of it is 0, whatever the scale of a row.  What a tile has beyond the classes, and the target's
// class.
constexpr float kNoCosine = -1e30f, kLeastScale = 1e-20f;

// cos → φ and dφ/dcos of a class that is not the target's.
template <class Negative>
struct Margined {
  float limit, slope_outside;  // SweepTask's
  Negative negative{};         // of a kernel's own, now()

  // Whether φ is simply the cosine: the one case that has no instruction to spare.
  static constexpr bool plain = Negative::plain;
  static constexpr bool binary = Negative::binary;

  // With the numbers that are on the device.
  __device__ __forceinline__ Margined now(const DeviceHead<float>& head) const {
    return {limit, slope_outside, head.numbers->of<Negative>()};
  }

  __device__ __forceinline__ Phi<float> operator()(float cos, float threshold) const {
    if constexpr (plain) return {cos, 1};
    const float inside = fminf(fmaxf(cos, -limit), limit);
    Phi<float> phi = negative.negative(inside, threshold);
    phi.slope = inside == cos || limit >= 1 ? phi.slope : phi.slope * slope_outside;
    if (cos <= kNoCosine) phi.value = kNoCosine;
    return phi;
  }
};

// Of one row of the batch; scale and shift as powers of two where there is a softmax.
struct Row {
  float scale, shift, threshold;
  int label;
};
template <class M>
__device__ __forceinline__ Row read_row(const DeviceHead<float>& head, int64_t i) {
  if (i >= head.N) return {0, 0, 2, -1};
  const float unit = M::binary ? 1 : kLog2e;
  return {fmaxf(head.scale[i] * unit, kLeastScale), head.shift[i] * unit, M::plain ? 2 : head.threshold[i],
          head.labels[i]};
}

// What its negatives add to a row.
struct Totals {
  float sum = 0, count = 0, largest = kNoCosine;
};

// e^(s·φ − shift), or of a binary loss 1/(1 + e^−z); adds to the row.
template <class M>
__device__ __forceinline__ float term(float phi, const Row& row, float& sum, float& count) {
  const float z = phi * row.scale - row.shift;
  if constexpr (!M::binary) {
    const float e = power_of_two(z);
    sum += e;
    return e;
  } else {
    const float small = power_of_two((z < 0 ? z : -z) * kLog2e), slope = (z < 0 ? small : 1.f) / (small + 1);
    sum += (z > 0 ? z : 0) + log1pf(small);
    count += slope;
    return slope;
  }
}

// Of the four threads that have a row, to all of them.
__device__ __forceinline__ void share_totals(Totals& mine) {
#pragma unroll
  for (int lanes = 1; lanes < 4; lanes *= 2) {
    mine.sum += __shfl_xor_sync(0xffffffffu, mine.sum, lanes);
    mine.count += __shfl_xor_sync(0xffffffffu, mine.count, lanes);
    mine.largest = Max{}(__shfl_xor_sync(0xffffffffu, mine.largest, lanes), mine.largest);
  }
}

template <int K, int n>
__device__ __forceinline__ float class_cosine(const float (&d)[n], int at) {
  float largest = d[at];
#pragma unroll
  for (int k = 1; k < K; k++) largest = Max{}(d[at + k * (n / K)], largest);
  return largest;
}

// This block's half of a tile of `classes` classes from class0 on, sorted by center, to both blocks of the cluster.
template <int K, int classes>
__device__ __forceinline__ void share_centers(uint32_t tile, const CUtensorMap* centers, uint32_t barrier, int axis,
                                              int class0, uint32_t rank) {
  constexpr int kShare = classes / int(kMostBlocks);
  static_assert(kShare % 8 == 0, "a share is whole groups of 8 rows, as the swizzle has them");
#pragma unroll
  for (int k = 0; k < K; k++)
    share_box(tile + (k * classes + rank * kShare) * kRowBytes, centers, barrier, axis, k, class0 + int(rank) * kShare,
              3);
}

// Whether a tile has entries to take out: the target's class of a row of this warp, or none at all.
__device__ __forceinline__ bool has_exceptions(const Row (&rows)[2], int class0, int classes, int left) {
  const bool mine = unsigned(rows[0].label - class0) < unsigned(classes) ||
                    unsigned(rows[1].label - class0) < unsigned(classes) || left < classes;
  return __any_sync(0xffffffffu, mine);
}
// Takes them out.  seen: where a row's cosine to its target goes, or none.  left: classes from class0 on.
template <int K, int n>
__device__ __forceinline__ void take_out(float (&d)[n], const Row (&rows)[2], int class0, int left,
                                         float* const (&seen)[2]) {
  const int lane = int(threadIdx.x) % kWarp;
#pragma unroll
  for (int j = 0; j < n / 4 / K; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int at = 4 * j + e, c = 8 * j + lane % 4 * 2 + e % 2;
      const bool target = class0 + c == rows[e / 2].label;
      if (target && seen[e / 2]) *seen[e / 2] = class_cosine<K>(d, at);
      if (target || c >= left)
#pragma unroll
        for (int k = 0; k < K; k++) d[at + k * (n / K)] = kNoCosine;
    }
}

// What this thread's two rows have in a tile: Σ e^…, or of a binary loss Σ 1/(1 + e^−z).
struct Masses {
  float of[2];
};

template <class M>
__device__ __forceinline__ Masses add_to_totals(const float (&sum)[2], const float (&count)[2], Totals (&totals)[2]) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    totals[h].sum += sum[h];
    if constexpr (M::binary) totals[h].count += count[h];
  }
  if constexpr (M::binary) return {{count[0], count[1]}};
  return {{sum[0], sum[1]}};
}

// How many classes have a mass (SweepTask::masses): a tile of forward.cuh, the smallest.
FM_HD constexpr int classes_a_mass(int K) { return (K == 3 ? 96 : 128) / K; }
// Where a tile's go from its first class on; or none.
__device__ __forceinline__ Bfloat16* masses_of(Bfloat16* all, int64_t N, int first_class, int a_mass) {
  return all ? all + int64_t(first_class / a_mass) * N : nullptr;
}
// Of rows i and i + 8, by one of the four threads that have a row.
__device__ __forceinline__ void store_masses(Bfloat16* to, int64_t N, int64_t i, Masses masses) {
  if (!to) return;
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float& mine = masses.of[h];
    mine += __shfl_xor_sync(0xffffffffu, mine, 1);
    mine += __shfl_xor_sync(0xffffffffu, mine, 2);
    if (threadIdx.x % 4 == 0 && i + 8 * h < N) to[i + 8 * h] = Bfloat16::above(mine);
  }
}

// A tile's cosines into its rows' totals.  A tile is added up before it is added to the rest, so that the rounding is
// that of two short sums.
template <int K, bool kMaximum, class M, int n>
__device__ __forceinline__ Masses add_tile(const float (&d)[n], const M& margined, const Row (&rows)[2],
                                           Totals (&totals)[2]) {
  float sum[2] = {0, 0}, count[2] = {0, 0};
#pragma unroll
  for (int j = 0; j < n / 4 / K; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int h = e / 2;
      const float cos = class_cosine<K>(d, 4 * j + e), phi = margined(cos, rows[h].threshold).value;
      if constexpr (kMaximum) {
        totals[h].largest = Max{}(phi, totals[h].largest);
      } else {
        totals[h].largest = Max{}(cos, totals[h].largest);
        term<M>(phi, rows[h], sum[h], count[h]);
      }
    }
  return add_to_totals<M>(sum, count, totals);
}

// Of 8 values a thread, v[i], the sum over the 8 threads that share l%4, i the thread's l/4: halves are exchanged, so
// that it takes 7 shuffles.
__device__ __forceinline__ float sum_over_rows(float (&v)[8]) {
  const int lane = int(threadIdx.x) % kWarp;
#pragma unroll
  for (int half = 4; half > 0; half /= 2) {
    const bool upper = lane & (4 * half);
#pragma unroll
    for (int i = 0; i < half; i++) {
      const float other = __shfl_xor_sync(0xffffffffu, upper ? v[i] : v[i + half], 4 * half);
      v[i] = (upper ? v[i + half] : v[i]) + other;
    }
  }
  return v[0];
}

// Of a class's K centers, from at on: the first that has its cosine gets the value, the others 0.
template <int K, int n>
__device__ __forceinline__ void give_to_center(float (&d)[n], int at, float cos, float value) {
  bool taken = false;
#pragma unroll
  for (int k = 0; k < K; k++) {
    float& mine = d[at + k * (n / K)];
    const bool first = K == 1 || (!taken && mine == cos);
    taken = taken || first;
    mine = first ? value : 0.f;
  }
}

// In place: cosines → what dL/dcos is but for its row's factor, and into the rows' totals as add_tile.
template <int K, class M, int n>
__device__ __forceinline__ Masses term_tile(float (&d)[n], const M& margined, const Row (&rows)[2],
                                            Totals (&totals)[2]) {
  float sum[2] = {0, 0}, count[2] = {0, 0};
#pragma unroll
  for (int j = 0; j < n / 4 / K; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int at = 4 * j + e, h = e / 2;
      const float cos = class_cosine<K>(d, at);
      const Phi<float> phi = margined(cos, rows[h].threshold);
      totals[h].largest = Max{}(cos, totals[h].largest);
      float value = term<M>(phi.value, rows[h], sum[h], count[h]);
      if constexpr (!M::plain) value = cos > kNoCosine ? value * phi.slope : 0.f;
      give_to_center<K>(d, at, cos, value);
    }
  return add_to_totals<M>(sum, count, totals);
}

// In place: cosines → dL/dcos.  dots(k, j, v), where wanted, of 4 blocks j … j + 3 of the k-th centers, v[2·i + e]:
// Σ dL/dcos·cos of the thread's two rows, of block j + i.
template <int K, class M, int n, class Dots>
__device__ __forceinline__ void score_tile(float (&d)[n], const M& margined, const Row (&rows)[2],
                                           const float (&factor)[2], const float (&spread)[2], bool wanted,
                                           const Dots& dots) {
  constexpr int kBlocks = n / 4 / K;
#pragma unroll
  for (int j = 0; j < kBlocks; j += 4) {
    float cosines[16];
#pragma unroll
    for (int i = 0; i < 16; i++) {
      const int at = 4 * j + i, h = i / 2 % 2;
      const float cos = class_cosine<K>(d, at);
      const Phi<float> phi = margined(cos, rows[h].threshold);
      float sum = 0, count = 0, score = term<M>(phi.value, rows[h], sum, count) * factor[h];
      if constexpr (!M::plain) score *= phi.slope;
      score = cos > kNoCosine ? score - spread[h] : 0.f;
      cosines[i] = cos > kNoCosine ? cos : 0.f;
      give_to_center<K>(d, at, cos, score);
    }
    if (!wanted) continue;
#pragma unroll
    for (int k = 0; k < K; k++) {
      float v[8];
#pragma unroll
      for (int i = 0; i < 8; i++) {
        const int upper = i / 2 * 4 + i % 2, at = 4 * j + k * (n / K);
        v[i] = d[at + upper] * cosines[upper] + d[at + upper + 2] * cosines[upper + 2];
      }
      dots(k, j, sum_over_rows(v));
    }
  }
}

}  // namespace fm::hopper
