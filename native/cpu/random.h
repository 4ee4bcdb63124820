// Initial weights.
#pragma once
#include <cstdint>

#include "../common/random.h"

namespace fm {

// N(0, std²) by Box and Muller: a pair from two uniform numbers, of an odd count the last one alone.  The same for any
// number of threads.
void draw_normal(float* to, int64_t count, double std, Xoshiro128& generator);

}  // namespace fm
