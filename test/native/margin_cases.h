// The combinations of methods and axes that the head's tests try, and how near results are.
#pragma once
#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "head_test.h"
#include "margin_reference.h"

namespace fm {

// Largest difference over the largest entry, or over `least` where all are smaller: of sums that should be 0, rounding is
// all that is left.
inline double distance(const Matrix& got, const Matrix& wanted, double least = 1e-30) {
  if (got.size() != wanted.size()) return INFINITY;
  double difference = 0, size = least;
  for (size_t i = 0; i < wanted.size(); i++) {
    if (!std::isfinite(got[i])) return INFINITY;
    difference = std::max(difference, std::fabs(got[i] - wanted[i]));
    size = std::max(size, std::fabs(wanted[i]));
  }
  return difference / size;
}
// Infinities are equal to themselves.
inline double absolute(const Matrix& got, const Matrix& wanted) {
  if (got.size() != wanted.size()) return INFINITY;
  double difference = 0;
  for (size_t i = 0; i < wanted.size(); i++) {
    if (got[i] == wanted[i]) continue;
    difference = std::max(difference, std::isfinite(got[i]) ? std::fabs(got[i] - wanted[i]) : INFINITY);
  }
  return difference;
}

// A problem as tensors, and the operations on it.
template <class T>
struct Inputs {
  Problem q;
  MarginParams p;
  Tensor x, w, labels;
  OptionalTensor margins;

