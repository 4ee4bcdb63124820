// A matrix of bfloat16 as the copy engine reads it, by boxes of three dimensions: x within a row, y and z among rows.
// What a box has beyond the extents is read as 0 and not written.
#pragma once
#include <cuda.h>

#include <cstdint>

#include "../head.h"

namespace fm::hopper {

struct Boxes {
  const Bfloat16* data;
  int64_t extents[3];  // elements
  int64_t strides[2];  // elements from one y, or z, to the next
  uint32_t box[3];     // elements; a row of a box is at most 128 bytes and is swizzled by its length
};
CUtensorMap tensor_map(const Boxes& boxes);

using BfloatChunk = HeadChunk<float, Bfloat16>;
inline int64_t classes_of(const BfloatChunk& chunk) { return chunk.last_class - chunk.first_class; }

// The batch: x axes, y nothing, z rows.
CUtensorMap map_rows(const DeviceHead<float>& head, const BfloatChunk& chunk, uint32_t box_rows);
// The chunk's centers: x axes, y a class's centers, z classes.  A box has one center of each of its classes.
CUtensorMap map_centers(const DeviceHead<float>& head, const BfloatChunk& chunk, uint32_t box_classes);
// Scores: x classes, y a class's centers, z rows.
CUtensorMap map_scores(const DeviceHead<float>& head, const BfloatChunk& chunk, uint32_t box_classes,
                       uint32_t box_rows);

}  // namespace fm::hopper
