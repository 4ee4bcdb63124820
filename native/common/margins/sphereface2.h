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
  static constexpr bool binary = true;
  BinaryNegative<T> others;

  FM_HD explicit SphereFace2(const MarginParams& p, double = 0) : others(negatives(p)) {}

  FM_HD static BinaryNegative<T> negatives(const MarginParams& p) {
    return {T(p.margin), p.power, p.gradient == Gradient::exact};
  }

  static void check(const MarginParams& p) {
    MarginMethod::check(p);
    FM_CHECK(range, p.power >= 1 && p.power <= 16, "expected a power in [1, 16], got ", p.power);
  }

  FM_HD Phi<T> target(T cos, T) const {
    const Phi<T> g = others.similarity(cos);
    return {g.value - others.m, g.slope};
  }
  FM_HD bool clipped(T) const { return false; }
  FM_HD T margined(T cos, T) const { return others.similarity(cos).value - others.m; }
};

}  // namespace fm
