// float32 convolutions by cuDNN and matrix products by cuBLASLt, where the libraries were found.
//
// FLASHMARGIN_CUDA_OPS=own leaves both to our own kernels; =libraries makes a missing library an error.  What a library
// begins it finishes: a call of it that fails is an error, not a change of kernels in the middle of a run.
// float32 means float32 unless FLASHMARGIN_CUDA_TF32=on.  Algorithms are deterministic ones, chosen once a shape: by the
// library's heuristics, which give the same device the same algorithm every time, or with FLASHMARGIN_CUDNN_SEARCH=measure
// by timing them.  FLASHMARGIN_CUDA_WORKSPACE (MiB) bounds what an algorithm may use.
#pragma once
#include <array>
#include <map>
#include <memory>
#include <mutex>

#include "../common/conv_shape.h"
#include "allocator.h"
#include "cuda_raii.h"
#include "dynlink.h"

namespace fm {

// What a convolution or product is made of; bfloat16 would be a row more.
template <class DataType, class Arithmetic>
struct Element {
  DataType data, sums;
  Arithmetic arithmetic;
};

// Images [N, H, W, C], weights [O, I, KH, KW] as the field stores them, float32.
class CudnnConvolutions {
 public:
  CudnnConvolutions(const Stream& stream, DeviceAllocator& allocator);
  ~CudnnConvolutions();
  void forward(const ConvShape& s, const float* x, const float* weight, float* y);
  void backward_data(const ConvShape& s, const float* dy, const float* weight, float* dx);
  void backward_weight(const ConvShape& s, const float* dy, const float* x, float* d_weight);

 private:
  struct Plan;
  struct Direction;
  enum Kind { kForward, kBackwardData, kBackwardWeight };
  using Key = std::array<int64_t, 10>;

  const float* channels_last(const ConvShape& s, const float* weight, DeviceScratch& scratch);
  void run(Kind kind, const ConvShape& s, const void* a, const void* b, void* result);
  Plan& plan_of(Kind kind, const ConvShape& s, const void* a, const void* b, void* result);
  void choose(Plan& plan, const Direction& direction, const ConvShape& s, const void* a, const void* b, void* result);

  const Stream& stream_;
  DeviceAllocator& allocator_;
  std::mutex lock_;
  cudnn::Handle handle_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

// to [M, N] = op(a)·op(b), row by row in memory; op(a) is [M, K].
class CublasltProducts {
 public:
  CublasltProducts(const Stream& stream, DeviceAllocator& allocator);
  ~CublasltProducts();
  void multiply(const float* a, const float* b, float* to, int64_t M, int64_t N, int64_t K, bool transpose_a,
                bool transpose_b);

 private:
  struct Plan;
  using Key = std::array<int64_t, 5>;
  Plan& plan_of(const Key& key);

  const Stream& stream_;
  DeviceAllocator& allocator_;
  std::mutex lock_;
  cublaslt::Handle handle_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

// A device's.
class LibraryOps {
 public:
  LibraryOps(const Stream& stream, DeviceAllocator& allocator) : stream_(stream), allocator_(allocator) {}
  // Who computes it; nullptr where our own kernels do.  The current device must be the stream's.
  CudnnConvolutions* convolutions(Dtype dtype);
  CublasltProducts* products(Dtype dtype);

 private:
  const Stream& stream_;
  DeviceAllocator& allocator_;
  std::mutex lock_;
  std::unique_ptr<CudnnConvolutions> convolutions_;
  std::unique_ptr<CublasltProducts> products_;
};

// Why neither library is used, found or not; empty where they are.
std::string library_ops_off();

// The settings above, read when an algorithm is chosen.
size_t library_workspace();  // bytes
bool library_tf32();
bool library_measures();

}  // namespace fm
