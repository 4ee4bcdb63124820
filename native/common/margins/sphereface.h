// SphereFace (Liu et al. 2017, arXiv:1704.08063), with a real m as in SphereFace-R (Liu et al. 2022, arXiv:2109.05565):
//   ψ(θ) = (−1)^k·cos(m·θ) − 2k,  k = ⌊m·θ/π⌋, which falls all the way from θ = 0 to π,
//   φ    = (λ·c + ψ)/(1 + λ), the first paper's annealing; λ = 0 leaves ψ alone.
// The first paper's logits are ‖x‖·φ, with the norm's gradient: MarginParams::scale_by_norm.
//
// With σ = sin θ and dθ/dc = −1/σ:
//   dφ/dc = (λ + (−1)^k·m·sin(m·θ)/σ)/(1 + λ)
// ψ and its slope are continuous where k changes, for sin(m·θ) = 0 there.
#pragma once
#include "../margin.h"

namespace fm {

template <class T>
struct SphereFace : MarginMethod {
  static constexpr Quality quality = Quality::none;
  T m, lambda, sine_floor;

  FM_HD explicit SphereFace(const MarginParams& p, double floor = kSineFloor<T>)
      : m(T(p.margin)), lambda(T(p.lambda)), sine_floor(T(floor)) {}

  static void check(const MarginParams& p) {
    FM_CHECK(range, p.margin > 0 && p.margin <= 10, "expected a margin (factor of the angle) in (0, 10], got ",
             p.margin);
    FM_CHECK(range, p.lambda >= 0 && p.lambda <= 1e9, "expected lambda in [0, 1e9], got ", p.lambda);
  }

  FM_HD Phi<T> target(T cos, T) const {
    const T sin = sine(cos), angle = m * std::atan2(sin, cos);
    const T k = std::floor(angle / T(kPi)), sign = k - 2 * std::floor(k / 2) == 0 ? T(1) : T(-1);
    const T psi = sign * std::cos(angle) - 2 * k;
    const T slope = sign * m * std::sin(angle) / (sin > sine_floor ? sin : sine_floor);
    return {(lambda * cos + psi) / (1 + lambda), (lambda + slope) / (1 + lambda)};
  }
  FM_HD T margined(T cos, T quality) const { return target(cos, quality).value; }
};

}  // namespace fm
