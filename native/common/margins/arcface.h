// ArcFace (Deng et al. 2019, arXiv:1801.07698):  φ = cos(θ + m).
//
// With c = cos θ and σ = sin θ ≥ 0, so that dσ/dc = −c/σ:
//   φ     = c·cos m − σ·sin m
//   dφ/dc = cos m + (c/σ)·sin m
//
// Past θ = π − m the sum θ + m leaves [0, π] and its cosine rises again, with a negative slope.  There
//   none   keeps it;
//   hard   continues as the line c − m·sin m, which stays decreasing in θ (and drops by m·sin m − (1 − cos m) at the seam);
//   clamp  holds θ + m at the end of its interval, slope 0.
// easy leaves out the margin where c ≤ easy_above, slope 1.
#pragma once
#include "../margin.h"

namespace fm {

template <class T>
struct ArcFace : PlainNegative<T> {
  T m, cos_m, sin_m, m_sin_m, sine_floor, easy_above;
  T low, high, cos_low, cos_high;  // of θ + m
  Overflow overflow;

  explicit ArcFace(const MarginParams& p, double floor = kSineFloor<T>)
      : m(T(p.margin)),
        cos_m(T(std::cos(p.margin))),
        sin_m(T(std::sin(p.margin))),
        m_sin_m(T(p.margin * std::sin(p.margin))),
        sine_floor(T(floor)),
        easy_above(T(p.easy_above)),
        overflow(p.overflow) {
    low = T(p.angle_epsilon);
    high = T(p.largest_angle());
    cos_low = T(std::cos(p.angle_epsilon));
    cos_high = T(std::cos(p.largest_angle()));
  }

  // cos(θ + m), wherever θ + m is.
  FM_HD T cos_sum(T cos) const { return cos * cos_m - sine(cos) * sin_m; }

  FM_HD Phi<T> target(T cos) const {
    if (overflow == Overflow::hard && cos <= -cos_m) return {cos - m_sin_m, 1};
    if (overflow == Overflow::easy && cos <= easy_above) return {cos, 1};
    const T sin = sine(cos);
    if (overflow == Overflow::clamp) {
      const T angle = std::atan2(sin, cos) + m;
      if (angle > high) return {cos_high, 0};
      if (angle < low) return {cos_low, 0};
    }
    return {cos * cos_m - sin * sin_m, cos_m + cos / (sin > sine_floor ? sin : sine_floor) * sin_m};
  }
};

}  // namespace fm
