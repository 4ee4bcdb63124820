// A step of each optimizer in double, written from the formulas of torch.optim and not from native/common/optimizers.h.
#pragma once
#include <cmath>
#include <vector>

#include "../../native/common/optimizers.h"

namespace fm {

inline const OptimizerParams kSgdCase{0.3, 0.7, 0.01};
inline const OptimizerParams kAdamWCase{0.3, 0, 0.01, Optimizer::adamw, 0.8, 0.95, 1e-3, 3};

struct Stepped {
  std::vector<double> weight;
  std::vector<std::vector<double>> states;
};

inline Stepped stepped(const OptimizerParams& p, const std::vector<double>& weight,
                       const std::vector<std::vector<double>>& states, const std::vector<double>& gradient) {
  Stepped after{weight, states};
  for (size_t i = 0; i < weight.size(); i++) {
    const double w = weight[i], g = gradient[i];
    if (p.type == Optimizer::sgd) {
      const double v = p.momentum * states[0][i] + g + p.weight_decay * w;
      after.weight[i] = w - p.lr * v, after.states[0][i] = v;
      continue;
    }
    const double m = p.beta1 * states[0][i] + (1 - p.beta1) * g, v = p.beta2 * states[1][i] + (1 - p.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(p.beta1, p.step)), v_hat = v / (1 - std::pow(p.beta2, p.step));
    after.weight[i] = w - p.lr * p.weight_decay * w - p.lr * m_hat / (std::sqrt(v_hat) + p.eps);
    after.states[0][i] = m, after.states[1][i] = v;
  }
  return after;
}

}  // namespace fm
