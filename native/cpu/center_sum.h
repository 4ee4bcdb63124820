// The sum of all unit rows, in the order of chunks that do not depend on the number of threads.
#pragma once
#include <cstdint>
#include <vector>

#include "../common/class_rows.h"

namespace fm {

// [D] of so many rows of w at their places, float32 or float64.
template <class T>
std::vector<double> sum_of_unit_rows(const T* w, int64_t rows, int64_t D, const ClassRows& places);

}  // namespace fm
