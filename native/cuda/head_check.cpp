// A path's first use on a device: small steps on it and on the plain path, which multiplies the same rounded operands.
#include <cmath>
#include <sstream>

#include "head_path.h"
#include "small_head.h"

namespace fm {
namespace {

// Of two steps, the second on what the first has left.
struct Outcome {
  std::vector<float> lse, d_features, weight, state;
};

// Rows of D.
struct Case {
  int K;
  Negatives negatives;
  Optimizer type;
  int64_t D;
  StepTerms terms;
  bool samples = false;
};

Outcome steps(CudaBackend& gpu, const Bfloat16Path& path, const Case& of) {
  SmallHead<float> q(gpu, of.K, of.negatives, of.type, of.D, of.samples);
  StepTerms terms = of.terms;
  terms.classes = q.classes, terms.moves_others = of.samples;
  const auto step = [&] {
    return step_on_path(gpu, path, q.features, q.weight, q.state, q.labels, q.p, q.optimizer, terms);
  };
  step();
  q.optimizer.step = 2;
  const HeadStep made = step();
  const auto read = [&](const Tensor& t) { return values_of<float>(gpu, t); };
  return {read(made.lse), read(made.d_features), read(q.weight), read(q.state.back())};
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
  using Small = SmallHead<float>;
  // Rows of one, two and more tiles of axes; terms of none, all and some classes kept; a filter that finds nothing to
  // leave out; some classes alone, twice.
  for (const Case& small : {Case{1, Negatives::curricular, Optimizer::sgd, 72, {0, 1e-30}},
                            Case{3, Negatives::mv_adaptive, Optimizer::adamw, 264, {1e9}, true},
                            Case{3, Negatives::plain, Optimizer::sgd, 512, {1.5e4}},
                            Case{2, Negatives::plain, Optimizer::adamw, 520, {0}, true}}) {
    if (!path.why_not({gpu.capability(), Small::N, Small::C, small.K, small.D}).empty()) continue;
    const std::string where =
        "on a small case with " + std::to_string(small.K) + (small.K == 1 ? " center" : " centers") + " a class its ";
    const Outcome wanted = steps(gpu, plain_head_path<float, Bfloat16>(), small);
    Outcome got;
    try {
      got = steps(gpu, path, small);
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
  return once_a_device<compare>(gpu, path);
}

}  // namespace fm
