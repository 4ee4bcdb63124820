#include "tile.inl"

#define FM_BODY __attribute__((always_inline))

// Writes [0, count) and up to a vector more, which the caller overwrites or ignores.
template <class T>
FM_INLINE void copy_run(const T* from, const T* end, int64_t count, T* to) {
  int64_t i = 0;
  for (; i < count && from + i + kLanes<T> <= end; i += kLanes<T>) store(to + i, load(from + i));
  for (; i < count; i++) to[i] = from[i];
}
template <class T>
FM_INLINE void zero_run(int64_t count, T* to) {
  for (int64_t i = 0; i < count; i += kLanes<T>) store(to + i, Vec<T>{});
}

// Columns [k0, k1) of the rows of A for grid pixels [pixel, pixel + count).  `to` has room for a vector beyond its end.
template <class T>
static void gather(const T* source, const ConvWindows& w, int64_t pixel, int64_t count, int64_t k0, int64_t k1, T* to,
                   int64_t pitch) {
  const T* end = source + w.images * w.height * w.width * w.channels;
  const int64_t run = w.kernel_width * w.channels, first = k0 / run, last = (k1 + run - 1) / run;
  const int64_t source_row = w.width * w.channels, padded_run = (run + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  const bool whole = k0 == 0 && k1 == w.depth();
  int64_t x = pixel % w.grid_width, y = pixel / w.grid_width % w.grid_height,
          image = pixel / w.grid_width / w.grid_height;
  const auto advance = [&]() FM_BODY {
    if (++x < w.grid_width) return;
    x = 0;
    if (++y < w.grid_height) return;
    y = 0;
    image++;
  };
  for (int64_t p = 0; p < count; p++, to += pitch) {
    const int64_t top = y * w.step + w.offset_y, left = x * w.step + w.offset_x;
    if (whole && left >= 0 && left + w.kernel_width <= w.width && top >= 0 && top + w.kernel_height <= w.height) {
      const T* from = source + ((image * w.height + top) * w.width + left) * w.channels;
      if (from + (w.kernel_height - 1) * source_row + padded_run <= end) {
        T* row = to;
        for (int64_t ky = 0; ky < w.kernel_height; ky++, row += run, from += source_row)
          for (int64_t i = 0; i < run; i += kLanes<T>) store(row + i, load(from + i));
        advance();
        continue;
      }
    }
    // The part of a run that lies inside the image.
    const int64_t low = std::clamp<int64_t>(-left, 0, w.kernel_width) * w.channels;
    const int64_t high = std::max(low, std::clamp<int64_t>(w.width - left, 0, w.kernel_width) * w.channels);
    T* row = to;
    for (int64_t ky = first; ky < last; ky++) {
      const int64_t begin = std::max(k0 - ky * run, int64_t(0)), stop = std::min(k1 - ky * run, run);
      const int64_t source_y = top + ky;
      if (source_y < 0 || source_y >= w.height) {
        zero_run(stop - begin, row);
      } else {
        const int64_t inside = std::clamp(low, begin, stop), outside = std::clamp(high, inside, stop);
        const T* from = source + (image * w.height + source_y) * source_row + left * w.channels;
        if (inside > begin) zero_run(inside - begin, row);
        copy_run(from + inside, end, outside - inside, row + inside - begin);
        if (stop > outside) zero_run(stop - outside, row + outside - begin);
      }
      row += stop - begin;
    }
    advance();
  }
}

// Destination pixels of [pixel, pixel + count) = A·packed.  packed: [panel][depth][width].
template <class T>
static void conv_tile(const T* source, const ConvWindows& w, const T* packed, int64_t width, T* to,
                      const ConvTarget& target, int64_t pixel, int64_t count, T* scratch) {
  int64_t offsets[kConvTile];
  int64_t x = pixel % w.grid_width, y = pixel / w.grid_width % w.grid_height,
          image = pixel / w.grid_width / w.grid_height;
  for (int64_t p = 0; p < count; p++) {
    const int64_t row = image * target.height + y * target.step + target.offset_y;
    offsets[p] = (row * target.width + x * target.step + target.offset_x) * target.channels;
    if (++x == w.grid_width) {
      x = 0;
      if (++y == w.grid_height) {
        y = 0;
        image++;
      }
    }
  }
  const int64_t depth = w.depth();
  const int64_t passes = (depth + kConvDepth - 1) / kConvDepth, pass = (depth + passes - 1) / passes;
  for (int64_t k0 = 0; k0 < depth; k0 += pass) {
    const int64_t size = std::min(pass, depth - k0);
    const T* a = source + pixel * w.channels + k0;
    int64_t pitch = w.channels;
    if (!w.is_source()) {
      pitch = size % 256 == 0 ? size + 16 : size;  // rows a power of two apart would share a set of the cache
      gather(source, w, pixel, count, k0, k0 + size, scratch, pitch);
      a = scratch;
    }
    for (int64_t column = 0; column < target.channels; column += width)
      tiles(width, a, size_t(pitch), size_t(1), packed + column * depth + k0 * width, size_t(width), size, count,
            OffsetRows<T>{to + column, offsets}, k0 > 0, std::min(width, target.channels - column));
  }
}

// sums[outputs][pitch]: columns [k0, k1) of dyᵀ·A over grid pixels [begin, end).
template <class T>
static void conv_weight_chunk(const T* source, const ConvWindows& w, const T* dy, int64_t outputs, int64_t begin,
                              int64_t end, int64_t k0, int64_t k1, T* sums, int64_t pitch, T* scratch) {
  constexpr int64_t kWidth = 2 * kLanes<T>, kHalf = kLanes<T> / 2;
  const int64_t summed = (k1 - k0 + kHalf - 1) / kHalf * kHalf;  // whatever lies beyond k1 is summed too, and ignored
  const int64_t passes = (end - begin + kWeightTile - 1) / kWeightTile, pass = (end - begin + passes - 1) / passes;
  for (int64_t pixel = begin; pixel < end; pixel += pass) {
    const int64_t count = std::min(pass, end - pixel);
    gather(source, w, pixel, count, k0, k1, scratch, pitch);
    for (int64_t k = 0; k < summed; k += kWidth)
      tiles(kWidth, dy + pixel * outputs, UnitRow{}, size_t(outputs), scratch + k, size_t(pitch), count, outputs,
            EvenRows<T>{sums + k, size_t(pitch)}, pixel > begin, std::min(kWidth, summed - k));
  }
}
