// AdaFace (Kim et al. 2022, arXiv:2204.00964): the norm of the feature, standardised by the running mean and deviation
// of the norms, says how good an image is, and turns an angular margin into an additive one,
//   a = ‖x‖ clipped to [0.001, 100],  q = h·(a − mean)/(deviation + 0.001) clipped to [−1, 1]
//   φ = cos(θ − m·q) − m·(1 + q)
// with θ − m·q clipped (overflow clamp) in the authors' first code, and free (none) in CVLface.  q is constant in the
// gradient.  q = −1 is ArcFace, 0 CosFace.
#pragma once
#include "arcface.h"

namespace fm {

template <class T>
struct AdaFace : MarginMethod {
  static constexpr Quality quality = Quality::norm;
  ArcFace<T> arc;
  T m, mean, factor;

  FM_HD explicit AdaFace(const MarginParams& p, double floor = kSineFloor<T>)
      : arc(p, floor), m(T(p.margin)), mean(T(p.norm_mean)), factor(T(p.h / (p.norm_std + 1e-3))) {}

  static void check(const MarginParams& p) {
    MarginMethod::check(p);
    FM_CHECK(range, std::fabs(p.h) <= 100, "expected h in [-100, 100], got ", p.h);
    FM_CHECK(range, p.norm_std >= 0 && p.norm_std <= 1e30 && std::fabs(p.norm_mean) <= 1e30,
             "expected a mean and a deviation of norms of at most 1e30, got ", p.norm_mean, " and ", p.norm_std);
    FM_CHECK(range, p.overflow != Overflow::hard, "expected overflow of adaface to be none, easy or clamp, got hard");
  }

  FM_HD T quality_of(T norm) const {
    const T a = norm < T(1e-3) ? T(1e-3) : norm > T(100) ? T(100) : norm, q = factor * (a - mean);
    return q < -1 ? T(-1) : q > 1 ? T(1) : q;
  }
  FM_HD Phi<T> target(T cos, T norm) const {
    const T q = quality_of(norm);
    const Phi<T> phi = arc.target(cos, -m * q);
    const bool left_out = arc.overflow == Overflow::easy && cos <= arc.easy_above;
    return {left_out ? cos : phi.value - m * (1 + q), phi.slope};
  }
  FM_HD T margined(T cos, T norm) const {
    const T q = quality_of(norm);
    return arc.margined(cos, -m * q) - m * (1 + q);
  }
};

}  // namespace fm
