// The margin head.  What is done once a row is here, in double: norms, the target's cosine and φ, the loss.
// What is done once a (row, class) is in class_sweep.h.
#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "../common/head_checks.h"
#include "../common/head_rows.h"
#include "allocator.h"
#include "backend.h"
#include "center_sum.h"
#include "class_sweep.h"
#include "isa.h"
#include "optimizer_step.h"
#include "parallel.h"

namespace fm {
namespace {

// The cosines that a step keeps from its first sweep for its second; the others are computed twice.
template <class T>
class Kept {
 public:
  // before: what an earlier one kept with the same options.
  Kept(const ClassSweep<T>& s, const HeadOptions& options, const OptionalTensor& before = {})
      : in_steps_(sizeof(T) == 4 && (options.keep_bytes >= 0 || options.precision == Precision::bfloat16)),
        row_bytes_(kept_bytes(s, in_steps_)),
        rows_(options.keep_bytes < 0 ? std::min(kLeanBytes / row_bytes_, s.R / 2)
                                     : int64_t(std::min(options.keep_bytes / double(row_bytes_), double(s.R)))),
        memory_(before ? *before : cpu_empty<T>({rows_, row_bytes_ / int64_t(sizeof(T))})) {
    check_shape("kept cosines", memory_, {rows_, row_bytes_ / int64_t(sizeof(T))});
  }
  const Tensor& memory() const { return memory_; }
  void lend(ClassSweep<T>& s) const {
    T* const memory = memory_.data<T>();
    s.kept = in_steps_ ? nullptr : memory;
    s.kept_steps = in_steps_ ? reinterpret_cast<int16_t*>(memory) : nullptr;
    s.kept_inverse = memory + memory_.numel() - rows_;
    s.kept_rows = rows_;
  }

 private:
  // Kept where nobody says how much, whatever N and C are; but never more than half of the rows of weight.
  static constexpr int64_t kLeanBytes = int64_t(12) << 20;
  bool in_steps_;
  int64_t row_bytes_, rows_;
  Tensor memory_;
};

// Whether e^((s + Δ)·cos) follows from the moments at s: Δᵏ/k! of the first that is left out is below 10⁻⁸.
bool is_near(double delta) {
  double term = 1;
  for (int k = 1; k <= kMoments; k++) term *= std::fabs(delta) / k;
  return term < 1e-8;
}

using Row = HeadRow;

template <class T>
struct Head {
  int64_t N, C, K, D;  // C classes of K centers
  const T *x, *w;
  const int32_t* classes;  // that take part, or none: all
  const MarginParams& p;
  const Precision precision;
  const bool binary;
  std::vector<Row> rows;
  std::vector<Target> targets;
  int64_t labelled = 0;
  Scratch<T> embeddings;
  // [N] each, as the sweeps read and write them
  std::vector<T> scale, shift, threshold, factor, spread, target_gradient, target_cos, largest, seen_target_cos;
  std::vector<double> sums, counts;
  std::vector<double> sum_of_centers;  // [D] Σ ŵ, for label smoothing
  std::vector<T> target_weight;        // [N, D] the targets' rows of weight, where it changes before they are read

