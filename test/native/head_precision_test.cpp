// bfloat16 products and kept cosines of the head: their distance from the float64 step, against that of a plain head
// whose matrix products take bfloat16.  Run once an instruction set that the machine has: without AVX-512-BF16 operands are
// rounded and multiplied as float32.
#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <sstream>
#include <tuple>

#include "head_test.h"

namespace {

using namespace fm;
bool same(const Tensor& a, const Tensor& b) { return !std::memcmp(a.raw(), b.raw(), a.bytes()); }

// ‖got − wanted‖ / ‖wanted‖
double distance(const Matrix& got, const Matrix& wanted) {
  double difference = 0, size = 1e-60;
  for (size_t i = 0; i < wanted.size(); i++) {
    if (!std::isfinite(got[i])) return INFINITY;
    difference += (got[i] - wanted[i]) * (got[i] - wanted[i]);
    size += wanted[i] * wanted[i];
  }
  return std::sqrt(difference / size);
}

struct Problem {
  int64_t N, C, D;
  MarginParams p;
  Matrix x, w;  // [N, D], [C·K, D]
  std::vector<int> labels;
};

// Values are exact in float32.
Problem problem(int64_t N, int64_t C, int64_t D, const MarginParams& p, unsigned seed) {
  const int64_t K = p.sub_centers;
  Problem q{N, C, D, p, Matrix(N * D), Matrix(C * K * D), std::vector<int>(N)};
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (double& v : q.w) v = normal(random);
  for (int64_t i = 0; i < N; i++) {
    q.labels[i] = i % 5 == 3 ? -1 : i % 5 == 4 ? q.labels[i - 4] : int(random() % unsigned(C));
    // Leaning on its class, or away from it, so that targets are met at all angles.
    const double lean = (i % 4 - 1.5) * 2;
    for (int64_t k = 0; k < D; k++)
      q.x[i * D + k] = float(3 * (normal(random) + (q.labels[i] < 0 ? 0 : lean * q.w[q.labels[i] * K * D + k])));
  }
  return q;
}

MarginParams params(Method method, double scale = 64) {
  MarginParams p;
  p.method = method;
  p.scale = scale;
  p.margin = method == Method::sphereface ? 1.7 : 0.4;
  p.m1 = 1.1;
  if (method == Method::combined) p.overflow = Overflow::none;
  return p;
}
MarginParams with_negatives(Negatives negatives, double scale = 64) {
  MarginParams p = params(Method::cosface, scale);
  p.negatives = negatives;
  p.t = 0.3;
  p.filter_above = 0.5;
  return p;
}
MarginParams with_centers(MarginParams p, int K) {
  p.sub_centers = K;
  return p;
}

struct Case {
  std::string name;
  MarginParams p;
};
std::vector<Case> cases() {
  std::vector<Case> all;
  for (double scale : {16.0, 64.0}) {
    const std::string at = " scale " + std::to_string(int(scale));
    for (Method method : {Method::softmax, Method::arcface, Method::cosface, Method::combined, Method::sphereface,
                          Method::sphereface2, Method::uniface})
      all.push_back({name_of(method) + at, params(method, scale)});
    for (Negatives negatives : {Negatives::mv_adaptive, Negatives::mv_fixed, Negatives::curricular, Negatives::filter})
      all.push_back({"negatives " + std::to_string(int(negatives)) + at, with_negatives(negatives, scale)});
    for (int K : {2, 3, 5}) {
      all.push_back({"arcface, centers " + std::to_string(K) + at, with_centers(params(Method::arcface, scale), K)});
      all.push_back({"mv_adaptive, centers " + std::to_string(K) + at,
                     with_centers(with_negatives(Negatives::mv_adaptive, scale), K)});
    }
    MarginParams smooth = params(Method::arcface, scale);
    smooth.label_smoothing = 0.1;
    all.push_back({"label smoothing" + at, smooth});
  }
  return all;
}

double bfloat16(double x) {
  float narrow = float(x);
  uint32_t bits;
  std::memcpy(&bits, &narrow, 4);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
  std::memcpy(&narrow, &bits, 4);
  return narrow;
}

Matrix rounded(Matrix m) {
  for (double& v : m) v = bfloat16(v);
  return m;
}

// What a head that holds its logits gives when its three products take bfloat16 and everything else is exact.
struct Plain {
  Matrix lse, dx, dw;
};
struct Formulas {
  std::function<double(double cos)> margined;
  std::function<Phi<double>(double cos)> target;
  std::function<Phi<double>(double cos, double threshold)> negative;
  bool binary;
};
Plain plain_bfloat16(const Problem& q, const Formulas& formulas) {
  const auto [N, C, D] = std::tuple(q.N, q.C, q.D);
  const MarginParams& p = q.p;
  const int64_t K = p.sub_centers, R = C * K;
  const auto unit_rows = [D = D](const Matrix& m, Matrix& inverse) {
    Matrix out(m.size());
    for (size_t r = 0; r * D < m.size(); r++) {
      double square = 0;
      for (int64_t k = 0; k < D; k++) square += m[r * D + k] * m[r * D + k];
      inverse.push_back(1 / std::max(std::sqrt(square), 1e-12));
      for (int64_t k = 0; k < D; k++) out[r * D + k] = m[r * D + k] * inverse[r];
    }
    return out;
  };
  const auto product = [D = D](const double* a, const double* b) {
    double sum = 0;
    for (int64_t k = 0; k < D; k++) sum += a[k] * b[k];
    return sum;
  };
  Matrix x_inverse, w_inverse, g(N * R);
  const Matrix e = unit_rows(q.x, x_inverse), v = unit_rows(q.w, w_inverse), eb = rounded(e), vb = rounded(v);
  Plain out{Matrix(N), Matrix(N * D), Matrix(R * D)};
  double labelled = 0;
  for (int label : q.labels) labelled += label >= 0;
  for (int64_t i = 0; i < N; i++) {
    const int64_t label = q.labels[i];
    Matrix cos(R), phi(C), slope(C);
    std::vector<int64_t> center(C);
    for (int64_t r = 0; r < R; r++) cos[r] = product(&eb[i * D], &vb[r * D]);
    for (int64_t j = 0; j < C; j++) center[j] = std::max_element(&cos[j * K], &cos[j * K] + K) - &cos[0];
    // Who is hard, and which center is the target, are steps of the function: they depend on the exact cosines, so that
    // the two heads agree on them.
    double target = -2;
    for (int64_t r = label * K; label >= 0 && r < (label + 1) * K; r++)
      if (product(&e[i * D], &v[r * D]) > target) target = product(&e[i * D], &v[r * D]), center[label] = r;
    const double threshold = hard_above(p, label < 0 ? 2 : formulas.margined(target));
    for (int64_t j = 0; j < C; j++) {
      const double c = cos[center[j]];
      const Phi<double> made = j == label ? formulas.target(c) : formulas.negative(c, threshold);
      phi[j] = made.value, slope[j] = made.slope;
    }
    double top = -1e300, sum = 0;
    for (int64_t j = 0; j < C; j++) top = std::max(top, p.scale * phi[j]);
    for (int64_t j = 0; j < C; j++) sum += std::exp(p.scale * phi[j] - top);
    out.lse[i] = formulas.binary ? 0 : top + std::log(sum);
    for (int64_t j = 0; j < C && label >= 0; j++) {
      const double z = p.scale * phi[j] + p.bias, smooth = p.label_smoothing;
      const double pull =
          formulas.binary
              ? (j == label ? -p.positive_weight / (1 + std::exp(z)) : p.negative_weight / (1 + std::exp(-z)))
              : std::exp(p.scale * phi[j] - out.lse[i]) - smooth / C - (j == label ? 1 - smooth : 0);
      g[i * R + center[j]] = bfloat16(p.scale / labelled * slope[j] * pull);
    }
  }
  for (int64_t i = 0; i < N; i++)
    for (int64_t r = 0; r < R; r++)
      for (int64_t k = 0; k < D; k++) {
        out.dx[i * D + k] += g[i * R + r] * vb[r * D + k];
        out.dw[r * D + k] += g[i * R + r] * eb[i * D + k];
      }
  const auto tangent = [&, D = D](double* d, const double* unit, double inverse) {
    const double along = product(d, unit);
    for (int64_t k = 0; k < D; k++) d[k] = (d[k] - along * unit[k]) * inverse;
  };
  for (int64_t i = 0; i < N; i++) tangent(&out.dx[i * D], &e[i * D], x_inverse[i]);
  for (int64_t r = 0; r < R; r++) tangent(&out.dw[r * D], &v[r * D], w_inverse[r]);
  return out;
}
Plain plain_bfloat16(const Problem& q) {
  Formulas formulas;
  dispatch_method(q.p.method, [&](auto tag) {
    using M = typename decltype(tag)::template Of<double>;
    const M method(q.p, kSineFloor<double>);
    formulas.margined = [&q, method](double cos) { return method.margined(cos, q.p.margin); };
    formulas.target = [&q, method](double cos) { return target_phi(method, q.p, cos, q.p.margin); };
    formulas.binary = M::binary;
    return 0;
  });
  dispatch_negative<double>(q.p, [&](const auto& negative) {
    formulas.negative = [negative](double cos, double threshold) { return negative.negative(cos, threshold); };
  });
  return plain_bfloat16(q, formulas);
}

const HeadOptions kModes[] = {
    {Precision::float32, -1},  {Precision::float32, 0},  {Precision::float32, 5000},  {Precision::float32, INFINITY},
    {Precision::bfloat16, -1}, {Precision::bfloat16, 0}, {Precision::bfloat16, 5000}, {Precision::bfloat16, INFINITY}};

std::string name_of_mode(const HeadOptions& o) {
  return std::string(o.precision == Precision::bfloat16 ? "bfloat16" : "float32") + ", keeping " +
         std::to_string(o.keep_bytes) + " bytes";
}

// A step that leaves its gradient in the velocity.
template <class T = float>
struct Step {
  HeadStep result;
  Tensor weight, velocity;
  Step(const Problem& q, const HeadOptions& options, OptimizerParams sgd = {0.1, 0, 0})
      : weight(tensor_of<T>({q.C * q.p.sub_centers, q.D}, q.w)),
        velocity(tensor_of<T>({q.C * q.p.sub_centers, q.D}, Matrix(q.w.size()))) {
    result = cpu_backend().head_step(tensor_of<T>({q.N, q.D}, q.x), weight, {velocity}, labels_of(q.labels),
                                     std::nullopt, q.p, sgd, options);
  }
  Matrix dx() const { return values_of<T>(result.d_features); }
  Matrix dw() const { return values_of<T>(velocity); }
  Matrix lse() const { return values_of<T>(result.lse); }
};

// The same options, and what a step takes from a sweep at a scale nearby.
HeadOptions with_sums(const Problem& q, HeadOptions mode) {
  MarginParams plain;
  plain.scale = q.p.scale - 0.3;
  plain.sub_centers = q.p.sub_centers;
  const NegativeSums sums = cpu_backend().negative_sums(tensor_of<float>({q.N, q.D}, q.x),
                                                        tensor_of<float>({q.C * q.p.sub_centers, q.D}, q.w),
                                                        labels_of(q.labels), plain, mode);
  expect(sums.moments && sums.cosines, "plain cosines at a scale of ", plain.scale, " have moments");
  mode.moments = sums.moments, mode.cosines = sums.cosines, mode.moments_scale = plain.scale;
  return mode;
}

double largest_difference(const Matrix& a, const Matrix& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); i++) largest = std::max(largest, std::fabs(a[i] - b[i]));
  return largest;
}

