// What a head makes of cosines, by parts that know nothing of each other.
//
// A margin method makes φ of the target's cosine, at three rates:
//
//   constructor                once a step   cos m, sin m, …; on a GPU once a row
//   target(cos, quality)       once a row    φ, dφ/dcos and dφ/dquality; trigonometry is fine here
//   margined(cos, quality)     once a row    φ without what `overflow` makes of it: above it a negative is hard
//
// quality is the row's own signal: its margin, or the norm of its feature (Quality).  What the other classes' cosines
// become is Negatives' business, once a (row, class): a few multiply-adds, no calls.
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

// What φ a negative has, c being its cosine and T the target's margined one.  plain: c.  mv_adaptive, mv_fixed,
// curricular: (t + 1)·c + t, c + t, c·(t + c) where c > T.  filter: 0 where c > filter_above.
enum class Negatives : int { plain = 0, mv_adaptive = 1, mv_fixed = 2, curricular = 3, filter = 4 };

// magface: the target as ArcFace or as CosFace.
enum class Variant : int { arc = 0, cos = 1 };

// What a method's target reads besides the cosine.  margin: the row's own, or MarginParams::margin.
enum class Quality : int { none = 0, margin = 1, norm = 2 };

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
  double easy_above = 0;              // for Overflow::easy
  double m1 = 1, m2 = 0.3, m3 = 0.2;  // combined: a factor, radians, a cosine
  double lambda = 0;                  // sphereface: φ = (λ·cos + ψ)/(1 + λ)
  // --- negatives
  Negatives negatives = Negatives::plain;
  double t = 0;             // mv_adaptive, mv_fixed, curricular: what hard negatives gain
  double filter_above = 1;  // filter

  // --- the logits: scale·φ, times ‖x‖ of the row if scale_by_norm
  bool scale_by_norm = false;
  int sub_centers = 1;         // K: a class's cosine is the largest of its K centers'
  double label_smoothing = 0;  // share of the target's probability that is spread over all classes

  // --- magface: the margin grows from lower_margin at a norm of lower_norm to upper_margin at upper_norm; norm_penalty
  // is the weight of a/upper_norm² + 1/a in the loss, a the clipped norm
  Variant variant = Variant::arc;
  double lower_norm = 10, upper_norm = 110, lower_margin = 0.45, upper_margin = 0.8, norm_penalty = 0;
  // --- adaface: h, and the running mean and deviation of the norms
  double h = 0.333, norm_mean = 20, norm_std = 100;
  // --- sphereface2, uniface: z = scale·φ + bias, a loss a class, weighted
  double bias = 0, positive_weight = 1, negative_weight = 1;
  int power = 3;  // sphereface2: g(c) = 2·((c + 1)/2)^power − 1

  FM_HD double largest_angle() const { return angle_limit > 0 ? angle_limit : kPi - angle_epsilon; }
};

// What a method asks of its parameters, where it is no more than this.
struct AngleOrCosineMargin {
  static void check(const MarginParams& p) {
    FM_CHECK(range, std::fabs(p.margin) <= kPi, "expected a margin in [-pi, pi], got ", p.margin);
  }
};

template <class T>
struct Phi {
  T value, slope;     // φ and dφ/dcos
  T slope_quality{};  // dφ/dquality
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

// What most methods have: a loss over a softmax, no regulariser, and the margin as the row's signal.
struct MarginMethod {
  static constexpr Quality quality = Quality::margin;
  static constexpr bool binary = false;       // a loss a class, without a normaliser
  static constexpr bool regularised = false;  // has regularizer(norm), as Phi: value and slope
  static void check(const MarginParams& p) {
    FM_CHECK(range, std::fabs(p.margin) <= kPi, "expected a margin in [-pi, pi], got ", p.margin);
  }
};

// The negatives of a softmax loss.  T is a float, V that or a vector of them.
template <class T>
struct PlainNegative {
  static constexpr bool plain = true, binary = false;  // plain: the kernels skip negative()
  static constexpr double largest() { return 1; }      // bound of |φ|, for the exponent's shift
  template <class V>
  FM_HD Phi<V> negative(V cos, V) const {
    return {cos, V{} + T(1)};
  }
};

// Negatives whose cosine is above the row's threshold become c·(linear + square·c) + constant; the threshold is constant
// in the gradient.  The exact slope, whatever MarginParams::gradient says of the target.
template <class T>
struct ReweightedNegative {
  static constexpr bool plain = false, binary = false;
  T constant = 0, linear = 1, square = 0;

  ReweightedNegative() = default;
  explicit ReweightedNegative(const MarginParams& p) {
    switch (p.negatives) {
      case Negatives::plain: break;
      case Negatives::mv_adaptive: linear = T(1 + p.t), constant = T(p.t); break;
      case Negatives::mv_fixed: constant = T(p.t); break;
      case Negatives::curricular: linear = T(p.t), square = 1; break;
      case Negatives::filter: linear = 0; break;
    }
  }
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

// The negatives of a binary loss: g(c) + m with g(c) = 2·((c + 1)/2)^power − 1, whose slope counts as 1 unless exact; with
// power 1 and m 0 the cosine.
template <class T>
struct BinaryNegative {
  static constexpr bool plain = false, binary = true;
  T m;
  int power;
  bool exact;

  template <class V>
  FM_HD Phi<V> similarity(V cos) const {
    const V one = V{} + T(1), half = (cos + one) * T(0.5);
    V below = one;  // half^(power − 1)
    FM_ROLLED
    for (int k = 1; k < power; k++) below = below * half;
    return {2 * (below * half) - one, exact ? T(power) * below : one};
  }
  template <class V>
  FM_HD Phi<V> negative(V cos, V) const {
    const Phi<V> g = similarity(cos);
    return {g.value + m, g.slope};
  }
};

inline void check_negatives(const MarginParams& p) {
  if (p.negatives == Negatives::mv_adaptive || p.negatives == Negatives::mv_fixed)
    FM_CHECK(range, p.t >= 0 && p.t <= 10, "expected t of negatives in [0, 10], got ", p.t);
  if (p.negatives == Negatives::curricular)
    FM_CHECK(range, std::fabs(p.t) <= 1, "expected t of negatives in [-1, 1], got ", p.t);
  if (p.negatives == Negatives::filter)
    FM_CHECK(range, std::fabs(p.filter_above) <= 1, "expected above of negatives in [-1, 1], got ", p.filter_above);
}

// Above which cosine a row's negatives are hard.  margined: the target's, 2 where there is none.
FM_HD double hard_above(const MarginParams& p, double margined) {
  return p.negatives == Negatives::filter ? p.filter_above : margined;
}

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
FM_HD Phi<T> target_phi(const M& method, const MarginParams& p, T cos, T quality) {
  const T limit = target_limit<T>(p);
  const bool outside = cos > limit || cos < -limit;
  Phi<T> phi = method.target(clipped_target(p, cos), quality);
  if constexpr (M::binary)
    if (method.clipped(phi.value)) return phi;  // of the logit: no gradient, detached or not
  if (p.gradient == Gradient::detached) {
    phi.slope = 1;
    if (M::quality == Quality::norm) phi.slope_quality = 0;
  } else if (outside && limit < 1) {
    phi.slope = 0;  // at epsilon 0 only rounding is outside
  }
  return phi;
}

}  // namespace fm
