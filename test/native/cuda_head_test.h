// What the tests of the CUDA head share: a library under the emulation as a device beside the CPU, and random problems
// over every method and axis.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "../../native/common/backend.h"
#include "../../native/common/devices.h"
#include "../../native/common/methods.h"
#include "optimizer_reference.h"

namespace fm {

inline int passed = 0, failed = 0;

template <class... Parts>
bool expect(bool ok, const Parts&... parts) {
  ok ? passed++ : failed++;
  if (ok) return true;
  std::ostringstream message;
  (message << ... << parts);
  if (failed < 60) std::printf("FAILED: %s\n", message.str().c_str());
  return false;
}

inline const Method kMethods[] = {
#define METHOD(name, Struct) Method::name,
#include "../../native/common/methods.def"
#undef METHOD
};

inline Backend& cpu() { return cpu_backend(); }
inline Backend& gpu() { return backend_of(Device{0}); }

template <class T>
Tensor on(Backend& device, const Shape& shape, const std::vector<T>& values) {
  Tensor t = device.empty(DtypeOf<T>::value, shape);
  device.copy_from_host(t, values.data(), t.bytes());
  return t;
}
template <class T>
std::vector<T> values_of(Backend& device, const Tensor& t) {
  std::vector<T> values(size_t(t.numel()));
  device.copy_to_host(values.data(), t, t.bytes());
  return values;
}

// A second moment that goes with a first one.
template <class T>
std::vector<T> absolute(std::vector<T> values) {
  for (T& value : values) value = std::fabs(value);
  return values;
}

template <class T>
struct Problem {
  int64_t N, C, K, D;
  std::vector<T> x, w, v, margins;
  std::vector<int32_t> labels;
};

// Rows lean on their class or away from it, so that targets are met at all angles; some have no target, some share one.
template <class T>
Problem<T> random_problem(int64_t N, int64_t C, int64_t K, int64_t D, unsigned seed) {
  Problem<T> q{N, C, K, D, {}, {}, {}, {}, {}};
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const auto fill = [&](std::vector<T>& values, int64_t n, float size) {
    for (int64_t i = 0; i < n; i++) values.push_back(T(normal(random) * size));
  };
  fill(q.w, C * K * D, 1);
  fill(q.v, C * K * D, 0.1f);
  fill(q.x, N * D, 3);
  for (int64_t i = 0; i < N; i++) {
    q.labels.push_back(i % 5 == 3 ? -1 : i % 5 == 4 ? q.labels[i - 4] : int32_t(random() % unsigned(C)));
    q.margins.push_back(T(0.4 + 0.2 * std::sin(double(i))));
    const T lean = T((i % 4 - 1.5) * 3);
    for (int64_t d = 0; q.labels[i] >= 0 && d < D; d++) q.x[i * D + d] += lean * q.w[(q.labels[i] * K + i % K) * D + d];
  }
  return q;
}

// Largest difference, over `size` or the largest value, if that is not below `least`.
template <class T>
double difference(const std::vector<T>& got, const std::vector<T>& wanted, double size = 0, double least = 1e-30) {
  double most = 0, largest = least;
  if (got.size() != wanted.size()) return INFINITY;
  for (size_t i = 0; i < wanted.size(); i++) {
    if (got[i] == wanted[i]) continue;  // also two infinities
    if (!std::isfinite(double(got[i])) || !std::isfinite(double(wanted[i]))) return INFINITY;
    most = std::max(most, std::fabs(double(got[i]) - double(wanted[i])));
  }
  for (T value : wanted)
    if (std::isfinite(double(value))) largest = std::max(largest, std::fabs(double(value)));
  return most / (size > 0 ? size : largest);
}

inline MarginParams random_params(std::mt19937& random, Method method, int64_t K) {
  MarginParams p;
  const auto pick = [&](int n) { return int(random() % unsigned(n)); };
  p.method = method;
  p.scale = pick(4) == 0 ? 300 : pick(3) == 0 ? 12 : 64;  // 300: with a shift
  p.margin = method == Method::sphereface ? 1.7 : 0.4;
  p.gradient = Gradient(pick(2));
  p.overflow = Overflow(pick(4));
  p.m1 = 1.1;
  p.lambda = pick(2) ? 3 : 0;
  p.cosine_epsilon = pick(4) == 0 ? 0.05 : 0;
  p.project_weight_gradient = pick(4) > 0;
  p.negatives = Negatives(pick(2) ? 0 : pick(5));
  p.t = 0.3;
  p.filter_above = 0.3;
  p.scale_by_norm = pick(5) == 0;
  if (p.scale_by_norm) p.scale = 3;
  p.sub_centers = int(K);
  p.label_smoothing = pick(4) == 0 ? 0.1 : 0;
  p.variant = Variant(pick(2));
  p.lower_norm = 3;
  p.upper_norm = 40;
  p.norm_penalty = pick(2) ? 35 : 0;
  p.norm_mean = 12;
  p.norm_std = 5;
  p.bias = 2.5;
  p.positive_weight = 0.7;
  p.negative_weight = 0.4;
  return p;
}

inline bool allowed(const MarginParams& p) {
  try {
    check_margin(p);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace fm