  Inputs(const Problem& q, const MarginParams& p)
      : q(q),
        p(p),
        x(tensor_of<T>({q.N, q.D}, q.x)),
        w(tensor_of<T>({q.C * q.K, q.D}, q.w)),
        labels(labels_of(q.labels)) {
    if (!q.margins.empty()) margins = tensor_of<T>({q.N}, q.margins);
  }
  MarginSoftmaxForward forward() const { return cpu_backend().margin_softmax_forward(x, w, labels, margins, p); }
  MarginSoftmaxGradients backward(const Tensor& lse, double d_loss = 1) const {
    return cpu_backend().margin_softmax_backward(x, w, labels, margins, lse, d_loss, p);
  }
  MarginSoftmaxGradients backward() const { return backward(forward().lse); }
  // Updates w.
  HeadStep step(const Tensor& velocity, const OptimizerParams& sgd) const {
    return cpu_backend().head_step(x, w, {velocity}, labels, margins, p, sgd);
  }
  Tensor velocity() const { return tensor_of<T>(w.shape, Matrix(w.numel())); }
};

// --- combinations ----------------------------------------------------------------------------------------------------

inline const Method kMethods[] = {
#define METHOD(name, Struct) Method::name,
#include "../../native/common/methods.def"
#undef METHOD
};
inline const Negatives kHardNegatives[] = {Negatives::mv_adaptive, Negatives::mv_fixed, Negatives::curricular,
                                           Negatives::filter};

inline MarginParams params(Method method, double scale = 64, double margin = 0.5) {
  MarginParams p;
  p.method = method;
  p.scale = scale;
  p.margin = method == Method::sphereface ? 1.7 : margin;
  p.overflow = Overflow::none;
  p.m1 = 1.1;
  p.t = 0.3;
  p.filter_above = 0.25;
  // random_problem's norms are on both sides of these
  p.lower_norm = 9, p.upper_norm = 28, p.norm_penalty = 35;
  p.norm_mean = 18, p.norm_std = 4;
  p.bias = -3, p.positive_weight = 0.7, p.negative_weight = 0.3;
  return p;
}

struct Case {
  std::string name;
  MarginParams p;
  bool row_margins = false;
};

inline bool knows(Method method, Overflow overflow) {
  switch (method) {
    case Method::arcface:
    case Method::magface: return true;
    case Method::adaface:
    case Method::combined: return overflow != Overflow::hard;
    case Method::cosface: return overflow == Overflow::easy || overflow == Overflow::none;
    default: return overflow == Overflow::none;
  }
}
inline bool reads_row_margin(Method method) {
  return method == Method::cosface || method == Method::arcface || method == Method::uniface;
}

// Every method with every convention that it knows.
inline std::vector<Case> conventions(double scale) {
  std::vector<Case> all;
  for (Method method : kMethods)
    for (Gradient gradient : {Gradient::exact, Gradient::detached})
      for (Overflow overflow : {Overflow::none, Overflow::hard, Overflow::easy, Overflow::clamp}) {
        if (!knows(method, overflow)) continue;
        MarginParams p = params(method, scale, 0.4);
        p.gradient = gradient;
        p.overflow = overflow;
        p.easy_above = gradient == Gradient::exact ? 0 : 0.2;
        p.lambda = gradient == Gradient::exact ? 0 : 3;
        p.project_weight_gradient = overflow != Overflow::clamp || gradient == Gradient::exact;
        std::ostringstream name;
        name << name_of(method) << " gradient " << int(gradient) << " overflow " << int(overflow);
        all.push_back({name.str(), p});
        if (reads_row_margin(method)) all.push_back({name.str() + " row margins", p, true});
        if (method != Method::magface) continue;
        p.variant = Variant::cos;
        all.push_back({name.str() + " cos", p});
      }
  for (int power : {1, 2, 4})
    for (Gradient gradient : {Gradient::exact, Gradient::detached}) {
      MarginParams p = params(Method::sphereface2, scale, 0.2);
      p.power = power;
      p.gradient = gradient;
      p.bias = power == 2 ? 2 : 0;
      all.push_back({"sphereface2 power " + std::to_string(power) + " gradient " + std::to_string(int(gradient)), p});
    }
  MarginParams p = params(Method::uniface, scale, 0.4);
  p.bias = -0.7 * scale;  // many targets are clipped
  p.negative_weight = 0.01;
  all.push_back({"uniface clipped", p});
  p.gradient = Gradient::detached;
  all.push_back({"uniface clipped detached", p, true});
  p = params(Method::sphereface, scale);
  p.margin = 4, p.lambda = 5;
  all.push_back({"sphereface m 4", p});
  return all;
}

// Every method with every axis that it composes with, and axes with each other.
inline std::vector<Case> compositions(double scale) {
  std::vector<Case> all;
  const auto add = [&](const std::string& what, Method method, auto&& change, bool row_margins = false) {
    MarginParams p = params(method, scale, 0.35);
    change(p);
    all.push_back({std::string(name_of(method)) + " " + what, p, row_margins});
  };
  for (Method method : kMethods) {
    for (int K : {2, 3, 5}) add("K " + std::to_string(K), method, [&](MarginParams& p) { p.sub_centers = K; });
    add("K 3 unprojected", method, [](MarginParams& p) { p.sub_centers = 3, p.project_weight_gradient = false; });
    for (Gradient gradient : {Gradient::exact, Gradient::detached}) {
      const std::string name = gradient == Gradient::exact ? " exact" : " detached";
      add("clipped" + name, method, [&](MarginParams& p) { p.gradient = gradient, p.cosine_epsilon = 0.35; });
      add("clipped target" + name, method, [&](MarginParams& p) { p.gradient = gradient, p.target_epsilon = 0.2; });
      add("clipped K 2" + name, method,
          [&](MarginParams& p) { p.gradient = gradient, p.cosine_epsilon = 0.35, p.sub_centers = 2; });
    }
    if (is_binary(method)) continue;
    for (Negatives rule : kHardNegatives) {
      const std::string name = "negatives " + std::to_string(int(rule));
      add(name, method, [&](MarginParams& p) { p.negatives = rule; });
      add(name + " K 3 clipped", method,
          [&](MarginParams& p) { p.negatives = rule, p.sub_centers = 3, p.cosine_epsilon = 0.35; });
    }
    add("smoothing", method, [](MarginParams& p) { p.label_smoothing = 0.1; });
    // norms of 10 … 100
    add("by norm", method, [&](MarginParams& p) { p.scale_by_norm = true, p.scale = scale / 32; });
    add("by norm, smoothing", method,
        [&](MarginParams& p) { p.scale_by_norm = true, p.scale = scale / 64, p.label_smoothing = 0.3; });
    add("by norm, K 3", method,
        [&](MarginParams& p) { p.scale_by_norm = true, p.scale = scale / 64, p.sub_centers = 3; });
  }
  for (Negatives rule : kHardNegatives) {
    const std::string name = "row margins, negatives " + std::to_string(int(rule)) + ", K 2";
    add(
        name, Method::arcface, [&](MarginParams& p) { p.negatives = rule, p.sub_centers = 2; }, true);
    add("easy, negatives " + std::to_string(int(rule)), Method::cosface,
        [&](MarginParams& p) { p.negatives = rule, p.overflow = Overflow::easy; });
    add("hard, negatives " + std::to_string(int(rule)), Method::arcface,
        [&](MarginParams& p) { p.negatives = rule, p.overflow = Overflow::hard; });
  }
  add(
      "row margins by norm", Method::cosface, [&](MarginParams& p) { p.scale_by_norm = true, p.scale = 2; }, true);
  add(
      "row margins, smoothing", Method::arcface, [](MarginParams& p) { p.label_smoothing = 0.1; }, true);
  add(
      "row margins, K 3", Method::uniface, [](MarginParams& p) { p.sub_centers = 3; }, true);
  add("angle limit", Method::arcface, [](MarginParams& p) { p.overflow = Overflow::clamp, p.angle_limit = 2; });
  return all;
}

inline std::vector<Case> every_case(double scale) {
  std::vector<Case> all = conventions(scale);
  for (Case& c : compositions(scale)) all.push_back(std::move(c));
  return all;
}

inline Problem problem_for(const Case& c, int64_t N, int64_t C, int64_t D, unsigned seed) {
  Problem q = random_problem(N, C, D, seed, c.p.sub_centers);
  if (c.row_margins) add_row_margins(q, c.p.margin, seed);
  return q;
}

}  // namespace fm
