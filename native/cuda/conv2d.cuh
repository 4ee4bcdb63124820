// The products of conv_shape.h on tiles: windows of pixels are gathered on their way into shared memory.  Images are S in
// memory, products and sums are T.
#pragma once
#include "tile.cuh"

namespace fm {

// The extents of ConvWindows and ConvTarget, in ints: a kernel divides by them.
struct WindowGrid {
  int grid_height, grid_width;
  int height, width, channels;
  int kernel_width;
  int step, offset_y, offset_x;
  int target_height, target_width, target_channels, target_step, target_y, target_x;
};

// Pixel (y, x) of an image's grid.
struct GridPixel {
  int64_t image;
  int y, x;
  __device__ GridPixel(const WindowGrid& g, unsigned pixel)
      : image(pixel / unsigned(g.grid_width) / unsigned(g.grid_height)),
        y(int(pixel / unsigned(g.grid_width) % unsigned(g.grid_height))),
        x(int(pixel % unsigned(g.grid_width))) {}
  __device__ void advance(const WindowGrid& g, int pixels) {
    for (x += pixels; x >= g.grid_width; x -= g.grid_width)
      if (++y == g.grid_height) {
        y = 0;
        image++;
      }
  }
};

// Where the window of a pixel begins, and where its result goes.
struct PixelWindow {
  int64_t from, to;  // elements of the source and of the target
  int top, left;
};
__device__ inline PixelWindow window_of(const WindowGrid& g, const GridPixel& p) {
  PixelWindow w;
  w.top = p.y * g.step + g.offset_y;
  w.left = p.x * g.step + g.offset_x;
  w.from = ((p.image * g.height + w.top) * g.width + w.left) * g.channels;
  const int64_t row = p.image * g.target_height + p.y * g.target_step + g.target_y;
  w.to = (row * g.target_width + p.x * g.target_step + g.target_x) * g.target_channels;
  return w;
}

// Place k of a window: kernel row, kernel column, channel.
struct WindowPlace {
  int row, column;
  int64_t at;  // from the window's first element
  __device__ WindowPlace(const WindowGrid& g, unsigned k) {
    const unsigned tap = k / unsigned(g.channels);
    row = int(tap / unsigned(g.kernel_width));
    column = int(tap % unsigned(g.kernel_width));
    at = (int64_t(row) * g.width + column) * g.channels + k % unsigned(g.channels);
  }
  __device__ bool inside(const WindowGrid& g, int top, int left) const {
    return unsigned(top + row) < unsigned(g.height) && unsigned(left + column) < unsigned(g.width);
  }
};

// A tile's operand: its rows are pixels, whose windows are in shared memory, and the depth is the place in the window.
template <class T, class S>
struct WindowRows {
  using Plain = Operand<T, true>;
  const WindowGrid& grid;
  const S* source;
  const PixelWindow* windows;
  int rows;

  template <int extent, int n>
  __device__ void load(int64_t k0, int64_t left, T (&values)[n]) const {
    const int row = Plain::template first_row<extent>(), depth = Plain::template first_depth<extent>();
    const bool any = depth < left;
    const WindowPlace place(grid, any ? unsigned(k0) + depth : 0);
#pragma unroll
    for (int i = 0; i < n; i++) {
      const int r = row + i * Plain::template kStep<extent>;
      values[i] = 0;
      if (!any || r >= rows) continue;
      const PixelWindow& w = windows[r];
      if (place.inside(grid, w.top, w.left)) values[i] = T(source[w.from + place.at]);
    }
  }
  template <int extent, int n>
  __device__ static void stage(const T (&values)[n], T* to, int row_stride) {
    Plain::template stage<extent>(values, to, row_stride);
  }
};

// The same transposed: rows are places in the window, the depth is the pixel.
template <class T, class S>
struct WindowColumns {
  using Plain = Operand<T, false>;
  const WindowGrid& grid;
  const S* source;
  WindowPlace place;  // of this thread's row
  bool any;           // the row is one of the window's

