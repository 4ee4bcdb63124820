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

constexpr int64_t blocks_for(int64_t n, int64_t a_block) { return (n + a_block - 1) / a_block; }

}  // namespace fm
