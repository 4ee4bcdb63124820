// Combined margin (Deng et al. 2019, arXiv:1801.07698, section 2.3):  φ = cos(m₁·θ + m₂) − m₃.
//
// With θ = acos c and σ = sin θ, so that dθ/dc = −1/σ:
//   dφ/dc = m₁·sin(m₁·θ + m₂)/σ
// m₁ = 1 is taken without angles, as in ArcFace; then m₂ = 0 is CosFace to the bit, its slope 1 also at c = ±1.
//
// Past m₁·θ + m₂ = π the cosine rises again.  There
//   none   keeps it (insightface's arcface_mxnet);
//   clamp  holds m₁·θ + m₂ at the end of its interval, slope 0.
// easy leaves out the margin where c ≤ easy_above, slope 1.  No line is published that would continue it (`hard`).
#pragma once
#include "../margin.h"

namespace fm {

template <class T>
struct Combined : MarginMethod {
  static constexpr Quality quality = Quality::none;
  T m1, m2, m3, cos_m2, sin_m2, sine_floor, easy_above;
  T low, high, cos_low, cos_high;  // of m₁·θ + m₂
  Overflow overflow;

  FM_HD explicit Combined(const MarginParams& p, double floor = kSineFloor<T>)
      : m1(T(p.m1)),
        m2(T(p.m2)),
        m3(T(p.m3)),
        cos_m2(T(std::cos(p.m2))),
        sin_m2(T(std::sin(p.m2))),
        sine_floor(T(floor)),
        easy_above(T(p.easy_above)),
        low(T(p.angle_epsilon)),
        high(T(p.largest_angle())),
        cos_low(T(std::cos(p.angle_epsilon))),
        cos_high(T(std::cos(p.largest_angle()))),
        overflow(p.overflow) {}

  static void check(const MarginParams& p) {
    FM_CHECK(range, p.m1 > 0 && p.m1 <= 10, "expected m1 in (0, 10], got ", p.m1);
    FM_CHECK(range, std::fabs(p.m2) <= kPi, "expected m2 in [-pi, pi], got ", p.m2);
    FM_CHECK(range, std::fabs(p.m3) <= 2, "expected m3 in [-2, 2], got ", p.m3);
    FM_CHECK(range, p.overflow != Overflow::hard, "expected overflow of combined to be none, easy or clamp, got hard");
  }

  FM_HD Phi<T> target(T cos, T) const {
    if (overflow == Overflow::easy && cos <= easy_above) return {cos, 1};
    const T sin = sine(cos), divisor = sin > sine_floor ? sin : sine_floor;
    const T angle = m1 * std::atan2(sin, cos) + m2;
    if (overflow == Overflow::clamp) {
      if (angle > high) return {cos_high - m3, 0};
      if (angle < low) return {cos_low - m3, 0};
    }
    if (m1 == 1) return {cos * cos_m2 - sin * sin_m2 - m3, cos_m2 + cos / divisor * sin_m2};
    return {std::cos(angle) - m3, m1 * std::sin(angle) / divisor};
  }
  FM_HD T margined(T cos, T) const { return std::cos(m1 * std::atan2(sine(cos), cos) + m2) - m3; }
};

}  // namespace fm