int64_t classes_of(int64_t rows, const MarginParams& p) {
  return std::max<int64_t>(rows / p.sub_centers, std::min<int64_t>(rows, 2));
}

// --- what bfloat16 and kept cosines cost -------------------------------------------------------------------------------

double worst_dx = 0, worst_dw = 0;  // error against the plain head's, over all cases

void accuracy() {
  // N, rows of weight, D: several tiles of rows, ragged and whole; one row, one class.
  const int64_t shapes[][3] = {{1, 1, 8},      {3, 1009, 17}, {31, 257, 37}, {33, 331, 64},
                               {17, 113, 509}, {2, 2, 512},   {64, 300, 32}, {30, 85, 128}};
  unsigned seed = 1;
  for (const auto& [N, R, D] : shapes)
    for (const auto& [name, p] : cases()) {
      const int64_t C = classes_of(R, p);
      if (C == 1 && p.label_smoothing > 0) continue;  // its gradient is 0 but for rounding
      const Problem q = problem(N, C, D, p, seed++);
      const Step<double> exact(q, {});
      const Plain plain = plain_bfloat16(q);
      std::ostringstream where;
      where << name << " N=" << N << " C=" << C << " D=" << D << ", ";
      const double plain_dx = distance(plain.dx, exact.dx()), plain_dw = distance(plain.dw, exact.dw()),
                   plain_lse = largest_difference(plain.lse, exact.lse());
      const auto at_most_twice = [&](const std::string& what, const Matrix& dx, const Matrix& dw, const Matrix& lse) {
        const double dx_error = distance(dx, exact.dx()), dw_error = distance(dw, exact.dw());
        worst_dx = std::max(worst_dx, dx_error / (plain_dx + 1e-5));
        worst_dw = std::max(worst_dw, dw_error / (plain_dw + 1e-5));
        expect(dx_error <= 2 * plain_dx + 1e-5, where.str(), what, ": d_features is off by ", dx_error,
               ", of a plain head by ", plain_dx);
        expect(dw_error <= 2 * plain_dw + 1e-5, where.str(), what, ": d_weight is off by ", dw_error,
               ", of a plain head by ", plain_dw);
        const double lse_error = largest_difference(lse, exact.lse());
        // few rows: the largest of a handful of errors is a matter of luck, of 5e-5 a cosine
        expect(lse_error <= 2 * plain_lse + 5e-5 * q.p.scale, where.str(), what, ": lse is off by ", lse_error,
               ", of a plain head by ", plain_lse);
      };
      for (const HeadOptions& mode : kModes) {
        if (mode.precision == Precision::float32) continue;
        const Step step(q, mode);
        at_most_twice(name_of_mode(mode), step.dx(), step.dw(), step.lse());
        const Step from_sums(q, with_sums(q, mode));
        at_most_twice(name_of_mode(mode) + ", from sums", from_sums.dx(), from_sums.dw(), from_sums.lse());
      }
      Backend& cpu = cpu_backend();
      const Tensor x = tensor_of<float>({N, D}, q.x), w = tensor_of<float>({C * p.sub_centers, D}, q.w),
                   labels = labels_of(q.labels);
      const auto forward = cpu.margin_softmax_forward(x, w, labels, std::nullopt, p, Precision::bfloat16);
      const auto gradients =
          cpu.margin_softmax_backward(x, w, labels, std::nullopt, forward.lse, 1, p, Precision::bfloat16);
      at_most_twice("the gradients alone", values_of(gradients.d_features), values_of(gradients.d_weight),
                    values_of(forward.lse));

      // What is kept in 16 bits moves an exponent by at most s/65534 times φ's slope.
      const Step lean(q, {}), none(q, {Precision::float32, 0}), all(q, {Precision::float32, INFINITY});
      expect(same(lean.velocity, none.velocity) && same(lean.result.d_features, none.result.d_features) &&
                 same(lean.result.lse, none.result.lse) && lean.result.loss == none.result.loss,
             where.str(), "what fits in 12 MiB is kept unrounded");
      if (p.negatives != Negatives::plain) continue;  // φ has a step at their threshold
      const double moved = p.scale / 65534 * (p.method == Method::sphereface2 ? p.power : 1);
      expect(largest_difference(all.lse(), exact.lse()) <= moved + 1e-6 * p.scale, where.str(),
             "lse from kept cosines is off by ", largest_difference(all.lse(), exact.lse()));
      if (p.sub_centers > 1) continue;  // of two centers at one cosine either may be the class's
      expect(distance(all.dx(), exact.dx()) <= 2 * moved + 1e-5, where.str(), "d_features from kept cosines is off by ",
             distance(all.dx(), exact.dx()));
      expect(distance(all.dw(), exact.dw()) <= 2 * moved + 1e-5, where.str(), "d_weight from kept cosines is off by ",
             distance(all.dw(), exact.dw()));
    }
}

