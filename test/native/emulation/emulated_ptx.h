// native/cuda/ptx.cuh on the host, lane by lane as the PTX manual states the fragments.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace fm {

// A copy is done at once or, as often, no sooner than its thread waits for it: what reads it before, or still reads
// what it overwrites, gets something else in one order of threads or another.
inline void cp_async_16(void* to, const void* from, int bytes) {
  if (bytes < 0 || bytes > 16 || uintptr_t(to) % 16 || (bytes > 0 && uintptr_t(from) % 16))
    throw std::logic_error("cp.async of 16 bytes: a size or an address that it does not take");
  cuda_emulation::block->copy_later(to, from, size_t(bytes), 16);
}
inline void cp_async_commit() { cuda_emulation::block->commit_copies(); }
template <int groups>
void cp_async_wait() {
  cuda_emulation::block->wait_for_copies(groups);
}

namespace emulated {

struct Fragments {
  uint32_t a[4], b[2];
};
// sums [16, 8] = a [16, 16] · b [16, 8], none of them a kernel's memory.
__attribute__((optimize("O3"), no_sanitize("address", "undefined"))) inline void multiply(const float* a,
                                                                                          const float* b,
                                                                                          double* sums) {
  for (int i = 0; i < 16; i++) {
    double row[8] = {};
    for (int k = 0; k < 16; k++)
      for (int j = 0; j < 8; j++) row[j] += double(a[i * 16 + k]) * double(b[k * 8 + j]);
    for (int j = 0; j < 8; j++) sums[i * 8 + j] = row[j];
  }
}
// Of all lanes' fragments.
inline void multiply(const Fragments* lanes, double* sums) {
  float a[16 * 16], b[16 * 8];
  for (unsigned row = 0; row < 16; row++)
    for (unsigned k = 0; k < 16; k += 2) {
      const uint32_t pair = lanes[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2];
      a[row * 16 + k] = first_of(pair), a[row * 16 + k + 1] = second_of(pair);
    }
  for (unsigned column = 0; column < 8; column++)
    for (unsigned k = 0; k < 16; k += 2) {
      const uint32_t pair = lanes[column * 4 + k % 8 / 2].b[k / 8];
      b[k * 8 + column] = first_of(pair), b[(k + 1) * 8 + column] = second_of(pair);
    }
  multiply(a, b, sums);
  if (!std::getenv("FM_EMULATED_WRONG_MMA")) return;
  for (unsigned i = 0; i < 4; i++) {  // the first product of one lane's sums
    const unsigned row = 13 / 4 + i / 2 * 8, column = 13 % 4 * 2 + i % 2;
    sums[row * 8 + column] -= double(a[row * 16]) * b[column];
  }
}
inline void ldmatrix(uint32_t (&to)[4], const void* row, bool transposed) {
  if (uintptr_t(row) % 16) throw std::logic_error("ldmatrix: a row that is not at a multiple of 16 bytes");
  const auto* const rows = cuda_emulation::block->exchange(static_cast<const uint16_t*>(row));
  const unsigned lane = cuda_emulation::block->lane(), g = lane / 4, t = lane % 4 * 2;
  for (unsigned matrix = 0; matrix < 4; matrix++) {
    const auto element = [&](unsigned r, unsigned c) { return uint32_t(rows[matrix * 8 + r][c]); };
    to[matrix] = transposed ? element(t, g) | element(t + 1, g) << 16 : element(g, t) | element(g, t + 1) << 16;
  }
}

}  // namespace emulated

inline void ldmatrix_x4(uint32_t (&to)[4], const void* row) { emulated::ldmatrix(to, row, false); }
inline void ldmatrix_x4_trans(uint32_t (&to)[4], const void* row) { emulated::ldmatrix(to, row, true); }

inline void mma_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const emulated::Fragments mine{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const double* const sums = cuda_emulation::block->combine<double>(
      mine, [](const emulated::Fragments* lanes, double* sums) { emulated::multiply(lanes, sums); });
  const unsigned lane = cuda_emulation::block->lane();
  for (unsigned i = 0; i < 4; i++) d[i] = float(double(d[i]) + sums[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2]);
}

inline uint32_t round_pair(float first, float second) {
  return Bfloat16(first).bits | uint32_t(Bfloat16(second).bits) << 16;
}

}  // namespace fm
