// UniFace (Zhou et al., ICCV 2023): no softmax but a binary loss a class, with one bias for all,
//   z_y = s·(c − m) + b clipped to [−s, s],  z_j = s·c + b
//   L   = ln(1 + e^(−z_y)) + w₋·Σ_j ln(1 + e^(z_j))
// b here is what the paper subtracts.  A clipped z_y has no gradient.  The authors clip z_j as well, which changes
// nothing that a float of the loss would show.
#pragma once
#include "../margin.h"

namespace fm {

template <class T>
struct UniFace : MarginMethod {
  static constexpr bool binary = true;
  T low, high;

  FM_HD explicit UniFace(const MarginParams& p, double = 0)
      : low(T(-1 - p.bias / p.scale)), high(T(1 - p.bias / p.scale)) {}

  static BinaryNegative<T> negatives(const MarginParams&) { return {T(0), 1, true}; }

  FM_HD Phi<T> target(T cos, T margin) const {
    const T phi = cos - margin;
    if (phi < low) return {low, 0};
    if (phi > high) return {high, 0};
    return {phi, 1, -1};
  }
  FM_HD bool clipped(T phi) const { return phi <= low || phi >= high; }
  FM_HD T margined(T cos, T margin) const { return cos - margin; }
};

}  // namespace fm
