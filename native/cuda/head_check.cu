// A path's first use on a device: small steps on it and on the plain path, which multiplies the same rounded operands.
#include <cmath>
#include <map>
#include <mutex>
#include <sstream>

#include "head_path.h"

namespace fm {
namespace {

// A small case with ragged edges, rows without a target, and a target that rows share.
struct Small {
  int64_t N = 37, C = 211, D;
  MarginParams p;
  OptimizerParams optimizer{0.5, 0.9, 1e-3};

  HeadOptions options;

  // keep_bytes: as HeadOptions has it.
  Small(int K, Negatives negatives, Optimizer type, int64_t D, double keep_bytes) : D(D) {
    options.precision = Precision::bfloat16;
    options.keep_bytes = keep_bytes;
    optimizer.type = type;
    p.method = Method::arcface;
    p.scale = 30;
    p.sub_centers = K;
    p.negatives = negatives;
    p.t = 0.3;
  }
};

// Of two steps, the second on what the first has left.
struct Outcome {
  std::vector<float> lse, d_features, weight, state;
};

Outcome step(CudaBackend& gpu, const Bfloat16Path& path, const Small& small) {
  const int64_t rows = small.C * small.p.sub_centers;
  uint32_t state = 1;
  const auto tensor = [&](const Shape& shape) {
    std::vector<float> values(size_t(shape.numel()));
    for (float& value : values) {
      state = state * 1664525 + 1013904223;
      value = float(int32_t(state)) * 0x1p-31f;
    }
    Tensor t = gpu.empty(Dtype::float32, shape);
    gpu.copy_from_host(t, values.data(), t.bytes());
    return t;
  };
  const auto read = [&](const Tensor& t) {
    std::vector<float> values(size_t(t.numel()));
    gpu.copy_to_host(values.data(), t, t.bytes());
    return values;
  };
  const Tensor features = tensor({small.N, small.D}), weight = tensor({rows, small.D});
  OptimizerState state_of_weight{tensor({rows, small.D})};
  if (small.optimizer.type == Optimizer::adamw) {  // squares of what stands in the first
    const Tensor& first = state_of_weight[0];
    state_of_weight.push_back(gpu.multiply(first, first));
  }
  std::vector<int32_t> targets;
  for (int64_t i = 0; i < small.N; i++) targets.push_back(i % 7 == 6 ? -1 : int32_t(i / 2 * 29 % small.C));
  const Tensor labels = gpu.empty(Dtype::int32, {small.N});
  gpu.copy_from_host(labels, targets.data(), labels.bytes());
  step_on_path(gpu, path, features, weight, state_of_weight, labels, small.p, small.optimizer, small.options);
  OptimizerParams second = small.optimizer;
  second.step = 2;
  const HeadStep made =
      step_on_path(gpu, path, features, weight, state_of_weight, labels, small.p, second, small.options);
  return {read(made.lse), read(made.d_features), read(weight), read(state_of_weight.back())};
}

// ‖got − wanted‖ / ‖wanted‖
double distance(const std::vector<float>& got, const std::vector<float>& wanted) {
  double apart = 0, size = 1e-30;
  for (size_t i = 0; i < wanted.size(); i++) {
    apart += (double(got[i]) - wanted[i]) * (double(got[i]) - wanted[i]);
    size += double(wanted[i]) * wanted[i];
  }
  return std::sqrt(apart / size);
}

std::string compare(CudaBackend& gpu, const Bfloat16Path& path) {
  // Rows of one, two and more tiles of axes; terms of none, all and some classes kept.
  for (const Small& small :
       {Small(1, Negatives::curricular, Optimizer::sgd, 72, 0),
        Small(3, Negatives::mv_adaptive, Optimizer::adamw, 264, 1e9),
        Small(1, Negatives::plain, Optimizer::sgd, 512, 1e4), Small(2, Negatives::plain, Optimizer::adamw, 520, 0)}) {
    if (!path.why_not({gpu.capability(), small.N, small.C, small.p.sub_centers, small.D}).empty()) continue;
    const std::string where = "on a small case with " + std::to_string(small.p.sub_centers) +
                              (small.p.sub_centers == 1 ? " center" : " centers") + " a class its ";
    const Outcome wanted = step(gpu, plain_head_path<float, Bfloat16>(), small);
    Outcome got;
    try {
      got = step(gpu, path, small);
    } catch (const StuckPath&) {
      return where + "kernels waited in vain for each other";
    }
    // Sums in another order; and where that rounds a dL/dcos the other way, 1/256 of it.
    const struct {
      const char* name;
      std::vector<float> Outcome::*values;
      double most;
    } results[] = {{"lse", &Outcome::lse, 1e-4},
                   {"d_features", &Outcome::d_features, 5e-3},
                   {"weight", &Outcome::weight, 5e-3},
                   {"optimizer's state", &Outcome::state, 5e-3}};
    for (const auto& result : results) {
      const double apart = distance(got.*result.values, wanted.*result.values);
      if (apart <= result.most) continue;  // NaN is not
      std::ostringstream how;
      how << where << result.name << " is " << apart << " of its size from the plain path's, expected at most "
          << result.most;
      return how.str();
    }
  }
  return "";
}

}  // namespace

std::string disagreement_of(CudaBackend& gpu, const Bfloat16Path& path) {
  if (&path == &plain_head_path<float, Bfloat16>()) return "";
  static auto* lock = new std::mutex;
  static auto* known = new std::map<std::pair<CudaBackend*, const Bfloat16Path*>, std::string>;
  std::lock_guard<std::mutex> hold(*lock);
  const auto [at, unknown] = known->try_emplace({&gpu, &path});
  if (unknown) {
    try {
      at->second = compare(gpu, path);
    } catch (...) {
      known->erase(at);  // whoever asked is told, and may ask again
      throw;
    }
  }
  return at->second;
}

}  // namespace fm
