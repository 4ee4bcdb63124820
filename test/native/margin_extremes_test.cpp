// The head at the ends of its range: every method and axis with cosines of ±1, rows of no length or far too much, no
// labels, one class, one row; what it counts; and what it refuses.
#include <array>
#include <sstream>

#include "../../native/common/head_checks.h"
#include "margin_cases.h"

namespace {

using namespace fm;

// --- everything stays finite -------------------------------------------------------------------------------------------

template <class T>
bool all_finite(const Tensor& t) {
  for (int64_t i = 0; i < t.numel(); i++)
    if (!std::isfinite(t.data<T>()[i])) return false;
  return true;
}

// Whether each result is finite; w is updated.
template <class T>
void stays_finite(const Inputs<T>& in, const std::string& what) {
  const auto forward = in.forward();
  const auto gradients = in.backward(forward.lse);
  const auto rows = cpu_backend().inspect_head(in.x, in.w, in.labels, in.margins, in.p);
  const Tensor logits = cpu_backend().margin_logits(in.x, in.w, in.labels, in.margins, in.p);
  const Tensor v = in.velocity();
  const auto step = in.step(v, {0.1, 0.9, 5e-4});
  const std::pair<const char*, Tensor> results[] = {{"row_loss", forward.row_loss},
                                                    {"lse", forward.lse},
                                                    {"d_features", gradients.d_features},
                                                    {"d_weight", gradients.d_weight},
                                                    {"d_margins", gradients.d_margins},
                                                    {"norm", rows.norm},
                                                    {"nearest_cos", rows.nearest_cos},
                                                    {"logits", logits},
                                                    {"the step's row_loss", step.row_loss},
                                                    {"the step's lse", step.lse},
                                                    {"the step's d_features", step.d_features},
                                                    {"the step's d_margins", step.d_margins},
                                                    {"velocity", v},
                                                    {"weight", in.w}};
  for (const auto& [name, tensor] : results)
    expect(all_finite<T>(tensor), what, sizeof(T) == 4 ? " float32: " : " float64: ", name, " is not finite");
  for (double number :
       {forward.loss, forward.regularizer, gradients.d_scale, gradients.d_bias, step.loss, step.d_scale, step.d_bias})
    expect(std::isfinite(number), what, sizeof(T) == 4 ? " float32" : " float64", ": a number is not finite");
}

Problem extreme_problem(const Case& c, double small, double large) {
  const int64_t K = c.p.sub_centers;
  Problem q = problem_for(c, 12, 40, 9, 21);
  for (int64_t i = 0; i < q.N; i++)
    for (int64_t k = 0; k < q.D; k++) {
      double& x = q.x[i * q.D + k];
      const double w = q.w[std::max(0, q.labels[i]) * K * q.D + k];
      if (i == 0) x = 0;
      if (i == 1) x = 2 * w;   // cos = 1
      if (i == 2) x = -4 * w;  // cos = −1
      if (i == 5) x *= small;
      if (i == 6) x *= large;
    }
  q.labels[6] = 20;
  q.labels[8] = 30;
  q.labels[7] = q.labels[1];
  for (int64_t k = 0; k < q.D; k++) {
    q.x[10 * q.D + k] = q.x[11 * q.D + k];  // one image twice
    for (int64_t center = 0; center < K; center++) {
      q.w[(30 * K + center) * q.D + k] = 0;
      q.w[(31 * K + center) * q.D + k] *= small;
      q.w[(32 * K + center) * q.D + k] *= large;
    }
    q.w[33 * K * q.D + k] = q.w[q.labels[1] * K * q.D + k];             // a negative at cos = 1
    q.w[(34 * K + K - 1) * q.D + k] = -q.w[q.labels[1] * K * q.D + k];  // and at −1
  }
  return q;
}

template <class T>
void extremes(const Case& c) {
  const double small = sizeof(T) == 4 ? 1e-20 : 1e-150, large = sizeof(T) == 4 ? 1e20 : 1e150;
  const Problem q = extreme_problem(c, small, large);
  const std::string what = c.name + " scale " + std::to_string(c.p.scale);
  stays_finite(Inputs<T>(q, c.p), what);

  const Inputs<T> in(q, c.p);
  const auto forward = in.forward();
  const auto gradients = in.backward(forward.lse);
  const auto zero = [&](const Tensor& t, int64_t first, int64_t rows) {
    for (int64_t k = first * q.D; k < (first + rows) * q.D; k++)
      if (t.data<T>()[k] != 0) return false;
    return true;
  };
  expect(zero(gradients.d_features, 0, 1), what, ": a zero row has no gradient");
  expect(zero(gradients.d_weight, 30 * q.K, q.K), what, ": a zero class has no gradient");
  expect(zero(gradients.d_weight, 31 * q.K, q.K), what, ": a class shorter than 1e-12 has no gradient");

  const Reference wanted = reference(q, c.p);
  // A negative at cos = 1 is level with the target of row 1 where that has no margin there: hard or not by rounding.
  const bool level = c.p.negatives != Negatives::plain && c.p.negatives != Negatives::filter &&
                     (c.p.method == Method::softmax || c.p.method == Method::sphereface);
  if (level) return;
  const double logit = (sizeof(T) == 4 ? 1e-5 : 1e-7) * std::max(c.p.scale, wanted.largest_logit);
  if (!is_binary(c.p.method))
    expect(absolute(values_of<T>(forward.lse), wanted.lse) < logit, what, ": lse with extreme norms is off by ",
           absolute(values_of<T>(forward.lse), wanted.lse));
  double largest = 1;
  for (double loss : wanted.row_loss) largest = std::max(largest, loss);
  expect(absolute(values_of<T>(forward.row_loss), wanted.row_loss) < logit + 1e-5 * largest, what,
         ": row_loss with extreme norms is off by ", absolute(values_of<T>(forward.row_loss), wanted.row_loss));
  // Of an ordinary row among them, and of a huge one; where its logits follow the norm they are as good as infinite.
  for (int64_t i : {7, 6}) {
    if (i == 6 && (c.p.scale_by_norm || c.p.method == Method::magface)) continue;
    const Matrix got = values_of<T>(gradients.d_features);
    const Matrix part(got.begin() + i * q.D, got.begin() + (i + 1) * q.D),
        other(wanted.dx.begin() + i * q.D, wanted.dx.begin() + (i + 1) * q.D);
    double size = 0;
    for (double value : other) size = std::max(size, std::fabs(value));
    if (size > 1e-12)  // below, the reference itself is rounding
      expect(distance(part, other) < 1e-4, what, ": d_features with extreme norms is off by ", distance(part, other),
             " in row ", i, " of size ", size);
  }
}

void extremes() {
  for (double scale : {64.0, 512.0})
    for (const Case& c : every_case(scale)) {
      extremes<float>(c);
      extremes<double>(c);
    }
}

// One class, one row, one axis, no labels: still numbers, and no gradient where nothing can be lost.
void smallest() {
  for (const Case& c : every_case(64))
    for (const auto& [N, C, D] : {std::array<int64_t, 3>{1, 1, 1}, {1, 5, 3}, {4, 1, 6}, {3, 2, 1}}) {
      const Problem q = problem_for(c, N, C, D, 31);
      std::ostringstream what;
      what << c.name << " N=" << N << " C=" << C << " D=" << D;
      stays_finite(Inputs<float>(q, c.p), what.str());
      stays_finite(Inputs<double>(q, c.p), what.str());
      const auto forward = Inputs<double>(q, c.p).forward();
      if (C == 1 && !is_binary(c.p.method))
        expect(std::fabs(forward.loss - c.p.norm_penalty * forward.regularizer) < 1e-12, what.str(),
               ": one class leaves nothing to lose, got ", forward.loss);
    }
}

template <class T>
void no_labels(const Case& c) {
  Problem q = problem_for(c, 6, 50, 8, 8);
  q.labels.assign(q.N, -1);
  const Inputs<T> in(q, c.p);
  const auto forward = in.forward();
  expect(forward.loss == 0 && forward.labelled == 0 && forward.correct == 0 && forward.regularizer == 0, c.name,
         ": no labels: nothing to lose");
  const Reference wanted = reference(q, c.p);
  if (!is_binary(c.p.method))
    expect(absolute(values_of<T>(forward.lse), wanted.lse) < 1e-6 * std::max(64.0, wanted.largest_logit), c.name,
           ": lse is reported for rows without a target");
  const auto gradients = in.backward(forward.lse);
  for (const Tensor& t : {gradients.d_features, gradients.d_weight, gradients.d_margins})
    expect(absolute(values_of<T>(t), Matrix(t.numel())) == 0, c.name, ": no labels: no gradient");
  expect(gradients.d_scale == 0 && gradients.d_bias == 0, c.name, ": no labels: no gradient of scale and bias");
  in.step(in.velocity(), {0.5, 0.9, 0.1});
  Matrix decayed = q.w;
  for (double& value : decayed) value *= 1 - 0.5 * 0.1;
  expect(distance(values_of<T>(in.w), decayed) < 1e-6, c.name, ": no labels: weight decay goes on");
}

void counts_correct() {
  // Four classes along the axes; class 3 repeats class 0, so that row 0 ties.
  const Matrix w = {1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 0, 0};
  const Matrix x = {5, 1, 1, 1, 5, 1, 1, 1, 5, 5, 1, 1};
  const Inputs<float> in(Problem{4, 4, 1, 3, x, w, {0, 1, 0, -1}, {}}, params(Method::arcface));
  expect(in.forward().correct == 2, "two rows are correct, one of them by a tie: ", in.forward().correct);
  expect(in.forward().labelled == 3, "a row without a target is not counted");
  // The same rows as two classes of two centers: 0 and 1 are class 0, 2 and 3 class 1, and the tie is across classes.
  MarginParams p = params(Method::arcface);
  p.sub_centers = 2;
  const Inputs<float> two(Problem{4, 2, 2, 3, x, w, {0, 0, 0, 1}, {}}, p);
  expect(two.forward().correct == 3, "of two centers the larger counts: ", two.forward().correct);
  const HeadRows rows = cpu_backend().inspect_head(two.x, two.w, two.labels, std::nullopt, p);
  expect(values_of<int32_t>(rows.center) == Matrix{0, 1, 0, 1}, "the target's center is its nearest");
}

// --- errors ----------------------------------------------------------------------------------------------------------------

void errors() {
  const Problem q = random_problem(20, 300, 16, 4);
  const Tensor x = tensor_of<float>({q.N, q.D}, q.x), w = tensor_of<float>({q.C, q.D}, q.w),
               v = tensor_of<float>({q.C, q.D}, q.w), labels = labels_of(q.labels);
  const auto step = [&](const Tensor& x, const Tensor& labels, const MarginParams& p = params(Method::arcface),
                        const OptionalTensor& margins = {}) {
    cpu_backend().head_step(x, w, {v}, labels, margins, p, {});
  };
  std::vector<int> wrong = q.labels;
  for (int label : {90001, -2}) {
    wrong[17] = label;
    throws(ErrorKind::range, "expected labels in [0, 300) or -1, got " + std::to_string(label) + " at row 17",
           [&] { step(x, labels_of(wrong)); });
  }
  MarginParams centers = params(Method::arcface);
  centers.sub_centers = 3;
  wrong[17] = 100;
  throws(ErrorKind::range, "expected labels in [0, 100) or -1, got 100 at row 17", [&] {
    std::vector<int> few(q.N, 0);
    few[17] = 100;
    step(x, labels_of(few), centers);
  });
  centers.sub_centers = 7;
  throws(ErrorKind::shape, "expected weight [C * 7, 16] for 7 centers a class, got [300, 16]",
         [&] { step(x, labels, centers); });
  Matrix bad = q.x;
  for (float poison : {NAN, -INFINITY}) {
    bad[4 * q.D + 3] = poison;
    throws(
        ErrorKind::non_finite,
        std::string("expected finite features, got a row of norm ") + (poison != poison ? "nan" : "inf") + " at row 4",
        [&] {
          step(tensor_of<float>({q.N, q.D}, bad), labels);
        });
  }
  throws(ErrorKind::shape, "expected labels [20], got [3]", [&] { step(x, labels_of({0, 1, 2})); });
  throws(ErrorKind::type, "expected weight of dtype float64, got float32", [&] {
    step(tensor_of<double>({q.N, q.D}, q.x), labels);
  });
  throws(ErrorKind::shape, "expected weight [C, 8], got [300, 16]", [&] {
    step(tensor_of<float>({q.N, 8}, Matrix(q.N * 8, 1.0)), labels);
  });
  throws(ErrorKind::range, "expected a scale in (0, 10000], got 0",
         [&] { step(x, labels, params(Method::arcface, 0)); });
  throws(ErrorKind::range, "expected a margin in [-pi, pi], got nan",
         [&] { step(x, labels, params(Method::arcface, 64, NAN)); });

  Matrix margins(q.N, 0.5);
  throws(ErrorKind::shape, "expected margins [20], got [19]",
         [&] { step(x, labels, params(Method::arcface), tensor_of<float>({19}, Matrix(19))); });
  throws(ErrorKind::type, "expected margins of dtype float32, got float64",
         [&] { step(x, labels, params(Method::arcface), tensor_of<double>({q.N}, margins)); });
  for (Method method : kMethods) {
    if (reads_row_margin(method)) continue;
    throws(ErrorKind::range, std::string("expected no margins of rows with ") + name_of(method),
           [&] { step(x, labels, params(method), tensor_of<float>({q.N}, margins)); });
  }
  for (float margin : {4.0f, float(NAN)}) {
    margins[6] = margin;
    throws(ErrorKind::range,
           std::string("expected margins in [-pi, pi], got ") + (margin == 4 ? "4" : "nan") + " at row 6",
           [&] { step(x, labels, params(Method::cosface), tensor_of<float>({q.N}, margins)); });
  }
  for (Method method : {Method::sphereface2, Method::uniface})
    throws(ErrorKind::range, std::string("expected a method with a softmax, got ") + name_of(method),
           [&] { cpu_backend().negative_lse(x, w, labels, params(method)); });
  const auto backward = [&](const Matrix& lse, double d_loss) {
    cpu_backend().margin_softmax_backward(x, w, labels, {}, tensor_of<float>({int64_t(lse.size())}, lse), d_loss,
                                          params(Method::arcface));
  };
  throws(ErrorKind::shape, "expected lse [20], got [2]", [&] { backward({1, 1}, 1); });
  throws(ErrorKind::range, "expected a finite gradient of the loss, got inf",
         [&] { backward(Matrix(q.N, 60.0), INFINITY); });
  Matrix lse(q.N, 60.0);
  lse[3] = NAN;
  throws(ErrorKind::range, "expected a finite lse, got nan at row 3", [&] { backward(lse, 1); });
  throws(ErrorKind::range, "expected finite lr, momentum and weightDecay, got nan, 0.9 and 0", [&] {
    cpu_backend().head_step(x, w, {v}, labels, {}, params(Method::arcface), {NAN, 0.9, 0});
  });
  expect(values_of<float>(w) == q.w && values_of<float>(v) == q.w, "an error leaves weight and velocity alone");
}

// A weight that is not finite is named, the first one, by whichever sweep meets it.
void bad_weights() {
  const Problem q = random_problem(20, 300, 16, 4);
  for (int K : {1, 3})
    for (Method method : {Method::arcface, Method::sphereface2})
      for (float poison : {NAN, INFINITY}) {
        Matrix poisoned = q.w;
        for (int64_t row : {291, 205}) poisoned[row * q.D + 5] = poison;
        Problem bad{q.N, q.C / K, K, q.D, q.x, poisoned, std::vector<int>(q.N, 7), {}};
        MarginParams p = params(method), shifted = params(method, 300);
        p.sub_centers = shifted.sub_centers = K;
        const std::string message = std::string("expected finite weights, got a row of norm ") +
                                    (poison == poison ? "inf" : "nan") +
                                    (K == 1 ? " at class 205" : " at class 68, center 1");
        const Inputs<float> in(bad, p);
        const Tensor v = tensor_of<float>({300, q.D}, q.w);
        throws(ErrorKind::non_finite, message, [&] { in.step(v, {}); });
        throws(ErrorKind::non_finite, message,
               [&] { cpu_backend().head_step(in.x, in.w, {v}, in.labels, {}, shifted, {}); });
        throws(ErrorKind::non_finite, message, [&] { in.forward(); });
        throws(ErrorKind::non_finite, message, [&] { in.backward(tensor_of<float>({q.N}, Matrix(q.N, 60.0))); });
        throws(ErrorKind::non_finite, message, [&] { cpu_backend().margin_logits(in.x, in.w, in.labels, {}, p); });
        throws(ErrorKind::non_finite, message, [&] { cpu_backend().inspect_head(in.x, in.w, in.labels, {}, p); });
        std::fill(bad.labels.begin(), bad.labels.end(), K == 1 ? 205 : 68);  // the target itself
        throws(ErrorKind::non_finite, message, [&] { Inputs<float>(bad, p).forward(); });
        throws(ErrorKind::non_finite, message,
               [&] { cpu_backend().target_cosines(in.x, in.w, labels_of(bad.labels), K); });
        expect(values_of<float>(v) == q.w &&
                   !std::memcmp(in.w.raw(), tensor_of<float>({300, q.D}, poisoned).raw(), in.w.bytes()),
               "a bad weight leaves weight and velocity alone");
      }
}

// --- memory ------------------------------------------------------------------------------------------------------------------

size_t scratch_of_step(int64_t C, int K) {
  const Problem q = random_problem(64, 8, 24, 1);
  MarginParams p = params(Method::arcface);
  p.sub_centers = K;
  const Tensor x = tensor_of<float>({64, 24}, q.x), w = tensor_of<float>({C * K, 24}, Matrix(C * K * 24, 0.5)),
               v = tensor_of<float>({C * K, 24}, Matrix(C * K * 24));
  reset_peak_memory();
  const size_t before = memory_use().used;
  cpu_backend().head_step(x, w, {v}, labels_of(q.labels), {}, p, {});
  return memory_use().peak - before;
}

void constant_memory() {
  for (int K : {1, 3}) {
    const size_t at_100k = scratch_of_step(100000, K), at_200k = scratch_of_step(200000, K);
    expect(at_100k == at_200k, "scratch does not depend on the number of classes: ", at_100k, " and ", at_200k,
           " bytes");
    expect(at_200k < (size_t(16) << 20), "scratch of a small batch is small: ", at_200k, " bytes");
  }
}

void run_here() {
  extremes();
  errors();
  bad_weights();
  constant_memory();
}

// Norms of 11 elements, of which the largest is `size`, against sums of 64 bits of mantissa and 15 of exponent.
template <class T>
void norms(double size) {
  std::array<T, 11> x;
  long double squares = 0;
  for (size_t i = 0; i < x.size(); i++) {
    x[i] = T((i % 2 ? -1 : 1) * size * double(i + 1) / double(x.size()));
    squares += static_cast<long double>(x[i]) * x[i];
  }
  const double wanted = double(std::sqrt(squares)), norm = exact_norm(x.data(), int64_t(x.size()));
  expect(std::fabs(norm - wanted) <= 1e-14 * wanted, "the norm at ", size, " is ", norm, ", expected ", wanted);
  for (const T odd : {T(NAN), T(INFINITY), T(-INFINITY)}) {
    x[7] = odd;
    expect(!std::isfinite(exact_norm(x.data(), int64_t(x.size()))), "a norm with ", odd, " in its row is finite");
  }
}

void run_once() {
  for (const double size : {1e-38, 1e-20, 1.0, 1e18, 3e38}) norms<float>(size);
  for (const double size : {1e-300, 1e-160, 1e-140, 1e-20, 1.0, 1e140, 1e160, 1e305}) norms<double>(size);
  smallest();
  for (const Case& c : every_case(64)) {
    no_labels<float>(c);
    no_labels<double>(c);
  }
  counts_correct();
}

}  // namespace

int main(int, char** argv) { return on_every_isa(argv[0], run_here, run_once); }
