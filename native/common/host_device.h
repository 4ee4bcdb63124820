// FM_HD marks a function that the CPU and CUDA kernels share.  Inlined always: a copy compiled for one instruction
// set must not be the one that another set's kernels are linked with.
#pragma once
#include <limits>

#if defined(__CUDACC__)
#define FM_HD __host__ __device__ __forceinline__
#else
#define FM_HD inline __attribute__((always_inline))
#endif

namespace fm {

// A constant rather than a call, which the device compiler would not allow.
template <class T>
constexpr T kLargestNumber = std::numeric_limits<T>::max();

}  // namespace fm
