// A PReLU of one element: x where x > 0, x·slope elsewhere; NaN stays NaN.
#pragma once

namespace fm {

template <class T>
__device__ T bent(T x, T slope) {
  return x > 0 ? x : x * slope;
}
// The gradient in front of it.
template <class T>
__device__ T unbent(T dy, T x, T slope) {
  return x > 0 ? dy : dy * slope;
}
// The element's term of d_slope = Σ dy·min(x, 0).
template <class T>
__device__ T slope_term(T dy, T x) {
  return x > 0 ? T(0) : dy * x;
}

}  // namespace fm
