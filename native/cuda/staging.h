// Copies between the host's memory and the device's, by way of pinned buffers, so that the bus is busy while the processor
// copies.  A copy to the device returns once the host's memory was read; a copy back once it was written.
//
// What is as large as a batch of images crosses the bus while the device computes: on a stream of its own, into memory
// that nothing else uses.  The device's stream moves it from there when its turn comes.
#pragma once
#include <memory>
#include <mutex>

#include "cuda_raii.h"

namespace fm {

class Staging {
 public:
  explicit Staging(int device) : beside_(device) {}
  void to_device(const Stream& stream, void* to, const void* from, size_t bytes);
  void to_host(const Stream& stream, void* to, const void* from, size_t bytes);
  // Of the device's, for good; false where there is none.
  bool give_up_memory();

 private:
  static constexpr size_t kBytes = size_t(1) << 20, kSlots = 8;
  static constexpr size_t kLeastBeside = kBytes, kMostBeside = 64 * kBytes;
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
    void send(const Stream& stream, void* to, const void* from, size_t bytes);
  };
  // On the device, of one copy at a time.
  struct Landing {
    void* data = nullptr;
    size_t bytes = 0;
    Event sent{Event::untimed}, moved{Event::untimed};

    ~Landing() { cudaFree(data); }
    bool fits(size_t wanted);  // makes it fit; false where there is no memory
  };

  bool beside(const Stream& stream, void* to, const void* from, size_t bytes);

  Stream beside_;
  Slots up_, up_beside_, down_;
  std::unique_ptr<Landing[]> landings_;  // two: one is filled while the other waits for its turn
  size_t landed_ = 0;
  bool short_of_memory_ = false;
};

}  // namespace fm
