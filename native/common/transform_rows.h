// The margin transform, one row of cosines: what all its negatives share, and φ of the target.  Once a row and in double;
// what is done once an element is the device's.
#pragma once
#include "head_rows.h"

namespace fm {

template <class T>
struct TransformRow {
  T scale = 1, bias = 0;
  T threshold = 2;      // above it a negative is hard
  T limit = 2;          // cosines are clipped to ± this
  T slope_outside = 0;  // of a clipped cosine
};

// norm: the feature's, where the scale is read from it.
FM_HD double transform_scale(const MarginParams& p, double norm) {
  const double scale = p.scale_by_norm ? p.scale * norm : p.scale;
  return p.scale_by_norm && scale > kLargestScale ? kLargestScale : scale;
}
FM_HD bool scale_moves(const MarginParams& p, double norm) { return p.scale_by_norm && p.scale * norm < kLargestScale; }

// margined: the target's cosine without what `overflow` makes of it, 2 where there is no target.
template <class T, class M>
FM_HD TransformRow<T> transform_row(const MarginParams& p, double scale, double margined) {
  TransformRow<T> row;
  row.scale = T(scale);
  row.bias = T(M::binary ? p.bias : 0);
  if (p.cosine_epsilon > 0) row.limit = T(1 - p.cosine_epsilon);
  row.slope_outside = p.gradient == Gradient::detached ? T(1) : T(0);
  row.threshold = T(hard_above(p, margined));
  return row;
}

}  // namespace fm
