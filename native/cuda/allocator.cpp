#include "allocator.h"

#include <algorithm>
#include <cstdlib>
#include <iomanip>
#include <sstream>

#include "../common/block_cache.h"
#include "cuda_raii.h"

namespace fm {
namespace {

std::string gibibytes(size_t bytes) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(bytes < (size_t(1) << 28) ? 3 : 1) << double(bytes) / double(size_t(1) << 30);
  return text.str();
}

struct DeviceBlocks {
  int device;

  void* take(size_t bytes) {
    const DeviceGuard guard(device);
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // not sticky: clears it, so that the next launch does not report it
      return nullptr;
    }
    if (error != cudaSuccess) fail_cuda(error, "cudaMalloc");
    return data;
  }
  // Kernels take memory when they are first launched, graphs and libraries when they are first used: where a cache has it
  // all, they fail.
  bool short_of(size_t bytes) const {
    const DeviceGuard guard(device);
    size_t free = 0, total = 0;
    FM_CUDA(cudaMemGetInfo(&free, &total));
    return free < bytes + std::min(size_t(256) << 20, total / 32);
  }
  void give(void* data) {
    const DeviceGuard guard(device);
    FM_CUDA(cudaFree(data));
  }
};

}  // namespace

struct DeviceAllocator::Blocks {
  BlockCache<DeviceBlocks> cache;
};

int64_t scratch_bytes() {
  const char* setting = std::getenv("FLASHMARGIN_CUDA_SCRATCH");
  const double mebibytes = setting ? std::atof(setting) : 64;
  FM_CHECK(range, mebibytes > 0 && mebibytes <= 1 << 20, "expected FLASHMARGIN_CUDA_SCRATCH in MiB, got ", setting);
  return int64_t(mebibytes * (1 << 20));
}

DeviceAllocator::DeviceAllocator(int device) : device_(device), blocks_(new Blocks{{DeviceBlocks{device}, 512}}) {}
DeviceAllocator::~DeviceAllocator() = default;

void* DeviceAllocator::try_allocate(size_t bytes) { return blocks_->cache.take(bytes); }
void DeviceAllocator::release(void* data, size_t bytes) { blocks_->cache.give(data, bytes); }

void* DeviceAllocator::allocate(size_t bytes) {
  void* data = try_allocate(bytes);
  while (!data && give_up_ && give_up_(give_up_of_)) data = try_allocate(bytes);
  if (data) return data;
  const DeviceGuard guard(device_);
  size_t free = 0, total = 0;
  FM_CUDA(cudaMemGetInfo(&free, &total));
  std::ostringstream message;
  message << "cudaErrorMemoryAllocation allocating " << gibibytes(bytes) << " GiB (" << gibibytes(total - free)
          << " of " << gibibytes(total) << " in use, " << gibibytes(blocks_->cache.use().used)
          << " by this process's tensors): " << remedy_for(cudaErrorMemoryAllocation);
  throw OutOfMemory(ErrorKind::device, message.str());
}

CudaMemory DeviceAllocator::use() {
  const DeviceGuard guard(device_);
  const auto use = blocks_->cache.use();
  size_t free = 0, total = 0;
  FM_CUDA(cudaMemGetInfo(&free, &total));
  return {use.used, use.cached, use.peak, total};
}

}  // namespace fm
