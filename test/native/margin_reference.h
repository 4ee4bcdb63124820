// The head by loops and angles, in float64: shares no code with what it checks.
#pragma once
#include <algorithm>
#include <cmath>
#include <random>
#include <tuple>
#include <vector>

#include "../../native/common/methods.h"

namespace fm {

using Matrix = std::vector<double>;

struct Problem {
  int64_t N, C, D;
  Matrix x, w;
  std::vector<int> labels;
};

// Values are exact in float32, so that both dtypes see one problem.
inline Problem random_problem(int64_t N, int64_t C, int64_t D, unsigned seed) {
  Problem p{N, C, D, Matrix(N * D), Matrix(C * D), std::vector<int>(N)};
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (double& v : p.w) v = normal(random);
  for (int64_t i = 0; i < N; i++) {
    p.labels[i] = int(random() % unsigned(C));
    if (i % 5 == 3) p.labels[i] = -1;
    if (i % 5 == 4) p.labels[i] = p.labels[i - 4];
    // Leaning on its class, or away from it, so that targets are met at all angles.
    const double lean = (i % 4 - 1.5) * 2;
    for (int64_t k = 0; k < D; k++)
      p.x[i * D + k] = float(3 * (normal(random) + (p.labels[i] < 0 ? 0 : lean * p.w[p.labels[i] * D + k])));
  }
  return p;
}

struct Reference {
  Matrix logits, row_loss, lse, dx, dw, unit_dw;
  double loss = 0, labelled = 0;
};

inline void reference_negative(const MarginParams& p, double threshold, double& phi, double& slope) {
  const double c = phi, outside = slope;
  if (c <= threshold) return;
  if (p.method == Method::mvsoftmax && p.negatives == HardNegatives::adaptive)
    phi = (p.t + 1) * c + p.t, slope = outside * (p.t + 1);
  if (p.method == Method::mvsoftmax && p.negatives == HardNegatives::fixed) phi = c + p.t;
  if (p.method == Method::curricularface) phi = c * (p.t + c), slope = outside * (p.t + 2 * c);
}

inline void reference_target(const MarginParams& p, double cos, double& phi, double& slope, double& threshold) {
  double unused = 0;
  const double epsilon = std::max(p.cosine_epsilon, p.target_epsilon), limit = 1 - epsilon;
  const double c = std::clamp(cos, -limit, limit), theta = std::acos(c), m = p.margin;
  phi = c, slope = 1;
  if (p.method == Method::cosface && !(p.overflow == Overflow::easy && c <= p.easy_above)) phi = c - m;
  if (p.method == Method::mvsoftmax || p.method == Method::curricularface) {
    const bool arc = p.method == Method::curricularface || p.variant == Variant::arc;
    threshold = arc ? std::cos(theta + m) : c - m;
    MarginParams target = p;
    target.method = arc ? Method::arcface : Method::cosface;
    return reference_target(target, cos, phi, slope, unused);
  }
  if (p.method == Method::arcface) {
    const double top = p.angle_limit > 0 ? p.angle_limit : M_PI - p.angle_epsilon;
    phi = std::cos(theta + m), slope = std::sin(theta + m) / std::sin(theta);
    if (p.overflow == Overflow::hard && theta >= M_PI - m) phi = c - m * std::sin(m), slope = 1;
    if (p.overflow == Overflow::easy && c <= p.easy_above) phi = c, slope = 1;
    if (p.overflow == Overflow::clamp && theta + m > top) phi = std::cos(top), slope = 0;
    if (p.overflow == Overflow::clamp && theta + m < p.angle_epsilon) phi = std::cos(p.angle_epsilon), slope = 0;
  }
  if (p.method == Method::combined) {
    const double angle = p.m1 * theta + p.m2, top = M_PI - p.angle_epsilon;
    phi = std::cos(angle) - p.m3, slope = p.m1 * std::sin(angle) / std::sin(theta);
    if (p.overflow == Overflow::clamp && angle > top) phi = std::cos(top) - p.m3, slope = 0;
    if (p.overflow == Overflow::easy && c <= p.easy_above) phi = c, slope = 1;
  }
  if (p.method == Method::sphereface) {
    const double k = std::floor(p.margin * theta / M_PI), sign = std::pow(-1, k);
    phi = (p.lambda * c + sign * std::cos(p.margin * theta) - 2 * k) / (1 + p.lambda);
    slope = (p.lambda + sign * p.margin * std::sin(p.margin * theta) / std::sin(theta)) / (1 + p.lambda);
  }
  if (p.gradient == Gradient::detached) slope = 1;
  else if (epsilon > 0 && std::fabs(cos) > limit) slope = 0;
}

inline Reference reference(const Problem& q, const MarginParams& p, double d_loss = 1) {
  const auto [N, C, D] = std::tuple(q.N, q.C, q.D);
  Reference out{Matrix(N * C), Matrix(N), Matrix(N), Matrix(N * D), Matrix(C * D), Matrix(C * D)};
  const auto unit = [&](const Matrix& m, int64_t row) {
    double square = 0;
    for (int64_t k = 0; k < D; k++) square += m[row * D + k] * m[row * D + k];
    return 1 / std::max(std::sqrt(square), 1e-12);
  };
  for (int label : q.labels) out.labelled += label >= 0;
  for (int64_t i = 0; i < N; i++) {
    const double xi = unit(q.x, i);
    Matrix cos(C), slope(C, 1.0);
    double top = -1e300, sum = 0, threshold = INFINITY, unused;
    for (int64_t j = 0; j < C; j++) {
      const double wj = unit(q.w, j);
      for (int64_t k = 0; k < D; k++) cos[j] += q.x[i * D + k] * xi * q.w[j * D + k] * wj;
    }
    if (q.labels[i] >= 0) reference_target(p, cos[q.labels[i]], unused, unused, threshold);
    for (int64_t j = 0; j < C; j++) {
      const double limit = 1 - p.cosine_epsilon;
      double phi = std::clamp(cos[j], -limit, limit);
      if (p.cosine_epsilon > 0 && phi != cos[j] && p.gradient == Gradient::exact) slope[j] = 0;
      if (j == q.labels[i]) reference_target(p, cos[j], phi, slope[j], unused);
      else reference_negative(p, threshold, phi, slope[j]);
      out.logits[i * C + j] = p.scale * phi;
      top = std::max(top, p.scale * phi);
    }
    for (int64_t j = 0; j < C; j++) sum += std::exp(out.logits[i * C + j] - top);
    out.lse[i] = top + std::log(sum);
    if (q.labels[i] < 0) continue;
    out.row_loss[i] = out.lse[i] - out.logits[i * C + q.labels[i]];
    out.loss += out.row_loss[i] / out.labelled;
    for (int64_t j = 0; j < C; j++) {
      const double prob = std::exp(out.logits[i * C + j] - out.lse[i]);
      const double g = d_loss / out.labelled * p.scale * (prob - (j == q.labels[i])) * slope[j], wj = unit(q.w, j);
      for (int64_t k = 0; k < D; k++) {
        const double e = q.x[i * D + k] * xi, v = q.w[j * D + k] * wj;
        out.dx[i * D + k] += g * (v - cos[j] * e) * xi;
        out.dw[j * D + k] += g * (e - cos[j] * v) * wj;
        out.unit_dw[j * D + k] += g * e;
      }
    }
  }
  return out;
}

}  // namespace fm
