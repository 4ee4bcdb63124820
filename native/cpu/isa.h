// Which instruction set the kernels run on, chosen once from what the processor offers.
#pragma once

namespace fm {

// Each has what those before it have.
enum class Isa { portable = 0, avx2 = 1, avx512 = 2, avx512bf16 = 3 };

// The best available, or FLASHMARGIN_ISA=portable|avx2|avx512|avx512bf16 where the processor has it.
Isa isa();
const char* name_of(Isa isa);

}  // namespace fm

// FM_NO_AVX512 leaves AVX-512's kernels out, and isa() then offers avx2 at most.
#if defined(__x86_64__) && !defined(FM_NO_AVX512)
#define FM_AVX512
#endif

// FM_KERNEL(function): the function's version for this processor.  Its file has included for_each_isa.h.
#if defined(FM_AVX512)
#define FM_KERNEL(function)                                   \
  (::fm::isa() >= ::fm::Isa::avx512 ? &::fm::avx512::function \
   : ::fm::isa() == ::fm::Isa::avx2 ? &::fm::avx2::function   \
                                    : &::fm::portable::function)
#elif defined(__x86_64__)
#define FM_KERNEL(function) (::fm::isa() == ::fm::Isa::avx2 ? &::fm::avx2::function : &::fm::portable::function)
#else
#define FM_KERNEL(function) (&::fm::portable::function)
#endif
