// Which rows of weight are a head's: all of them, or those of the classes that a step samples.
#pragma once
#include <cstdint>

#include "host_device.h"

namespace fm {

struct ClassRows {
  const int32_t* classes = nullptr;  // [C] of the head's classes their places in weight, ascending; none: they are all
  int64_t K;                         // rows a class

  // Of a head's row of weight.
  FM_HD int64_t operator()(int64_t row) const {
    if (!classes) return row;
    return K == 1 ? int64_t(classes[row]) : of(row / K, row % K);
  }
  FM_HD int64_t of(int64_t one, int64_t center) const { return (classes ? classes[one] : one) * K + center; }
};

}  // namespace fm
