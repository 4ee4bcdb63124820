// Copies between the host's memory and the device's, by way of pinned buffers, so that the bus is busy while the processor
// copies.  A copy to the device returns once the host's memory was read; a copy back once it was written.
#pragma once
#include <memory>
#include <mutex>

#include "cuda_raii.h"

namespace fm {

class Staging {
 public:
  void to_device(const Stream& stream, void* to, const void* from, size_t bytes);
  void to_host(const Stream& stream, void* to, const void* from, size_t bytes);

 private:
  static constexpr size_t kBytes = size_t(1) << 20, kSlots = 8;
  struct Slot {
    char* data = nullptr;
    Event copied{Event::untimed};
  };
  // A direction's own: a copy back waits for all that was launched before it, which one to the device need not wait for;
  // and small ones to the device, queued behind kernels, wait for none of the kSlots − 1 before them.
  struct Slots {
    std::mutex lock;
    std::unique_ptr<Slot[]> all;  // from the first copy on
    size_t next = 0;

    ~Slots();
    Slot& take();  // the one that was taken longest ago
  };

  Slots up_, down_;
};

}  // namespace fm
