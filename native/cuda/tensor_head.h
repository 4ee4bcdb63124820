// The path of any GPU with tensor cores for bfloat16, compute capability 8.0 and newer.
#pragma once
#include "head_path.h"

namespace fm {

// tensor_sweep.cu
void run_tensor_sweep(const Stream& stream, const DeviceHead<float>& head, const HeadChunk<float, Bfloat16>& chunk,
                      const SweepTask<float>& task, bool plain);
// tensor_products.cu
void run_tensor_features(const Stream& stream, const DeviceHead<float>& head, const HeadChunk<float, Bfloat16>& chunk,
                         float* slabs, int64_t splits);
void run_tensor_weights(const Stream& stream, const DeviceHead<float>& head, const HeadChunk<float, Bfloat16>& chunk,
                        const WeightTask<float>& task);

// tensor_head.cpp
extern const Bfloat16Path kTensorPath;

}  // namespace fm
