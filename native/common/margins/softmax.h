// Normalised softmax (NormFace, Wang et al. 2017, arXiv:1704.06369):  φ = cos θ, no margin.
#pragma once
#include "../margin.h"

namespace fm {

template <class T>
struct Softmax : MarginMethod {
  static constexpr Quality quality = Quality::none;
  FM_HD explicit Softmax(const MarginParams&, double = 0) {}

  FM_HD Phi<T> target(T cos, T) const { return {cos, 1}; }
  FM_HD T margined(T cos, T) const { return cos; }
};

}  // namespace fm
