// Margins by themselves: every line of methods.def, its slopes against finite differences, the published numbers, its
// special places, and what check_margin refuses.
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "../../native/common/methods.h"

namespace {

using namespace fm;

int passed = 0, failed = 0;

void expect(bool ok, const std::string& what) {
  ok ? passed++ : failed++;
  if (!ok) std::printf("FAILED: %s\n", what.c_str());
}
void expect_near(double got, double wanted, double tolerance, const std::string& what) {
  expect(std::fabs(got - wanted) <= tolerance,
         what + ": expected " + std::to_string(wanted) + ", got " + std::to_string(got));
}

const Overflow kOverflows[] = {Overflow::none, Overflow::hard, Overflow::easy, Overflow::clamp};
const double kMargins[] = {-0.3, 0.0, 0.2, 0.5, 1.2};
const double kNorms[] = {0.5, 10.5, 20.7, 60, 109, 300};

std::string refusal(const MarginParams& p) {
  try {
    check_margin(p);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

MarginParams params(Method method, Overflow overflow = Overflow::none, double margin = 0.5) {
  MarginParams p;
  p.method = method;
  p.overflow = overflow;
  p.margin = margin;
  p.m1 = margin == 0.5 ? 1 : 1 + margin;
  p.m2 = margin;
  p.m3 = margin / 2;
  p.lambda = margin == 0.5 ? 0 : 4 + margin;
  p.variant = margin == 0.2 ? Variant::cos : Variant::arc;
  p.norm_std = 10;
  p.lower_margin = margin - 0.1;
  p.upper_margin = margin + 0.3;
  p.bias = margin;
  p.power = margin == 0.5 ? 3 : 2;
  if (method == Method::sphereface) p.margin = 1 + 2 * std::fabs(margin);
  return p;
}

// The row's signals that a method should be asked with.
template <class M>
std::vector<double> signals(double margin) {
  if (M::quality == Quality::norm) return {std::begin(kNorms), std::end(kNorms)};
  if (M::quality == Quality::margin) return {margin, margin + 0.1, -margin};
  return {0};
}

struct Difference {
  double slope;
  bool smooth;  // no seam or kink between
};
template <class F>
Difference difference(F&& f, double x, double h) {
  const double up = f(x + h), at = f(x), down = f(x - h);
  return {(up - down) / (2 * h), std::fabs(up + down - 2 * at) < 1e-8 && std::fabs(up - down) < 1e-3};
}

template <class M>
void slopes(const std::string& name, Method method) {
  const double h = 1e-6;
  for (Overflow overflow : kOverflows)
    for (double margin : kMargins) {
      const MarginParams p = params(method, overflow, margin);
      if (!refusal(p).empty()) continue;
      const M m(p);
      const std::string where =
          " at overflow " + std::to_string(int(overflow)) + ", margin " + std::to_string(margin) + ", signal ";
      for (double signal : signals<M>(margin)) {
        double worst = 0, worst_quality = 0;
        int seen = 0;
        for (double cos = -0.995; cos < 0.995; cos += 0.00731) {
          const Phi<double> phi = m.target(cos, signal);
          const Difference by_cos = difference([&](double c) { return m.target(c, signal).value; }, cos, h);
          if (by_cos.smooth) worst = std::max(worst, std::fabs(phi.slope - by_cos.slope)), seen++;
          const Difference by_signal = difference([&](double s) { return m.target(cos, s).value; }, signal, h);
          // AdaFace's norm is constant in the gradient
          if (method == Method::adaface) worst_quality = std::max(worst_quality, std::fabs(phi.slope_quality));
          else if (by_signal.smooth)
            worst_quality = std::max(worst_quality, std::fabs(phi.slope_quality - by_signal.slope));
        }
        expect(seen > 250, name + ": most places are smooth" + where + std::to_string(signal));
        expect(worst < 1e-6, name + ": slope is off by " + std::to_string(worst) + where + std::to_string(signal));
        expect(worst_quality < 1e-8,
               name + ": slope_quality is off by " + std::to_string(worst_quality) + where + std::to_string(signal));
      }
      if constexpr (M::regularised)
        for (double norm : kNorms)
          expect_near(m.regularizer(norm).slope,
                      difference([&](double n) { return m.regularizer(n).value; }, norm, 1e-5).slope, 1e-9,
                      name + ": slope of the regulariser at norm " + std::to_string(norm));
      if constexpr (M::binary)
        for (double cos : {-0.99, -0.4, 0.05, 0.3, 0.99})
          expect_near(M::negatives(p).negative(cos, 2.0).slope,
                      difference([&](double c) { return M::negatives(p).negative(c, 2.0).value; }, cos, h).slope, 1e-8,
                      name + ": slope of a negative");
    }
}

// margined() is the target's φ where no overflow is handled, whatever p.overflow is.
template <class M>
void margined_is_without_overflow(const std::string& name, Method method) {
  for (Overflow overflow : kOverflows)
    for (double margin : kMargins) {
      const MarginParams p = params(method, overflow, margin), free = params(method, Overflow::none, margin);
      if (!refusal(p).empty()) continue;
      for (double signal : signals<M>(margin))
        for (double cos = -0.99; cos < 1; cos += 0.045) {
          if (method == Method::uniface && std::fabs(p.scale * (cos - signal) + p.bias) > p.scale) continue;
          expect_near(M(p).margined(cos, signal), M(free).target(cos, signal).value, 1e-12,
                      name + ": margined() at overflow " + std::to_string(int(overflow)));
        }
    }
}

template <class M, class T>
void stays_finite(const std::string& name, Method method) {
  for (Overflow overflow : kOverflows)
    for (Gradient gradient : {Gradient::exact, Gradient::detached})
      for (double cos : {-1.0, -1 + 1e-16, -0.0, 0.0, 1 - 1e-16, 1.0, 1 + 1e-12, -1 - 1e-12, 1 + 1e-7, -1 - 1e-7})
        for (double signal : {-kPi, 0.0, 1e-20, 0.5, kPi, 1e20}) {
          MarginParams p = params(method, overflow);
          p.gradient = gradient;
          for (double epsilon : {0.0, 1e-4}) {
            p.cosine_epsilon = epsilon;
            const M m(p);
            const Phi<T> phi = target_phi(m, p, T(cos), T(signal));
            bool finite = std::isfinite(phi.value) && std::isfinite(phi.slope) && std::isfinite(phi.slope_quality) &&
                          std::isfinite(m.margined(T(cos), T(signal)));
            if constexpr (M::regularised)
              finite = finite && std::isfinite(m.regularizer(T(std::fabs(signal))).value) &&
                       std::isfinite(m.regularizer(T(std::fabs(signal))).slope);
            expect(finite, name + ": finite at cos " + std::to_string(cos) + ", signal " + std::to_string(signal));
          }
        }
}

// --- published numbers: z and dz/dcos at s = 64 and cos 0.9, 0.5, −0.95 --------------------------------------------------

template <template <class> class M>
void gives(const std::string& name, const MarginParams& p, double signal, const double (&z)[3],
           const double (&slope)[3], double scale = 64) {
  const double cosines[] = {0.9, 0.5, -0.95};
  for (int i = 0; i < 3; i++) {
    const Phi<double> phi = target_phi(M<double>(p), p, cosines[i], signal);
    expect_near(scale * phi.value, z[i], 1e-6, name + ", cos " + std::to_string(cosines[i]));
    expect_near(scale * phi.slope, slope[i], 1e-6, "slope of " + name + ", cos " + std::to_string(cosines[i]));
    const Phi<float> single = target_phi(M<float>(p), p, float(cosines[i]), float(signal));
    expect_near(scale * single.value, z[i], 1e-4, name + " in float32");
    expect_near(scale * single.slope, slope[i], 1e-3, "slope of " + name + " in float32");
  }
}

void published_numbers() {
  MarginParams p = params(Method::arcface);
  gives<ArcFace>("arcface, none", p, 0.5, {37.174244, 1.510181, -62.937857}, {119.518235, 73.880258, -37.186460});
  p.gradient = Gradient::detached;
  gives<ArcFace>("arcface, detached", p, 0.5, {37.174244, 1.510181, -62.937857}, {64, 64, 64});
  p = params(Method::arcface, Overflow::hard);
  gives<ArcFace>("arcface, hard", p, 0.5, {37.174244, 1.510181, -76.141617}, {119.518235, 73.880258, 64});
  p = params(Method::arcface, Overflow::easy);
  gives<ArcFace>("arcface, easy", p, 0.5, {37.174244, 1.510181, -60.8}, {119.518235, 73.880258, 64});
  gives<CosFace>("cosface", params(Method::cosface), 0.4, {32, 6.4, -86.4}, {64, 64, 64});

  p = params(Method::combined);
  p.m1 = 1.1, p.m2 = 0.3, p.m3 = 0.2;
  gives<Combined>("combined", p, 0, {31.966593, -5.209650, -74.568554}, {115.422841, 80.717183, -59.015972});

  p = params(Method::sphereface);
  p.margin = 4, p.lambda = 0;
  gives<SphereFace>("sphereface, m 4", p, 0, {-0.231200, -1.5, -6.296050}, {8.928, 4, 12.236}, 1);
  p.margin = 1.7;
  gives<SphereFace>("sphereface, m 1.7", p, 0, {0.720172, -0.207912, -2.088350}, {2.705848, 1.920095, 5.423067}, 1);
  p.margin = 4, p.lambda = 5;
  gives<SphereFace>("sphereface, λ 5", p, 0, {(4.5 - 0.231200) / 6, (2.5 - 1.5) / 6, (-4.75 - 6.296050) / 6},
                    {13.928 / 6, 9.0 / 6, 17.236 / 6}, 1);

  // norms whose quality is what the name says
  p = params(Method::adaface, Overflow::clamp, 0.4);
  p.h = 1, p.norm_mean = 20, p.norm_std = 1 - 1e-3;
  p.cosine_epsilon = 1e-3;
  gives<AdaFace>("adaface, q −1", p, 19, {42.189528, 7.890196, -63.999968}, {110.406992, 73.337074, 0});
  gives<AdaFace>("adaface, q clipped to −1", p, 3, {42.189528, 7.890196, -63.999968}, {110.406992, 73.337074, 0});
  gives<AdaFace>("adaface, q 0", p, 20, {32, 6.4, -86.4}, {64, 64, 64});
  gives<AdaFace>("adaface, q 0.333", p, 20.333, {26.669874, 4.952625, -91.732229}, {45.883580, 58.525833, 89.292610});
  gives<AdaFace>("adaface, q 1", p, 21, {12.716699, -0.142293, -99.418375}, {7.488815, 44.558733, 134.773821});
  p.overflow = Overflow::none;
  gives<AdaFace>("adaface, none, q 1", p, 99, {12.716699, -0.142293, -99.418375}, {7.488815, 44.558733, 134.773821});

  p = params(Method::magface, Overflow::easy);
  p.lower_margin = 0.45, p.upper_margin = 0.8, p.lower_norm = 10, p.upper_norm = 110;
  gives<MagFace>("magface, norm 60", p, 60, {30.389044, -6.478563, -60.8}, {129.218419, 73.521228, 64});
  const double by_norm[] = {-0.197138, -0.222849, 0}, cosines[] = {0.9, 0.5, -0.95};
  for (int i = 0; i < 3; i++)
    expect_near(64 * MagFace<double>(p).target(cosines[i], 60).slope_quality, by_norm[i], 1e-6, "magface: dz/d‖x‖");
  expect_near(MagFace<double>(p).regularizer(60).value, 0.0216253444, 1e-10, "magface: g(60)");
  expect_near(MagFace<double>(p).regularizer(60).slope, -0.0001951331, 1e-10, "magface: g'(60)");

  const auto negative = [](Negatives rule, double t, double cos, double threshold) {
    MarginParams q;
    q.negatives = rule;
    q.t = t;
    q.filter_above = threshold;
    return ReweightedNegative<double>(q).negative(cos, hard_above(q, threshold));
  };
  const auto is = [](const Phi<double>& phi, double z, double slope, const std::string& what) {
    expect_near(64 * phi.value, z, 1e-12, what);
    expect_near(64 * phi.slope, slope, 1e-12, "slope of " + what);
  };
  is(negative(Negatives::mv_adaptive, 0.2, 0.4, 0.3), 43.52, 76.8, "a hard negative, mv_adaptive");
  is(negative(Negatives::mv_fixed, 0.2, 0.4, 0.3), 38.4, 64, "a hard negative, mv_fixed");
  is(negative(Negatives::curricular, 0.3, 0.4, 0.3), 17.92, 70.4, "a hard negative, curricular");
  is(negative(Negatives::filter, 0, 0.4, 0.3), 0, 0, "a filtered negative");
  for (Negatives rule : {Negatives::mv_adaptive, Negatives::mv_fixed, Negatives::curricular, Negatives::filter}) {
    is(negative(rule, 0.2, 0.4, 0.4), 25.6, 64, "hard is above, not at, the threshold");
    is(negative(rule, 0.2, 0.4, 0.5), 25.6, 64, "an easy negative");
  }
}

// --- special places ------------------------------------------------------------------------------------------------------

void arcface_by_angle() {
  const double m = 0.5;
  const auto arc = [&](Overflow overflow, double cos, double margin = 0.5) {
    return ArcFace<double>(params(Method::arcface, overflow)).target(cos, margin);
  };
  for (double theta = 0.01; theta < kPi; theta += 0.013) {
    const double cos = std::cos(theta), sum = theta + m;
    expect_near(arc(Overflow::none, cos).value, std::cos(sum), 1e-12, "arcface none");
    expect_near(arc(Overflow::hard, cos).value, sum < kPi ? std::cos(sum) : cos - m * std::sin(m), 1e-12,
                "arcface hard");
    expect_near(arc(Overflow::easy, cos).value, cos > 0 ? std::cos(sum) : cos, 1e-12, "arcface easy");
    expect_near(arc(Overflow::clamp, cos).value, std::cos(std::min(sum, kPi - 1e-3)), 1e-12, "arcface clamp");
    if (sum > kPi) expect(arc(Overflow::clamp, cos).slope == 0, "clamp has no slope");
    expect_near(arc(Overflow::hard, cos, 0).value, cos, 1e-12, "margin 0 is softmax");
    expect_near(arc(Overflow::hard, cos, -m).value, std::cos(theta - m), 1e-12, "a negative margin has no hard line");
    expect_near(arc(Overflow::clamp, cos, -m).value, std::cos(std::max(theta - m, 1e-3)), 1e-12, "the lower clamp");
    const MarginParams easy = params(Method::cosface, Overflow::easy);
    expect_near(CosFace<double>(easy).target(cos, m).value, cos > 0 ? cos - m : cos, 1e-12, "cosface easy");
  }
}

void combined_and_adaface_are_others() {
  MarginParams p = params(Method::combined);
  p.m1 = 1, p.m2 = 0, p.m3 = 0.35;
  for (double cos : {-1.0, 0.3, 1.0}) {
    const Phi<double> phi = Combined<double>(p).target(cos, 0);
    expect(phi.value == cos - 0.35 && phi.slope == 1, "(1, 0, m) is CosFace");
  }
  p.m2 = 0.5, p.m3 = 0;
  const ArcFace<double> arc(params(Method::arcface));
  for (double cos = -0.99; cos < 1; cos += 0.03)
    expect(Combined<double>(p).target(cos, 0).value == arc.target(cos, 0.5).value, "(1, m, 0) is ArcFace");

  const MarginParams ada = params(Method::adaface, Overflow::none, 0.4);
  const AdaFace<double> adaface(ada);
  expect(adaface.quality_of(1e9) == adaface.quality_of(100), "norms are clipped to 100");
  expect(adaface.quality_of(0) == adaface.quality_of(1e-3), "and to 0.001");
  MarginParams easy = params(Method::adaface, Overflow::easy, 0.4);
  for (double cos : {-0.9, -0.1, 0.0})
    for (double norm : kNorms)
      expect(AdaFace<double>(easy).target(cos, norm).value == cos, "adaface easy: no margin at low cosines");
}

void sphereface_falls() {
  MarginParams p = params(Method::sphereface);
  p.lambda = 0;
  for (double m : {1.0, 1.7, 3.0, 4.0, 10.0}) {
    p.margin = m;
    double before = 2;
    for (double theta = 0; theta <= kPi; theta += 0.003) {
      const double psi = SphereFace<double>(p).target(std::cos(theta), 0).value;
      expect(psi < before, "sphereface falls with the angle");
      expect(m > 1 || std::fabs(psi - std::cos(theta)) < 1e-12, "m 1 is softmax");
      before = psi;
    }
    expect_near(SphereFace<double>(p).target(-1.0, 0).value, std::cos(m * kPi) * (int(m) % 2 ? -1 : 1) - 2 * int(m),
                1e-9, "sphereface at the opposite end");
  }
  // the first paper's closed forms
  for (double c = -0.99; c < 1; c += 0.01) {
    p.margin = 2;
    expect_near(SphereFace<double>(p).target(c, 0).value, c >= 0 ? 2 * c * c - 1 : -2 * c * c - 1, 1e-12, "ψ, m 2");
    p.margin = 3;
    const double s1 = std::fabs(c) > 0.5 ? 1 : -1, s0 = c > 0 ? 1 : -1;
    expect_near(SphereFace<double>(p).target(c, 0).value, s1 * (4 * c * c * c - 3 * c) + s0 * (1 + s1) - 2, 1e-12,
                "ψ, m 3");
  }
}

void magface_by_norm() {
  MarginParams p = params(Method::magface);
  p.lower_margin = 0.45, p.upper_margin = 0.8;
  const MagFace<double> m(p);
  expect_near(m.margin_of(10), 0.45, 1e-15, "the margin at the lower norm");
  expect_near(m.margin_of(110), 0.8, 1e-15, "the margin at the upper norm");
  expect_near(m.margin_of(1), 0.45, 1e-15, "the margin below");
  expect_near(m.margin_of(1e9), 0.8, 1e-15, "the margin above");
  for (double norm : {1.0, 9.99, 110.01, 1e9})
    expect(m.target(0.3, norm).slope_quality == 0 && m.regularizer(norm).slope == 0, "a clipped norm has no gradient");
  for (double norm : {10.0, 60.0, 110.0})
    expect(m.target(0.3, norm).slope_quality != 0 &&
               m.target(0.3, norm).value == ArcFace<double>(p).target(0.3, m.margin_of(norm)).value,
           "magface is arcface with the norm's margin");
  expect_near(m.regularizer(1e9).value, 1.0 / 110 + 1.0 / 110, 1e-15, "the regulariser of the clipped norm");
  p.overflow = Overflow::hard;
  const double margin = m.margin_of(60);
  expect_near(MagFace<double>(p).target(-0.95, 60).slope_quality,
              -0.35 / 100 * (std::sin(margin) + margin * std::cos(margin)), 1e-12, "the hard line's slope by the norm");
  p.variant = Variant::cos;
  expect_near(MagFace<double>(p).target(0.2, 60).value, 0.2 - 0.625, 1e-15, "Mag-CosFace");
  expect_near(MagFace<double>(p).target(0.2, 60).slope_quality, -0.0035, 1e-15, "Mag-CosFace by the norm");
}

void binary_losses() {
  MarginParams p = params(Method::sphereface2, Overflow::none, 0.4);
  for (int power : {1, 2, 3, 4}) {
    p.power = power;
    for (double cos : {-1.0, -0.3, 0.0, 0.7, 1.0}) {
      const double g = 2 * std::pow((cos + 1) / 2, power) - 1;
      p.gradient = Gradient::exact;
      expect_near(SphereFace2<double>(p).target(cos, 0).value, g - 0.4, 1e-15, "sphereface2");
      expect_near(SphereFace2<double>::negatives(p).negative(cos, 2.0).value, g + 0.4, 1e-15,
                  "sphereface2, a negative");
      expect_near(SphereFace2<double>::negatives(p).negative(cos, 2.0).slope,
                  power * std::pow((cos + 1) / 2, power - 1), 1e-15, "sphereface2, slope of a negative");
      p.gradient = Gradient::detached;
      expect(SphereFace2<double>::negatives(p).negative(cos, 2.0).slope == 1,
             "sphereface2 detached, of a negative too");
    }
  }
  MarginParams u = params(Method::uniface, Overflow::none, 0.4);
  u.scale = 10, u.bias = -4;  // z_y in [−10, 10]: φ in [−0.6, 1.4]
  expect_near(UniFace<double>(u).target(0.1, 0.4).value, -0.3, 1e-15, "uniface");
  expect_near(10 * UniFace<double>(u).target(-0.5, 0.4).value - 4, -10, 1e-12, "uniface, clipped");
  expect(UniFace<double>(u).target(-0.5, 0.4).slope == 0 && UniFace<double>(u).target(-0.5, 0.4).slope_quality == 0,
         "a clipped logit has no gradient");
  u.bias = 4;
  expect_near(10 * UniFace<double>(u).target(1, -0.3).value + 4, 10, 1e-12, "uniface, clipped above");
  expect_near(UniFace<double>::negatives(u).negative(0.9, 2.0).value, 0.9, 1e-15, "uniface leaves negatives alone");
}

void negatives_keep_their_bound() {
  for (Negatives rule :
       {Negatives::plain, Negatives::mv_adaptive, Negatives::mv_fixed, Negatives::curricular, Negatives::filter})
    for (double t : {-1.0, -0.2, 0.0, 0.4, 1.0}) {
      MarginParams p;
      p.negatives = rule;
      p.t = rule == Negatives::curricular ? t : std::fabs(t);
      p.filter_above = 0.2;
      const ReweightedNegative<double> negative(p);
      for (double threshold : {-2.0, -0.6, 0.1, 0.9, 2.0})
        for (double cos = -1; cos <= 1; cos += 0.01) {
          const Phi<double> phi = negative.negative(cos, threshold);
          expect(std::fabs(phi.value) <= negative.largest() + 1e-12, "the bound of a negative");
          const Difference d = difference([&](double c) { return negative.negative(c, threshold).value; }, cos, 1e-6);
          if (std::fabs(cos - threshold) > 1e-5) expect_near(phi.slope, d.slope, 1e-8, "slope of a negative");
        }
    }
}

void gradients_and_clips() {
  MarginParams p = params(Method::arcface);
  const auto phi = [&](double cos) { return target_phi(ArcFace<double>(p), p, cos, 0.5); };
  expect_near(phi(0.4).slope, std::sin(std::acos(0.4) + 0.5) / std::sin(std::acos(0.4)), 1e-12,
              "exact slope is sin(θ + m)/sin θ");
  p.gradient = Gradient::detached;
  expect(phi(0.4).slope == 1, "detached slope is 1");
  expect_near(phi(0.4).slope_quality, -std::sin(std::acos(0.4) + 0.5), 1e-12, "a row's margin keeps its gradient");
  p.cosine_epsilon = 1e-2;
  expect(phi(0.999).slope == 1, "a detached gradient passes the clip");
  expect_near(phi(0.999).value, std::cos(std::acos(0.99) + 0.5), 1e-12, "the clip's value");
  p.gradient = Gradient::exact;
  expect(phi(0.999).slope == 0, "an exact gradient stops at the clip");
  expect(phi(-0.999).slope == 0, "an exact gradient stops at the lower clip");
  expect(phi(0.98).slope != 0, "inside the clip");
  p.cosine_epsilon = 0;
  expect(phi(1.0).slope > 1, "without a clip, cos = 1 keeps its slope");
  p.target_epsilon = 1e-2;
  expect(phi(0.999).slope == 0, "the target's own clip");
  p.overflow = Overflow::clamp;
  p.angle_limit = 2;
  expect_near(phi(-0.5).value, std::cos(2.0), 1e-12, "the upper end of the angle");
  MarginParams mag = params(Method::magface);
  expect(target_phi(MagFace<double>(mag), mag, 0.4, 60.0).slope_quality != 0, "magface: exact has the norm's gradient");
  mag.gradient = Gradient::detached;
  expect(target_phi(MagFace<double>(mag), mag, 0.4, 60.0).slope_quality == 0, "magface: detached has not");
}

// --- the contract --------------------------------------------------------------------------------------------------------

void dispatch() {
  int seen = 0;
#define METHOD(name, Struct)                                                                                      \
  expect(std::string(name_of(Method::name)) == #name, "the name of " #name);                                      \
  expect(dispatch_method(                                                                                         \
             Method::name,                                                                                        \
             [](auto tag) { return std::is_same_v<typename decltype(tag)::template Of<float>, Struct<float>>; }), \
         "the struct of " #name);                                                                                 \
  expect(is_binary(Method::name) == (Method::name == Method::sphereface2 || Method::name == Method::uniface),     \
         "a softmax or none: " #name);                                                                            \
  expect(refusal(params(Method::name)).empty(), "ordinary parameters of " #name + refusal(params(Method::name))); \
  seen++;
#include "../../native/common/methods.def"
#undef METHOD
  expect(seen >= 9, "methods.def lists the methods");
  try {
    dispatch_method(Method(999), [](auto) { return 0; });
    expect(false, "an unknown method is an error");
  } catch (const Error& error) {
    expect(std::string(error.what()) == "expected a margin method, got number 999", error.what());
  }
}

void refusals() {
  const auto refuses = [](Method method, const std::string& message, const std::function<void(MarginParams&)>& spoil) {
    MarginParams p = params(method);
    spoil(p);
    expect(refusal(p) == message, "expected '" + message + "', got '" + refusal(p) + "'");
  };
  using P = MarginParams;
  const std::string one_softmax =
      "expected labelSmoothing 0 where negatives are reweighted, cosines clipped, or a class has several centers";
  refuses(Method::softmax, "expected a scale in (0, 10000], got 0", [](P& p) { p.scale = 0; });
  refuses(Method::softmax, "expected a scale in (0, 10000], got nan", [](P& p) { p.scale = NAN; });
  refuses(Method::softmax, "expected a scale in (0, 10000], got inf", [](P& p) { p.scale = INFINITY; });
  for (Method method : {Method::cosface, Method::arcface, Method::adaface, Method::sphereface2, Method::uniface})
    for (double margin : {4.0, -4.0})
      refuses(method, "expected a margin in [-pi, pi], got " + std::string(margin > 0 ? "4" : "-4"),
              [&](P& p) { p.margin = margin; });
  refuses(Method::arcface, "expected a margin in [-pi, pi], got nan", [](P& p) { p.margin = NAN; });
  refuses(Method::sphereface, "expected a margin (factor of the angle) in (0, 10], got 0", [](P& p) { p.margin = 0; });
  refuses(Method::sphereface, "expected lambda in [0, 1e9], got -1", [](P& p) { p.lambda = -1; });
  refuses(Method::combined, "expected m1 in (0, 10], got 0", [](P& p) { p.m1 = 0; });
  refuses(Method::combined, "expected m2 in [-pi, pi], got 4", [](P& p) { p.m2 = 4; });
  refuses(Method::combined, "expected m3 in [-2, 2], got 3", [](P& p) { p.m3 = 3; });
  refuses(Method::combined, "expected overflow of combined to be none, easy or clamp, got hard",
          [](P& p) { p.overflow = Overflow::hard; });
  refuses(Method::magface, "expected norms with 0 < lowerNorm < upperNorm <= 1e6, got 10 and 10",
          [](P& p) { p.upper_norm = 10; });
  refuses(Method::magface, "expected norms with 0 < lowerNorm < upperNorm <= 1e6, got 0 and 110",
          [](P& p) { p.lower_norm = 0; });
  refuses(Method::magface, "expected lowerMargin and upperMargin in [-pi, pi], got 0.4 and 5",
          [](P& p) { p.upper_margin = 5; });
  refuses(Method::magface, "expected normPenalty in [0, 1e9], got -2", [](P& p) { p.norm_penalty = -2; });
  refuses(Method::adaface, "expected h in [-100, 100], got 101", [](P& p) { p.h = 101; });
  refuses(Method::adaface, "expected a mean and a deviation of norms of at most 1e30, got 20 and -1",
          [](P& p) { p.norm_std = -1; });
  refuses(Method::adaface, "expected a mean and a deviation of norms of at most 1e30, got nan and 10",
          [](P& p) { p.norm_mean = NAN; });
  refuses(Method::adaface, "expected overflow of adaface to be none, easy or clamp, got hard",
          [](P& p) { p.overflow = Overflow::hard; });
  refuses(Method::sphereface2, "expected a power in [1, 16], got 0", [](P& p) { p.power = 0; });
  for (Negatives rule : {Negatives::mv_adaptive, Negatives::mv_fixed})
    refuses(Method::arcface, "expected t of negatives in [0, 10], got -0.1",
            [&](P& p) { p.negatives = rule, p.t = -0.1; });
  refuses(Method::arcface, "expected t of negatives in [-1, 1], got 1.5",
          [](P& p) { p.negatives = Negatives::curricular, p.t = 1.5; });
  refuses(Method::arcface, "expected above of negatives in [-1, 1], got nan",
          [](P& p) { p.negatives = Negatives::filter, p.filter_above = NAN; });
  refuses(Method::arcface, "expected cosineEpsilon in [0, 1), got 1", [](P& p) { p.cosine_epsilon = 1; });
  refuses(Method::arcface, "expected targetEpsilon in [0, 1), got -1", [](P& p) { p.target_epsilon = -1; });
  refuses(Method::arcface, "expected angleEpsilon in [0, pi/2), got 2", [](P& p) { p.angle_epsilon = 2; });
  refuses(Method::arcface, "expected angleLimit in [0, pi], got 4", [](P& p) { p.angle_limit = 4; });
  refuses(Method::arcface, "expected easyAbove in [-1, 1], got 2", [](P& p) { p.easy_above = 2; });
  refuses(Method::arcface, "expected subCenters in [1, 1024], got 0", [](P& p) { p.sub_centers = 0; });
  refuses(Method::arcface, "expected labelSmoothing in [0, 1), got 1", [](P& p) { p.label_smoothing = 1; });
  refuses(Method::arcface, one_softmax, [](P& p) { p.label_smoothing = 0.1, p.negatives = Negatives::mv_fixed; });
  refuses(Method::arcface, one_softmax, [](P& p) { p.label_smoothing = 0.1, p.cosine_epsilon = 0.1; });
  refuses(Method::arcface, one_softmax, [](P& p) { p.label_smoothing = 0.1, p.sub_centers = 2; });
  for (Negatives rule : {Negatives::curricular, Negatives::filter})
    refuses(Method::sphereface,
            "expected a scale other than the feature's norm where negatives are reweighted or cosines clipped",
            [&](P& p) { p.scale_by_norm = true, p.negatives = rule; });
  for (Method method : {Method::sphereface2, Method::uniface}) {
    const std::string no_softmax = std::string("expected plain negatives, no labelSmoothing and a fixed scale with ") +
                                   name_of(method) + ", whose loss has no softmax";
    refuses(method, no_softmax, [](P& p) { p.negatives = Negatives::mv_fixed; });
    refuses(method, no_softmax, [](P& p) { p.label_smoothing = 0.1; });
    refuses(method, no_softmax, [](P& p) { p.scale_by_norm = true; });
    refuses(method, "expected a bias in [-10000, 10000], got nan", [](P& p) { p.bias = NAN; });
    refuses(method, "expected weights of at least 0, got -1 and 1", [](P& p) { p.positive_weight = -1; });
  }
}

}  // namespace

int main() {
#define METHOD(name, Struct)                                         \
  slopes<Struct<double>>(#name, Method::name);                       \
  margined_is_without_overflow<Struct<double>>(#name, Method::name); \
  stays_finite<Struct<double>, double>(#name, Method::name);         \
  stays_finite<Struct<float>, float>(#name, Method::name);
#include "../../native/common/methods.def"
#undef METHOD
  published_numbers();
  arcface_by_angle();
  combined_and_adaface_are_others();
  sphereface_falls();
  magface_by_norm();
  binary_losses();
  negatives_keep_their_bound();
  gradients_and_clips();
  dispatch();
  refusals();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
