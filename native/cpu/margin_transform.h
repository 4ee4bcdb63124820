// What the kernels of margin_transform.inl take a row.
#pragma once

namespace fm {

template <class T>
struct TransformRow {
  T scale = 1, bias = 0;
  T threshold = 2;      // above it a negative is hard
  T limit = 2;          // cosines are clipped to ± this
  T slope_outside = 0;  // of a clipped cosine
};

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
