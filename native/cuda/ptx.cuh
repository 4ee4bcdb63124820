// Instructions of the tensor cores that have no name in C++, from compute capability 8.0 on.  All but the copies are a
// whole warp's: 32 lanes call them together.  The fragments are as the PTX manual has them for m16n8k16.
#pragma once
#include <cstdint>

#include "../common/bfloat16.h"

namespace fm {

// Where it is false a kernel's body is left out: the library has code for older devices too, which take other paths.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool kHasTensorCores = false;
#else
constexpr bool kHasTensorCores = true;
#endif

}  // namespace fm

#if !defined(__CUDACC__)
#include "emulated_ptx.h"
#else

namespace fm {

__device__ __forceinline__ unsigned shared_address(const void* at) { return unsigned(__cvta_generic_to_shared(at)); }

// 16 bytes to shared memory, the first `bytes` of them from memory, the others 0.
__device__ __forceinline__ void cp_async_16(void* to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
               : "memory");
}
// This thread's copies since the last commit are a group.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until all but the last `groups` groups are there; for this thread alone.
template <int groups>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// Four 8 × 8 matrices: lane l names row l % 8 of matrix l / 8, and of each matrix gets elements 2·(l % 4) and the next of
// row l / 4.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}
// The same of the transposed matrices.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}

// d += a·b, 16 × 16 by 16 × 8.  Of lane l, with g = l / 4 and t = 2·(l % 4): d is (g, t), (g, t + 1) and the same of row
// g + 8; a is (g, t), (g + 8, t), (g, t + 8), (g + 8, t + 8), each with the next of its row; b is (t, g), (t + 8, g), each
// with the next of its column.
__device__ __forceinline__ void mma_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two Bfloat16, the first in the lower half.
__device__ __forceinline__ uint32_t round_pair(float first, float second) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

}  // namespace fm

#endif
