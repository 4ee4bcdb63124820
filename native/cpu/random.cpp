#include "random.h"

#include <algorithm>

#include "allocator.h"
#include "parallel.h"

namespace fm {

void draw_normal(float* to, int64_t count, double std, Xoshiro128& generator) {
  constexpr double kTwoPi = 6.283185307179586;
  // The generator is sequential, and a quarter of the work: a block of its numbers at a time, then their logarithms and
  // cosines on all threads.
  constexpr int64_t kPairs = 65536, kGrain = 1024;
  Scratch<double> uniform(2 * kPairs);
  for (; count > 0; to += 2 * kPairs, count -= 2 * kPairs) {
    const int64_t pairs = std::min(kPairs, (count + 1) / 2);
    for (int64_t i = 0; i < 2 * pairs; i++) uniform[i] = generator.uniform();
    parallel_ranges(pairs, kGrain, [&](int64_t i, int64_t end) {
      for (; i < end; i++) {
        const double radius = std * std::sqrt(-2 * std::log(1 - uniform[2 * i])), angle = kTwoPi * uniform[2 * i + 1];
        to[2 * i] = float(radius * std::cos(angle));
        if (2 * i + 1 < count) to[2 * i + 1] = float(radius * std::sin(angle));
      }
    });
  }
}

}  // namespace fm
