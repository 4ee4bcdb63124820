// A GPU's table of operations: each method is in the file of its name.
#pragma once
#include <string>

#include "../common/backend.h"
#include "allocator.h"
#include "cuda_raii.h"

namespace fm {

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int device);
  const char* name() const override { return name_.c_str(); }
  CudaMemory memory() { return allocator_.use(); }
  void release(void* data, size_t bytes) { allocator_.release(data, bytes); }

  // backend.cu
  Tensor empty(Dtype dtype, const Shape& shape) override;
  void copy_from_host(const Tensor& to, const void* from, size_t bytes) override;
  void copy_to_host(void* to, const Tensor& from, size_t bytes) override;
  void fill(const Tensor& x, double value) override;

  // normalize.cu
  Normalized normalize_forward(const Tensor& x) override;
  Tensor normalize_backward(const Tensor& dy, const Tensor& y, const Tensor& norm) override;

 private:
  void check_here(const char* what, const Tensor& x) const;

  int device_;
  std::string name_;
  Stream stream_;
  DeviceAllocator allocator_;
};

// One a device, made at first use.  Throws when the device is not there.
CudaBackend& cuda_backend(int device);

}  // namespace fm