// --- invariants ----------------------------------------------------------------------------------------------------------

void thread_invariance(int64_t N, int64_t R, int64_t D) {
  const int before = num_threads();
  for (const auto& [name, p] : cases()) {
    if (p.scale != 64) continue;
    const int64_t C = classes_of(R, p);
    const Problem q = problem(N, C, D, p, 17);
    const Tensor x = tensor_of<float>({N, D}, q.x), w = tensor_of<float>({C * p.sub_centers, D}, q.w),
                 labels = labels_of(q.labels);
    for (HeadOptions mode : kModes) {
      if (mode.keep_bytes == 5000) mode = with_sums(q, {mode.precision, double(N) * C});  // half of the classes
      std::vector<Step<>> steps;
      for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        steps.emplace_back(q, mode, OptimizerParams{0.1, 0.9, 1e-4});
      }
      for (const Step<>& step : steps)
        expect(same(step.weight, steps[0].weight) && same(step.velocity, steps[0].velocity) &&
                   same(step.result.d_features, steps[0].result.d_features) &&
                   same(step.result.lse, steps[0].result.lse) && same(step.result.row_loss, steps[0].result.row_loss),
               name, ", ", name_of_mode(mode), ": the result depends on the number of threads");
    }
    std::vector<MarginSoftmaxGradients> runs;
    for (int threads : {1, 2, 3}) {
      set_num_threads(threads);
      const auto forward = cpu_backend().margin_softmax_forward(x, w, labels, std::nullopt, p, Precision::bfloat16);
      runs.push_back(
          cpu_backend().margin_softmax_backward(x, w, labels, std::nullopt, forward.lse, 1, p, Precision::bfloat16));
    }
    for (const auto& run : runs)
      expect(same(run.d_features, runs[0].d_features) && same(run.d_weight, runs[0].d_weight), name,
             ": bfloat16 gradients depend on the number of threads");
  }
  set_num_threads(before);
}