  // Normalises the rows, finds the targets' φ, and refuses what no sweep should meet.
  Head(const Tensor& features, const Tensor& weight, const Tensor& labels, const OptionalTensor& margins,
       const MarginParams& p, Precision precision = Precision::float32, const OptionalTensor& classes = {})
      : N(check_head(features, weight, labels, margins, p)),
        C(check_classes(classes, weight, p.sub_centers)),
        K(p.sub_centers),
        D(weight.dim(1)),
        x(features.data<T>()),
        w(weight.data<T>()),
        classes(classes ? classes->data<int32_t>() : nullptr),
        p(p),
        precision(precision),
        binary(is_binary(p.method)),
        rows(N),
        embeddings(size_t(N) * D),
        scale(N),
        shift(N),
        threshold(N),
        factor(N),
        spread(p.label_smoothing > 0 ? N : 0),
        target_gradient(N),
        target_cos(N),
        largest(N),
        seen_target_cos(N),
        sums(N),
        counts(N) {
    FM_CHECK(type, precision == Precision::float32 || sizeof(T) == 4,
             "expected float32 tensors for precision bfloat16, got ", name_of(features.dtype));
    const auto here = [](const char* name, const Tensor& t) {
      FM_CHECK(device, t.device().is_cpu(), "expected ", name, " on cpu, got ", t.device());
    };
    here("features", features), here("weight", weight), here("labels", labels);
    if (margins) here("margins", *margins);
    const int32_t* label = labels.data<int32_t>();
    for (int64_t i = 0; i < N; i++) {
      if (label[i] < -1 || label[i] >= C) fail_label(label[i], C, i);
      rows[i].label = label[i];
      labelled += label[i] >= 0;
    }
    const T* row_margin = margins ? margins->data<T>() : nullptr;
    for (int64_t i = 0; row_margin && i < N; i++)
      if (!is_margin(row_margin[i])) fail_margin(row_margin[i], i);
    std::vector<int64_t> bad_center(N, -1);
    parallel_for(N, [&](int64_t i) {
      Row& row = rows[i];
      set_norm(row, p, exact_norm(x + i * D, D));
      scale[i] = T(row.scale);
      for (int64_t k = 0; k < D; k++) embeddings[i * D + k] = T(x[i * D + k] * row.inverse);
      if (row.label < 0 || !std::isfinite(row.norm)) return;
      for (int64_t center = row.label * K; center < (row.label + 1) * K; center++) {
        const T *xi = x + i * D, *wy = row_of(center);
        const double norm = exact_norm(wy, D), inverse = 1 / std::max(norm, kTiny);
        if (!std::isfinite(norm)) return void(bad_center[i] = center);
        const double cos = sum_of(D, [&](int64_t k) { return (xi[k] * row.inverse) * (wy[k] * inverse); });
        if (row.center >= 0 && cos <= row.cos) continue;
        row.center = center, row.cos = cos, row.class_inverse = inverse;
      }
    });
    for (int64_t i = 0; i < N; i++) {
      if (!std::isfinite(rows[i].norm)) fail_feature(rows[i].norm, i);
      if (bad_center[i] >= 0) fail_at(bad_center[i]);
      if (rows[i].label >= 0) targets.push_back({rows[i].center, i});
    }
    std::sort(targets.begin(), targets.end(), [](const Target& a, const Target& b) {
      return a.center != b.center ? a.center < b.center : a.row < b.row;
    });
    dispatch_method(p.method, [&](auto tag) {
      using M = typename decltype(tag)::template Of<double>;
      const M method(p, kSineFloor<T>);
      parallel_for(N, [&](int64_t i) {
        Row& row = rows[i];
        if (row.label >= 0) set_target(row, method, p, row_margin ? double(row_margin[i]) : p.margin);
        target_cos[i] = T(row.cos);
        threshold[i] = T(hard_above(p, row.threshold));
      });
      return 0;
    });
  }

  ClassRows places() const { return {classes, K}; }
  const T* row_of(int64_t center) const { return w + places()(center) * D; }
  [[noreturn]] void fail_at(int64_t center) const { fail_center(exact_norm(row_of(center), D), places()(center), K); }

  ClassSweep<T> sweep() {
    ClassSweep<T> s{};
    s.N = N, s.R = C * K, s.K = K, s.D = D;
    s.embeddings = embeddings.data();
    s.weight = w;
    s.classes = classes;
    s.targets = targets.data();
    s.target_count = int64_t(targets.size());
    s.cosine_limit = p.cosine_epsilon > 0 ? T(1 - p.cosine_epsilon) : T(2);
    s.slope_outside = p.gradient == Gradient::detached ? T(1) : T(0);
    s.project = p.project_weight_gradient;
    s.scale = scale.data();
    s.shift = shift.data();
    s.threshold = threshold.data();
    s.factor = factor.data();
    s.spread = spread.empty() ? nullptr : spread.data();
    s.target_gradient = target_gradient.data();
    s.target_cos = target_cos.data();
    s.sums = sums.data();
    s.counts = counts.data();
    s.largest = largest.data();
    s.seen_target_cos = seen_target_cos.data();
    return s;
  }

