// Owners of CUDA's handles.
#pragma once
#include <new>

#include "cuda_check.h"

namespace fm {

// Whether this thread has used a device.
bool has_context() noexcept;

// The current device is a thread's, and a step may run on any thread: every entry into the library sets it.  A thread
// that has used none is not put back on device 0, where that would make a context: hundreds of MB of another GPU.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    FM_CUDA(cudaGetDevice(&before_));
    const bool used = has_context();
    if (used && before_ == device) return;
    FM_CUDA(cudaSetDevice(device));
    returns_ = used;
  }
  // Of a destructor, which goes on whatever fails.
  DeviceGuard(int device, std::nothrow_t) noexcept {
    returns_ = cudaGetDevice(&before_) == cudaSuccess && before_ != device && has_context();
    cudaSetDevice(device);
  }
  ~DeviceGuard() {
    if (returns_) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
  bool returns_ = false;
};

// Does not wait for the legacy default stream, which other libraries of the process may use.
class Stream {
 public:
  explicit Stream(int device) {
    const DeviceGuard guard(device);
    FM_CUDA(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking));
  }
  ~Stream() { cudaStreamDestroy(handle_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return handle_; }
  void wait() const { FM_CUDA(cudaStreamSynchronize(handle_)); }

 private:
  cudaStream_t handle_ = nullptr;
};

class Event {
 public:
  enum Kind { timed, untimed };  // untimed ones are cheaper to record and to wait for
  explicit Event(Kind kind = timed) {
    FM_CUDA(cudaEventCreateWithFlags(&handle_, kind == timed ? 0 : cudaEventDisableTiming));
  }
  ~Event() { cudaEventDestroy(handle_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(const Stream& stream) { FM_CUDA(cudaEventRecord(handle_, stream)); }
  // Where nothing was recorded there is nothing to wait for.
  void wait() const { FM_CUDA(cudaEventSynchronize(handle_)); }
  void hold_back(const Stream& stream) const { FM_CUDA(cudaStreamWaitEvent(stream, handle_, 0)); }
  // Milliseconds on the device between two recorded events; waits for this one.
  float since(const Event& start) const {
    float ms = 0;
    wait();
    FM_CUDA(cudaEventElapsedTime(&ms, start.handle_, handle_));
    return ms;
  }

 private:
  cudaEvent_t handle_ = nullptr;
};

}  // namespace fm
