// MV-Softmax (Wang et al. 2020, arXiv:1912.00833): the target as CosFace (am) or ArcFace (arc), and a hard negative, one
// whose cosine is above T = cos θ_y − m (am) or cos(θ_y + m) (arc), counts for more:
//   adaptive   φ = (t + 1)·c + t
//   fixed      φ = c + t
// t as in the authors' code; the paper's t is this one + 1.  T is constant in the gradient, and has its margin also
// where `overflow` leaves the target without.
#pragma once
#include "arcface.h"
#include "cosface.h"

namespace fm {

template <class T>
struct MvSoftmax : ReweightedNegative<T> {
  CosFace<T> am;
  ArcFace<T> arc;
  bool angular;

  explicit MvSoftmax(const MarginParams& p, double floor = kSineFloor<T>)
      : ReweightedNegative<T>{T(p.t), p.negatives == HardNegatives::adaptive ? T(1 + p.t) : T(1), T(0)},
        am(p),
        arc(p, floor),
        angular(p.variant == Variant::arc) {}

  static void check(const MarginParams& p) {
    AngleOrCosineMargin::check(p);
    FM_CHECK(range, p.t >= 0 && p.t <= 10, "expected t in [0, 10], got ", p.t);
  }

  FM_HD Phi<T> target(T cos) const { return angular ? arc.target(cos) : am.target(cos); }
  FM_HD T threshold(T cos) const { return angular ? arc.cos_sum(cos) : cos - am.m; }
};

}  // namespace fm
