// The margin-softmax head.  What is done once a row is here, in double: norms, the target's cosine and φ, the loss.
// What is done once a (row, class) is in class_sweep.h.
#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "../common/methods.h"
#include "allocator.h"
#include "backend.h"
#include "class_sweep.h"
#include "parallel.h"
#define FM_KERNELS "class_sweep.inl"
#include "for_each_isa.h"

namespace fm {
namespace {

template <class T, class N, SweepKind k, bool c>
struct SweepConfig {
  using Real = T;
  using Negative = N;
  static constexpr SweepKind kind = k;
  static constexpr bool clips = c;
};

template <SweepKind kind, class T, class Negative>
void run_sweep(ClassSweep<T>& sweep, const Negative& negative) {
  using Clipped = SweepConfig<T, Negative, kind, true>;
  using Plain = SweepConfig<T, Negative, kind, false>;
  if (sweep.cosine_limit < 1) FM_KERNEL(class_sweep<Clipped>)(sweep, negative);
  else FM_KERNEL(class_sweep<Plain>)(sweep, negative);
}

// A step keeps this much of its first sweep's cosines for its second, and of half the classes at the most, whatever N
// and C are; the others are computed twice.
constexpr int64_t kKeptBytes = int64_t(12) << 20;

// One row of the batch.
struct Row {
  double inverse = 0;         // 1 / max(‖x‖, kTiny)
  bool has_direction = true;  // ‖x‖ ≥ kTiny; without it the row has no gradient
  int64_t label = -1;
  double class_inverse = 0;  // of the target's weight row
  double cos = 0;            // to the target
  Phi<double> phi{0, 0};
  double shift = 0;  // of the exponents
  double lse = 0, loss = 0;
  double missing = 0;  // 1 − the target's softmax
};

void check_params(const MarginParams& p) {
  FM_CHECK(range, p.scale > 0 && p.scale <= 1e4, "expected a scale in (0, 10000], got ", p.scale);
  dispatch_method(p.method, [&](auto tag) {
    decltype(tag)::template Of<double>::check(p);
    return 0;
  });
  FM_CHECK(range, p.cosine_epsilon >= 0 && p.cosine_epsilon < 1, "expected cosineEpsilon in [0, 1), got ",
           p.cosine_epsilon);
  FM_CHECK(range, p.target_epsilon >= 0 && p.target_epsilon < 1, "expected targetEpsilon in [0, 1), got ",
           p.target_epsilon);
  FM_CHECK(range, p.angle_epsilon >= 0 && p.angle_epsilon < kPi / 2, "expected angleEpsilon in [0, pi/2), got ",
           p.angle_epsilon);
  FM_CHECK(range, p.angle_limit >= 0 && p.angle_limit <= kPi, "expected angleLimit in [0, pi], got ", p.angle_limit);
  FM_CHECK(range, std::fabs(p.easy_above) <= 1, "expected easyAbove in [-1, 1], got ", p.easy_above);
}

template <class T>
struct Head {
  int64_t N, C, D;
  const T *x, *w;
  const MarginParams& p;
  std::vector<Row> rows;
  std::vector<Target> targets;
  int64_t labelled = 0;
  Scratch<T> embeddings;
  // [N] each, as the sweeps read and write them
  std::vector<T> shift, threshold, factor, target_gradient, target_cos, largest, seen_target_cos;
  std::vector<double> sums;

  // Normalises the rows, finds the targets' φ, and refuses what no sweep should meet.
  Head(const Tensor& features, const Tensor& weight, const Tensor& labels, const MarginParams& p)
      : N(checked_rows(features, weight, labels, p)),
        C(weight.dim(0)),
        D(weight.dim(1)),
        x(features.data<T>()),
        w(weight.data<T>()),
        p(p),
        rows(N),
        embeddings(size_t(N) * D),
        shift(N),
        threshold(N, T(2)),  // without a target no negative is hard
        factor(N),
        target_gradient(N),
        target_cos(N),
        largest(N),
        seen_target_cos(N),
        sums(N) {
    const int32_t* label = labels.data<int32_t>();
    for (int64_t i = 0; i < N; i++) {
      FM_CHECK(range, label[i] >= -1 && label[i] < C, "expected labels in [0, ", C, ") or -1, got ", label[i],
               " at row ", i);
      rows[i].label = label[i];
      if (label[i] < 0) continue;
      targets.push_back({label[i], i});
      labelled++;
    }
    std::sort(targets.begin(), targets.end(),
              [](const Target& a, const Target& b) { return a.label != b.label ? a.label < b.label : a.row < b.row; });
    std::vector<double> norms(N), class_norms(N);
    parallel_for(N, [&](int64_t i) {
      norms[i] = exact_norm(x + i * D, D);
      rows[i].inverse = 1 / std::max(norms[i], kTiny);
      rows[i].has_direction = norms[i] >= kTiny;
      for (int64_t k = 0; k < D; k++) embeddings[i * D + k] = T(x[i * D + k] * rows[i].inverse);
      if (rows[i].label >= 0) class_norms[i] = exact_norm(w + rows[i].label * D, D);
    });
    for (int64_t i = 0; i < N; i++) {
      FM_CHECK(non_finite, std::isfinite(norms[i]), "expected finite features, got a row of norm ", norms[i],
               " at row ", i);
      if (!std::isfinite(class_norms[i])) fail_class(rows[i].label);
    }
    dispatch_method(p.method, [&](auto tag) {
      const typename decltype(tag)::template Of<double> method(p, kSineFloor<T>);
      parallel_for(N, [&](int64_t i) {
        Row& row = rows[i];
        if (row.label < 0) return;
        row.class_inverse = 1 / std::max(class_norms[i], kTiny);
        const T *xi = x + i * D, *wy = w + row.label * D;
        for (int64_t k = 0; k < D; k++) row.cos += (xi[k] * row.inverse) * (wy[k] * row.class_inverse);
        row.phi = target_phi(method, p, row.cos);
        target_cos[i] = T(row.cos);
        if constexpr (!decltype(method)::Negative::plain)
          threshold[i] = T(method.threshold(clipped_target(p, row.cos)));
      });
      return 0;
    });
  }

