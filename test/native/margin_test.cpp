// Margins by themselves: every line of methods.def, its slope against finite differences, and its special places.
#include <cmath>
#include <cstdio>
#include <string>

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

MarginParams params(Method method, Overflow overflow, double margin = 0.5) {
  MarginParams p;
  p.method = method;
  p.overflow = overflow;
  p.margin = margin;
  p.m1 = margin == 0.5 ? 1 : 1 + margin;
  p.m2 = margin;
  p.m3 = margin / 2;
  p.lambda = margin == 0.5 ? 0 : 4 * margin;
  p.t = margin / 2;
  if (method == Method::sphereface) p.margin = 1 + 2 * margin;
  return p;
}

template <class M>
void slopes(const char* name, Method method) {
  const double h = 1e-6;
  for (Overflow overflow : kOverflows)
    for (double margin : {0.0, 0.2, 0.5, 1.2}) {
      MarginParams p = params(method, overflow, margin);
      p.variant = margin == 0.2 ? Variant::am : Variant::arc;
      p.negatives = margin == 0.5 ? HardNegatives::fixed : HardNegatives::adaptive;
      const M m(p);
      double worst = 0;
      for (double cos = -0.995; cos < 0.995; cos += 0.00731) {
        const double up = m.target(cos + h).value, down = m.target(cos - h).value;
        if (std::fabs(up - down) > 1e-3) continue;  // a seam lies between
        const double slope = m.target(cos).slope, difference = (up - down) / (2 * h);
        if (std::fabs(m.target(cos + h).slope - m.target(cos - h).slope) > 1e-2) continue;  // a kink
        worst = std::max(worst, std::fabs(slope - difference));
      }
      expect(worst < 2e-7, std::string(name) + ": slope is off by " + std::to_string(worst) + " at overflow " +
                               std::to_string(int(overflow)) + ", margin " + std::to_string(margin));
      for (double cos : {-0.99, -0.4, 0.05, 0.3, 0.99})
        for (double threshold : {-0.6, 0.1, 2.0}) {
          const double up = m.negative(cos + h, threshold).value, down = m.negative(cos - h, threshold).value;
          expect_near((up - down) / (2 * h), m.negative(cos, threshold).slope, 1e-8,
                      std::string(name) + ": slope of a negative");
          expect(std::fabs(up) <= m.largest() + 2 * h * m.largest(), std::string(name) + ": the bound of a negative");
        }
    }
}

template <class M>
void stays_finite(const char* name, Method method) {
  for (Overflow overflow : kOverflows)
    for (double cos : {-1.0, -1 + 1e-16, -0.0, 0.0, 1 - 1e-16, 1.0, 1 + 1e-12, -1 - 1e-12})
      for (double epsilon : {0.0, 1e-4}) {
        MarginParams p = params(method, overflow);
        p.cosine_epsilon = epsilon;
        const Phi<double> phi = target_phi(M(p), p, cos);
        expect(std::isfinite(phi.value) && std::isfinite(phi.slope),
               std::string(name) + ": finite at cos " + std::to_string(cos));
      }
}

void arcface_by_angle() {
  for (double theta = 0.01; theta < kPi; theta += 0.013) {
    const double cos = std::cos(theta), m = 0.5;
    const double sum = theta + m;
    expect_near(ArcFace<double>(params(Method::arcface, Overflow::none)).target(cos).value, std::cos(sum), 1e-12,
                "arcface none");
    expect_near(ArcFace<double>(params(Method::arcface, Overflow::hard)).target(cos).value,
                sum < kPi ? std::cos(sum) : cos - m * std::sin(m), 1e-12, "arcface hard");
    expect_near(ArcFace<double>(params(Method::arcface, Overflow::easy)).target(cos).value,
                cos > 0 ? std::cos(sum) : cos, 1e-12, "arcface easy");
    expect_near(ArcFace<double>(params(Method::arcface, Overflow::clamp)).target(cos).value,
                std::cos(std::min(sum, kPi - 1e-3)), 1e-12, "arcface clamp");
    if (sum > kPi)
      expect(ArcFace<double>(params(Method::arcface, Overflow::clamp)).target(cos).slope == 0, "clamp has no slope");
    expect_near(CosFace<double>(params(Method::cosface, Overflow::none)).target(cos).value, cos - m, 1e-12, "cosface");
    expect_near(CosFace<double>(params(Method::cosface, Overflow::easy)).target(cos).value, cos > 0 ? cos - m : cos,
                1e-12, "cosface easy");
    expect_near(ArcFace<double>(params(Method::arcface, Overflow::hard, 0)).target(cos).value,
                Softmax<double>(params(Method::softmax, Overflow::hard)).target(cos).value, 1e-12,
                "margin 0 is softmax");
  }
}

