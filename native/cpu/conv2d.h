// Convolution as a product of a gathered matrix: row p of A holds the window of source pixels under grid pixel p, its
// columns ordered (kernel row, kernel column, channel), so that a kernel row is one run of memory.  Only a tile of A exists
// at a time.
//
//   forward          windows of x, C = y
//   backward data    windows of dy; for stride s the input pixels of one residue mod s form a grid, and the kernel taps that
//                    reach them a smaller kernel of stride 1: each dx pixel is written once, by one product
//   backward weight  dyᵀ · A, summed over pixels
#pragma once
#include <cstdint>

#include "../common/backend.h"

namespace fm {

struct ConvWindows {
  int64_t images, grid_height, grid_width;
  int64_t height, width, channels;  // source images
  int64_t kernel_height, kernel_width;
  int64_t step, offset_y, offset_x;  // the window of grid pixel (y, x) begins at source pixel (y·step + offset_y, …)
  int64_t pixels() const { return images * grid_height * grid_width; }
  int64_t depth() const { return kernel_height * kernel_width * channels; }
  // A is the source itself.
  bool is_source() const {
    return kernel_height == 1 && kernel_width == 1 && step == 1 && offset_y == 0 && offset_x == 0 &&
           grid_height == height && grid_width == width;
  }
};

// Grid pixel (y, x) is pixel (y·step + offset_y, x·step + offset_x) of the destination images.
struct ConvTarget {
  int64_t height, width, channels;
  int64_t step, offset_y, offset_x;
};

// The extents of one convolution, checked.
struct ConvShape {
  int64_t images, height, width, inputs;  // x
  int64_t outputs, kernel_height, kernel_width;
  int64_t out_height, out_width;
  int64_t stride, padding;
  ConvShape(const Shape& x, const Shape& weight, ConvParams p);
  Shape x() const { return {images, height, width, inputs}; }
  Shape y() const { return {images, out_height, out_width, outputs}; }
  Shape weight() const { return {outputs, inputs, kernel_height, kernel_width}; }
  double flops() const {
    return 2.0 * double(images * out_height * out_width) * double(outputs * inputs * kernel_height * kernel_width);
  }
};

constexpr int64_t kConvTile = 126;    // pixels a tile of A: a multiple of the micro-kernels' 14 and 9
constexpr int64_t kConvDepth = 576;   // columns a tile of A at most
constexpr int64_t kWeightTile = 128;  // the same for backward weight, where pixels are the summed axis
constexpr int64_t kWeightDepth = 288;

}  // namespace fm
