// A GPU's table of operations: each method is in the file of its name.
#pragma once
#include <string>

#include "../common/backend.h"
#include "allocator.h"
#include "cuda_raii.h"
#include "staging.h"

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

  // margin_softmax.cu
  MarginSoftmaxForward margin_softmax_forward(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                              const OptionalTensor& margins, const MarginParams& p,
                                              Precision precision) override;
  MarginSoftmaxGradients margin_softmax_backward(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                                 const OptionalTensor& margins, const Tensor& lse, double d_loss,
                                                 const MarginParams& p, Precision precision) override;
  HeadStep head_step(const Tensor& features, const Tensor& weight, const Tensor& velocity, const Tensor& labels,
                     const OptionalTensor& margins, const MarginParams& p, SgdParams sgd, HeadOptions options) override;
  Tensor target_cosines(const Tensor& features, const Tensor& weight, const Tensor& labels,
                        int64_t sub_centers) override;
  Tensor negative_lse(const Tensor& features, const Tensor& weight, const Tensor& labels,
                      const MarginParams& p) override;
  HeadRows inspect_head(const Tensor& features, const Tensor& weight, const Tensor& labels,
                        const OptionalTensor& margins, const MarginParams& p) override;
  Tensor margin_logits(const Tensor& features, const Tensor& weight, const Tensor& labels,
                       const OptionalTensor& margins, const MarginParams& p) override;

  void check_here(const char* what, const Tensor& x) const;
  // Waits for what is under way.
  void read(void* to, const void* from, size_t bytes) { staging_.to_host(stream_, to, from, bytes); }
  const Stream& stream() const { return stream_; }
  DeviceAllocator& allocator() { return allocator_; }
  int capability() const { return capability_; }  // 90 is compute capability 9.0

 private:
  int device_, capability_ = 0;
  std::string name_;
  Stream stream_;
  DeviceAllocator allocator_;
  Staging staging_;
};

// One a device, made at first use.  Throws when the device is not there.
CudaBackend& cuda_backend(int device);

}  // namespace fm
