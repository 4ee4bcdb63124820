// A device's memory, kept for reuse: cudaMalloc and cudaFree wait for the device.
// A block may be handed out again at once, because all work of a device is on its one stream.
#pragma once
#include "../common/block_cache.h"
#include "../common/cuda_plugin.h"

namespace fm {

struct DeviceBlocks {
  int device;
  void* take(size_t bytes);
  void give(void* data);
};

class DeviceAllocator {
 public:
  explicit DeviceAllocator(int device);
  void* allocate(size_t bytes);  // 512-byte aligned; throws when there is no memory
  void release(void* data, size_t bytes) { cache_.give(data, bytes); }
  CudaMemory use();

 private:
  int device_;
  BlockCache<DeviceBlocks> cache_;
};

}  // namespace fm
