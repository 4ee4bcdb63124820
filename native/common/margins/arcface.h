// ArcFace (Deng et al. 2019, arXiv:1801.07698):  φ = cos(θ + m).
//
// With c = cos θ and σ = sin θ ≥ 0, so that dσ/dc = −c/σ:
//   φ     = c·cos m − σ·sin m
//   dφ/dc = cos m + (c/σ)·sin m
//   dφ/dm = −c·sin m − σ·cos m
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
struct ArcFace : MarginMethod {
  T sine_floor, easy_above;
  T low, high, cos_low, cos_high;  // of θ + m
  Overflow overflow;

  FM_HD explicit ArcFace(const MarginParams& p, double floor = kSineFloor<T>)
      : sine_floor(T(floor)),
        easy_above(T(p.easy_above)),
        low(T(p.angle_epsilon)),
        high(T(p.largest_angle())),
        cos_low(T(std::cos(p.angle_epsilon))),
        cos_high(T(std::cos(p.largest_angle()))),
        overflow(p.overflow) {}

  FM_HD Phi<T> target(T cos, T margin) const {
    const T cos_m = std::cos(margin), sin_m = std::sin(margin);
    if (overflow == Overflow::hard && margin > 0 && cos <= -cos_m)
      return {cos - margin * sin_m, 1, -sin_m - margin * cos_m};
    if (overflow == Overflow::easy && cos <= easy_above) return {cos, 1};
    const T sin = sine(cos);
    if (overflow == Overflow::clamp) {
      const T angle = std::atan2(sin, cos) + margin;
      if (angle > high) return {cos_high, 0};
      if (angle < low) return {cos_low, 0};
    }
    return {cos * cos_m - sin * sin_m, cos_m + cos / (sin > sine_floor ? sin : sine_floor) * sin_m,
            -cos * sin_m - sin * cos_m};
  }
  FM_HD T margined(T cos, T margin) const { return cos * std::cos(margin) - sine(cos) * std::sin(margin); }
};

}  // namespace fm