  template <int extent, int n>
  __device__ void load(int64_t k0, int64_t left, T (&values)[n]) const {
    constexpr int step = Plain::template kStep<extent>;
    const int depth = Plain::template first_depth<extent>();
    GridPixel pixel(grid, unsigned(k0) + depth);
#pragma unroll
    for (int i = 0; i < n; i++) {
      values[i] = 0;
      if (any && depth + i * step < left) {
        const int top = pixel.y * grid.step + grid.offset_y, at = pixel.x * grid.step + grid.offset_x;
        if (place.inside(grid, top, at))
          values[i] = T(source[((pixel.image * grid.height + top) * grid.width + at) * grid.channels + place.at]);
      }
      pixel.advance(grid, step);
    }
  }
  template <int extent, int n>
  __device__ static void stage(const T (&values)[n], T* to, int row_stride) {
    Plain::template stage<extent>(values, to, row_stride);
  }
};

// target pixel · channel = Σ over the window's places of source·weight.  Channels are the tile's rows: there are fewer.
// Blocks: tiles of pixels, of channels.
template <class T, class S>
__global__ void __launch_bounds__(256, 2) conv_windows_kernel(WindowGrid grid, const S* __restrict__ source,
                                                              const S* __restrict__ weight,  // [channels, depth]
                                                              int64_t pixels, int64_t depth, S* __restrict__ target) {
  using Sizes = Tile<T>;
  __shared__ Four<T> staging[Sizes::kStaging / 4];
  __shared__ PixelWindow windows[Sizes::kColumns];
  const int64_t pixel0 = int64_t(blockIdx.x) * Sizes::kColumns, channel0 = int64_t(blockIdx.y) * Sizes::kRows;
  const int count = operand_rows(pixels - pixel0, Sizes::kColumns);
  if (int(threadIdx.x) < count) windows[threadIdx.x] = window_of(grid, GridPixel(grid, unsigned(pixel0) + threadIdx.x));
  __syncthreads();
  T sums[Sizes::kThreadRows][Sizes::kThreadColumns];
  clear_tile<T>(sums);
  multiply_tile<T>(
      staging, 0, depth,
      Operand<T, true, Scaled::no, S>{weight + channel0 * depth,
                                      operand_rows(grid.target_channels - channel0, Sizes::kRows), int(depth)},
      WindowRows<T, S>{grid, source, windows, count}, sums);
#pragma unroll
  for (int c = 0; c < Sizes::kThreadColumns; c++) {
    const int column = tile_column<T>(c);
    if (column >= count) continue;
    S* const to = target + windows[column].to + channel0;
#pragma unroll
    for (int r = 0; r < Sizes::kThreadRows; r++)
      if (channel0 + tile_row<T>(r) < grid.target_channels) to[tile_row<T>(r)] = S(sums[r][c]);
  }
}

// slabs[part][output][place] = Σ over the part's pixels of dy·window.  Blocks: tiles of places, of outputs, parts.
template <class T, class S>
__global__ void __launch_bounds__(256, 2)
    conv_weight_kernel(WindowGrid grid, const S* __restrict__ dy,  // [pixels, outputs]
                       const S* __restrict__ source, int64_t pixels, int64_t outputs, int64_t depth,
                       T* __restrict__ slabs) {
  using Sizes = Tile<T>;
  __shared__ Four<T> staging[Sizes::kStaging / 4];
  const int64_t place0 = int64_t(blockIdx.x) * Sizes::kColumns, output0 = int64_t(blockIdx.y) * Sizes::kRows;
  const int64_t begin = pixels * blockIdx.z / gridDim.z, end = pixels * (blockIdx.z + 1) / gridDim.z;
  const int64_t place = place0 + Operand<T, false>::template first_row<Sizes::kColumns>();
  const bool any = place < depth;
  T sums[Sizes::kThreadRows][Sizes::kThreadColumns];
  clear_tile<T>(sums);
  multiply_tile<T>(
      staging, begin, end,
      Operand<T, false, Scaled::no, S>{dy + output0, operand_rows(outputs - output0, Sizes::kRows), int(outputs)},
      WindowColumns<T, S>{grid, source, WindowPlace(grid, any ? unsigned(place) : 0), any}, sums);
#pragma unroll
  for (int r = 0; r < Sizes::kThreadRows; r++) {
    const int64_t output = output0 + tile_row<T>(r);
    if (output >= outputs) continue;
    T* const to = slabs + (blockIdx.z * outputs + output) * depth;
#pragma unroll
    for (int c = 0; c < Sizes::kThreadColumns; c++) {
      const int64_t at = place0 + tile_column<T>(c);
      if (at < depth) to[at] = sums[r][c];
    }
  }
}

}  // namespace fm