  static int64_t checked_rows(const Tensor& features, const Tensor& weight, const Tensor& labels,
                              const MarginParams& p) {
    check_rank("features", features, 2);
    check_rank("weight", weight, 2);
    FM_CHECK(shape, features.dim(0) > 0 && features.dim(1) > 0,
             "expected features [N, D] with N, D of at least 1, got ", features.shape);
    FM_CHECK(shape, weight.dim(0) > 0 && weight.dim(1) == features.dim(1), "expected weight [C, ", features.dim(1),
             "], got ", weight.shape);
    check_dtype("weight", weight, features.dtype);
    check_shape("labels", labels, {features.dim(0)});
    check_dtype("labels", labels, Dtype::int32);
    check_params(p);
    return features.dim(0);
  }

  [[noreturn]] void fail_class(int64_t c) const {
    fail(ErrorKind::non_finite, "expected finite weights, got a row of norm ", exact_norm(w + c * D, D), " at class ",
         c);
  }

  ClassSweep<T> sweep() {
    ClassSweep<T> s{};
    s.N = N, s.C = C, s.D = D;
    s.embeddings = embeddings.data();
    s.weight = w;
    s.targets = targets.data();
    s.target_count = int64_t(targets.size());
    s.scale = T(p.scale);
    s.cosine_limit = p.cosine_epsilon > 0 ? T(1 - p.cosine_epsilon) : T(2);
    s.slope_outside = p.gradient == Gradient::detached ? T(1) : T(0);
    s.project = p.project_weight_gradient;
    s.shift = shift.data();
    s.threshold = threshold.data();
    s.factor = factor.data();
    s.target_gradient = target_gradient.data();
    s.target_cos = target_cos.data();
    s.sums = sums.data();
    s.largest = largest.data();
    s.seen_target_cos = seen_target_cos.data();
    return s;
  }

  // Runs f(negative) with what the method makes of the other classes.
  template <class F>
  void with_negative(F&& f) const {
    dispatch_method(p.method, [&](auto tag) {
      using M = typename decltype(tag)::template Of<T>;
      const M method(p);
      f(static_cast<const typename M::Negative&>(method));
      return 0;
    });
  }

  // e^(s·φ), down to e^−s, and its sum over C classes stay within T's range without a shift.  With s = 64 that is
  // any C.  With a shift, a sweep of its own finds each row's largest exponent first: half a step's time more.
  static constexpr double kLargestExponent = sizeof(T) == 4 ? 80 : 650;
  template <class Negative>
  bool needs_shift(const Negative& negative) const {
    const double top = p.scale * negative.largest();
    return top > kLargestExponent || top + std::log(double(C)) > kLargestExponent + 6;
  }

