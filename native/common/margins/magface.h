// MagFace (Meng et al. 2021, arXiv:2103.06627): ArcFace, or CosFace (Mag-CosFace), whose margin grows with the norm of
// the feature,
//   a    = ‖x‖ clipped to [lower_norm, upper_norm]
//   m(a) = lower_margin + k·(a − lower_norm),  k = (upper_margin − lower_margin)/(upper_norm − lower_norm)
// and a regulariser g(a) = a/upper_norm² + 1/a, which pulls norms up.  Neither is constant in the gradient:
//   dφ/da = k·dφ/dm,  dg/da = 1/upper_norm² − 1/a²;  both 0 where the norm is clipped.
#pragma once
#include "arcface.h"
#include "cosface.h"

namespace fm {

template <class T>
struct MagFace : MarginMethod {
  static constexpr Quality quality = Quality::norm;
  static constexpr bool regularised = true;
  ArcFace<T> arc;
  CosFace<T> cosine;
  T lower, upper, lowest, k;
  bool angular;

  FM_HD explicit MagFace(const MarginParams& p, double floor = kSineFloor<T>)
      : arc(p, floor),
        cosine(p),
        lower(T(p.lower_norm)),
        upper(T(p.upper_norm)),
        lowest(T(p.lower_margin)),
        k(T((p.upper_margin - p.lower_margin) / (p.upper_norm - p.lower_norm))),
        angular(p.variant == Variant::arc) {}

  static void check(const MarginParams& p) {
    FM_CHECK(range, p.lower_norm > 0 && p.upper_norm > p.lower_norm && p.upper_norm <= 1e6,
             "expected norms with 0 < lowerNorm < upperNorm <= 1e6, got ", p.lower_norm, " and ", p.upper_norm);
    FM_CHECK(range, std::fabs(p.lower_margin) <= kPi && std::fabs(p.upper_margin) <= kPi,
             "expected lowerMargin and upperMargin in [-pi, pi], got ", p.lower_margin, " and ", p.upper_margin);
    FM_CHECK(range, p.norm_penalty >= 0 && p.norm_penalty <= 1e9, "expected normPenalty in [0, 1e9], got ",
             p.norm_penalty);
  }

  FM_HD T clipped(T norm) const { return norm < lower ? lower : norm > upper ? upper : norm; }
  FM_HD T margin_of(T norm) const { return lowest + k * (clipped(norm) - lower); }

  FM_HD Phi<T> target(T cos, T norm) const {
    Phi<T> phi = angular ? arc.target(cos, margin_of(norm)) : cosine.target(cos, margin_of(norm));
    phi.slope_quality *= norm >= lower && norm <= upper ? k : T(0);
    return phi;
  }
  FM_HD T margined(T cos, T norm) const {
    return angular ? arc.margined(cos, margin_of(norm)) : cosine.margined(cos, margin_of(norm));
  }
  FM_HD Phi<T> regularizer(T norm) const {
    const T a = clipped(norm), square = upper * upper;
    return {a / square + 1 / a, norm >= lower && norm <= upper ? 1 / square - 1 / (a * a) : T(0)};
  }
};

}  // namespace fm
