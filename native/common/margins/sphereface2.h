// SphereFace2 (Wen et al. 2022, arXiv:2108.01513): no softmax but a binary loss a class,
//   g(c) = 2·((c + 1)/2)^t − 1,  z_y = s·(g(c) − m) + b,  z_j = s·(g(c) + m) + b
//   L    = w₊·ln(1 + e^(−z_y)) + w₋·Σ_j ln(1 + e^(z_j))
// t is a whole number here (power).  Detached, as its authors have it, g's slope counts as 1 in every class.
#pragma once
#include "../margin.h"

namespace fm {

template <class T>
struct SphereFace2 : MarginMethod {
  static constexpr Quality quality = Quality::none;
  static constexpr bool binary = true, plain = false;
  T m;
  int power;
  bool exact;

  explicit SphereFace2(const MarginParams& p, double = 0)
      : m(T(p.margin)), power(p.power), exact(p.gradient == Gradient::exact) {}

  static void check(const MarginParams& p) {
    MarginMethod::check(p);
    FM_CHECK(range, p.power >= 1 && p.power <= 16, "expected a power in [1, 16], got ", p.power);
  }

  template <class V>
  FM_HD Phi<V> similarity(V cos) const {
    const V one = V{} + T(1), half = (cos + one) * T(0.5);
    V below = one;  // half^(power − 1)
    for (int k = 1; k < power; k++) below = below * half;
    return {2 * (below * half) - one, exact ? T(power) * below : one};
  }
  FM_HD Phi<T> target(T cos, T) const {
    const Phi<T> g = similarity(cos);
    return {g.value - m, g.slope};
  }
  FM_HD T margined(T cos, T) const { return similarity(cos).value - m; }
  template <class V>
  FM_HD Phi<V> negative(V cos, V) const {
    const Phi<V> g = similarity(cos);
    return {g.value + m, g.slope};
  }
};

}  // namespace fm
