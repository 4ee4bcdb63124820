// The head on the CPU against a plain float64 reference that shares no code with it, against finite differences, and
// against itself: any number of threads, any order of the classes.  Run once an instruction set that the machine has.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "../../native/common/methods.h"
#include "../../native/cpu/allocator.h"
#include "../../native/cpu/backend.h"
#include "../../native/cpu/isa.h"
#include "../../native/cpu/parallel.h"
#include "margin_reference.h"

namespace {

using namespace fm;

int passed = 0, failed = 0;

template <class... Parts>
void expect(bool ok, const Parts&... parts) {
  ok ? passed++ : failed++;
  if (ok) return;
  std::ostringstream message;
  (message << ... << parts);
  std::printf("FAILED (%s): %s\n", name_of(isa()), message.str().c_str());
}

template <class T>
Tensor tensor_of(const Shape& shape, const Matrix& values) {
  Tensor t = cpu_empty<T>(shape);
  for (size_t i = 0; i < values.size(); i++) t.data<T>()[i] = T(values[i]);
  return t;
}
Tensor labels_of(const std::vector<int>& labels) {
  Tensor t = cpu_backend().empty(Dtype::int32, {int64_t(labels.size())});
  for (size_t i = 0; i < labels.size(); i++) t.data<int32_t>()[i] = labels[i];
  return t;
}
template <class T>
Matrix values_of(const Tensor& t) {
  return Matrix(t.data<T>(), t.data<T>() + t.numel());
}

// Largest difference over the largest entry.
double distance(const Matrix& got, const Matrix& wanted) {
  double difference = 0, size = 1e-30;
  for (size_t i = 0; i < wanted.size(); i++) {
    if (!std::isfinite(got[i])) return INFINITY;
    difference = std::max(difference, std::fabs(got[i] - wanted[i]));
    size = std::max(size, std::fabs(wanted[i]));
  }
  return difference / size;
}
double absolute(const Matrix& got, const Matrix& wanted) {
  double difference = 0;
  for (size_t i = 0; i < wanted.size(); i++)
    difference = std::max(difference, std::isfinite(got[i]) ? std::fabs(got[i] - wanted[i]) : INFINITY);
  return difference;
}

MarginParams params(Method method, double scale = 64, double margin = 0.5) {
  MarginParams p;
  p.method = method;
  p.scale = scale;
  p.margin = margin;
  p.m1 = 1.1;
  p.t = 0.3;
  if (method == Method::sphereface) p.margin = 1.7;
  return p;
}

const Method kMethods[] = {
#define METHOD(name, Struct) Method::name,
#include "../../native/common/methods.def"
#undef METHOD
};

bool knows(Method method, Overflow overflow) {
  switch (method) {
    case Method::arcface:
    case Method::mvsoftmax:
    case Method::curricularface: return true;
    case Method::sphereface: return overflow == Overflow::none;
    case Method::combined: return overflow != Overflow::hard;
    default: return overflow == Overflow::easy || overflow == Overflow::none;
  }
}
bool has_angle(Method method) { return method != Method::softmax && method != Method::cosface; }

// --- agreement -----------------------------------------------------------------------------------------------------

template <class T>
void agrees(const Problem& q, const MarginParams& p, const std::string& what, double lost_to_cancellation = 1) {
  const double logit = (sizeof(T) == 4 ? 4e-7 : 1e-12) * p.scale;
  const double gradient = (sizeof(T) == 4 ? 4e-6 : 1e-10) * std::max(1.0, p.scale / 64) * lost_to_cancellation;
  Backend& cpu = cpu_backend();
  const Reference wanted = reference(q, p);
  const Tensor x = tensor_of<T>({q.N, q.D}, q.x), w = tensor_of<T>({q.C, q.D}, q.w), labels = labels_of(q.labels);
  const std::string name = what + (sizeof(T) == 4 ? " float32" : " float64");

  const MarginSoftmaxForward forward = cpu.margin_softmax_forward(x, w, labels, p);
  expect(std::fabs(forward.loss - wanted.loss) <= logit, name, ": loss ", forward.loss, ", expected ", wanted.loss);
  expect(absolute(values_of<T>(forward.row_loss), wanted.row_loss) <= logit, name, ": row_loss is off by ",
         absolute(values_of<T>(forward.row_loss), wanted.row_loss));
  expect(absolute(values_of<T>(forward.lse), wanted.lse) <= logit, name, ": lse is off by ",
         absolute(values_of<T>(forward.lse), wanted.lse));
  expect(forward.labelled == wanted.labelled, name, ": labelled");

  const Matrix logits = values_of<T>(cpu.margin_logits(x, w, labels, p));
  expect(absolute(logits, wanted.logits) <= logit, name, ": logits are off by ", absolute(logits, wanted.logits));

  const MarginSoftmaxGradients gradients = cpu.margin_softmax_backward(x, w, labels, forward.lse, -2.5, p);
  const Reference scaled = reference(q, p, -2.5);
  const Matrix& dw = p.project_weight_gradient ? scaled.dw : scaled.unit_dw;
  const double dx_error = distance(values_of<T>(gradients.d_features), scaled.dx),
               dw_error = distance(values_of<T>(gradients.d_weight), dw);
  expect(dx_error <= gradient, name, ": d_features is off by ", dx_error);
  expect(dw_error <= gradient, name, ": d_weight is off by ", dw_error);

  const SgdParams sgd{0.3, 0.7, 0.01};
  const Tensor velocity = tensor_of<T>({q.C, q.D}, q.w), updated = tensor_of<T>({q.C, q.D}, q.w);
  const HeadStep step = cpu.head_step(x, updated, velocity, labels, p, sgd);
  Matrix v(q.w.size()), next(q.w.size());
  const Matrix& step_dw = p.project_weight_gradient ? wanted.dw : wanted.unit_dw;
  for (size_t i = 0; i < v.size(); i++) {
    v[i] = sgd.momentum * q.w[i] + step_dw[i] + sgd.weight_decay * q.w[i];
    next[i] = q.w[i] - sgd.lr * v[i];
  }
  expect(std::fabs(step.loss - wanted.loss) <= logit && step.correct == forward.correct &&
             step.labelled == wanted.labelled,
         name, ": the step's loss and counts");
  expect(absolute(values_of<T>(step.lse), wanted.lse) <= logit, name, ": the step's lse");
  expect(absolute(values_of<T>(step.row_loss), wanted.row_loss) <= logit, name, ": the step's row_loss");
  expect(distance(values_of<T>(step.d_features), wanted.dx) <= gradient, name, ": the step's d_features is off by ",
         distance(values_of<T>(step.d_features), wanted.dx));
  expect(distance(values_of<T>(velocity), v) <= gradient, name, ": velocity is off by ",
         distance(values_of<T>(velocity), v));
  expect(distance(values_of<T>(updated), next) <= gradient, name, ": weight is off by ",
         distance(values_of<T>(updated), next));
}

void agreement() {
  const int64_t shapes[][3] = {{1, 1, 1},     {1, 1, 8},      {3, 1009, 17}, {31, 257, 37}, {5, 7, 3},
                               {33, 499, 64}, {129, 113, 67}, {2, 2, 512},   {64, 1500, 32}};
  unsigned seed = 1;
  for (const auto& [N, C, D] : shapes) {
    const Problem q = random_problem(N, C, D, seed++);
    for (Method method : kMethods)
      for (Gradient gradient : {Gradient::exact, Gradient::detached})
        for (Overflow overflow : {Overflow::none, Overflow::hard, Overflow::easy, Overflow::clamp}) {
          if (!knows(method, overflow)) continue;
          MarginParams p = params(method, 64, 0.4);
          p.gradient = gradient;
          p.overflow = overflow;
          p.easy_above = C % 2 ? 0 : 0.2;
          p.lambda = C % 2 ? 0 : 3;
          p.variant = C % 3 ? Variant::am : Variant::arc;
          p.negatives = D % 2 ? HardNegatives::adaptive : HardNegatives::fixed;
          p.project_weight_gradient = overflow != Overflow::clamp || gradient == Gradient::exact;
          // In one or two dimensions every cosine is ±1, where the slope is a matter of definition.
          if (D < 3 && gradient == Gradient::exact && has_angle(method)) continue;
          std::ostringstream what;
          what << name_of(method) << " N=" << N << " C=" << C << " D=" << D << " gradient " << int(gradient)
               << " overflow " << int(overflow);
          agrees<double>(q, p, what.str());
          agrees<float>(q, p, what.str());
        }
  }
  const Problem q = random_problem(13, 211, 19, 99);
  for (Method method : {Method::mvsoftmax, Method::curricularface}) {
    MarginParams p = params(method, 64);
    p.cosine_epsilon = 0.35;
    p.variant = Variant::arc;
    agrees<double>(q, p, "clipped cosines, hard negatives");
    agrees<float>(q, p, "clipped cosines, hard negatives");
    for (double scale : {1.0, 30.0, 300.0}) {
      agrees<double>(q, params(method, scale), "hard negatives, scale " + std::to_string(scale));
      agrees<float>(q, params(method, scale), "hard negatives, scale " + std::to_string(scale));
    }
  }
  for (double scale : {1.0, 30.0, 79.0, 81.0, 128.0, 512.0}) {
    agrees<double>(q, params(Method::arcface, scale), "scale " + std::to_string(scale));
    agrees<float>(q, params(Method::arcface, scale), "scale " + std::to_string(scale));
  }
  for (Gradient gradient : {Gradient::exact, Gradient::detached}) {
    MarginParams p = params(Method::arcface);
    p.gradient = gradient;
    p.cosine_epsilon = 0.35;  // many cosines outside
    agrees<double>(q, p, "clipped cosines");
    agrees<float>(q, p, "clipped cosines");
    p.scale = 200;
    agrees<double>(q, p, "clipped cosines, shifted");
    p.cosine_epsilon = 0;
    p.target_epsilon = 0.2;
    agrees<double>(q, p, "clipped target");
    p.overflow = Overflow::clamp;
    p.angle_limit = 2;
    agrees<double>(q, p, "angle limit");
  }
}

// --- finite differences ----------------------------------------------------------------------------------------------

void finite_differences() {
  Problem q = random_problem(7, 11, 5, 5);
  const Tensor labels = labels_of(q.labels);
  for (Method method : kMethods) {
    MarginParams p = params(method, 8, 0.3);
    p.overflow = Overflow::none;
    const auto loss = [&] {
      return cpu_backend()
          .margin_softmax_forward(tensor_of<double>({q.N, q.D}, q.x), tensor_of<double>({q.C, q.D}, q.w), labels, p)
          .loss;
    };
    const Tensor x = tensor_of<double>({q.N, q.D}, q.x), w = tensor_of<double>({q.C, q.D}, q.w);
    const auto forward = cpu_backend().margin_softmax_forward(x, w, labels, p);
    const auto gradients = cpu_backend().margin_softmax_backward(x, w, labels, forward.lse, 1, p);
    const auto check = [&](Matrix& values, const Matrix& gradient, const char* what) {
      Matrix difference(values.size());
      for (size_t i = 0; i < values.size(); i++) {
        const double kept = values[i], h = 1e-5;
        values[i] = kept + h;
        const double up = loss();
        values[i] = kept - h;
        difference[i] = (up - loss()) / (2 * h);
        values[i] = kept;
      }
      expect(distance(gradient, difference) < 1e-7, name_of(method), ": ", what,
             " against finite differences is off by ", distance(gradient, difference));
    };
    check(q.x, values_of<double>(gradients.d_features), "d_features");
    check(q.w, values_of<double>(gradients.d_weight), "d_weight");
  }
}

// --- identities --------------------------------------------------------------------------------------------------------

template <class T>
void thread_invariance(int64_t N, int64_t C, int64_t D) {
  const Problem q = random_problem(N, C, D, 17);
  const Tensor x = tensor_of<T>({N, D}, q.x), labels = labels_of(q.labels);
  const MarginParams p = params(Method::arcface);
  const int before = num_threads();
  std::vector<std::vector<Tensor>> runs;
  for (int threads : {1, 2, 3}) {
    set_num_threads(threads);
    const Tensor w = tensor_of<T>({C, D}, q.w), v = tensor_of<T>({C, D}, q.w), updated = tensor_of<T>({C, D}, q.w);
    const auto forward = cpu_backend().margin_softmax_forward(x, w, labels, p);
    const auto gradients = cpu_backend().margin_softmax_backward(x, w, labels, forward.lse, 1, p);
    const auto step = cpu_backend().head_step(x, updated, v, labels, p, {0.1, 0.9, 1e-4});
    runs.push_back({forward.lse, forward.row_loss, gradients.d_features, gradients.d_weight, step.d_features, step.lse,
                    updated, v});
  }
  set_num_threads(before);
  for (size_t run = 1; run < runs.size(); run++)
    for (size_t i = 0; i < runs[0].size(); i++)
      expect(!std::memcmp(runs[0][i].raw(), runs[run][i].raw(), runs[0][i].bytes()), "result ", i, " of ", N, "×", C,
             "×", D, " differs with ", run + 1, " threads");
}

void class_order() {
  const Problem q = random_problem(9, 501, 13, 3);
  std::vector<int> order(q.C);
  for (int j = 0; j < q.C; j++) order[j] = j;
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  Problem shuffled = q;
  for (int64_t j = 0; j < q.C; j++) std::copy_n(&q.w[j * q.D], q.D, &shuffled.w[order[j] * q.D]);
  for (int& label : shuffled.labels) label = label < 0 ? label : order[label];
  const auto run = [](const Problem& p) {
    const Tensor x = tensor_of<double>({p.N, p.D}, p.x), w = tensor_of<double>({p.C, p.D}, p.w),
                 labels = labels_of(p.labels);
    const auto forward = cpu_backend().margin_softmax_forward(x, w, labels, params(Method::arcface));
    return values_of<double>(
        cpu_backend().margin_softmax_backward(x, w, labels, forward.lse, 1, params(Method::arcface)).d_weight);
  };
  const Matrix plain = run(q), other = run(shuffled);
  Matrix back(plain.size());
  for (int64_t j = 0; j < q.C; j++) std::copy_n(&other[order[j] * q.D], q.D, &back[j * q.D]);
  expect(distance(back, plain) < 1e-12, "permuting the classes permutes d_weight");
}

void counts_correct() {
  // Four classes along the axes; class 3 repeats class 0, so that row 0 ties.
  const Matrix w = {1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 0, 0};
  const Matrix x = {5, 1, 1, 1, 5, 1, 1, 1, 5, 5, 1, 1};
  const auto forward = cpu_backend().margin_softmax_forward(tensor_of<float>({4, 3}, x), tensor_of<float>({4, 3}, w),
                                                            labels_of({0, 1, 0, -1}), params(Method::arcface));
  expect(forward.correct == 2, "two rows are correct, one of them by a tie: ", forward.correct);
  expect(forward.labelled == 3, "a row without a target is not counted");
}

void no_labels() {
  const Problem q = random_problem(6, 50, 8, 8);
  const Tensor x = tensor_of<float>({q.N, q.D}, q.x), w = tensor_of<float>({q.C, q.D}, q.w),
               labels = labels_of(std::vector<int>(q.N, -1));
  const auto forward = cpu_backend().margin_softmax_forward(x, w, labels, params(Method::arcface));
  expect(forward.loss == 0 && forward.labelled == 0 && forward.correct == 0, "no labels: nothing to lose");
  Problem none = q;
  none.labels.assign(q.N, -1);
  expect(absolute(values_of<float>(forward.lse), reference(none, params(Method::arcface)).lse) < 1e-4,
         "lse is reported for rows without a target");
  const auto gradients = cpu_backend().margin_softmax_backward(x, w, labels, forward.lse, 1, params(Method::arcface));
  for (double g : values_of<float>(gradients.d_features)) expect(g == 0, "no labels: no gradient");
  for (double g : values_of<float>(gradients.d_weight)) expect(g == 0, "no labels: no gradient");
  const Tensor v = tensor_of<float>({q.C, q.D}, Matrix(q.w.size()));
  cpu_backend().head_step(x, w, v, labels, params(Method::arcface), {0.5, 0.9, 0.1});
  Matrix decayed = q.w;
  for (double& value : decayed) value *= 1 - 0.5 * 0.1;
  expect(distance(values_of<float>(w), decayed) < 1e-6, "no labels: weight decay goes on");
}

// --- extremes ------------------------------------------------------------------------------------------------------------

template <class T>
void extremes() {
  const double small = sizeof(T) == 4 ? 1e-20 : 1e-150, large = sizeof(T) == 4 ? 1e20 : 1e150;
  for (double scale : {64.0, 512.0})
    for (Gradient gradient : {Gradient::exact, Gradient::detached})
      for (Overflow overflow : {Overflow::none, Overflow::hard, Overflow::easy, Overflow::clamp}) {
        Problem q = random_problem(12, 40, 9, 21);
        for (int64_t i = 0; i < q.N; i++)
          for (int64_t k = 0; k < q.D; k++) {
            double& x = q.x[i * q.D + k];
            const double w = q.w[std::max(0, q.labels[i]) * q.D + k];
            if (i == 0) x = 0;
            if (i == 1) x = 2 * w;   // cos = 1
            if (i == 2) x = -4 * w;  // cos = −1
            if (i == 5) x *= small;
            if (i == 6) x *= large;
          }
        q.labels[6] = 20;
        q.labels[8] = 30;
        for (int64_t k = 0; k < q.D; k++) {
          q.w[30 * q.D + k] = 0;
          q.w[31 * q.D + k] *= small;
          q.w[32 * q.D + k] *= large;
          q.w[33 * q.D + k] = q.w[q.labels[1] * q.D + k];  // a negative at cos = 1
        }
        MarginParams p = params(Method::arcface, scale);
        p.gradient = gradient;
        p.overflow = overflow;
        const Tensor x = tensor_of<T>({q.N, q.D}, q.x), w = tensor_of<T>({q.C, q.D}, q.w), labels = labels_of(q.labels),
                     v = tensor_of<T>({q.C, q.D}, Matrix(q.w.size()));
        const auto forward = cpu_backend().margin_softmax_forward(x, w, labels, p);
        const auto gradients = cpu_backend().margin_softmax_backward(x, w, labels, forward.lse, 1, p);
        const auto step = cpu_backend().head_step(x, w, v, labels, p, {0.1, 0.9, 5e-4});
        for (const Tensor& t :
             {forward.lse, forward.row_loss, gradients.d_features, gradients.d_weight, step.d_features, step.lse, w, v})
          for (double value : values_of<T>(t))
            if (!std::isfinite(value)) {
              expect(false, "scale ", scale, " overflow ", int(overflow), ": a result ", t.shape, " is not finite");
              break;
            }
        expect(std::isfinite(forward.loss) && std::isfinite(step.loss), "a finite loss");
        for (int64_t k = 0; k < q.D; k++) {
          expect(gradients.d_features.data<T>()[k] == 0 && step.d_features.data<T>()[k] == 0,
                 "a zero row has no gradient");
          expect(gradients.d_weight.data<T>()[30 * q.D + k] == 0 && w.data<T>()[30 * q.D + k] == 0,
                 "a zero class has no gradient");
          expect(gradients.d_weight.data<T>()[31 * q.D + k] == 0, "a class shorter than 1e-12 has no gradient");
        }
        const Reference wanted = reference(q, p);
        expect(absolute(values_of<T>(forward.lse), wanted.lse) < 1e-5 * scale, "lse with extreme norms is off by ",
               absolute(values_of<T>(forward.lse), wanted.lse));
        for (int64_t i : {6, 7}) {  // of a huge row, and of an ordinary one among them
          const Matrix got = values_of<T>(step.d_features);
          const Matrix part(got.begin() + i * q.D, got.begin() + (i + 1) * q.D),
              other(wanted.dx.begin() + i * q.D, wanted.dx.begin() + (i + 1) * q.D);
          double size = 0;
          for (double value : other) size = std::max(size, std::fabs(value));
          if (size > 1e-35 || i == 7)
            expect(distance(part, other) < 1e-4, "d_features with extreme norms is off by ", distance(part, other),
                   " in row ", i, " of size ", size, " scale ", scale, " overflow ", int(overflow));
        }
      }
  // Every cosine low: the exponentials all underflow unless they are shifted.
  Problem q = random_problem(4, 60, 6, 2);
  for (int64_t j = 0; j < q.C; j++)
    for (int64_t k = 0; k < q.D; k++) q.w[j * q.D + k] = float(-q.x[k] + 0.01 * q.w[j * q.D + k]);
  for (double scale : {79.0, 512.0}) agrees<T>(q, params(Method::cosface, scale, 0.3), "all cosines low", 100);
}

// --- errors ----------------------------------------------------------------------------------------------------------------

template <class F>
void throws(ErrorKind kind, const std::string& message, F&& f) {
  try {
    f();
    expect(false, "expected the error: ", message);
  } catch (const Error& error) {
    expect(error.kind == kind && error.what() == message, "expected '", message, "', got '", error.what(), "'");
  }
}

void errors() {
  const Problem q = random_problem(20, 300, 16, 4);
  const Tensor x = tensor_of<float>({q.N, q.D}, q.x), w = tensor_of<float>({q.C, q.D}, q.w),
               v = tensor_of<float>({q.C, q.D}, q.w);
  const auto step = [&](const Tensor& x, const Tensor& labels, MarginParams p = params(Method::arcface)) {
    cpu_backend().head_step(x, w, v, labels, p, {});
  };
  std::vector<int> labels = q.labels;
  labels[17] = 90001;
  throws(ErrorKind::range, "expected labels in [0, 300) or -1, got 90001 at row 17",
         [&] { step(x, labels_of(labels)); });
  labels[17] = -2;
  throws(ErrorKind::range, "expected labels in [0, 300) or -1, got -2 at row 17", [&] { step(x, labels_of(labels)); });
  Matrix bad = q.x;
  bad[4 * q.D + 3] = NAN;
  throws(ErrorKind::non_finite, "expected finite features, got a row of norm nan at row 4", [&] {
    step(tensor_of<float>({q.N, q.D}, bad), labels_of(q.labels));
  });
  bad[4 * q.D + 3] = -INFINITY;
  throws(ErrorKind::non_finite, "expected finite features, got a row of norm inf at row 4", [&] {
    step(tensor_of<float>({q.N, q.D}, bad), labels_of(q.labels));
  });
  throws(ErrorKind::shape, "expected labels [20], got [3]", [&] { step(x, labels_of({0, 1, 2})); });
  throws(ErrorKind::type, "expected weight of dtype float64, got float32", [&] {
    step(tensor_of<double>({q.N, q.D}, q.x), labels_of(q.labels));
  });
  throws(ErrorKind::shape, "expected weight [C, 8], got [300, 16]", [&] {
    step(tensor_of<float>({q.N, 8}, Matrix(q.N * 8, 1.0)), labels_of(q.labels));
  });
  throws(ErrorKind::range, "expected a scale in (0, 10000], got 0",
         [&] { step(x, labels_of(q.labels), params(Method::arcface, 0)); });
  throws(ErrorKind::range, "expected a margin in [-pi, pi], got nan",
         [&] { step(x, labels_of(q.labels), params(Method::arcface, 64, NAN)); });
  throws(ErrorKind::range, "expected overflow of combined to be none, easy or clamp, got hard",
         [&] { step(x, labels_of(q.labels), params(Method::combined)); });
  expect(values_of<float>(w) == q.w && values_of<float>(v) == q.w, "an error leaves weight and velocity alone");

  for (float poison : {NAN, INFINITY}) {
    Matrix poisoned = q.w;
    for (int64_t row : {291, 205}) poisoned[row * q.D + 5] = poison;
    const Tensor w = tensor_of<float>({q.C, q.D}, poisoned);
    std::vector<int> other(q.N, 7);
    const std::string message = std::string("expected finite weights, got a row of norm ") +
                                (poison == poison ? "inf" : "nan") + " at class 205";
    throws(ErrorKind::non_finite, message,
           [&] { cpu_backend().head_step(x, w, v, labels_of(other), params(Method::arcface), {}); });
    throws(ErrorKind::non_finite, message,
           [&] { cpu_backend().head_step(x, w, v, labels_of(other), params(Method::arcface, 300), {}); });
    throws(ErrorKind::non_finite, message,
           [&] { cpu_backend().margin_softmax_forward(x, w, labels_of(other), params(Method::arcface)); });
    throws(ErrorKind::non_finite, message, [&] {
      cpu_backend().margin_softmax_backward(x, w, labels_of(other), tensor_of<float>({q.N}, Matrix(q.N, 60.0)), 1,
                                            params(Method::arcface));
    });
    throws(ErrorKind::non_finite, message,
           [&] { cpu_backend().margin_logits(x, w, labels_of(other), params(Method::arcface)); });
    expect(values_of<float>(v) == q.w && !std::memcmp(w.raw(), tensor_of<float>({q.C, q.D}, poisoned).raw(), w.bytes()),
           "a bad weight leaves weight and velocity alone");
  }
}

// --- memory ------------------------------------------------------------------------------------------------------------------

size_t scratch_of_step(int64_t C) {
  const Problem q = random_problem(64, 8, 24, 1);
  const Tensor x = tensor_of<float>({64, 24}, q.x), w = tensor_of<float>({C, 24}, Matrix(C * 24, 0.5)),
               v = tensor_of<float>({C, 24}, Matrix(C * 24));
  reset_peak_memory();
  const size_t before = memory_use().used;
  cpu_backend().head_step(x, w, v, labels_of(q.labels), params(Method::arcface), {});
  return memory_use().peak - before;
}

void constant_memory() {
  const size_t at_100k = scratch_of_step(100000), at_200k = scratch_of_step(200000);
  expect(at_100k == at_200k, "scratch does not depend on the number of classes: ", at_100k, " and ", at_200k, " bytes");
  expect(at_200k < (size_t(16) << 20), "scratch of a small batch is small: ", at_200k, " bytes");
}

int run_here() {
  agreement();
  finite_differences();
  thread_invariance<float>(37, 3001, 33);
  thread_invariance<double>(5, 977, 7);
  class_order();
  counts_correct();
  no_labels();
  extremes<float>();
  extremes<double>();
  errors();
  constant_memory();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}

}  // namespace

int main(int, char** argv) {
  if (std::getenv("FLASHMARGIN_ISA")) return run_here();
  const Isa best = isa();
  for (Isa each : {Isa::portable, Isa::avx2, Isa::avx512}) {
    if (int(each) > int(best)) {
      std::printf("skipped: this processor has no %s\n", name_of(each));
      continue;
    }
    setenv("FLASHMARGIN_ISA", name_of(each), 1);
    FILE* child = popen((std::string("'") + argv[0] + "'").c_str(), "r");
    char line[1024];
    int good = 0, bad = 0;
    bool counted = false;
    while (child && std::fgets(line, sizeof line, child)) {
      if (std::sscanf(line, "%d passed, %d failed", &good, &bad) == 2) counted = true;
      else std::fputs(line, stdout);
    }
    const bool clean = child && pclose(child) == 0;
    expect(counted && (clean || bad > 0), "the run on ", name_of(each), " came to its end");
    passed += good;
    failed += bad;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