  // Σ over the negatives, and from it each row's log-sum-exp and loss; optionally the un-normalised dX.
  void add_up(T* d_features, T* kept = nullptr, int64_t kept_classes = 0) {
    with_negative([&](const auto& negative) {
      if (needs_shift(negative)) {
        ClassSweep<T> s = sweep();
        run_sweep<SweepKind::maximum>(s, negative);
        if (s.bad_class >= 0) fail_class(s.bad_class);
        for (int64_t i = 0; i < N; i++) {
          double top = p.scale * double(largest[i]);
          if (rows[i].label >= 0) top = std::max(top, p.scale * rows[i].phi.value);
          shift[i] = T(top);
        }
      }
      ClassSweep<T> s = sweep();
      s.d_features = d_features;
      s.kept = kept;
      s.kept_classes = kept_classes;
      if (d_features) run_sweep<SweepKind::sums_and_features>(s, negative);
      else run_sweep<SweepKind::sums>(s, negative);
      if (s.bad_class >= 0) fail_class(s.bad_class);
    });
    for (int64_t i = 0; i < N; i++) {
      Row& row = rows[i];
      row.shift = shift[i];
      const double negatives = row.shift + std::log(sums[i]);
      if (row.label < 0) {
        row.lse = negatives;
        continue;
      }
      const double z = p.scale * row.phi.value, above = negatives - z;  // −∞ when there are no negatives
      row.loss = above > 0 ? above + std::log1p(std::exp(-above)) : std::log1p(std::exp(above));
      row.lse = z + row.loss;
      row.missing = above > 0 ? 1 / (1 + std::exp(-above)) : std::exp(above) / (1 + std::exp(above));
    }
  }

  // Takes e^(s·φ − shift) to a probability.  Where the target alone makes up the sum (C = 1), lse has no lower bound.
  static double probability_factor(const Row& row) { return std::exp(std::min(row.shift - row.lse, kLargestExponent)); }

  // dL/dcos of a row's classes is e^(s·φ − shift)·φ'·factor, the target's −weight·s·missing·φ'.
  void set_gradient(double weight) {
    for (int64_t i = 0; i < N; i++) {
      const Row& row = rows[i];
      const double scaled = row.label < 0 ? 0 : weight * p.scale;
      factor[i] = T(scaled * probability_factor(row));
      target_gradient[i] = T(-scaled * row.missing * row.phi.slope);
    }
  }

  double mean_loss() const {
    double total = 0;
    for (const Row& row : rows) total += row.loss;
    return labelled ? total / double(labelled) : 0;
  }
  double correct() const {
    double count = 0;
    for (int64_t i = 0; i < N; i++) count += rows[i].label >= 0 && seen_target_cos[i] >= largest[i];
    return count;
  }

  // From `factor`·d_features, which the negatives have, and the target: (d − e⟨d, e⟩)/‖x‖.
  void finish_features(T* d_features, bool with_factor) const {
    parallel_for(N, [&](int64_t i) {
      const Row& row = rows[i];
      T* d = d_features + i * D;
      if (row.label < 0 || !row.has_direction) return std::fill_n(d, D, T(0)), void();
      const double all = with_factor ? double(factor[i]) : 1;
      const double target = double(target_gradient[i]) * row.class_inverse;
      const T *xi = x + i * D, *wy = w + row.label * D;
      double along = 0;
      for (int64_t k = 0; k < D; k++) along += (all * d[k] + target * wy[k]) * (xi[k] * row.inverse);
      for (int64_t k = 0; k < D; k++)
        d[k] = T((all * d[k] + target * wy[k] - along * (xi[k] * row.inverse)) * row.inverse);
    });
  }

