#include "staging.h"

#include <cstring>
#include <utility>

namespace fm {

Staging::Slots::~Slots() {
  if (all) cudaFreeHost(all[0].data);
}

Staging::Slot& Staging::Slots::take() {
  if (!all) {
    auto made = std::make_unique<Slot[]>(kSlots);  // before the memory, which has no owner yet: an event can fail
    void* data = nullptr;
    const cudaError_t error = cudaMallocHost(&data, kSlots * kBytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // not sticky
      fail(ErrorKind::device, "cudaErrorMemoryAllocation pinning ", kSlots * kBytes >> 20,
           " MiB of the host's memory for copies: free memory of the host, with fewer workers or smaller cacheBytes");
    }
    if (error != cudaSuccess) fail_cuda(error, "cudaMallocHost");
    for (size_t i = 0; i < kSlots; i++) made[i].data = static_cast<char*>(data) + i * kBytes;
    all = std::move(made);
  }
  Slot& slot = all[next++ % kSlots];
  slot.copied.wait();
  return slot;
}

void Staging::Slots::send(const Stream& stream, void* to, const void* from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kBytes) {
    Slot& slot = take();
    const size_t part = bytes - at < kBytes ? bytes - at : kBytes;
    std::memcpy(slot.data, static_cast<const char*>(from) + at, part);
    FM_CUDA(cudaMemcpyAsync(static_cast<char*>(to) + at, slot.data, part, cudaMemcpyHostToDevice, stream));
    slot.copied.record(stream);
  }
}

bool Staging::Landing::fits(size_t wanted) {
  if (wanted <= bytes) return true;
  void* larger = nullptr;
  const cudaError_t error = cudaMalloc(&larger, wanted);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky
    return false;
  }
  if (error != cudaSuccess) fail_cuda(error, "cudaMalloc");
  cudaFree(data);  // waits for what is moved from there
  data = larger, bytes = wanted;
  return true;
}

bool Staging::beside(const Stream& stream, void* to, const void* from, size_t bytes) {
  std::lock_guard<std::mutex> hold(up_beside_.lock);
  if (short_of_memory_) return false;
  if (!landings_) landings_ = std::make_unique<Landing[]>(2);
  Landing& landing = landings_[landed_ % 2];
  if (!landing.fits(bytes)) return false;
  landed_++;
  landing.moved.hold_back(beside_);
  up_beside_.send(beside_, landing.data, from, bytes);
  landing.sent.record(beside_);
  landing.sent.hold_back(stream);
  FM_CUDA(cudaMemcpyAsync(to, landing.data, bytes, cudaMemcpyDeviceToDevice, stream));
  landing.moved.record(stream);
  return true;
}

bool Staging::give_up_memory() {
  std::lock_guard<std::mutex> hold(up_beside_.lock);
  short_of_memory_ = true;
  return std::exchange(landings_, nullptr) != nullptr;
}

void Staging::to_device(const Stream& stream, void* to, const void* from, size_t bytes) {
  if (bytes >= kLeastBeside && bytes <= kMostBeside && beside(stream, to, from, bytes)) return;
  std::lock_guard<std::mutex> hold(up_.lock);
  up_.send(stream, to, from, bytes);
}

void Staging::to_host(const Stream& stream, void* to, const void* from, size_t bytes) {
  std::lock_guard<std::mutex> hold(down_.lock);
  Slot* before = nullptr;
  for (size_t at = 0; at < bytes + kBytes; at += kBytes) {
    Slot* const slot = at < bytes ? &down_.take() : nullptr;
    if (slot) {
      const size_t part = bytes - at < kBytes ? bytes - at : kBytes;
      FM_CUDA(cudaMemcpyAsync(slot->data, static_cast<const char*>(from) + at, part, cudaMemcpyDeviceToHost, stream));
      slot->copied.record(stream);
    }
    if (before) {  // while that one is on its way
      const size_t begin = at - kBytes;
      before->copied.wait();
      std::memcpy(static_cast<char*>(to) + begin, before->data, bytes - begin < kBytes ? bytes - begin : kBytes);
    }
    before = slot;
  }
}

}  // namespace fm
