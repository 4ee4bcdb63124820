// The head's path for compute capability 9.0.
#include "../../common/methods.h"
#include "../head_path.h"
#include "gradients.cuh"
#include "launch.h"

namespace fm {
namespace hopper {
namespace {

std::string why_not(const HeadCase& of) {
  if (of.capability != 90) return "it is for compute capability 9.0";
  if (!knows_centers(of.K)) return "it is for 1, 2, 3, 4 or 8 centers a class, got " + std::to_string(of.K);
  if (of.D % 8 != 0) return "it is for rows of whole 8, got " + std::to_string(of.D);
  return "";
}

// What a tile of the weights' product has: 256 axes of a warpgroup, and of both where that makes a row whole.
bool whole_rows(int64_t D) { return D <= 512; }

// The most that a tile of either sweep has.
int64_t classes_a_tile(int64_t K) { return K == 3 ? 64 : 256 / K; }

void sweep(const Stream& stream, const DeviceHead<float>& head, const BfloatChunk& chunk, const SweepTask<float>& task,
           bool plain) {
  const auto go = [&](const auto& negative) {
    const Margined<std::decay_t<decltype(negative)>> margined{task.cosine_limit, task.slope_outside};
    if (task.terms) return run_terms(stream, head, chunk, margined, task.masses);
    if (task.totals || task.maximum) run_totals(stream, head, chunk, margined, task.maximum, task.masses);
    if (chunk.scores) run_scores(stream, head, chunk, margined);
  };
  dispatch_negative(head, plain, [&](const auto& negative) {
    // The plain kernels clip nothing.
    if constexpr (std::decay_t<decltype(negative)>::plain)
      if (task.cosine_limit < 1) return go(ReweightedNegative<float>{});
    go(negative);
  });
}

void features_product(const Stream& stream, const DeviceHead<float>& head, const BfloatChunk& chunk, float* slabs,
                      int64_t splits) {
  run_tiles(stream, FeaturesWork(head, chunk, slabs, splits));
}
void weights_product(const Stream& stream, const DeviceHead<float>& head, const BfloatChunk& chunk,
                     const WeightTask<float>& task) {
  task.with_update([&](const auto& update) {
    using Update = std::decay_t<decltype(update)>;
    if (head.D <= 256) run_tiles(stream, WeightsWork<Update, 1>(head, chunk, task));
    else if (whole_rows(head.D)) run_tiles(stream, WeightsWork<Update, 2>(head, chunk, task));
    else run_tiles(stream, WeightsWork<Update, 0>(head, chunk, task));
  });
}

}  // namespace
}  // namespace hopper

// 64 groups at most of sums, and of splits, for the 66 clusters that an H100 or H200 has room for: row tiles are of 64,
// a cluster's of 256.
const Bfloat16Path kHopperPath{"hopper",
                               "Hopper's warpgroups (wgmma) and copy engine (TMA)",
                               hopper::why_not,
                               64,
                               256,
                               256,
                               256,
                               hopper::classes_a_tile,
                               hopper::whole_rows,
                               [](int64_t K) { return int64_t(hopper::classes_a_mass(int(K))); },
                               hopper::sweep,
                               hopper::features_product,
                               hopper::weights_product};

}  // namespace fm