  void run(SweepKind kind, ClassSweep<T>& s) const {
    if constexpr (sizeof(T) == 4)
      if (precision == Precision::bfloat16 && isa() == Isa::avx512bf16) return sweep_classes_bf16(kind, s, p);
    s.rounds_operands = precision == Precision::bfloat16;
    sweep_classes(kind, s, p);
  }

  double safe_shift() const {
    if (binary) return 0;
    double largest_scale = 0;
    for (const Row& row : rows) largest_scale = std::max(largest_scale, row.scale);
    const double largest_phi = p.negatives == Negatives::plain ? 1 : ReweightedNegative<T>(p).largest();
    return fm::safe_shift<T>(largest_scale, largest_phi, double(C));
  }

  // Each row's largest exponent, by a sweep of its own: half a step's time more.
  void find_shift() {
    ClassSweep<T> s = sweep();
    run(SweepKind::maximum, s);
    if (s.bad_row >= 0) fail_at(s.bad_row);
    for (int64_t i = 0; i < N; i++) {
      double top = rows[i].scale * double(largest[i]);
      // Of the negatives alone, whose sum would underflow below a target far above them; without any, the target's.
      if (rows[i].label >= 0 && C == 1) top = rows[i].scale * rows[i].phi.value;
      shift[i] = T(top);
    }
  }

  void first_sweep(T* d_features, const Kept<T>* kept) {
    ClassSweep<T> s = sweep();
    s.d_features = d_features;
    if (kept) kept->lend(s);
    run(d_features ? SweepKind::sums_and_features : SweepKind::sums, s);
    if (s.bad_row >= 0) fail_at(s.bad_row);
  }

  // Far above what T rounds to 0, in every row.
  bool sums_are_exact() const {
    return C == 1 || std::all_of(sums.begin(), sums.end(), [](double sum) { return sum > 1e-20; });
  }

  // Σ over the negatives, and from it each row's log-sum-exp and loss; optionally the un-normalised dX.  Exponents of
  // more than kLargestExponent (hard negatives that are reweighted, large scales) are shifted: where that is not by much, by
  // one number for all rows, under which only a row whose every class is far away would lose its sum; if there is such a
  // row, or if it is by much, by each row's own largest exponent.
  void add_up(T* d_features, const Kept<T>* kept = nullptr) {
    if (binary) std::fill(shift.begin(), shift.end(), T(-p.bias));
    const double common = safe_shift();
    constexpr double kSlight = 60;
    const bool slight = common > 0 && common <= kSlight;
    if (slight) {
      std::fill(shift.begin(), shift.end(), T(common));
      first_sweep(d_features, kept);
    }
    if (!slight || !sums_are_exact()) {
      if (common > 0) find_shift();
      first_sweep(d_features, kept);
    }
    finish_rows();
  }

  // Whether Σ e^(s·φ) over the negatives can be had from the moments of their plain cosines.
  bool has_moments() const {
    const bool plain = !binary && p.negatives == Negatives::plain && p.cosine_epsilon == 0 && !p.scale_by_norm;
    return sizeof(T) == 4 && plain && safe_shift() == 0;
  }

  // As add_up: instead of by a sweep, from the moments [N, kMoments] at a scale nearby.
  void add_up_moments(const Tensor& moments, double delta) {
    for (int64_t i = 0; i < N; i++) {
      const double* of = moments.data<double>() + i * kMoments;
      double power = 1;
      sums[i] = 0;
      for (int k = 0; k < kMoments; power *= delta / ++k) sums[i] += of[k] * power;
    }
    finish_rows();
  }

