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
  void* allocate(size_t bytes);                                    // 512-byte aligned; throws when there is no memory
  void* try_allocate(size_t bytes) { return cache_.take(bytes); }  // nullptr when there is none
  void release(void* data, size_t bytes) { cache_.give(data, bytes); }
  CudaMemory use();

 private:
  int device_;
  BlockCache<DeviceBlocks> cache_;
};

// What an operation that works in chunks may take for one of them: FLASHMARGIN_CUDA_SCRATCH, in MiB.
int64_t scratch_bytes();

// Scratch of one call.  It may end before the kernels that use it have run: whoever gets its memory next runs after them.
class DeviceScratch {
 public:
  explicit DeviceScratch(DeviceAllocator& from) : from_(from) {}
  ~DeviceScratch() {
    for (const Block& block : blocks_) from_.release(block.data, block.bytes);
  }
  DeviceScratch(const DeviceScratch&) = delete;
  DeviceScratch& operator=(const DeviceScratch&) = delete;
  template <class T>
  T* take(int64_t count) {
    return static_cast<T*>(keep(&DeviceAllocator::allocate, size_t(count) * sizeof(T)));
  }
  // nullptr where it would be more than half of what this process has not taken yet.
  template <class T>
  T* take_if_affordable(int64_t count) {
    const size_t bytes = size_t(count) * sizeof(T);
    const CudaMemory use = from_.use();
    return use.used + 2 * bytes > use.total ? nullptr : static_cast<T*>(keep(&DeviceAllocator::try_allocate, bytes));
  }

 private:
  void* keep(void* (DeviceAllocator::*allocate)(size_t), size_t bytes) {
    blocks_.reserve(blocks_.size() + 1);
    void* const data = (from_.*allocate)(bytes);
    if (data) blocks_.push_back({data, bytes});
    return data;
  }

  struct Block {
    void* data;
    size_t bytes;
  };
  DeviceAllocator& from_;
  std::vector<Block> blocks_;
};

}  // namespace fm