void combined_by_angle() {
  MarginParams p = params(Method::combined, Overflow::none, 0.3);
  p.m1 = 1.1, p.m2 = 0.3, p.m3 = 0.2;
  const double cosines[] = {0.9, 0.5, -0.95}, logits[] = {31.966593, -5.209650, -74.568554},
               slopes[] = {115.422841, 80.717183, -59.015972};  // at s = 64
  for (int i = 0; i < 3; i++) {
    const Phi<double> phi = Combined<double>(p).target(cosines[i]);
    expect_near(64 * phi.value, logits[i], 1e-6, "combined");
    expect_near(64 * phi.slope, slopes[i], 1e-6, "slope of combined");
  }
  p.m1 = 1, p.m2 = 0, p.m3 = 0.35;
  for (double cos : {-1.0, 0.3, 1.0}) {
    const Phi<double> phi = Combined<double>(p).target(cos);
    expect(phi.value == cos - 0.35 && phi.slope == 1, "(1, 0, m) is CosFace");
  }
  p.m2 = 0.5, p.m3 = 0;
  const MarginParams arc = params(Method::arcface, Overflow::none);
  for (double cos = -0.99; cos < 1; cos += 0.03)
    expect(Combined<double>(p).target(cos).value == ArcFace<double>(arc).target(cos).value, "(1, m, 0) is ArcFace");
}

void sphereface_by_angle() {
  MarginParams p = params(Method::sphereface, Overflow::none);
  const double cosines[] = {0.9, 0.5, -0.95}, four[] = {-0.231200, -1.5, -6.296050}, four_slopes[] = {8.928, 4, 12.236},
               real[] = {0.720172, -0.207912, -2.088350}, real_slopes[] = {2.705848, 1.920095, 5.423067};
  for (int i = 0; i < 3; i++) {
    for (double lambda : {0.0, 5.0}) {
      p.lambda = lambda;
      const auto blended = [&](double cos, double psi) { return (lambda * cos + psi) / (1 + lambda); };
      p.margin = 4;
      Phi<double> phi = SphereFace<double>(p).target(cosines[i]);
      expect_near(phi.value, blended(cosines[i], four[i]), 1e-6, "sphereface, m 4");
      expect_near(phi.slope, blended(1, four_slopes[i]), 1e-6, "slope of sphereface, m 4");
      p.margin = 1.7;
      phi = SphereFace<double>(p).target(cosines[i]);
      expect_near(phi.value, blended(cosines[i], real[i]), 1e-6, "sphereface, m 1.7");
      expect_near(phi.slope, blended(1, real_slopes[i]), 1e-6, "slope of sphereface, m 1.7");
    }
  }
  p.lambda = 0;
  for (double m : {1.0, 1.7, 3.0, 4.0, 10.0}) {
    p.margin = m;
    double before = 2;
    for (double theta = 0; theta <= kPi; theta += 0.003) {
      const double psi = SphereFace<double>(p).target(std::cos(theta)).value;
      expect(psi < before, "sphereface falls with the angle");
      expect(m > 1 || std::fabs(psi - std::cos(theta)) < 1e-12, "m 1 is softmax");
      before = psi;
    }
    expect_near(SphereFace<double>(p).target(-1.0).value, std::cos(m * kPi) * (int(m) % 2 ? -1 : 1) - 2 * int(m), 1e-9,
                "sphereface at the opposite end");
  }
}

