// A device's memory, kept for reuse: cudaMalloc and cudaFree wait for the device.
// A block may be handed out again at once, because all work of a device is on its one stream.
#pragma once
#include <memory>
#include <vector>

#include "../common/cuda_plugin.h"

namespace fm {

struct OutOfMemory : Error {
  using Error::Error;
};

class DeviceAllocator {
 public:
  explicit DeviceAllocator(int device);
  ~DeviceAllocator();
  void* allocate(size_t bytes);      // 512-byte aligned; throws when there is no memory
  void* try_allocate(size_t bytes);  // nullptr when there is none
  void release(void* data, size_t bytes);
  CudaMemory use();
  // give_up(of) gives back something that can be done without, and says whether there was any: called until an allocation
  // succeeds or there is none.
  void on_shortage(bool (*give_up)(void* of), void* of) { give_up_ = give_up, give_up_of_ = of; }

 private:
  struct Blocks;
  int device_;
  bool (*give_up_)(void* of) = nullptr;
  void* give_up_of_ = nullptr;
  std::unique_ptr<Blocks> blocks_;
};

// What an operation that works in chunks may take for one of them: FLASHMARGIN_CUDA_SCRATCH, in MiB.
int64_t scratch_bytes();

// Scratch of one call.  It may end before the kernels that use it have run: whoever gets its memory next runs after them.
class DeviceScratch {
 public:
  // again: hands out that one's blocks, in the order in which it took them, and leaves them to it.
  explicit DeviceScratch(DeviceAllocator& from, const DeviceScratch* again = nullptr) : from_(from), again_(again) {}
  ~DeviceScratch() {
    for (const Block& block : blocks_)
      if (block.data) from_.release(block.data, block.bytes);
  }
  DeviceScratch(const DeviceScratch&) = delete;
  DeviceScratch& operator=(const DeviceScratch&) = delete;
  template <class T>
  T* take(int64_t count) {
    return static_cast<T*>(keep(&DeviceScratch::allocate, size_t(count) * sizeof(T)));
  }
  // nullptr where it would be more than half of what this process has not taken yet.
  template <class T>
  T* take_if_affordable(int64_t count) {
    const size_t bytes = size_t(count) * sizeof(T);
    return static_cast<T*>(keep(&DeviceScratch::allocate_if_affordable, bytes));
  }

 private:
  void* allocate(size_t bytes) { return from_.allocate(bytes); }
  void* allocate_if_affordable(size_t bytes) {
    const CudaMemory use = from_.use();
    return use.used + 2 * bytes > use.total ? nullptr : from_.try_allocate(bytes);
  }
  void* keep(void* (DeviceScratch::*allocate)(size_t), size_t bytes) {
    if (again_) {
      FM_CHECK(device, taken_ < again_->blocks_.size() && again_->blocks_[taken_].bytes == bytes,
               "a step that was to be repeated takes other memory");
      return again_->blocks_[taken_++].data;
    }
    blocks_.reserve(blocks_.size() + 1);
    void* const data = (this->*allocate)(bytes);
    blocks_.push_back({data, bytes});
    return data;
  }

  struct Block {
    void* data;  // or none
    size_t bytes;
  };
  DeviceAllocator& from_;
  const DeviceScratch* again_;
  size_t taken_ = 0;
  std::vector<Block> blocks_;
};

}  // namespace fm
