// The sweeps whose products are of bfloat16, for processors that have such: float32 tensors, AVX-512-BF16 alone.
#include "class_sweep_kinds.h"
#include "isa.h"

#if defined(FM_AVX512)
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "allocator.h"
#include "parallel.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c,bmi2,prefer-vector-width=512")
#define FM_VECTOR_BYTES 64
#define FM_BF16
namespace fm::avx512bf16 {
#include "simd.h"
// simd.h comes first
#include "class_sweep.inl"
}  // namespace fm::avx512bf16
#pragma GCC pop_options
#endif

namespace fm {

void sweep_classes_bf16(SweepKind kind, ClassSweep<float>& s, const MarginParams& p) {
#if defined(FM_AVX512)
  dispatch_sweep<float, uint32_t>(kind, p, s.has_extras(), [&](auto config, const auto& negative) {
    avx512bf16::class_sweep<decltype(config)>(s, negative);
  });
#endif
}

}  // namespace fm
