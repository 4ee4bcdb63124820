// A product with few tiles is cut along its depth: each part writes a slab of its own, and the slabs are added in order.
#pragma once
#include <cstdint>

#include "each.cuh"

namespace fm {

// How many parts; a function of the shapes alone, so that results do not depend on the device.
inline int64_t parts_of_depth(int64_t tiles, int64_t depth) {
  constexpr int64_t kBlocks = 512, kLeastDepth = 256;
  const int64_t wanted = kBlocks / (tiles < 1 ? 1 : tiles), most = depth / kLeastDepth;
  const int64_t parts = wanted < most ? wanted : most;
  return parts < 1 ? 1 : parts;
}

// to = Σ slabs[part][n].  Rows of the slabs are [outer, inner], rows of `to` [inner, outer].
template <class T, class S = T>
struct AddSlabs {
  const T* slabs;
  int64_t parts, n, outer, inner;
  S* to;
  __device__ void operator()(int64_t i) const {
    T sum = slabs[i];
#pragma unroll 4
    for (int64_t part = 1; part < parts; part++) sum += slabs[part * n + i];
    const int64_t size = outer * inner, row = i / size, at = i % size;
    to[row * size + at % inner * outer + at / inner] = S(sum);
  }
};

}  // namespace fm
