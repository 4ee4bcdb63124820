// The sweeps whose products are of bfloat16, for processors that have such: float32 tensors, AVX-512-BF16 alone.
#include "class_sweep.h"

#if defined(__x86_64__)
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

#include "../common/methods.h"
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

template <SweepKind kind, class Negative>
static void sweep(ClassSweep<float>& s, const Negative& negative) {
  using Plain = SweepConfig<float, uint32_t, Negative, kind, false>;
  using Extras = SweepConfig<float, uint32_t, Negative, kind, true>;
  if constexpr (!kRareSweep<kind, Negative>)
    if (!s.has_extras()) return class_sweep<Plain>(s, negative);
  class_sweep<Extras>(s, negative);
}
}  // namespace fm::avx512bf16
#pragma GCC pop_options
#endif

namespace fm {

void class_sweep_bf16(SweepKind kind, ClassSweep<float>& s, const MarginParams& p) {
#if defined(__x86_64__)
  if (kind == SweepKind::moments) return avx512bf16::sweep<SweepKind::moments>(s, PlainNegative<float>{});
  if (kind == SweepKind::step) return avx512bf16::sweep<SweepKind::step>(s, PlainNegative<float>{});
  dispatch_negative<float>(p, [&](const auto& negative) {
    switch (kind) {
      case SweepKind::maximum: return avx512bf16::sweep<SweepKind::maximum>(s, negative);
      case SweepKind::sums: return avx512bf16::sweep<SweepKind::sums>(s, negative);
      case SweepKind::sums_and_features: return avx512bf16::sweep<SweepKind::sums_and_features>(s, negative);
      case SweepKind::gradients: return avx512bf16::sweep<SweepKind::gradients>(s, negative);
      case SweepKind::update: return avx512bf16::sweep<SweepKind::update>(s, negative);
      case SweepKind::moments:
      case SweepKind::step:
      case SweepKind::logits: break;
    }
  });
#endif
}

}  // namespace fm
