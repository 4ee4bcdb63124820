// FM_HD marks a function that the CPU and CUDA kernels share.  Inlined always: a copy compiled for one instruction
// set must not be the one that another set's kernels are linked with.
// FM_ROLLED leaves the loop that follows as it is: nvcc unrolls even one of a few unknown steps, inlined or not.
#pragma once
#include <limits>

#if defined(__CUDACC__)
#define FM_HD __host__ __device__ __forceinline__
#define FM_ROLLED _Pragma("unroll 1")
#else
#define FM_HD inline __attribute__((always_inline))
#define FM_ROLLED
#endif

namespace fm {

// A constant rather than a call, which the device compiler would not allow.
template <class T>
constexpr T kLargestNumber = std::numeric_limits<T>::max();

}  // namespace fm
