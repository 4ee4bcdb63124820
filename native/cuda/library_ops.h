// float32 and bfloat16 convolutions by cuDNN and matrix products by cuBLASLt, where the libraries were found; bfloat16 from
// compute capability 8.0 on.
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
#include <type_traits>

#include "../common/conv_shape.h"
#include "allocator.h"
#include "cuda_raii.h"
#include "dynlink.h"

namespace fm {

// What a convolution or product is made of.
template <class DataType, class Arithmetic>
struct Element {
  DataType data, sums;
  Arithmetic arithmetic;
};

// Images [N, H, W, C] of float or Bfloat16; weights [O, I, KH, KW] as the field stores them, float, rounded on their way.
class CudnnConvolutions {
 public:
  template <class S>
  static constexpr bool takes = !std::is_same_v<S, double>;

  CudnnConvolutions(const Stream& stream, DeviceAllocator& allocator);
  ~CudnnConvolutions();
  template <class S>
  void forward(const ConvShape& s, const S* x, const float* weight, S* y);
  template <class S>
  void backward_data(const ConvShape& s, const S* dy, const float* weight, S* dx);
  template <class S>
  void backward_weight(const ConvShape& s, const S* dy, const S* x, float* d_weight);

 private:
  struct Plan;
  struct Direction;
  enum Kind { kForward, kBackwardData, kBackwardWeight };
  using Key = std::array<int64_t, 11>;

  template <class S>
  const S* channels_last(const ConvShape& s, const float* weight, DeviceScratch& scratch);
  void run(Kind kind, Dtype dtype, const ConvShape& s, const void* a, const void* b, void* result);
  Plan& plan_of(Kind kind, Dtype dtype, const ConvShape& s, const void* a, const void* b, void* result);
  void choose(Plan& plan, Dtype dtype, const ConvShape& s, const void* a, const void* b, void* result);

  const Stream& stream_;
  DeviceAllocator& allocator_;
  std::mutex lock_;
  cudnn::Handle handle_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

// to [M, N] = op(a)·op(b), row by row in memory; op(a) is [M, K]; all float32 or all bfloat16.
class CublasltProducts {
 public:
  CublasltProducts(const Stream& stream, DeviceAllocator& allocator);
  ~CublasltProducts();
  void multiply(Dtype dtype, const void* a, const void* b, void* to, int64_t M, int64_t N, int64_t K, bool transpose_a,
                bool transpose_b);

 private:
  struct Plan;
  using Key = std::array<int64_t, 6>;
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
  LibraryOps(const Stream& stream, DeviceAllocator& allocator, int capability)
      : stream_(stream), allocator_(allocator), capability_(capability) {}
  // Who computes it; nullptr where our own kernels do.  The current device must be the stream's.
  CudnnConvolutions* convolutions(Dtype dtype);
  CublasltProducts* products(Dtype dtype);

 private:
  bool take(Dtype dtype) const { return dtype == Dtype::float32 || (dtype == Dtype::bfloat16 && capability_ >= 80); }

  const Stream& stream_;
  DeviceAllocator& allocator_;
  int capability_;
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
