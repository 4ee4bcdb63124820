// float32 and bfloat16 convolutions by cuDNN and matrix products by cuBLASLt, where the libraries were found; bfloat16 from
// compute capability 8.0 on.
//
// FLASHMARGIN_CUDA_OPS=own leaves both to our own kernels; =libraries makes a missing library an error.  What a library
// begins it finishes: a call of it that fails is an error, not a change of kernels in the middle of a run.  A shape that
// a library has no algorithm for is left to our own kernels from its first use on, so that runs repeat; with =libraries
// that is an error, too.
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
// False, and the result is untouched, of a shape that is left to our own kernels.
class CudnnConvolutions {
 public:
  template <class S>
  static constexpr bool takes = !std::is_same_v<S, double>;

  CudnnConvolutions(const Stream& stream, DeviceAllocator& allocator);
  ~CudnnConvolutions();
  template <class S>
  bool forward(const ConvShape& s, const S* x, const float* weight, S* y);
  template <class S>
  bool backward_data(const ConvShape& s, const S* dy, const float* weight, S* dx);
  template <class S>
  bool backward_weight(const ConvShape& s, const S* dy, const S* x, float* d_weight);

 private:
  struct Plan;
  struct Direction;
  enum Kind { kForward, kBackwardData, kBackwardWeight };
  using Key = std::array<int64_t, 11>;

  template <class S>
  const S* channels_last(const ConvShape& s, const float* weight, DeviceScratch& scratch);
  bool run(Kind kind, Dtype dtype, const ConvShape& s, const void* a, const void* b, void* result);
  const Plan* plan_of(Kind kind, Dtype dtype, const ConvShape& s, const void* a, const void* b, void* result);
  bool choose(Plan& plan, Dtype dtype, const ConvShape& s, const void* a, const void* b, void* result);

  const Stream& stream_;
  DeviceAllocator& allocator_;
  std::mutex lock_;
  cudnn::Handle handle_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;  // none of a shape that is left to our own kernels
};

// to [M, N] = op(a)·op(b), row by row in memory; op(a) is [M, K]; all float32 or all bfloat16.  False as above.
class CublasltProducts {
 public:
  CublasltProducts(const Stream& stream, DeviceAllocator& allocator);
  ~CublasltProducts();
  bool multiply(Dtype dtype, const void* a, const void* b, void* to, int64_t M, int64_t N, int64_t K, bool transpose_a,
                bool transpose_b);

 private:
  struct Plan;
  using Key = std::array<int64_t, 6>;
  const Plan* plan_of(const Key& key);

  const Stream& stream_;
  DeviceAllocator& allocator_;
  std::mutex lock_;
  cublaslt::Handle handle_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;  // none of a shape that is left to our own kernels
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

// Of a shape without an algorithm, and why in words: throws with FLASHMARGIN_CUDA_OPS=libraries.
void note_left_shape(const std::string& why);
template <class... Parts>
void leave_to_own_kernels(const Parts&... why) {
  std::string words;
  (append(words, why), ...);
  note_left_shape(words);
}
// How many shapes were left, and why the first; empty of none.
std::string take_left_to_own_kernels();

// The settings above, read when an algorithm is chosen.
size_t library_workspace();  // bytes
bool library_tf32();
bool library_measures();

}  // namespace fm
