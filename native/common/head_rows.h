// The margin head, one row of the batch: what is done in double and once, on whichever device.  Norms, dot products and
// everything that is done once a (row, class) are the device's.
#pragma once
#include "methods.h"

namespace fm {

// A row shorter than this has no direction: it counts as x / kTiny and has no gradient.
constexpr double kTiny = 1e-12;

// Logits of a feature whose norm is above this are those of one that long: a rounding of such a logit is still small as
// an exponent.
constexpr double kLargestScale = 1e8;

// e^(s·φ), down to e^−s, and its sum over C classes stay within T's range up to this exponent.  With s = 64 and plain
// negatives that is any C.
template <class T>
constexpr double kLargestExponent = sizeof(T) == 4 ? 80 : 650;

// The shift under which no sum overflows, whatever the cosines are; 0 where none is needed.  largest_phi: of
// Negative::largest().
template <class T>
inline double safe_shift(double largest_scale, double largest_phi, double C) {
  const double more = std::log(C) - 6;
  const double shift = largest_scale * largest_phi + (more > 0 ? more : 0) - kLargestExponent<T>;
  return shift > 0 ? shift : 0;
}

struct HeadRow {
  double norm = 0;
  double inverse = 0;         // 1 / max(‖x‖, kTiny)
  bool has_direction = true;  // ‖x‖ ≥ kTiny; without it the row has no gradient
  int64_t label = -1;
  int64_t center = -1;       // the target's row of weight
  double class_inverse = 0;  // 1 / max(‖w‖, kTiny) of it
  double cos = 0;            // to it
  double quality = 0;
  double scale = 0;
  Phi<double> phi{0, 0};
  bool clipped = false;  // the logit is one whatever the bias
  double threshold = 2;  // without a target no negative is hard
  double shift = 0;      // of the exponents
  double lse = 0, loss = 0;
  double missing = 0;      // softmax: 1 − the target's probability; binary: 1 − that of its own class
  double regularizer = 0;  // of the norm
  double regularizer_slope = 0;
  double pull = 0;                 // dL/dφ of the target
  double d_quality = 0;            // where it is a margin
  double d_scale = 0, d_bias = 0;  // of the loss, this row's part
};

FM_HD void set_norm(HeadRow& row, const MarginParams& p, double norm) {
  row.norm = norm;
  row.inverse = 1 / (norm > kTiny ? norm : kTiny);
  row.has_direction = norm >= kTiny;
  row.scale = p.scale;
  if (!p.scale_by_norm) return;
  const double scale = p.scale * norm;
  row.scale = scale < kLargestScale ? scale : kLargestScale;
}

// margin: the row's own.
template <class M>
FM_HD void set_target(HeadRow& row, const M& method, const MarginParams& p, double margin) {
  row.quality = M::quality == Quality::norm ? row.norm : margin;
  row.phi = target_phi(method, p, row.cos, row.quality);
  if constexpr (M::binary) row.clipped = method.clipped(row.phi.value);
  row.threshold = method.margined(clipped_target(p, row.cos), row.quality);
  if constexpr (M::regularised) {
    const Phi<double> regularizer = method.regularizer(row.norm);
    row.regularizer = regularizer.value;
    row.regularizer_slope = regularizer.slope;
  }
}

// sum: Σ e^(s·φ − shift) of the negatives.
FM_HD void finish_softmax(HeadRow& row, double shift, double sum) {
  row.shift = shift;
  const double negatives = shift + std::log(sum);
  if (row.label < 0) {
    row.lse = negatives;
    return;
  }
  const double z = row.scale * row.phi.value, above = negatives - z;  // −∞ when there are no negatives
  row.loss = above > 0 ? above + std::log1p(std::exp(-above)) : std::log1p(std::exp(above));
  row.lse = z + row.loss;
  row.missing = above > 0 ? 1 / (1 + std::exp(-above)) : std::exp(above) / (1 + std::exp(above));
}

// What label smoothing adds to the loss; all: Σ of the C logits.
FM_HD double smoothing_loss(const HeadRow& row, const MarginParams& p, double C, double all) {
  return p.label_smoothing * (row.scale * row.phi.value - all / C);
}

// sum: Σ ln(1 + e^z) of the negatives.
FM_HD void finish_binary(HeadRow& row, const MarginParams& p, double sum) {
  if (row.label < 0) return;
  const double z = row.scale * row.phi.value + p.bias;
  row.loss =
      p.positive_weight * (z > 0 ? std::log1p(std::exp(-z)) : std::log1p(std::exp(z)) - z) + p.negative_weight * sum;
  row.missing = z > 0 ? std::exp(-z) / (1 + std::exp(-z)) : 1 / (1 + std::exp(z));
}

// Takes e^(s·φ − shift) to a probability.  Where the target alone makes up the sum (C = 1), lse has no lower bound.
template <class T>
FM_HD double probability_factor(const HeadRow& row, const MarginParams& p, bool binary) {
  if (binary) return p.negative_weight;
  const double exponent = row.shift - row.lse;
  return std::exp(exponent < kLargestExponent<T> ? exponent : kLargestExponent<T>);
}

// dL/dcos of a row's negatives is e^(s·φ − shift)·φ'·factor − spread, of the target `target`.
struct RowGradient {
  double factor, spread, target;
};

// weight: of the row's loss.  slopes: of a binary loss, Σ 1/(1 + e^(−z)) of the negatives.
template <class T>
FM_HD RowGradient set_gradient(HeadRow& row, const MarginParams& p, bool binary, double C, double weight,
                               double slopes) {
  const double smoothing = p.label_smoothing, share = smoothing / C;
  const double scaled = row.label < 0 ? 0 : weight * row.scale;
  row.pull = -scaled * (binary ? p.positive_weight * row.missing : row.missing - smoothing + share);
  if (binary && row.label >= 0)
    row.d_bias = weight * (p.negative_weight * slopes - (row.clipped ? 0 : p.positive_weight * row.missing));
  return {scaled * probability_factor<T>(row, p, binary), scaled * share, row.pull * row.phi.slope};
}

// negatives: ⟨Σ of the negatives' dL/dcos·ŵ, e⟩.  Returns dL/d‖x‖ at a fixed direction.
FM_HD double finish_norm(HeadRow& row, const MarginParams& p, Quality quality, double weight, double negatives) {
  // Σ dL/dφ·φ: a plain negative's φ is its cosine.
  const double by_scale = row.scale > 0 ? (negatives + row.pull * row.phi.value) / row.scale : 0;
  const bool follows_norm = p.scale_by_norm && row.scale < kLargestScale;
  row.d_scale = by_scale * (follows_norm ? row.norm : p.scale_by_norm ? 0 : 1);
  double along = follows_norm ? by_scale * p.scale : 0;
  if (quality == Quality::norm) along += row.pull * row.phi.slope_quality;
  else row.d_quality = row.pull * row.phi.slope_quality;
  return along + weight * p.norm_penalty * row.regularizer_slope;
}

}  // namespace fm
