#include "isa.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "../common/error.h"

namespace fm {
namespace {

Isa best() {
#if defined(__x86_64__)
  __builtin_cpu_init();
#if defined(FM_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    return __builtin_cpu_supports("avx512bf16") ? Isa::avx512bf16 : Isa::avx512;
#endif
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::portable;
}

Isa choose() {
  const Isa available = best();
  const char* wanted = std::getenv("FLASHMARGIN_ISA");
  if (!wanted) return available;
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512bf16}) {
    if (std::strcmp(wanted, name_of(isa))) continue;
    FM_CHECK(range, int(isa) <= int(available), "FLASHMARGIN_ISA: this processor has no ", wanted, ", only ",
             name_of(available));
    return isa;
  }
  fail(ErrorKind::range, "FLASHMARGIN_ISA: expected portable, avx2, avx512 or avx512bf16, got '", wanted, "'");
}

}  // namespace

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

const char* name_of(Isa isa) {
  constexpr const char* names[] = {"portable", "avx2", "avx512", "avx512bf16"};
  return names[int(isa)];
}

}  // namespace fm
