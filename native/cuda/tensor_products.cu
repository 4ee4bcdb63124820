#include "tensor_products.cuh"

#include "tensor_head.h"

namespace fm {

void run_tensor_features(const Stream& stream, const DeviceHead<float>& head, const HeadChunk<float, Bfloat16>& chunk,
                         float* slabs, int64_t splits) {
  const dim3 blocks(unsigned(blocks_for(head.N, TensorTile::kRows)), unsigned(blocks_for(head.D, TensorTile::kColumns)),
                    unsigned(splits));
  launch(stream, blocks, TensorTile::kThreads, tensor_features_kernel<float>, head, chunk, slabs);
}

void run_tensor_weights(const Stream& stream, const DeviceHead<float>& head, const HeadChunk<float, Bfloat16>& chunk,
                        const WeightTask<float>& task) {
  const dim3 blocks(unsigned(blocks_for(chunk.columns, TensorTile::kRows)),
                    unsigned(blocks_for(head.D, TensorTile::kColumns)));
  task.with_update([&](const auto& update) {
    using Update = std::decay_t<decltype(update)>;
    launch(stream, blocks, TensorTile::kThreads, tensor_weights_kernel<float, Update>, head, chunk, task);
  });
}

}  // namespace fm
