// From what a sweep is asked for to the kernel that is made for it.
#pragma once
#include "../common/methods.h"
#include "class_sweep.h"

namespace fm {

// Runs f(SweepConfig, negative).  O is what the products multiply: T, or bfloat16, which has no `logits`.
template <class T, class O, class F>
void dispatch_sweep(SweepKind kind, const MarginParams& p, bool extras, F&& f) {
  const auto run = [&](auto of, const auto& negative) {
    constexpr SweepKind kKind = decltype(of)::value;
    using Negative = std::decay_t<decltype(negative)>;
    if constexpr (!kRareSweep<kKind, Negative>)
      if (!extras) return f(SweepConfig<T, O, Negative, kKind, false>{}, negative);
    f(SweepConfig<T, O, Negative, kKind, true>{}, negative);
  };
  if constexpr (sizeof(T) == 4) {
    if (kind == SweepKind::moments) return run(KindOf<SweepKind::moments>{}, PlainNegative<T>{});
    if (kind == SweepKind::step) return run(KindOf<SweepKind::step>{}, PlainNegative<T>{});
  }
  dispatch_negative<T>(p, [&](const auto& negative) {
    switch (kind) {
      case SweepKind::maximum:
        if constexpr (!std::decay_t<decltype(negative)>::binary) run(KindOf<SweepKind::maximum>{}, negative);
        return;
      case SweepKind::sums: return run(KindOf<SweepKind::sums>{}, negative);
      case SweepKind::sums_and_features: return run(KindOf<SweepKind::sums_and_features>{}, negative);
      case SweepKind::gradients: return run(KindOf<SweepKind::gradients>{}, negative);
      case SweepKind::update: return run(KindOf<SweepKind::update>{}, negative);
      case SweepKind::logits:
        if constexpr (std::is_same_v<T, O>) run(KindOf<SweepKind::logits>{}, negative);
        return;
      case SweepKind::moments:
      case SweepKind::step: return;
    }
  });
}

}  // namespace fm
