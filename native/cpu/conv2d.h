// How the CPU cuts the products of conv_shape.h.
#pragma once
#include "../common/conv_shape.h"

namespace fm {

constexpr int64_t kConvTile = 126;    // pixels a tile of A: a multiple of the micro-kernels' 14 and 9
constexpr int64_t kConvDepth = 576;   // columns a tile of A at most
constexpr int64_t kWeightTile = 128;  // the same for backward weight, where pixels are the summed axis
constexpr int64_t kWeightDepth = 288;

}  // namespace fm
