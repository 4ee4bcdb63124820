// The head by loops and angles, in float64, from the papers' formulas: shares no code with what it checks, only the
// struct that says what is asked.
#pragma once
#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "../../native/common/methods.h"

namespace fm {

using Matrix = std::vector<double>;

struct Problem {
  int64_t N, C, K, D;
  Matrix x, w;  // [N, D], [C·K, D]
  std::vector<int> labels;
  Matrix margins;  // [N], or none
};

// Values are exact in float32, so that both dtypes see one problem.
inline Problem random_problem(int64_t N, int64_t C, int64_t D, unsigned seed, int64_t K = 1) {
  Problem p{N, C, K, D, Matrix(N * D), Matrix(C * K * D), std::vector<int>(N), {}};
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (double& v : p.w) v = normal(random);
  for (int64_t i = 0; i < N; i++) {
    p.labels[i] = int(random() % unsigned(C));
    if (i % 5 == 3) p.labels[i] = -1;
    if (i % 5 == 4) p.labels[i] = p.labels[i - 4];
    // Leaning on one of its class's centers, or away from it, so that targets are met at all angles.
    const double lean = (i % 4 - 1.5) * 2;
    const int64_t center = p.labels[i] * K + i % K;
    for (int64_t k = 0; k < D; k++)
      p.x[i * D + k] = float(3 * (normal(random) + (p.labels[i] < 0 ? 0 : lean * p.w[center * D + k])));
  }
  return p;
}

// Margins of rows around m, some of them negative or 0.
inline void add_row_margins(Problem& q, double m, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  q.margins.resize(q.N);
  for (int64_t i = 0; i < q.N; i++) q.margins[i] = i % 7 == 6 ? 0 : float(m + 0.3 * normal(random));
}

struct Reference {
  Matrix logits, row_loss, lse, negative_lse;          // [N, C], [N] …
  Matrix dx, dw, unit_dw, d_margins;                   // unit_dw: at unit rows, unprojected
  Matrix norm, target_cos, nearest_cos, hard, center;  // as inspect_head
  double loss = 0, regularizer = 0, labelled = 0, correct = 0, d_scale = 0, d_bias = 0;
  double largest_logit = 0;
};

// φ of a target, its derivatives, and the margined cosine whatever the overflow.  signal: the row's margin or norm.
struct TargetPhi {
  double phi, by_cos, by_signal, margined;
};

inline TargetPhi added_angle(const MarginParams& p, double c, double m) {
  const double theta = std::acos(c), sum = theta + m, whole = std::cos(sum);
  const double top = p.angle_limit > 0 ? p.angle_limit : M_PI - p.angle_epsilon;
  if (p.overflow == Overflow::hard && m > 0 && sum >= M_PI)
    return {c - m * std::sin(m), 1, -std::sin(m) - m * std::cos(m), whole};
  if (p.overflow == Overflow::easy && c <= p.easy_above) return {c, 1, 0, whole};
  if (p.overflow == Overflow::clamp && sum > top) return {std::cos(top), 0, 0, whole};
  if (p.overflow == Overflow::clamp && sum < p.angle_epsilon) return {std::cos(p.angle_epsilon), 0, 0, whole};
  return {whole, std::sin(sum) / std::sin(theta), -std::sin(sum), whole};
}

inline TargetPhi taken_cosine(const MarginParams& p, double c, double m) {
  if (p.overflow == Overflow::easy && c <= p.easy_above) return {c, 1, 0, c - m};
  return {c - m, 1, -1, c - m};
}

// g(c) = 2·((c + 1)/2)^t − 1 of SphereFace2, and its slope.
inline TargetPhi similarity(const MarginParams& p, double c) {
  const double half = (c + 1) / 2, g = 2 * std::pow(half, p.power) - 1;
  return {g, p.gradient == Gradient::detached ? 1 : p.power * std::pow(half, p.power - 1), 0, g};
}

inline double magface_margin(const MarginParams& p, double norm) {
  const double a = std::clamp(norm, p.lower_norm, p.upper_norm);
  return p.lower_margin + (p.upper_margin - p.lower_margin) * (a - p.lower_norm) / (p.upper_norm - p.lower_norm);
}

inline double adaface_quality(const MarginParams& p, double norm) {
  return std::clamp(p.h * (std::clamp(norm, 0.001, 100.0) - p.norm_mean) / (p.norm_std + 0.001), -1.0, 1.0);
}

inline TargetPhi unclipped_target(const MarginParams& p, double c, double m, double norm) {
  const double theta = std::acos(c);
  switch (p.method) {
    case Method::softmax: return {c, 1, 0, c};
    case Method::cosface: return taken_cosine(p, c, m);
    case Method::arcface: return added_angle(p, c, m);
    case Method::combined: {
      const double angle = p.m1 * theta + p.m2, top = p.angle_limit > 0 ? p.angle_limit : M_PI - p.angle_epsilon;
      const double whole = std::cos(angle) - p.m3;
      if (p.overflow == Overflow::easy && c <= p.easy_above) return {c, 1, 0, whole};
      if (p.overflow == Overflow::clamp && angle > top) return {std::cos(top) - p.m3, 0, 0, whole};
      if (p.overflow == Overflow::clamp && angle < p.angle_epsilon)
        return {std::cos(p.angle_epsilon) - p.m3, 0, 0, whole};
      return {whole, p.m1 * std::sin(angle) / std::sin(theta), 0, whole};
    }
    case Method::sphereface: {
      const double angle = p.margin * theta, k = std::floor(angle / M_PI), sign = std::pow(-1, k);
      const double phi = (p.lambda * c + sign * std::cos(angle) - 2 * k) / (1 + p.lambda);
      return {phi, (p.lambda + sign * p.margin * std::sin(angle) / std::sin(theta)) / (1 + p.lambda), 0, phi};
    }
    case Method::magface: {
      const double own = magface_margin(p, norm);
      TargetPhi t = p.variant == Variant::arc ? added_angle(p, c, own) : taken_cosine(p, c, own);
      const bool inside = norm >= p.lower_norm && norm <= p.upper_norm;
      t.by_signal *= inside ? (p.upper_margin - p.lower_margin) / (p.upper_norm - p.lower_norm) : 0;
      return t;
    }
    case Method::adaface: {
      const double q = adaface_quality(p, norm), added = m + m * q;
      TargetPhi t = added_angle(p, c, -m * q);
      t.by_signal = 0;
      t.margined -= added;
      if (!(p.overflow == Overflow::easy && c <= p.easy_above)) t.phi -= added;
      return t;
    }
    case Method::sphereface2: {
      const TargetPhi g = similarity(p, c);
      return {g.phi - m, g.by_cos, 0, g.phi - m};
    }
    case Method::uniface: {
      const double z = p.scale * (c - m) + p.bias;
      if (std::fabs(z) > p.scale) return {(std::copysign(p.scale, z) - p.bias) / p.scale, 0, 0, c - m};
      return {c - m, 1, -1, c - m};
    }
  }
  return {};
}

inline TargetPhi reference_target(const MarginParams& p, double cos, double m, double norm) {
  const double epsilon = std::max(p.cosine_epsilon, p.target_epsilon), limit = 1 - epsilon;
  TargetPhi t = unclipped_target(p, std::clamp(cos, -limit, limit), m, norm);
  if (p.gradient == Gradient::detached) {
    if (p.method != Method::uniface || t.by_cos != 0) t.by_cos = 1;  // a clipped logit has no gradient
    if (p.method == Method::magface) t.by_signal = 0;
  } else if (epsilon > 0 && std::fabs(cos) > limit) {
    t.by_cos = 0;
  }
  return t;
}

// What another class's cosine c becomes, and the slope; T is the target's margined cosine, above every cosine where
// there is no target.
inline TargetPhi reference_negative(const MarginParams& p, double c, double T, double m) {
  if (p.method == Method::sphereface2) {
    const TargetPhi g = similarity(p, c);
    return {g.phi + m, g.by_cos, 0, 0};
  }
  if (p.negatives == Negatives::filter) return c > p.filter_above ? TargetPhi{0, 0, 0, 0} : TargetPhi{c, 1, 0, 0};
  if (c <= T) return {c, 1, 0, 0};
  if (p.negatives == Negatives::mv_adaptive) return {(p.t + 1) * c + p.t, p.t + 1, 0, 0};
  if (p.negatives == Negatives::mv_fixed) return {c + p.t, 1, 0, 0};
  if (p.negatives == Negatives::curricular) return {c * (p.t + c), p.t + 2 * c, 0, 0};
  return {c, 1, 0, 0};
}

inline double softplus(double z) { return std::max(z, 0.0) + std::log1p(std::exp(-std::fabs(z))); }
inline double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

inline double length(const Matrix& m, int64_t row, int64_t D) {
  double square = 0;
  for (int64_t k = 0; k < D; k++) square += m[row * D + k] * m[row * D + k];
  return std::sqrt(square);
}

// A row shorter than this has no direction and no gradient; a feature's logits are at most those of one that long.
constexpr double kShort = 1e-12, kLong = 1e8;

inline Reference reference(const Problem& q, const MarginParams& p) {
  const int64_t N = q.N, C = q.C, K = q.K, D = q.D;
  const bool binary = p.method == Method::sphereface2 || p.method == Method::uniface;
  const bool row_margins = !q.margins.empty();
  Reference out;
  out.logits.resize(N * C);
  for (Matrix* m : {&out.row_loss, &out.lse, &out.negative_lse, &out.d_margins, &out.norm, &out.target_cos,
                    &out.nearest_cos, &out.hard, &out.center})
    m->resize(N);
  out.dx.resize(N * D);
  out.dw.resize(C * K * D);
  out.unit_dw.resize(C * K * D);
  Matrix unit_w(q.w.size()), w_norm(C * K);
  for (int64_t j = 0; j < C * K; j++) {
    w_norm[j] = length(q.w, j, D);
    for (int64_t k = 0; k < D; k++) unit_w[j * D + k] = q.w[j * D + k] / std::max(w_norm[j], kShort);
  }
  for (int label : q.labels) out.labelled += label >= 0;

  for (int64_t i = 0; i < N; i++) {
    const int y = q.labels[i];
    const double n = out.norm[i] = length(q.x, i, D), m = row_margins ? q.margins[i] : p.margin;
    const double scale = p.scale_by_norm ? std::min(p.scale * n, kLong) : p.scale;
    Matrix e(D), cos(C, -INFINITY), phi(C), slope(C), z(C);
    std::vector<int64_t> winner(C);
    for (int64_t k = 0; k < D; k++) e[k] = q.x[i * D + k] / std::max(n, kShort);
    for (int64_t j = 0; j < C; j++)
      for (int64_t center = j * K; center < (j + 1) * K; center++) {
        double c = 0;
        for (int64_t k = 0; k < D; k++) c += e[k] * unit_w[center * D + k];
        if (c > cos[j]) cos[j] = c, winner[j] = center;
      }
    const TargetPhi target = y >= 0 ? reference_target(p, cos[y], m, n) : TargetPhi{0, 0, 0, INFINITY};
    double top = -INFINITY, sum = 0, others = 0, all = 0, nearest = -1;
    for (int64_t j = 0; j < C; j++) {
      const double limit = 1 - p.cosine_epsilon, c = std::clamp(cos[j], -limit, limit);
      const bool outside = p.cosine_epsilon > 0 && c != cos[j];
      const TargetPhi t = j == y ? target : reference_negative(p, c, target.margined, m);
      phi[j] = t.phi;
      slope[j] = j != y && outside && p.gradient == Gradient::exact ? 0 : t.by_cos;
      z[j] = scale * phi[j] + (binary ? p.bias : 0);
      out.logits[i * C + j] = z[j];
      out.largest_logit = std::max(out.largest_logit, std::fabs(z[j]));
      top = std::max(top, z[j]);
      all += z[j];
      if (j == y) continue;
      nearest = std::max(nearest, cos[j]);
      out.hard[i] += y >= 0 && cos[j] > target.phi;
    }
    out.nearest_cos[i] = nearest;
    out.center[i] = y >= 0 ? winner[y] - y * K : -1;
    if (!binary) {
      for (int64_t j = 0; j < C; j++) (j == y ? sum : others) += std::exp(z[j] - top);
      out.lse[i] = top + std::log(sum + others);
      double highest = -INFINITY;
      for (int64_t j = 0; j < C; j++) highest = j == y ? highest : std::max(highest, z[j]);
      double below = 0;
      for (int64_t j = 0; j < C; j++) below += j == y ? 0 : std::exp(z[j] - highest);
      out.negative_lse[i] = below > 0 ? highest + std::log(below) : -INFINITY;
    }
    if (y < 0) continue;

    out.target_cos[i] = cos[y];
    out.correct += cos[y] >= nearest;
    const double weight = 1 / out.labelled, epsilon = p.label_smoothing;
    if (binary) {
      out.row_loss[i] = p.positive_weight * softplus(-z[y]);
      for (int64_t j = 0; j < C; j++) out.row_loss[i] += j == y ? 0 : p.negative_weight * softplus(z[j]);
    } else {
      out.row_loss[i] = out.lse[i] - (1 - epsilon) * z[y] - epsilon / double(C) * all;
    }
    out.loss += weight * out.row_loss[i];

    double along_norm = 0;
    Matrix d(D);
    for (int64_t j = 0; j < C; j++) {
      double g = 0;  // dL/dz
      if (binary) g = weight * (j == y ? -p.positive_weight * sigmoid(-z[j]) : p.negative_weight * sigmoid(z[j]));
      else g = weight * (std::exp(z[j] - out.lse[i]) - (j == y ? 1 - epsilon : 0) - epsilon / double(C));
      const double G = g * scale * slope[j];
      const int64_t center = winner[j];
      const bool clipped =
          p.method == Method::uniface && j == y && std::fabs(p.scale * (cos[y] - m) + p.bias) > p.scale;
      out.d_scale += g * phi[j] * (!p.scale_by_norm ? 1 : scale < kLong ? n : 0);
      out.d_bias += binary && !clipped ? g : 0;
      if (p.scale_by_norm && scale < kLong) along_norm += g * p.scale * phi[j];
      if (j == y && p.method == Method::magface) along_norm += g * scale * target.by_signal;
      if (j == y && p.method != Method::magface) out.d_margins[i] = g * scale * target.by_signal;
      for (int64_t k = 0; k < D; k++) {
        d[k] += G * (unit_w[center * D + k] - cos[j] * e[k]);
        if (w_norm[center] < kShort) continue;
        out.dw[center * D + k] += G * (e[k] - cos[j] * unit_w[center * D + k]) / w_norm[center];
        out.unit_dw[center * D + k] += G * e[k];
      }
    }
    if (p.method == Method::magface) {
      const double a = std::clamp(n, p.lower_norm, p.upper_norm), square = p.upper_norm * p.upper_norm;
      out.regularizer += weight * (a / square + 1 / a);
      out.loss += weight * p.norm_penalty * (a / square + 1 / a);
      if (a == n) along_norm += weight * p.norm_penalty * (1 / square - 1 / (a * a));
    }
    for (int64_t k = 0; k < D && n >= kShort; k++) out.dx[i * D + k] = d[k] / n + along_norm * e[k];
  }
  return out;
}

}  // namespace fm
