// Compiles FM_KERNELS (a file of kernels, quoted, relative to the including file) once an instruction set:
//
//   #define FM_KERNELS "normalize.inl"
//   #include "for_each_isa.h"            → fm::avx512::…, fm::avx2::…, fm::portable::…;  FM_KERNEL(name) chooses
//
// The standard headers come first, outside the target pragma: an inline function of theirs compiled for AVX-512
// could be the copy that the linker keeps for everybody.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "isa.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(FM_AVX512)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c,bmi2,prefer-vector-width=512")
#define FM_VECTOR_BYTES 64
namespace fm::avx512 {
#include "simd.h"
#include FM_KERNELS
}  // namespace fm::avx512
#undef FM_VECTOR_BYTES
#pragma GCC pop_options
#endif

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi2")
#define FM_VECTOR_BYTES 32
namespace fm::avx2 {
#undef FM_INLINE
#include "simd.h"
#include FM_KERNELS
}  // namespace fm::avx2
#undef FM_VECTOR_BYTES
#pragma GCC pop_options
#endif

#define FM_VECTOR_BYTES 16
namespace fm::portable {
#undef FM_INLINE
#include "simd.h"
#include FM_KERNELS
}  // namespace fm::portable
#undef FM_VECTOR_BYTES
#undef FM_INLINE
#undef FM_KERNELS
