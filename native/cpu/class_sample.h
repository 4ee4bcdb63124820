// Partial FC (An et al. 2022, arXiv:2203.15565): which classes take part in a step.
#pragma once
#include "../common/random.h"
#include "../common/tensor.h"

namespace fm {

struct ClassSample {
  Tensor classes;  // [S] int32, ascending
  Tensor labels;   // [N] int32, places in `classes`; −1 stays
};

// A class's draw: the same on any machine and any number of threads.
inline uint32_t class_draw(int64_t seed, int64_t step, int64_t j) {
  return random_bits(random_mix(uint64_t(seed)) + uint64_t(step), uint64_t(j));
}

// Of C classes those of the labels, and of the others the ones with the largest draws, `count` in all: of equal draws
// the lower class.  More classes of the labels than `count` are all taken, and no other.
ClassSample sample_classes(const Tensor& labels,  // [N] int32, on the CPU; −1 = of no class
                           int64_t C, int64_t count, int64_t seed, int64_t step);

}  // namespace fm
