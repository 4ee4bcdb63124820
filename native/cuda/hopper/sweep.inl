// Defines run_totals, run_terms and run_scores.  Included by a translation unit for each kind of negatives.
#pragma once
#include "forward.cuh"
#include "launch.h"
#include "scores.cuh"

namespace fm::hopper {

template <bool kMaximum, class Negative>
void run_totals_of(const Stream& stream, const DeviceHead<float>& head, const BfloatChunk& chunk,
                   const Margined<Negative>& margined, Bfloat16* masses) {
  with_centers(head.K, [&](auto K) {
    if (chunk.depth <= kDeepestRows) return run_forward<kMaximum, K()>(stream, head, chunk, margined, masses);
    const TotalsWork<Margined<Negative>, K(), kMaximum> work(head, chunk, margined, masses);
    run_product(stream, work, work.clusters());
  });
}

template <class Negative>
void run_totals(const Stream& stream, const DeviceHead<float>& head, const BfloatChunk& chunk,
                const Margined<Negative>& margined, bool maximum, Bfloat16* masses) {
  // A binary loss needs no shift, and so no maximum.
  if constexpr (!Negative::binary)
    if (maximum) return run_totals_of<true>(stream, head, chunk, margined, nullptr);
  run_totals_of<false>(stream, head, chunk, margined, masses);
}

template <class Negative>
void run_terms(const Stream& stream, const DeviceHead<float>& head, const BfloatChunk& chunk,
               const Margined<Negative>& margined, Bfloat16* masses) {
  with_centers(head.K, [&](auto K) {
    const ScoresWork<Margined<Negative>, K(), true> work(head, chunk, margined, masses);
    run_product(stream, work, work.clusters());
  });
}

template <class Negative>
void run_scores(const Stream& stream, const DeviceHead<float>& head, const BfloatChunk& chunk,
                const Margined<Negative>& margined) {
  with_centers(head.K,
               [&](auto K) { run_tiles(stream, ScoresWork<Margined<Negative>, K(), false>(head, chunk, margined)); });
}

}  // namespace fm::hopper
