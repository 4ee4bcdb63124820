// What a step does to a weight, given its gradient, and what is kept beside it from step to step.  One formula for a
// vector of the CPU and a number of a kernel, for a backbone's tensors and the head's rows.
#pragma once
#include <cmath>
#include <type_traits>
#include <vector>

#include "host_device.h"
#include "tensor.h"

namespace fm {

enum class Optimizer : int { sgd = 0, adamw = 1 };

struct OptimizerParams {
  double lr = 0.1;
  double momentum = 0.9;  // of SGD
  double weight_decay = 0;
  Optimizer type = Optimizer::sgd;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // of AdamW
  double step = 1;                                // of AdamW: t, this step counted
  double gradient_factor = 1;                     // of Backend::optimizer_step alone
};

// Of a weight, each of its shape: SGD's velocity; AdamW's means of the gradient and of its square.
using OptimizerState = std::vector<Tensor>;
constexpr int kMostStates = 2;

template <class V>
FM_HD V square_root(V x) {
  if constexpr (std::is_arithmetic_v<V>) return std::sqrt(x);
  else {
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++) x[i] = std::sqrt(x[i]);
    return x;
  }
}

// As torch.optim.SGD:  v ← momentum·v + (g + weight_decay·w),  w ← w − lr·v.
template <class T>
struct SgdUpdate {
  using Number = T;
  static constexpr int kStates = 1;
  static constexpr const char* kStateNames[] = {"velocity"};
  T lr, momentum, weight_decay;

  SgdUpdate() = default;
  explicit SgdUpdate(const OptimizerParams& p)  // once a step, on the host
      : lr(T(p.lr)), momentum(T(p.momentum)), weight_decay(T(p.weight_decay)) {}

  // The new weight, from the old one and its gradient.  V: T, or a vector of T.
  template <class V>
  FM_HD V operator()(V w, V g, V (&state)[kStates]) const {
    state[0] = momentum * state[0] + (g + weight_decay * w);
    return w - lr * state[0];
  }
};

// AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), as torch.optim.AdamW:
//
//   m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²
//   w ← (1 − lr·λ)w − lr·m̂/(√v̂ + ε),  m̂ = m/(1 − β₁ᵗ),  v̂ = v/(1 − β₂ᵗ)
//
// The decay λ is no part of the gradient: it is not divided by √v̂.
template <class T>
struct AdamWUpdate {
  using Number = T;
  static constexpr int kStates = 2;
  static constexpr const char* kStateNames[] = {"expAvg", "expAvgSq"};
  T keep, beta1, gain1, beta2, gain2, lr, root, eps;  // lr: over 1 − β₁ᵗ;  root: 1/√(1 − β₂ᵗ)

  AdamWUpdate() = default;
  explicit AdamWUpdate(const OptimizerParams& p)
      : keep(T(1 - p.lr * p.weight_decay)),
        beta1(T(p.beta1)),
        gain1(T(1 - p.beta1)),
        beta2(T(p.beta2)),
        gain2(T(1 - p.beta2)),
        lr(T(p.lr / (1 - std::pow(p.beta1, p.step)))),
        root(T(1 / std::sqrt(1 - std::pow(p.beta2, p.step)))),
        eps(T(p.eps)) {}

  template <class V>
  FM_HD V operator()(V w, V g, V (&state)[kStates]) const {
    state[0] = beta1 * state[0] + gain1 * g;
    state[1] = beta2 * state[1] + gain2 * (g * g);
    return keep * w - lr * (state[0] / (square_root(state[1]) * root + eps));
  }
};

// No step: of a gradient that is wanted itself.
struct NoUpdate {
  static constexpr int kStates = 0;
};

// A step's numbers in the tensors' type.
template <class T>
struct OptimizerStep {
  Optimizer type;
  SgdUpdate<T> sgd;
  AdamWUpdate<T> adamw;

  OptimizerStep() = default;
  explicit OptimizerStep(const OptimizerParams& p) : type(p.type), sgd(p), adamw(p) {}

  // Runs f(update).
  template <class F>
  void with(F&& f) const {
    if (type == Optimizer::adamw) f(adamw);
    else f(sgd);
  }
  template <class Update>
  FM_HD const Update& of() const {
    if constexpr (std::is_same_v<Update, AdamWUpdate<T>>) return adamw;
    else return sgd;
  }
};

// Throws unless these are numbers for a step, and state is what it keeps of this weight.
inline void check_optimizer(const OptimizerParams& p, const Tensor& weight, const OptimizerState& state) {
  const auto check_state = [&](const auto& update) {
    using Update = std::decay_t<decltype(update)>;
    FM_CHECK(shape, int(state.size()) == Update::kStates, "expected a state of ", Update::kStates,
             Update::kStates == 1 ? " tensor" : " tensors", ", got ", state.size());
    for (int k = 0; k < Update::kStates; k++) {
      check_same_device(weight, state[k]);
      check_shape(Update::kStateNames[k], state[k], weight.shape);
      check_dtype(Update::kStateNames[k], state[k], weight.dtype);
    }
  };
  if (p.type == Optimizer::adamw) {
    check_state(AdamWUpdate<double>{});
    FM_CHECK(range, std::isfinite(p.lr) && std::isfinite(p.eps) && std::isfinite(p.weight_decay),
             "expected finite lr, eps and weightDecay, got ", p.lr, ", ", p.eps, " and ", p.weight_decay);
    FM_CHECK(range, p.beta1 >= 0 && p.beta1 < 1 && p.beta2 >= 0 && p.beta2 < 1, "expected betas in [0, 1), got ",
             p.beta1, " and ", p.beta2);
    FM_CHECK(range, p.step >= 1, "expected a step of at least 1, got ", p.step);
    return;
  }
  check_state(SgdUpdate<double>{});
  FM_CHECK(range, std::isfinite(p.lr) && std::isfinite(p.momentum) && std::isfinite(p.weight_decay),
           "expected finite lr, momentum and weightDecay, got ", p.lr, ", ", p.momentum, " and ", p.weight_decay);
}

}  // namespace fm