// A hard negative gains e^(s·t) at its threshold: were it hard in one sweep alone, its gradient would be that much of
// its probability.  The threshold is between a cosine, which is a bfloat16, and what it is rounded to when it is kept.
void at_the_threshold() {
  const double cos = bfloat16(0.1), kept = std::round(cos * 32767) / 32767, threshold = (cos + kept) / 2;
  MarginParams p = with_negatives(Negatives::mv_fixed);
  p.margin = 0.5 - threshold;
  const Problem q{1, 2, 2, p, {1, 0}, {0.5, std::sqrt(0.75), cos, -std::sqrt(1 - cos * cos)}, {0}};
  for (const HeadOptions& mode : kModes)
    for (double g : Step(q, mode).dw())
      expect(std::fabs(g) <= p.scale, name_of_mode(mode), ": a gradient of ", g, " at the threshold");
}

void no_labels() {
  Problem q = problem(6, 50, 9, params(Method::arcface), 8);
  q.labels.assign(q.N, -1);
  for (const HeadOptions& mode : kModes) {
    const Step step(q, mode, {0.5, 0.9, 0.1});
    expect(step.result.loss == 0 && step.result.labelled == 0, "no labels: nothing to lose");
    for (double g : step.dx()) expect(g == 0, "no labels: no gradient");
    Matrix decayed = q.w;
    for (double& value : decayed) value *= 1 - 0.5 * 0.1;
    expect(distance(values_of(step.weight), decayed) < 1e-6, "no labels: weight decay goes on");
  }
}