  void finish_rows() {
    if (p.label_smoothing > 0) sum_of_centers = sum_of_unit_rows(w, C, D, places());
    for (int64_t i = 0; i < N; i++) finish_row(rows[i], i);
  }

  void keep_target_weight() {
    target_weight.resize(size_t(N) * D);
    for (const Target& t : targets) std::copy_n(row_of(t.center), D, &target_weight[t.row * D]);
  }

  void finish_row(Row& row, int64_t i) {
    if (binary) return finish_binary(row, p, sums[i]);
    finish_softmax(row, shift[i], sums[i]);
    if (row.label < 0 || p.label_smoothing == 0) return;
    double all = row.scale * (row.phi.value - row.cos);  // Σ of the logits: every φ but the target's is a cosine
    for (int64_t k = 0; k < D; k++) all += row.scale * (x[i * D + k] * row.inverse) * sum_of_centers[k];
    row.loss += smoothing_loss(row, p, double(C), all);
  }

  void set_gradient(double weight) {
    for (int64_t i = 0; i < N; i++) {
      const RowGradient g = fm::set_gradient<T>(rows[i], p, binary, double(C), weight, counts[i]);
      factor[i] = T(g.factor);
      if (!spread.empty()) spread[i] = T(g.spread);
      target_gradient[i] = T(g.target);
    }
  }

  double regularizer() const {
    double total = 0;
    for (const Row& row : rows) total += row.regularizer;
    return labelled ? total / double(labelled) : 0;
  }
  double mean_loss() const {
    double total = 0;
    for (const Row& row : rows) total += row.loss;
    return (labelled ? total / double(labelled) : 0) + (p.norm_penalty > 0 ? p.norm_penalty * regularizer() : 0);
  }
  double correct() const {
    double count = 0;
    for (int64_t i = 0; i < N; i++) count += rows[i].label >= 0 && seen_target_cos[i] >= largest[i];
    return count;
  }
  double total_of(double Row::*field) const {
    double total = 0;
    for (const Row& row : rows) total += row.*field;
    return total;
  }

  // From what the negatives have, and the target: (d − e⟨d, e⟩)/‖x‖, and along e what the norm has.  first_sweep: the
  // negatives' part is not yet multiplied by `factor`, and without `spread`.
  // scratch: [N, D].
  void finish_features(T* d_features, double weight, bool first_sweep, const Scratch<double>& scratch) {
    const Quality quality = quality_of(p.method);
    parallel_for(N, [&](int64_t i) {
      Row& row = rows[i];
      T* d = d_features + i * D;
      if (row.label < 0) return std::fill_n(d, D, T(0)), void();
      const double all = first_sweep ? double(factor[i]) : 1;
      const double smooth = first_sweep && !spread.empty() ? double(spread[i]) : 0;
      const double target = double(target_gradient[i]) * row.class_inverse, center = smooth * row.class_inverse;
      const T *xi = x + i * D, *wy = target_weight.empty() ? row_of(row.center) : &target_weight[i * D];
      double* const sum = scratch.data() + i * D;
      for (int64_t k = 0; k < D; k++)
        sum[k] = all * d[k] + center * wy[k] - (smooth > 0 ? smooth * sum_of_centers[k] : 0);
      // ⟨Σ of the negatives, e⟩, and with the target's part
      const double negatives = sum_of(D, [&](int64_t k) { return sum[k] * (xi[k] * row.inverse); });
      const double along = negatives + sum_of(D, [&](int64_t k) { return target * wy[k] * (xi[k] * row.inverse); });
      const double along_norm = finish_norm(row, p, quality, weight, negatives);
      for (int64_t k = 0; k < D; k++) {
        const double e = xi[k] * row.inverse;
        d[k] = row.has_direction ? T((sum[k] + target * wy[k] - along * e) * row.inverse + along_norm * e) : T(0);
      }
    });
  }

