// launch(stream, blocks, threads, kernel, arguments…): a failure is an error that says which configuration was refused.
#pragma once
#include "cuda_raii.h"

namespace fm {

template <class... P, class... A>
void launch(const Stream& stream, dim3 blocks, unsigned threads, void (*kernel)(P...), const A&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = dim3(threads);
  config.stream = stream;
  FM_CUDA(cudaLaunchKernelEx(&config, kernel, P(arguments)...));
}

// Blocks along x in clusters of so many, which run together, each with `shared_bytes` beyond its static shared memory,
// of the `most_shared` that all launches of the kernel allow: another thread's comes between the two calls here.
template <class... P, class... A>
void launch_clusters(const Stream& stream, unsigned blocks, unsigned threads, unsigned cluster, unsigned shared_bytes,
                     unsigned most_shared, void (*kernel)(P...), const A&... arguments) {
  FM_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(most_shared)));
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = cluster;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  FM_CUDA(cudaLaunchKernelEx(&config, kernel, P(arguments)...));
}

constexpr int64_t blocks_for(int64_t n, int64_t a_block) { return (n + a_block - 1) / a_block; }

}  // namespace fm
