// CurricularFace (Huang et al. 2020, arXiv:2004.00288): the target as ArcFace, and a hard negative, one whose cosine is
// above T = cos(θ_y + m), has
//   φ = c·(t + c),  dφ/dc = t + 2c.
// t follows the mean of the targets' cosines, so that hard negatives count for more as training goes on; here it is a
// constant, which whoever owns the steps moves (MarginHead).  T is constant in the gradient, and is cos(θ_y + m) also
// where `overflow` gives the target another φ.
#pragma once
#include "arcface.h"

namespace fm {

template <class T>
struct CurricularFace : ReweightedNegative<T> {
  ArcFace<T> arc;

  explicit CurricularFace(const MarginParams& p, double floor = kSineFloor<T>)
      : ReweightedNegative<T>{T(0), T(p.t), T(1)}, arc(p, floor) {}

  static void check(const MarginParams& p) {
    AngleOrCosineMargin::check(p);
    FM_CHECK(range, std::fabs(p.t) <= 1, "expected t in [-1, 1], got ", p.t);
  }

  FM_HD Phi<T> target(T cos) const { return arc.target(cos); }
  FM_HD T threshold(T cos) const { return arc.cos_sum(cos); }
};

}  // namespace fm
