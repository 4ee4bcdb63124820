// Which instruction set the kernels run on, chosen once from what the processor offers.
#pragma once

namespace fm {

// Each has what those before it have.
enum class Isa { portable = 0, avx2 = 1, avx512 = 2, avx512bf16 = 3 };

// The best available, or FLASHMARGIN_ISA=portable|avx2|avx512|avx512bf16 where the processor has it.
Isa isa();
const char* name_of(Isa isa);

}  // namespace fm

// FM_KERNEL(function): the function's version for this processor.  Its file has included for_each_isa.h.
#if defined(__x86_64__)
#define FM_KERNEL(function)                                   \
  (::fm::isa() >= ::fm::Isa::avx512 ? &::fm::avx512::function \
   : ::fm::isa() == ::fm::Isa::avx2 ? &::fm::avx2::function   \
                                    : &::fm::portable::function)
#else
#define FM_KERNEL(function) (&::fm::portable::function)
#endif
