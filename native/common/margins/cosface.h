// CosFace (Wang et al. 2018, arXiv:1801.09414), AM-Softmax (arXiv:1801.05599):  φ = cos θ − m.
//
//   dφ/dc = 1, so that the exact and the detached gradient are one;  dφ/dm = −1.
// easy (SV-X-Softmax): the margin only where c > easy_above.
#pragma once
#include "../margin.h"

namespace fm {

template <class T>
struct CosFace : MarginMethod {
  T easy_above;
  bool easy;

  FM_HD explicit CosFace(const MarginParams& p, double = 0)
      : easy_above(T(p.easy_above)), easy(p.overflow == Overflow::easy) {}

  FM_HD Phi<T> target(T cos, T margin) const {
    if (easy && cos <= easy_above) return {cos, 1};
    return {cos - margin, 1, -1};
  }
  FM_HD T margined(T cos, T margin) const { return cos - margin; }
};

}  // namespace fm