void extremes() {
  for (double scale : {64.0, 512.0})
    for (Gradient gradient : {Gradient::exact, Gradient::detached})
      for (int K : {1, 2}) {
        MarginParams p = with_centers(params(Method::arcface, scale), K);
        p.gradient = gradient;
        Problem q = problem(12, 40, 9, p, 21);
        const auto row = [&](int64_t r) { return &q.w[r * q.D]; };
        for (int64_t i = 0; i < q.N; i++)
          for (int64_t k = 0; k < q.D; k++) {
            double& x = q.x[i * q.D + k];
            const double w = row(std::max(0, q.labels[i]) * K)[k];
            if (i == 0) x = 0;
            if (i == 1) x = 2 * w;   // cos = 1
            if (i == 2) x = -4 * w;  // cos = −1
            if (i == 5) x *= 1e-20;
            if (i == 6) x *= 1e20;
          }
        for (int64_t k = 0; k < q.D; k++) {
          row(30 * K)[k] = 0;
          row(31 * K)[k] *= 1e-20;
          row(32 * K)[k] *= 1e20;
          row(33 * K)[k] = row(q.labels[1] * K)[k];  // a negative at cos = 1
        }
        const Step<double> exact(q, {});
        for (const HeadOptions& mode : kModes) {
          const Step step(q, mode);
          for (const Tensor& t :
               {step.weight, step.velocity, step.result.d_features, step.result.lse, step.result.row_loss}) {
            bool finite = true;
            for (double value : values_of(t)) finite = finite && std::isfinite(value);
            expect(finite, name_of_mode(mode), " scale ", scale, ": a result ", t.shape, " is not finite");
          }
          for (int64_t k = 0; k < q.D; k++) {
            expect(step.dx()[k] == 0, "a zero row has no gradient");
            expect(step.dw()[30 * K * q.D + k] == 0, "a zero class has no gradient");
            expect(step.dw()[31 * K * q.D + k] == 0, "a class shorter than 1e-12 has no gradient");
          }
          const double off = largest_difference(step.lse(), exact.lse());
          expect(off <= scale / (mode.precision == Precision::bfloat16 ? 200 : 30000), name_of_mode(mode), " scale ",
                 scale, ": lse is off by ", off);
        }
      }
}

