// A channels-last tensor cut for vector kernels.  `repeat` pixels make one row of `width` elements, a whole number of
// vectors of every instruction set, so that 24 channels, or 3, need no partial vectors: only the tensor's end does.
#pragma once
#include <algorithm>
#include <numeric>

#include "../common/tensor.h"
#include "allocator.h"

namespace fm {

// Sums over rows run in T over so many, and in double over these.
constexpr int64_t kRowsInT = 64;

struct ChannelRows {
  int64_t channels, elements;
  int64_t repeat, width;
  int64_t chunk;  // elements a chunk: whole rows, and no function of the number of threads
  int64_t chunks;

  explicit ChannelRows(const Tensor& x) : ChannelRows(x.numel(), x.shape.empty() ? 1 : x.shape.back()) {}
  ChannelRows(int64_t elements, int64_t channels) : channels(std::max<int64_t>(channels, 1)), elements(elements) {
    constexpr int64_t kWidest = 16;  // floats in the widest vector
    repeat = kWidest / std::gcd(this->channels, kWidest);
    width = repeat * this->channels;
    chunk = std::clamp<int64_t>(32768 / width, 16, 512) * width;
    chunks = (elements + chunk - 1) / chunk;
  }
  int64_t begin(int64_t i) const { return i * chunk; }
  int64_t size(int64_t i) const { return std::min(chunk, elements - i * chunk); }
  int64_t pixels() const { return elements / channels; }

  // to[width] = from[channels], repeated.
  template <class T, class U>
  void spread(const U* from, T* to) const {
    for (int64_t i = 0; i < width; i++) to[i] = T(from[i % channels]);
  }
};

}  // namespace fm
