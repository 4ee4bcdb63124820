// What the kernels of margin_transform.inl take a row.
#pragma once
#include "../common/transform_rows.h"

namespace fm {

template <class T, class N>
struct TransformOf {
  using Real = T;
  using Negative = N;
};

// Over a row: Σ d·φ and Σ d.
struct TransformSums {
  double with_phi = 0, alone = 0;
};

}  // namespace fm
