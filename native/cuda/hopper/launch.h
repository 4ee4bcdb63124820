// The Hopper kernels by what becomes of the negatives, a translation unit each.
#pragma once
#include "rows.cuh"
#include "tensor_map.h"

namespace fm::hopper {

// Rows up to this deep are kept in shared memory by a sweep for totals.
constexpr int64_t kDeepestRows = 512;

// masses: SweepTask's.

// What the rows add up to, or with `maximum` their largest φ; K is one of kCenters.
template <class Negative>
void run_totals(const Stream& stream, const DeviceHead<float>& head, const BfloatChunk& chunk,
                const Margined<Negative>& margined, bool maximum, Bfloat16* masses);
// The rows' totals and the scores but for their rows' factors, in one sweep.
template <class Negative>
void run_terms(const Stream& stream, const DeviceHead<float>& head, const BfloatChunk& chunk,
               const Margined<Negative>& margined, Bfloat16* masses);
template <class Negative>
void run_scores(const Stream& stream, const DeviceHead<float>& head, const BfloatChunk& chunk,
                const Margined<Negative>& margined);

// f(K as a constant), K a number of centers a class that the kernels are compiled for.
template <class F>
void with_centers(int64_t K, const F& f) {
  switch (K) {
    case 1: return f(std::integral_constant<int, 1>{});
    case 2: return f(std::integral_constant<int, 2>{});
    case 3: return f(std::integral_constant<int, 3>{});
    case 4: return f(std::integral_constant<int, 4>{});
    case 8: return f(std::integral_constant<int, 8>{});
  }
  fail(ErrorKind::range, "expected 1, 2, 3, 4 or 8 centers a class, got ", K);
}
constexpr bool knows_centers(int64_t K) { return (K >= 1 && K <= 4) || K == 8; }

}  // namespace fm::hopper
