// Counter-based random numbers: a pure function of (seed, index), so that any device and any number of threads draw
// the same ones, in any order; and a generator whose numbers come one after another.
#pragma once
#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace fm {

// A 64-bit bijection with full avalanche: SplitMix64's finaliser with the constants of Stafford's "mix13".
FM_HD uint64_t random_mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}
// Two rounds, each keyed by the seed.
FM_HD uint32_t random_bits(uint64_t seed, uint64_t index) {
  const uint64_t key = seed * 0x9e3779b97f4a7c15ull + 0x632be59bd9b4e019ull;
  return uint32_t(random_mix(random_mix(index + key) ^ key) >> 32);
}
// In [0, 1), on a grid of 2⁻³².
FM_HD double random_uniform(uint64_t seed, uint64_t index) {
  return double(random_bits(seed, index)) * (1.0 / 4294967296.0);
}
// random_bits(…) ≥ random_threshold(rate)  ⇔  random_uniform(…) ≥ rate, for rate in [0, 1).
inline uint32_t random_threshold(double rate) {
  const double t = std::ceil(rate * 4294967296.0);
  return t >= 4294967295.0 ? 4294967295u : uint32_t(t);
}

// xoshiro128** (Blackman & Vigna 2018), as lib/random.ts has it.
struct Xoshiro128 {
  uint32_t s[4];

  uint32_t bits() {
    const auto rotated = [](uint32_t x, int by) { return (x << by) | (x >> (32 - by)); };
    const uint32_t result = rotated(s[1] * 5, 7) * 9, t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotated(s[3], 11);
    return result;
  }
  // In [0, 1), 53 bits.
  double uniform() {
    const uint32_t high = bits() >> 5, low = bits() >> 6;
    return (high * 67108864.0 + low) / 9007199254740992.0;
  }
};

}  // namespace fm
