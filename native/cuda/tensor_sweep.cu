#include "tensor_sweep.cuh"

#include "../common/methods.h"
#include "tensor_head.h"

namespace fm {

void run_tensor_sweep(const Stream& stream, const DeviceHead<float>& head, const HeadChunk<float, Bfloat16>& chunk,
                      const SweepTask<float>& task, bool plain) {
  FM_CHECK(range, !task.logits, "expected logits of the plain path");
  const dim3 blocks(unsigned(blocks_for(head.N, TensorTile::kRows)), unsigned(head.groups));
  const auto go = [&](auto scores, auto one_center, const auto& negative) {
    launch(stream, blocks, TensorTile::kThreads,
           tensor_sweep_kernel<std::decay_t<decltype(negative)>, decltype(scores)::value, decltype(one_center)::value>,
           head, chunk, task);
  };
  dispatch_negative(head, plain, [&](const auto& negative) {
    if (chunk.scores && head.K == 1) go(std::true_type{}, std::true_type{}, negative);
    else if (chunk.scores) go(std::true_type{}, std::false_type{}, negative);
    else if (head.K == 1) go(std::false_type{}, std::true_type{}, negative);
    else go(std::false_type{}, std::false_type{}, negative);
  });
}

}  // namespace fm