void hard_negatives() {
  MarginParams p = params(Method::mvsoftmax, Overflow::easy, 0.35);
  p.t = 0.2;
  for (double cos : {-0.5, 0.4}) {
    const double arc = std::cos(std::acos(cos) + 0.35);
    p.variant = Variant::am;
    expect_near(MvSoftmax<double>(p).threshold(cos), cos - 0.35, 1e-15, "mvsoftmax, am: the threshold has its margin");
    expect_near(MvSoftmax<double>(p).target(cos).value, cos > 0 ? cos - 0.35 : cos, 1e-15, "mvsoftmax, am");
    p.variant = Variant::arc;
    expect_near(MvSoftmax<double>(p).threshold(cos), arc, 1e-15, "mvsoftmax, arc: the threshold has its margin");
    expect_near(MvSoftmax<double>(p).target(cos).value, cos > 0 ? arc : cos, 1e-15, "mvsoftmax, arc");
  }
  const auto gives = [](const Phi<double>& phi, double value, double slope, const char* what) {
    expect_near(phi.value, value, 1e-12, what);
    expect_near(phi.slope, slope, 1e-12, what);
  };
  gives(MvSoftmax<double>(p).negative(0.4, 0.3), 43.52 / 64, 76.8 / 64, "mvsoftmax, adaptive");
  gives(MvSoftmax<double>(p).negative(0.4, 0.4), 0.4, 1, "mvsoftmax: hard is above, not at, the threshold");
  p.negatives = HardNegatives::fixed;
  gives(MvSoftmax<double>(p).negative(0.4, 0.3), 0.6, 1, "mvsoftmax, fixed");
  MarginParams q = params(Method::curricularface, Overflow::hard);
  q.t = 0.3;
  gives(CurricularFace<double>(q).negative(0.4, 0.3), 17.92 / 64, 70.4 / 64, "curricularface");
  gives(CurricularFace<double>(q).negative(0.4, 0.5), 0.4, 1, "curricularface, an easy negative");
  expect_near(CurricularFace<double>(q).threshold(-0.95), std::cos(std::acos(-0.95) + 0.5), 1e-12,
              "curricularface: the threshold has no other side");
  expect_near(CurricularFace<double>(q).target(-0.95).value, -0.95 - 0.5 * std::sin(0.5), 1e-12,
              "curricularface: the target has");
}

void gradients_and_clips() {
  MarginParams p = params(Method::arcface, Overflow::none);
  const double cos = 0.4, inside = target_phi(ArcFace<double>(p), p, cos).slope;
  expect_near(inside, std::sin(std::acos(cos) + 0.5) / std::sin(std::acos(cos)), 1e-12,
              "exact slope is sin(θ + m)/sin θ");
  p.gradient = Gradient::detached;
  expect(target_phi(ArcFace<double>(p), p, cos).slope == 1, "detached slope is 1");
  p.cosine_epsilon = 1e-2;
  expect(target_phi(ArcFace<double>(p), p, 0.999).slope == 1, "a detached gradient passes the clip");
  expect_near(target_phi(ArcFace<double>(p), p, 0.999).value, std::cos(std::acos(0.99) + 0.5), 1e-12,
              "the clip's value");
  p.gradient = Gradient::exact;
  expect(target_phi(ArcFace<double>(p), p, 0.999).slope == 0, "an exact gradient stops at the clip");
  expect(target_phi(ArcFace<double>(p), p, -0.999).slope == 0, "an exact gradient stops at the lower clip");
  expect(target_phi(ArcFace<double>(p), p, 0.98).slope != 0, "inside the clip");
  p.cosine_epsilon = 0;
  expect(target_phi(ArcFace<double>(p), p, 1.0).slope > 1, "without a clip, cos = 1 keeps its slope");
  p.target_epsilon = 1e-2;
  expect(target_phi(ArcFace<double>(p), p, 0.999).slope == 0, "the target's own clip");
  p.overflow = Overflow::clamp;
  p.angle_limit = 2;
  expect_near(target_phi(ArcFace<double>(p), p, -0.5).value, std::cos(2.0), 1e-12, "the upper end of the angle");
}

void dispatch() {
  int seen = 0;
#define METHOD(name, Struct)                                                                                      \
  expect(std::string(name_of(Method::name)) == #name, "the name of " #name);                                      \
  expect(dispatch_method(                                                                                         \
             Method::name,                                                                                        \
             [](auto tag) { return std::is_same_v<typename decltype(tag)::template Of<float>, Struct<float>>; }), \
         "the struct of " #name);                                                                                 \
  seen++;
#include "../../native/common/methods.def"
#undef METHOD
  expect(seen >= 7, "methods.def lists the methods");
  try {
    dispatch_method(Method(999), [](auto) { return 0; });
    expect(false, "an unknown method is an error");
  } catch (const Error& error) {
    expect(std::string(error.what()) == "expected a margin method, got number 999", error.what());
  }
}

}  // namespace

int main() {
#define METHOD(name, Struct)                   \
  slopes<Struct<double>>(#name, Method::name); \
  stays_finite<Struct<double>>(#name, Method::name);
#include "../../native/common/methods.def"
#undef METHOD
  arcface_by_angle();
  combined_by_angle();
  sphereface_by_angle();
  hard_negatives();
  gradients_and_clips();
  dispatch();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
