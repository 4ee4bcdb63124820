// multiply<columns>(sums, a, b, add): sums (+)= a·bᵀ of 64 rows, `columns` columns and 16 of the depth, by the four
// warps of a warpgroup, bfloat16 to float.  a and b are descriptors of shared memory.
//
// A thread's sums, lane l of warp w: block j of 8 columns is sums[4j + 2h + e], of row 16w + l/4 + 8h and
// column 8j + 2·(l%4) + e.
#pragma once
#include <cstdint>

namespace fm::hopper {

template <int columns>
struct Wgmma;

// Lists of 10 registers, of the tens digit t, and of as many operands from i on.
#define FM_R4(t) "%" #t "0, %" #t "1, %" #t "2, %" #t "3"
#define FM_R6(t) FM_R4(t) ", %" #t "4, %" #t "5"
#define FM_R8(t) FM_R6(t) ", %" #t "6, %" #t "7"
#define FM_R10(t) FM_R8(t) ", %" #t "8, %" #t "9, "
#define FM_R40 FM_R10() FM_R10(1) FM_R10(2) FM_R10(3)
#define FM_R90 FM_R40 FM_R10(4) FM_R10(5) FM_R10(6) FM_R10(7) FM_R10(8)
#define FM_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define FM_D16(i) FM_D4(i), FM_D4(i + 4), FM_D4(i + 8), FM_D4(i + 12)
#define FM_D48 FM_D16(0), FM_D16(16), FM_D16(32)
#define FM_D64 FM_D48, FM_D16(48)
#define FM_D96 FM_D64, FM_D16(64), FM_D16(80)
#define FM_D128 FM_D96, FM_D16(96), FM_D16(112)

#define FM_WGMMA(columns, registers, operands, a_at, b_at, add_at, a_along, b_along)                         \
  template <>                                                                                                \
  struct Wgmma<columns> {                                                                                    \
    template <int kAlongA, int kAlongB>                                                                      \
    static __device__ __forceinline__ void run(float (&d)[columns / 2], uint64_t a, uint64_t b, int add) {   \
      asm volatile("{\n.reg .pred some;\nsetp.ne.b32 some, %" #add_at                                        \
                   ", 0;\n"                                                                                  \
                   "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.bf16.bf16 {" registers "}, %" #a_at \
                   ", "                                                                                      \
                   "%" #b_at ", some, 1, 1, %" #a_along ", %" #b_along ";\n}\n"                              \
                   : operands                                                                                \
                   : "l"(a), "l"(b), "r"(add), "n"(kAlongA), "n"(kAlongB));                                  \
    }                                                                                                        \
  };
FM_WGMMA(96, FM_R40 FM_R8(4), FM_D48, 48, 49, 50, 51, 52)
FM_WGMMA(128, FM_R40 FM_R10(4) FM_R10(5) FM_R4(6), FM_D64, 64, 65, 66, 67, 68)
FM_WGMMA(192, FM_R90 FM_R6(9), FM_D96, 96, 97, 98, 99, 100)
FM_WGMMA(256, FM_R90 FM_R10(9) FM_R10(10) FM_R10(11) FM_R8(12), FM_D128, 128, 129, 130, 131, 132)

#undef FM_WGMMA
#undef FM_D128
#undef FM_D96
#undef FM_D64
#undef FM_D48
#undef FM_D16
#undef FM_D4
#undef FM_R90
#undef FM_R40
#undef FM_R10
#undef FM_R8
#undef FM_R6
#undef FM_R4

template <int columns, int kAlongA, int kAlongB>
__device__ __forceinline__ void multiply(float (&sums)[columns / 2], uint64_t a, uint64_t b, int add) {
  Wgmma<columns>::template run<kAlongA, kAlongB>(sums, a, b, add);
}

}  // namespace fm::hopper
