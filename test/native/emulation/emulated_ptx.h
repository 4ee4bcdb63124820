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

struct Words {
  uint32_t at[8];
};
inline const Words* exchange(const Words& mine) {
  return static_cast<const Words*>(cuda_emulation::block->exchange(&mine, sizeof mine));
}

inline void ldmatrix(uint32_t (&to)[4], const void* row, bool transposed) {
  if (uintptr_t(row) % 16) throw std::logic_error("ldmatrix: a row that is not at a multiple of 16 bytes");
  Words mine{};
  std::memcpy(mine.at, &row, sizeof row);
  const Words* const lanes = exchange(mine);
  const unsigned lane = cuda_emulation::block->lane(), g = lane / 4, t = lane % 4 * 2;
  for (unsigned matrix = 0; matrix < 4; matrix++) {
    const auto element = [&](unsigned r, unsigned c) {
      const uint16_t* elements;
      std::memcpy(&elements, lanes[matrix * 8 + r].at, sizeof elements);
      return uint32_t(elements[c]);
    };
    to[matrix] = transposed ? element(t, g) | element(t + 1, g) << 16 : element(g, t) | element(g, t + 1) << 16;
  }
}

}  // namespace emulated

inline void ldmatrix_x4(uint32_t (&to)[4], const void* row) { emulated::ldmatrix(to, row, false); }
inline void ldmatrix_x4_trans(uint32_t (&to)[4], const void* row) { emulated::ldmatrix(to, row, true); }

inline void mma_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const emulated::Words* const lanes = emulated::exchange({{a[0], a[1], a[2], a[3], b0, b1}});
  const unsigned lane = cuda_emulation::block->lane();
  const unsigned first = std::getenv("FM_EMULATED_WRONG_MMA") && lane == 13;
  for (unsigned i = 0; i < 4; i++) {
    const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    double sum = 0;
    for (unsigned k = first; k < 16; k++) {
      const unsigned pair = k % 8 / 2;
      const uint32_t x = lanes[row % 8 * 4 + pair].at[row / 8 + k / 8 * 2];
      const uint32_t y = lanes[column % 8 * 4 + pair].at[4 + k / 8];
      sum += k % 2 ? double(second_of(x)) * second_of(y) : double(first_of(x)) * first_of(y);
    }
    d[i] = float(double(d[i]) + sum);
  }
}

inline uint32_t round_pair(float first, float second) {
  return Bfloat16(first).bits | uint32_t(Bfloat16(second).bits) << 16;
}

}  // namespace fm
