// Copies between the host's memory and the device's, by way of two pinned buffers, so that the bus is busy while the
// processor copies.  A copy to the device returns once the host's memory was read; a copy back once it was written.
#pragma once
#include <mutex>

#include "cuda_raii.h"

namespace fm {

class Staging {
 public:
  explicit Staging(int device) : device_(device) {}
  ~Staging();
  void to_device(const Stream& stream, void* to, const void* from, size_t bytes);
  void to_host(const Stream& stream, void* to, const void* from, size_t bytes);

 private:
  static constexpr size_t kBytes = size_t(4) << 20;
  struct Slot {
    char* data = nullptr;
    Event copied{Event::untimed};
  };
  void prepare();

  int device_;
  std::mutex lock_;
  Slot* slots_ = nullptr;  // two, from the first copy on
};

}  // namespace fm