  // Adds the targets to what the negatives have, in their sorted order.
  void finish_weight(T* d_weight) const {
    for (const Target& t : targets) {
      const Row& row = rows[t.row];
      if (row.class_inverse >= 1 / kTiny) continue;  // a class without direction
      const double g = target_gradient[t.row], along = p.project_weight_gradient ? row.cos * row.class_inverse : 0;
      const double scale = p.project_weight_gradient ? row.class_inverse : 1;
      const T *xi = x + t.row * D, *wy = w + t.label * D;
      T* d = d_weight + t.label * D;
      for (int64_t k = 0; k < D; k++) d[k] += T(g * scale * (xi[k] * row.inverse - along * wy[k]));
    }
  }
};

template <class T>
Tensor row_tensor(const Head<T>& head, double Row::*field) {
  Tensor t = cpu_empty<T>({head.N});
  for (int64_t i = 0; i < head.N; i++) t.data<T>()[i] = T(head.rows[i].*field);
  return t;
}

}  // namespace

MarginSoftmaxForward CpuBackend::margin_softmax_forward(const Tensor& features, const Tensor& weight,
                                                        const Tensor& labels, const MarginParams& p) {
  return dispatch_float(features.dtype, [&](auto zero) -> MarginSoftmaxForward {
    using T = decltype(zero);
    Head<T> head(features, weight, labels, p);
    head.add_up(nullptr);
    return {head.mean_loss(), row_tensor(head, &Row::loss), row_tensor(head, &Row::lse), head.correct(),
            double(head.labelled)};
  });
}

MarginSoftmaxGradients CpuBackend::margin_softmax_backward(const Tensor& features, const Tensor& weight,
                                                           const Tensor& labels, const Tensor& lse, double d_loss,
                                                           const MarginParams& p) {
  return dispatch_float(features.dtype, [&](auto zero) -> MarginSoftmaxGradients {
    using T = decltype(zero);
    Head<T> head(features, weight, labels, p);
    check_shape("lse", lse, {head.N});
    FM_CHECK(range, std::isfinite(d_loss), "expected a finite gradient of the loss, got ", d_loss);
    MarginSoftmaxGradients out{cpu_empty<T>(features.shape), cpu_empty<T>(weight.shape)};
    head.with_negative([&](const auto& negative) {
      const bool shifts = head.needs_shift(negative);
      for (int64_t i = 0; i < head.N; i++) {
        Row& row = head.rows[i];
        row.lse = lse.data<T>()[i];
        FM_CHECK(range, std::isfinite(row.lse), "expected a finite lse, got ", row.lse, " at row ", i);
        row.shift = head.shift[i] = shifts ? T(row.lse) : T(0);
      }
      const double weight = head.labelled ? d_loss / double(head.labelled) : 0;
      head.set_gradient(weight);
      ClassSweep<T> s = head.sweep();
      s.d_features = out.d_features.template data<T>();
      s.d_weight = out.d_weight.template data<T>();
      run_sweep<SweepKind::gradients>(s, negative);
      if (s.bad_class >= 0) head.fail_class(s.bad_class);
      // Summed rather than 1 − e^(z − lse): of a row that is nearly learned, the rounding of lse would be all that is
      // left; and so the gradients of a row add up to 0 to the precision of a sum, whatever lse was rounded to.
      for (int64_t i = 0; i < head.N; i++) head.rows[i].missing = head.sums[i] * head.probability_factor(head.rows[i]);
      head.set_gradient(weight);
    });
    head.finish_features(out.d_features.template data<T>(), false);
    head.finish_weight(out.d_weight.template data<T>());
    return out;
  });
}

HeadStep CpuBackend::head_step(const Tensor& features, const Tensor& weight, const Tensor& velocity,
                               const Tensor& labels, const MarginParams& p, SgdParams sgd) {
  return dispatch_float(features.dtype, [&](auto zero) -> HeadStep {
    using T = decltype(zero);
    Head<T> head(features, weight, labels, p);
    check_shape("velocity", velocity, weight.shape);
    check_dtype("velocity", velocity, features.dtype);
    FM_CHECK(range, std::isfinite(sgd.lr) && std::isfinite(sgd.momentum) && std::isfinite(sgd.weight_decay),
             "expected finite lr, momentum and weightDecay, got ", sgd.lr, ", ", sgd.momentum, " and ",
             sgd.weight_decay);
    Tensor d_features = cpu_empty<T>(features.shape);
    const int64_t kept_elements = FM_KERNEL(kept_elements<T>)(head.sweep());
    const int64_t kept_classes = std::min(kKeptBytes / int64_t(sizeof(T)) / kept_elements, head.C / 2);
    const Scratch<T> kept(kept_classes * kept_elements);
    head.add_up(d_features.data<T>(), kept.data(), kept_classes);
    HeadStep out{head.mean_loss(),
                 head.correct(),
                 double(head.labelled),
                 row_tensor(head, &Row::loss),
                 row_tensor(head, &Row::lse),
                 d_features};
    head.set_gradient(head.labelled ? 1 / double(head.labelled) : 0);
    head.finish_features(d_features.data<T>(), true);
    head.with_negative([&](const auto& negative) {
      ClassSweep<T> s = head.sweep();
      s.kept = kept.data();
      s.kept_classes = kept_classes;
      s.weight_out = weight.data<T>();
      s.velocity = velocity.data<T>();
      s.learning_rate = T(sgd.lr);
      s.momentum = T(sgd.momentum);
      s.weight_decay = T(sgd.weight_decay);
      run_sweep<SweepKind::update>(s, negative);
    });
    return out;
  });
}

Tensor CpuBackend::target_cosines(const Tensor& features, const Tensor& weight, const Tensor& labels) {
  return dispatch_float(features.dtype, [&](auto zero) -> Tensor {
    using T = decltype(zero);
    const MarginParams plain;
    const Head<T> head(features, weight, labels, plain);
    return row_tensor(head, &Row::cos);
  });
}

Tensor CpuBackend::margin_logits(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                 const MarginParams& p) {
  return dispatch_float(features.dtype, [&](auto zero) -> Tensor {
    using T = decltype(zero);
    Head<T> head(features, weight, labels, p);
    Tensor out = cpu_empty<T>({head.N, head.C});
    head.with_negative([&](const auto& negative) {
      ClassSweep<T> s = head.sweep();
      s.logits = out.data<T>();
      run_sweep<SweepKind::logits>(s, negative);
      if (s.bad_class >= 0) head.fail_class(s.bad_class);
    });
    for (const Target& t : head.targets)
      out.data<T>()[t.row * head.C + t.label] = T(p.scale * head.rows[t.row].phi.value);
    return out;
  });
}

}  // namespace fm
