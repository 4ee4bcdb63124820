// The contract of a margin method, at three rates:
//
//   constructor               once a step          cos m, sin m, …
//   target(cos)               once a row           φ of the target's cosine and its slope; trigonometry is fine here
//   threshold(cos)            once a row           of the target's cosine: above it a negative is hard
//   negative(cos, threshold)  once a (row, class)  a few multiply-adds; no calls
//
// PlainNegative has the last two for a method that leaves the negatives alone.
#pragma once
#include <cmath>

#include "error.h"
#include "host_device.h"

namespace fm {

enum class Method : int;  // methods.h

constexpr double kPi = 3.14159265358979323846;

// Which derivative the target's margin has.  exact: the true one.  detached: dφ/dcos = 1, the margin held constant
// (insightface since 2022-12, CVLface, opensphere).
enum class Gradient : int { exact = 0, detached = 1 };

// What φ is where θ + m leaves [0, π].  none: cos(θ + m), rising again.  hard: cos − m·sin m, once cos ≤ cos(π − m).
// easy: the margin only where cos > easy_above, elsewhere φ = cos.  clamp: cos of θ + m clipped to
// [angle_epsilon, π − angle_epsilon].
// A margin that is no angle knows easy alone.
enum class Overflow : int { none = 0, hard = 1, easy = 2, clamp = 3 };

// mvsoftmax: the target as CosFace or as ArcFace; what becomes of a hard negative.
enum class Variant : int { am = 0, arc = 1 };
enum class HardNegatives : int { adaptive = 0, fixed = 1 };

struct MarginParams {
  Method method{};
  double scale = 64;
  double margin = 0.5;  // radians where the method's margin is an angle; sphereface: the factor of the angle
  Gradient gradient = Gradient::exact;
  Overflow overflow = Overflow::hard;
  // Every cosine is clipped to ±(1 − cosine_epsilon).  Outside, an exact gradient is 0 and a detached one passes.
  double cosine_epsilon = 0;
  double angle_epsilon = 1e-3;  // for Overflow::clamp
  // true: W is normalised inside the graph, dW is tangent to its row.  false: dW is the gradient at the unit rows,
  // without projection or 1/‖w‖ (opensphere).
  bool project_weight_gradient = true;
  double target_epsilon = 0;  // as cosine_epsilon, for the target's cosine alone (pytorch-adacos: 1e-7)
  double angle_limit =
      0;  // for Overflow::clamp: the upper end, where it is not π − angle_epsilon (opensphere: 3.14159)
  double easy_above = 0;                              // for Overflow::easy
  double m1 = 1, m2 = 0.3, m3 = 0.2;                  // combined: a factor, radians, a cosine
  double lambda = 0;                                  // sphereface: φ = (λ·cos + ψ)/(1 + λ)
  double t = 0;                                       // mvsoftmax, curricularface: what hard negatives gain
  Variant variant = Variant::am;                      // mvsoftmax
  HardNegatives negatives = HardNegatives::adaptive;  // mvsoftmax

  double largest_angle() const { return angle_limit > 0 ? angle_limit : kPi - angle_epsilon; }
};

// What a method asks of its parameters, where it is no more than this.
struct AngleOrCosineMargin {
  static void check(const MarginParams& p) {
    FM_CHECK(range, std::fabs(p.margin) <= kPi, "expected a margin in [-pi, pi], got ", p.margin);
  }
};

template <class T>
struct Phi {
  T value, slope;  // φ and dφ/dcos
};

// Below this sine a slope divides by the floor: the true dφ/dcos grows without bound towards cos = ±1, while the
// tangent it multiplies, of length sin θ, is down to the rounding of T.
template <class T>
constexpr double kSineFloor = sizeof(T) == 4 ? 1e-4 : 1e-8;

// sin θ ≥ 0 of cos θ; 0 also where rounding left |cos| > 1.
template <class T>
FM_HD T sine(T cos) {
  const T square = (1 - cos) * (1 + cos);
  return square > 0 ? std::sqrt(square) : T(0);
}

// Negatives without a margin.  T is a float or a vector of floats.
template <class T>
struct PlainNegative : AngleOrCosineMargin {
  using Negative = PlainNegative;
  static constexpr bool plain = true;              // the kernels then skip negative()
  static constexpr double largest() { return 1; }  // bound of |φ|, for the exponent's shift
  template <class V>
  FM_HD Phi<V> negative(V cos, V) const {
    return {cos, V{} + T(1)};
  }
};

// Negatives whose cosine is above the row's threshold become c·(linear + square·c) + constant; the threshold is constant
// in the gradient.  The exact slope, whatever MarginParams::gradient says of the target.
template <class T>
struct ReweightedNegative {
  using Negative = ReweightedNegative;
  static constexpr bool plain = false;
  T constant, linear, square;

  double largest() const {
    const double sum = std::fabs(double(constant)) + std::fabs(double(linear)) + std::fabs(double(square));
    return sum > 1 ? sum : 1;
  }
  template <class V>
  FM_HD Phi<V> negative(V cos, V threshold) const {
    const V one = V{} + T(1);
    return {cos > threshold ? cos * (cos * square + linear) + constant : cos,
            cos > threshold ? cos * (2 * square) + linear : one};
  }
};

template <class T>
FM_HD T target_limit(const MarginParams& p) {
  return T(1 - (p.cosine_epsilon > p.target_epsilon ? p.cosine_epsilon : p.target_epsilon));
}
template <class T>
FM_HD T clipped_target(const MarginParams& p, T cos) {
  const T limit = target_limit<T>(p);
  return cos > limit ? limit : cos < -limit ? -limit : cos;
}

// φ of the target after the clips and with the gradient that p asks for.
template <class M, class T>
FM_HD Phi<T> target_phi(const M& method, const MarginParams& p, T cos) {
  const T limit = target_limit<T>(p);
  const bool outside = cos > limit || cos < -limit;
  Phi<T> phi = method.target(clipped_target(p, cos));
  if (p.gradient == Gradient::detached) phi.slope = 1;
  else if (outside && limit < 1) phi.slope = 0;  // at epsilon 0 only rounding is outside
  return phi;
}

}  // namespace fm
