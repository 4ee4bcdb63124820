// Convolution as a product of a gathered matrix: row p of A holds the window of source pixels under grid pixel p, its
// columns ordered (kernel row, kernel column, channel), so that a kernel row is one run of memory.  Only a tile of A exists
// at a time.
//
//   forward          windows of x, C = y
//   backward data    windows of dy; for stride s the input pixels of one residue mod s form a grid, and the kernel taps that
//                    reach them a smaller kernel of stride 1: each dx pixel is written once, by one product
//   backward weight  dyᵀ · A, summed over pixels
#pragma once
#include <algorithm>
#include <cstdint>

#include "backend.h"

namespace fm {

// The extents of one convolution, checked.
struct ConvShape {
  int64_t images, height, width, inputs;  // x
  int64_t outputs, kernel_height, kernel_width;
  int64_t out_height, out_width;
  int64_t stride, padding;

  ConvShape(const Shape& x, const Shape& weight, ConvParams p) {
    FM_CHECK(shape, x.size() == 4, "expected x with 4 axes, [N, H, W, C], got ", x);
    FM_CHECK(shape, weight.size() == 4, "expected weight with 4 axes, [O, I, KH, KW], got ", weight);
    FM_CHECK(shape, weight[1] == x[3], "expected weight for ", x[3], " input channels, got ", weight);
    FM_CHECK(shape, weight[0] >= 1 && weight[1] >= 1, "expected weight with at least one channel, got ", weight);
    FM_CHECK(range, p.stride >= 1, "expected a stride of at least 1, got ", p.stride);
    FM_CHECK(range, p.padding >= 0 && p.padding <= 1024, "expected a padding in [0, 1024], got ", p.padding);
    images = x[0], height = x[1], width = x[2], inputs = x[3];
    outputs = weight[0], kernel_height = weight[2], kernel_width = weight[3];
    stride = p.stride, padding = p.padding;
    const int64_t free_y = height + 2 * padding - kernel_height, free_x = width + 2 * padding - kernel_width;
    FM_CHECK(shape, kernel_height >= 1 && kernel_width >= 1 && free_y >= 0 && free_x >= 0,
             "expected a kernel that fits into x ", x, " with padding ", padding, ", got ", weight);
    out_height = free_y / stride + 1;
    out_width = free_x / stride + 1;
  }
  Shape x() const { return {images, height, width, inputs}; }
  Shape y() const { return {images, out_height, out_width, outputs}; }
  Shape weight() const { return {outputs, inputs, kernel_height, kernel_width}; }
  int64_t taps() const { return kernel_height * kernel_width; }
  double flops() const {
    return 2.0 * double(images * out_height * out_width) * double(outputs * inputs * kernel_height * kernel_width);
  }
};

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

// Where the weight of (kernel row a, kernel column b, channel c, output column j) of a product lies.
struct WeightOrder {
  int64_t base, row, column, channel, output;
};

struct ConvProduct {
  ConvWindows windows;
  WeightOrder order;
  ConvTarget target;
};

inline ConvWindows forward_windows(const ConvShape& s) {
  return {s.images,        s.out_height,   s.out_width, s.height,   s.width,   s.inputs,
          s.kernel_height, s.kernel_width, s.stride,    -s.padding, -s.padding};
}

inline ConvProduct forward_product(const ConvShape& s) {
  return {forward_windows(s),
          {0, s.kernel_width, 1, s.taps(), s.inputs * s.taps()},
          {s.out_height, s.out_width, s.outputs, 1, 0, 0}};
}

// One axis of one residue: input pixels residue, residue + stride, …; kernel taps first, first − stride, … reach them, from
// output pixels beginning at `offset` plus the place on the grid.
struct ConvResidue {
  int64_t grid, taps, first, offset;
};
inline ConvResidue residue_of(int64_t residue, int64_t extent, int64_t kernel, int64_t stride, int64_t padding) {
  const int64_t grid = (extent - residue + stride - 1) / stride;
  const int64_t lowest =
      (residue + padding) % stride;  // the smallest tap t with residue + padding − t divisible by stride
  if (lowest >= kernel) return {grid, 0, 0, 0};
  const int64_t taps = (kernel - 1 - lowest) / stride + 1, first = lowest + (taps - 1) * stride;
  return {grid, taps, first, (residue + padding - first) / stride};
}

// f(product) for each residue; where no tap reaches a residue's pixels, depth() is 0 and they are to be 0.
template <class F>
void each_backward_data_product(const ConvShape& s, F&& f) {
  for (int64_t ry = 0; ry < std::min(s.stride, s.height); ry++)
    for (int64_t rx = 0; rx < std::min(s.stride, s.width); rx++) {
      const ConvResidue y = residue_of(ry, s.height, s.kernel_height, s.stride, s.padding);
      const ConvResidue x = residue_of(rx, s.width, s.kernel_width, s.stride, s.padding);
      f(ConvProduct{
          {s.images, y.grid, x.grid, s.out_height, s.out_width, s.outputs, y.taps, x.taps, 1, y.offset, x.offset},
          {y.first * s.kernel_width + x.first, -s.stride * s.kernel_width, -s.stride, s.inputs * s.taps(), s.taps()},
          {s.height, s.width, s.inputs, s.stride, ry, rx}});
    }
}

}  // namespace fm