void float64_and_misuse() {
  const Problem q = problem(13, 211, 19, params(Method::arcface), 99);
  const Step<double> lean(q, {});
  for (double keep : {0.0, 20000.0, double(INFINITY)})
    expect(same(Step<double>(q, {Precision::float32, keep}).velocity, lean.velocity), "float64 is kept unrounded");
  const auto throws = [](ErrorKind kind, const std::string& message, auto&& f) {
    try {
      f();
      expect(false, "expected the error: ", message);
    } catch (const Error& error) {
      expect(error.kind == kind && error.what() == message, "expected '", message, "', got '", error.what(), "'");
    }
  };
  throws(ErrorKind::type, "expected float32 tensors for precision bfloat16, got float64", [&] {
    Step<double>(q, {Precision::bfloat16, -1});
  });
  throws(ErrorKind::range, "expected a number of bytes to keep, got nan", [&] { Step(q, {Precision::float32, NAN}); });
  for (float poison : {NAN, INFINITY})
    for (const HeadOptions& mode : kModes) {
      Problem bad = q;
      for (int64_t row : {207, 105}) bad.w[row * q.D + 5] = poison;
      bad.labels.assign(q.N, 7);
      throws(ErrorKind::non_finite,
             std::string("expected finite weights, got a row of norm ") + (poison == poison ? "inf" : "nan") +
                 " at class 105",
             [&] { Step(bad, mode); });
    }
}

void memory() {
  const int64_t N = 64, D = 8, C = 50000;
  const Problem q = problem(N, 8, D, params(Method::arcface), 1);
  const Tensor x = tensor_of<float>({N, D}, q.x), w = tensor_of<float>({C, D}, Matrix(C * D, 0.5)),
               v = tensor_of<float>({C, D}, Matrix(C * D));
  const auto scratch = [&](const HeadOptions& options) {
    reset_peak_memory();
    const size_t before = memory_use().used;
    cpu_backend().head_step(x, w, {v}, labels_of(q.labels), std::nullopt, q.p, {}, options);
    return double(memory_use().peak - before);
  };
  const double page = 2 << 20;  // a large block is in whole pages
  for (Precision precision : {Precision::float32, Precision::bfloat16}) {
    const double none = scratch({precision, 0});
    expect(scratch({precision, -1}) < none + (12 << 20) + page, "lean keeps 12 MiB at the most");
    for (double keep : {1e5, 5e6})
      expect(std::fabs(scratch({precision, keep}) - none - keep) < page, "keeps what it may: ", keep);
    expect(std::fabs(scratch({precision, INFINITY}) - none - 2.0 * N * C) < page, "keeps two bytes a cosine");
  }
}

void run_here() {
  accuracy();
  thread_invariance(37, 2101, 33);  // a group of tiles for each of three threads, whatever the tile
  thread_invariance(32, 1200, 64);
  at_the_threshold();
  no_labels();
  extremes();
  float64_and_misuse();
  memory();
  std::printf("%s: at worst %.2f of a plain head's error in d_features, %.2f in d_weight\n", name_of(isa()), worst_dx,
              worst_dw);
}

}  // namespace

int main(int, char** argv) {
  return on_every_isa(
      argv[0], run_here, [] {}, Isa::avx512bf16);
}
