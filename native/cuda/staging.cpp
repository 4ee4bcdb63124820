#include "staging.h"

#include <cstring>

namespace fm {

void Staging::prepare() {
  if (slots_) return;
  void* data = nullptr;
  const cudaError_t error = cudaMallocHost(&data, 2 * kBytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky
    fail(ErrorKind::device, "cudaErrorMemoryAllocation pinning ", 2 * kBytes >> 20,
         " MiB of the host's memory for copies: raise the limit of locked memory (ulimit -l), or free memory");
  }
  if (error != cudaSuccess) fail_cuda(error, "cudaMallocHost");
  slots_ = new Slot[2];
  for (int i = 0; i < 2; i++) slots_[i].data = static_cast<char*>(data) + i * kBytes;
}

Staging::~Staging() {
  if (!slots_) return;
  cudaFreeHost(slots_[0].data);
  delete[] slots_;
}

void Staging::to_device(const Stream& stream, void* to, const void* from, size_t bytes) {
  std::lock_guard<std::mutex> hold(lock_);
  prepare();
  for (size_t at = 0, turn = 0; at < bytes; at += kBytes, turn++) {
    Slot& slot = slots_[turn % 2];
    const size_t part = bytes - at < kBytes ? bytes - at : kBytes;
    slot.copied.wait();  // its last copy, of this call or another
    std::memcpy(slot.data, static_cast<const char*>(from) + at, part);
    FM_CUDA(cudaMemcpyAsync(static_cast<char*>(to) + at, slot.data, part, cudaMemcpyHostToDevice, stream));
    slot.copied.record(stream);
  }
}

void Staging::to_host(const Stream& stream, void* to, const void* from, size_t bytes) {
  std::lock_guard<std::mutex> hold(lock_);
  prepare();
  const auto collect = [&](size_t at, size_t turn) {
    Slot& slot = slots_[turn % 2];
    slot.copied.wait();
    std::memcpy(static_cast<char*>(to) + at, slot.data, bytes - at < kBytes ? bytes - at : kBytes);
  };
  size_t turn = 0;
  for (size_t at = 0; at < bytes; at += kBytes, turn++) {
    Slot& slot = slots_[turn % 2];
    if (turn < 2) slot.copied.wait();  // another call's copy to the device
    const size_t part = bytes - at < kBytes ? bytes - at : kBytes;
    FM_CUDA(cudaMemcpyAsync(slot.data, static_cast<const char*>(from) + at, part, cudaMemcpyDeviceToHost, stream));
    slot.copied.record(stream);
    if (turn > 0) collect(at - kBytes, turn - 1);
  }
  if (turn > 0) collect((turn - 1) * kBytes, turn - 1);
}

}  // namespace fm