  // Adds the targets to what the negatives have, in their sorted order.
  void finish_weight(T* d_weight) const {
    for (const Target& t : targets) {
      const Row& row = rows[t.row];
      if (row.class_inverse >= 1 / kTiny) continue;  // a center without direction
      const double g = target_gradient[t.row], along = p.project_weight_gradient ? row.cos * row.class_inverse : 0;
      const double scale = p.project_weight_gradient ? row.class_inverse : 1;
      const T *xi = x + t.row * D, *wy = row_of(t.center);
      T* d = d_weight + t.center * D;
      for (int64_t k = 0; k < D; k++) d[k] += T(g * scale * (xi[k] * row.inverse - along * wy[k]));
    }
  }
};

template <class T>
Tensor negative_lse_of(Head<T>& head) {
  FM_CHECK(range, !head.binary, "expected a method with a softmax, got ", name_of(head.p.method));
  head.add_up(nullptr);
  Tensor out = cpu_empty<T>({head.N});
  for (int64_t i = 0; i < head.N; i++) out.data<T>()[i] = T(head.rows[i].shift + std::log(head.sums[i]));
  return out;
}

template <class T>
void fill_from_rows(const Head<T>& head, double Row::*field, const Tensor& t) {
  for (int64_t i = 0; i < head.N; i++) t.data<T>()[i] = T(head.rows[i].*field);
}
template <class T>
Tensor row_tensor(const Head<T>& head, double Row::*field) {
  Tensor t = cpu_empty<T>({head.N});
  fill_from_rows(head, field, t);
  return t;
}

}  // namespace

MarginSoftmaxForward CpuBackend::margin_softmax_forward(const Tensor& features, const Tensor& weight,
                                                        const Tensor& labels, const OptionalTensor& margins,
                                                        const MarginParams& p, Precision precision) {
  return dispatch_float(features.dtype, [&](auto zero) -> MarginSoftmaxForward {
    using T = decltype(zero);
    Head<T> head(features, weight, labels, margins, p, precision);
    head.add_up(nullptr);
    return {head.mean_loss(), head.regularizer(),   row_tensor(head, &Row::loss), row_tensor(head, &Row::lse),
            head.correct(),   double(head.labelled)};
  });
}

MarginSoftmaxGradients CpuBackend::margin_softmax_backward(const Tensor& features, const Tensor& weight,
                                                           const Tensor& labels, const OptionalTensor& margins,
                                                           const Tensor& lse, double d_loss, const MarginParams& p,
                                                           Precision precision) {
  return dispatch_float(features.dtype, [&](auto zero) -> MarginSoftmaxGradients {
    using T = decltype(zero);
    Head<T> head(features, weight, labels, margins, p, precision);
    check_shape("lse", lse, {head.N});
    FM_CHECK(range, std::isfinite(d_loss), "expected a finite gradient of the loss, got ", d_loss);
    MarginSoftmaxGradients out{cpu_empty<T>(features.shape), cpu_empty<T>(weight.shape), {}, 0, 0};
    const double row_weight = head.labelled ? d_loss / double(head.labelled) : 0;
    const bool shifts = head.safe_shift() > 0;
    for (int64_t i = 0; i < head.N; i++) {
      Row& row = head.rows[i];
      row.lse = lse.data<T>()[i];
      if (!std::isfinite(row.lse)) fail_lse(row.lse, i);
      row.shift = head.shift[i] = shifts ? T(row.lse) : T(head.binary ? -p.bias : 0);
    }
    head.set_gradient(row_weight);
    ClassSweep<T> s = head.sweep();
    s.d_features = out.d_features.template data<T>();
    s.d_weight = out.d_weight.template data<T>();
    head.run(SweepKind::gradients, s);
    if (s.bad_row >= 0) head.fail_at(s.bad_row);
    // Summed rather than 1 − e^(z − lse): of a row that is nearly learned, the rounding of lse would be all that is
    // left; and so the gradients of a row add up to 0 to the precision of a sum, whatever lse was rounded to.
    for (int64_t i = 0; i < head.N; i++) {
      Row& row = head.rows[i];
      if (head.binary) finish_binary(row, p, head.sums[i]);
      else row.missing = head.sums[i] * probability_factor<T>(row, p, false);
    }
    head.set_gradient(row_weight);
    head.finish_features(out.d_features.template data<T>(), row_weight, false, Scratch<double>(head.N * head.D));
    head.finish_weight(out.d_weight.template data<T>());
    out.d_margins = row_tensor(head, &Row::d_quality);
    out.d_scale = head.total_of(&Row::d_scale);
    out.d_bias = head.total_of(&Row::d_bias);
    return out;
  });
}

HeadStep CpuBackend::head_step(const Tensor& features, const Tensor& weight, const OptimizerState& state,
                               const Tensor& labels, const OptionalTensor& margins, const MarginParams& p,
                               const OptimizerParams& optimizer, HeadOptions options) {
  return dispatch_float(features.dtype, [&](auto zero) -> HeadStep {
    using T = decltype(zero);
    FM_CHECK(range, !std::isnan(options.keep_bytes), "expected a number of bytes to keep, got ", options.keep_bytes);
    Head<T> head(features, weight, labels, margins, p, options.precision, options.classes);
    check_optimizer(optimizer, weight, state);
    // All memory first: a step that fails has moved nothing.
    const auto of_rows = [&] { return cpu_empty<T>({head.N}); };
    HeadStep out{0, 0, 0, 0, of_rows(), of_rows(), cpu_empty<T>(features.shape), of_rows(), 0, 0, 0};
    const Tensor& d_features = out.d_features;
    const Scratch<double> scratch(head.N * head.D);
    const double delta = p.scale - options.moments_scale;
    const bool near = options.moments && is_near(delta) && head.has_moments();
    const Kept<T> kept(head.sweep(), options, near ? options.cosines : OptionalTensor{});
    const double row_weight = head.labelled ? 1 / double(head.labelled) : 0;
    const auto update = [&](SweepKind kind) {
      ClassSweep<T> s = head.sweep();
      kept.lend(s);
      s.d_features = d_features.data<T>();
      s.weight_out = weight.data<T>();
      for (size_t k = 0; k < state.size(); k++) s.states[k] = state[k].template data<T>();
      s.optimizer = OptimizerStep<T>(optimizer);
      head.run(kind, s);
    };
    if (near) {
      check_shape("moments", *options.moments, {head.N, kMoments});
      check_dtype("moments", *options.moments, Dtype::float64);
      head.add_up_moments(*options.moments, delta);
      head.set_gradient(row_weight);
      head.keep_target_weight();
      update(SweepKind::step);
      head.finish_features(d_features.data<T>(), row_weight, false, scratch);
    } else {
      head.add_up(d_features.data<T>(), &kept);
      head.set_gradient(row_weight);
      head.finish_features(d_features.data<T>(), row_weight, true, scratch);
      update(SweepKind::update);
    }
    if (options.classes && options.moves_others) move_other_rows(weight, state, *options.classes, head.K, optimizer);
    out.loss = head.mean_loss();
    out.regularizer = head.regularizer();
    out.correct = head.correct();
    out.labelled = double(head.labelled);
    out.d_scale = head.total_of(&Row::d_scale);
    out.d_bias = head.total_of(&Row::d_bias);
    fill_from_rows(head, &Row::loss, out.row_loss);
    fill_from_rows(head, &Row::lse, out.lse);
    fill_from_rows(head, &Row::d_quality, out.d_margins);
    return out;
  });
}

Tensor CpuBackend::target_cosines(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                  int64_t sub_centers) {
  return dispatch_float(features.dtype, [&](auto zero) -> Tensor {
    using T = decltype(zero);
    MarginParams plain;
    plain.sub_centers = int(sub_centers);
    const Head<T> head(features, weight, labels, std::nullopt, plain);
    return row_tensor(head, &Row::cos);
  });
}

Tensor CpuBackend::negative_lse(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                const MarginParams& p, const OptionalTensor& classes) {
  return dispatch_float(features.dtype, [&](auto zero) -> Tensor {
    using T = decltype(zero);
    Head<T> head(features, weight, labels, std::nullopt, p, Precision::float32, classes);
    return negative_lse_of(head);
  });
}

NegativeSums CpuBackend::negative_sums(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                       const MarginParams& p, HeadOptions options) {
  return dispatch_float(features.dtype, [&](auto zero) -> NegativeSums {
    using T = decltype(zero);
    Head<T> head(features, weight, labels, std::nullopt, p, options.precision, options.classes);
    if (p.method != Method::softmax || !head.has_moments()) return {negative_lse_of(head), {}, {}};
    const Kept<T> kept(head.sweep(), options);
    const Tensor moments = cpu_empty<double>({head.N, kMoments});
    ClassSweep<T> s = head.sweep();
    kept.lend(s);
    s.moments = moments.data<double>();
    head.run(SweepKind::moments, s);
    if (s.bad_row >= 0) head.fail_at(s.bad_row);
    Tensor lse = cpu_empty<T>({head.N});
    for (int64_t i = 0; i < head.N; i++) lse.data<T>()[i] = T(std::log(s.moments[i * kMoments]));
    return {lse, moments, kept.memory()};
  });
}

HeadRows CpuBackend::inspect_head(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                  const OptionalTensor& margins, const MarginParams& p) {
  return dispatch_float(features.dtype, [&](auto zero) -> HeadRows {
    using T = decltype(zero);
    Head<T> head(features, weight, labels, margins, p);
    for (int64_t i = 0; i < head.N; i++) head.threshold[i] = T(head.rows[i].phi.value);
    ClassSweep<T> s = head.sweep();
    s.spread = nullptr;
    s.cosine_limit = T(2);
    sweep_classes(SweepKind::maximum, s, MarginParams{});
    if (s.bad_row >= 0) head.fail_at(s.bad_row);
    Tensor nearest = cpu_empty<T>({head.N}), hard = cpu_empty<T>({head.N});
    Tensor center = cpu_backend().empty(Dtype::int32, {head.N});
    for (int64_t i = 0; i < head.N; i++) {
      const Row& row = head.rows[i];
      nearest.data<T>()[i] = std::max(head.largest[i], T(-1));
      hard.data<T>()[i] = row.label < 0 ? T(0) : T(head.counts[i]);
      center.data<int32_t>()[i] = row.label < 0 ? -1 : int32_t(row.center % head.K);
    }
    return {row_tensor(head, &Row::norm), row_tensor(head, &Row::cos), nearest, hard, center};
  });
}

Tensor CpuBackend::margin_logits(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                 const OptionalTensor& margins, const MarginParams& p) {
  return dispatch_float(features.dtype, [&](auto zero) -> Tensor {
    using T = decltype(zero);
    Head<T> head(features, weight, labels, margins, p);
    if (head.binary) std::fill(head.shift.begin(), head.shift.end(), T(-p.bias));
    Tensor out = cpu_empty<T>({head.N, head.C});
    ClassSweep<T> s = head.sweep();
    s.logits = out.data<T>();
    sweep_classes(SweepKind::logits, s, p);
    if (s.bad_row >= 0) head.fail_at(s.bad_row);
    for (int64_t i = 0; i < head.N; i++) {
      const Row& row = head.rows[i];
      if (row.label >= 0)
        out.data<T>()[i * head.C + row.label] = T(row.scale * row.phi.value + (head.binary ? p.bias : 0));
    }
    return out;
  });
}

}  // namespace fm
