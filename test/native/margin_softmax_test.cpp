// The head on the CPU against a plain float64 reference that shares no code with it, against finite differences, and
// against itself: any number of threads, any order of the classes, any cut of the batch.
#include <functional>
#include <map>
#include <sstream>

#include "margin_cases.h"
#include "optimizer_reference.h"

namespace {

using namespace fm;

// --- agreement -----------------------------------------------------------------------------------------------------

double largest_scale(const Reference& wanted, const MarginParams& p) {
  double largest = p.scale;
  for (double norm : wanted.norm) largest = std::max(largest, p.scale_by_norm ? p.scale * norm : 0);
  return largest;
}

Matrix times(Matrix m, double factor) {
  for (double& v : m) v *= factor;
  return m;
}

template <class T>
void agrees(const Problem& q, const MarginParams& p, const Reference& wanted, const std::string& what,
            double lost_to_cancellation) {
  const double scale = std::max(largest_scale(wanted, p), wanted.largest_logit);
  const double steepest = p.method == Method::sphereface2 ? 3 : 1;  // slope of a negative
  const double logit = (sizeof(T) == 4 ? 4e-7 : 1e-12) * std::max(scale, 4.0) * steepest;
  double largest_loss = 0;
  for (double loss : wanted.row_loss) largest_loss = std::max(largest_loss, loss);
  const double loss = logit + (sizeof(T) == 4 ? 1e-6 : 1e-12) * largest_loss;
  const double gradient = (sizeof(T) == 4 ? 6.5e-6 : 1e-10) * std::max(1.0, scale / 64) * lost_to_cancellation;
  const std::string name = what + (sizeof(T) == 4 ? " float32" : " float64");
  const auto near = [&](const char* result, double off, double allowed) {
    expect(off <= allowed, name, ": ", result, " is off by ", off, ", allowed ", allowed);
  };
  const Inputs<T> in(q, p);
  const Shape weight_shape{q.C * q.K, q.D};

  const MarginSoftmaxForward forward = in.forward();
  near("loss", std::fabs(forward.loss - wanted.loss), loss);
  near("regularizer", std::fabs(forward.regularizer - wanted.regularizer), 1e-12);
  near("row_loss", absolute(values_of<T>(forward.row_loss), wanted.row_loss), loss);
  near("lse", absolute(values_of<T>(forward.lse), wanted.lse), logit);
  expect(forward.labelled == wanted.labelled && forward.correct == wanted.correct, name, ": labelled and correct");
  near("logits",
       absolute(values_of<T>(cpu_backend().margin_logits(in.x, in.w, in.labels, in.margins, p)), wanted.logits), logit);

  const double d_loss = -2.5;
  const Matrix &dw = p.project_weight_gradient ? wanted.dw : wanted.unit_dw, dx = wanted.dx;
  const MarginSoftmaxGradients gradients = in.backward(forward.lse, d_loss);
  near("d_features", distance(values_of<T>(gradients.d_features), times(dx, d_loss), 1e-3), gradient);
  near("d_weight", distance(values_of<T>(gradients.d_weight), times(dw, d_loss), 1e-3), gradient);
  near("d_margins", distance(values_of<T>(gradients.d_margins), times(wanted.d_margins, d_loss), 1e-3), gradient);
  // Sums over rows whose parts may cancel.
  const double of_scale = gradient * std::max(1.0, std::fabs(wanted.d_scale)),
               of_bias = gradient * std::max(1.0, std::fabs(wanted.d_bias));
  const bool has_d_scale = p.negatives == Negatives::plain && p.cosine_epsilon == 0 && !is_binary(p.method);
  if (has_d_scale) near("d_scale", std::fabs(gradients.d_scale / d_loss - wanted.d_scale), of_scale);
  near("d_bias", std::fabs(gradients.d_bias / d_loss - wanted.d_bias), of_bias);

  Matrix squares = q.w;
  for (double& each : squares) each *= each;
  const auto step_agrees = [&](const std::string& which, const HeadOptions& options,
                               const OptimizerParams& optimizer = kSgdCase) {
    std::vector<Matrix> states{q.w};
    if (optimizer.type == Optimizer::adamw) states.push_back(squares);
    const Stepped next = stepped(optimizer, q.w, states, dw);
    const Tensor weight = tensor_of<T>(weight_shape, q.w);
    OptimizerState state;
    for (const Matrix& each : states) state.push_back(tensor_of<T>(weight_shape, each));
    const HeadStep step = cpu_backend().head_step(in.x, weight, state, in.labels, in.margins, p, optimizer, options);
    const auto of_step = [&](const char* result, double off, double allowed) {
      near((which + result).c_str(), off, allowed);
    };
    of_step("loss", std::fabs(step.loss - wanted.loss), loss);
    of_step("regularizer", std::fabs(step.regularizer - wanted.regularizer), 1e-12);
    of_step("lse", absolute(values_of<T>(step.lse), wanted.lse), logit);
    of_step("row_loss", absolute(values_of<T>(step.row_loss), wanted.row_loss), loss);
    expect(step.correct == wanted.correct && step.labelled == wanted.labelled, name, ": ", which, "counts");
    of_step("d_features", distance(values_of<T>(step.d_features), dx, 1e-3), gradient);
    of_step("d_margins", distance(values_of<T>(step.d_margins), wanted.d_margins, 1e-3), gradient);
    if (has_d_scale) of_step("d_scale", std::fabs(step.d_scale - wanted.d_scale), of_scale);
    of_step("d_bias", std::fabs(step.d_bias - wanted.d_bias), of_bias);
    for (size_t k = 0; k < state.size(); k++)
      of_step(k == 0 ? "first state" : "second state", distance(values_of<T>(state[k]), next.states[k]), gradient);
    of_step("weight", distance(values_of<T>(weight), next.weight), gradient);
  };
  step_agrees("the step's ", {});
  step_agrees("AdamW's step's ", {}, kAdamWCase);
  if (p.negatives != Negatives::plain || is_binary(p.method)) return;
  // Whether the scale is near or not, and the sums can be had from the moments or not.
  for (double away : {-0.4, 3.0}) {
    MarginParams plain;
    plain.scale = std::max(p.scale + away, 1e-3);
    plain.sub_centers = p.sub_centers;
    const NegativeSums sums = cpu_backend().negative_sums(in.x, in.w, in.labels, plain, {});
    HeadOptions options;
    options.moments = sums.moments, options.cosines = sums.cosines, options.moments_scale = plain.scale;
    step_agrees(std::string("from sums at a ") + (away < 1 ? "near" : "far") + " scale, the step's ", options,
                away < 1 ? kAdamWCase : kSgdCase);
  }
}

// What is said of rows before any margin, and the negatives' log-sum-exp.
template <class T>
void agrees_by_rows(const Problem& q, const MarginParams& p, const Reference& wanted, const std::string& what) {
  const double cosine = sizeof(T) == 4 ? 4e-7 : 1e-13;
  const Inputs<T> in(q, p);
  const HeadRows rows = cpu_backend().inspect_head(in.x, in.w, in.labels, in.margins, p);
  expect(distance(values_of<T>(rows.norm), wanted.norm) < cosine, what, ": norms");
  expect(absolute(values_of<T>(rows.target_cos), wanted.target_cos) < cosine, what, ": target_cos");
  expect(absolute(values_of<T>(rows.nearest_cos), wanted.nearest_cos) < cosine, what, ": nearest_cos");
  expect(values_of<T>(rows.hard) == wanted.hard, what, ": hard");
  expect(values_of<int32_t>(rows.center) == wanted.center, what, ": center");
  expect(absolute(values_of<T>(cpu_backend().target_cosines(in.x, in.w, in.labels, q.K)), wanted.target_cos) < cosine,
         what, ": target_cosines");
  if (is_binary(p.method) || !q.margins.empty()) return;
  const double off = absolute(values_of<T>(cpu_backend().negative_lse(in.x, in.w, in.labels, p)), wanted.negative_lse);
  const double allowed = (sizeof(T) == 4 ? 4e-7 : 1e-12) * std::max(largest_scale(wanted, p), wanted.largest_logit);
  expect(off <= allowed, what, ": negative_lse is off by ", off);
}

void agrees(const Problem& q, const MarginParams& p, const std::string& what, double lost_to_cancellation = 1) {
  std::ostringstream name;
  name << what << " N=" << q.N << " C=" << q.C << " D=" << q.D;
  const Reference wanted = reference(q, p);
  agrees<double>(q, p, wanted, name.str(), lost_to_cancellation);
  agrees<float>(q, p, wanted, name.str(), lost_to_cancellation);
  agrees_by_rows<double>(q, p, wanted, name.str());
  agrees_by_rows<float>(q, p, wanted, name.str());
}

bool has_angle(Method method) {
  return method != Method::softmax && method != Method::cosface && method != Method::uniface;
}

void agreement() {
  // The small ones meet every case, each of the others every ninth.
  const int64_t shapes[][3] = {{1, 1, 1},     {1, 1, 8},      {5, 7, 3},   {3, 1009, 17}, {31, 257, 37},
                               {33, 499, 64}, {129, 113, 67}, {2, 2, 512}, {64, 800, 32}};
  unsigned seed = 1;
  for (const auto& [N, C, D] : shapes) {
    const bool small = N * C * D < 1000;
    unsigned turn = seed++;
    for (const Case& c : every_case(64)) {
      // In one or two dimensions every cosine is ±1, where an angle and its slope are lost to rounding.
      if (D < 3 && has_angle(c.p.method)) continue;
      if (small || turn++ % 9 == 0) agrees(problem_for(c, N, C, D, seed), c.p, c.name);
    }
  }
  for (double scale : {1.0, 30.0, 79.0, 81.0, 128.0, 512.0})
    for (const Case& c :
         {Case{"arcface", params(Method::arcface, scale)}, Case{"magface", params(Method::magface, scale)},
          Case{"sphereface2", params(Method::sphereface2, scale)}, Case{"uniface", params(Method::uniface, scale)}})
      agrees(problem_for(c, 13, 211, 19, 99), c.p, c.name + " scale " + std::to_string(scale));
  for (double scale : {1.0, 30.0, 300.0})
    for (const Case& c : compositions(scale))
      if (c.p.negatives != Negatives::plain && c.p.method == Method::arcface)
        agrees(problem_for(c, 13, 211, 19, 99), c.p, c.name + " scale " + std::to_string(scale));
  MarginParams smooth = params(Method::arcface, 200);
  smooth.label_smoothing = 0.5;
  agrees(random_problem(13, 211, 19, 99), smooth, "smoothing, shifted", 2);
  // Every cosine low: the exponentials all underflow unless they are shifted.
  Problem q = random_problem(4, 60, 6, 2);
  for (int64_t j = 0; j < q.C; j++)
    for (int64_t k = 0; k < q.D; k++) q.w[j * q.D + k] = float(-q.x[k] + 0.01 * q.w[j * q.D + k]);
  for (double scale : {79.0, 512.0}) agrees(q, params(Method::cosface, scale, 0.3), "all cosines low", 100);
}

// --- finite differences ----------------------------------------------------------------------------------------------

void finite_differences(const Case& c) {
  Problem q = problem_for(c, 5, 6, 4, 5);
  MarginParams p = c.p;
  const auto loss = [&] { return Inputs<double>(q, p).forward().loss; };
  const auto slope_of = [&](double& value, double h) {
    const double kept = value;
    value = kept + h;
    const double up = loss();
    value = kept - h;
    const double down = loss();
    value = kept;
    return (up - down) / (2 * h);
  };
  const auto slopes_of = [&](Matrix& values) {
    Matrix slopes(values.size());
    for (size_t i = 0; i < values.size(); i++) slopes[i] = slope_of(values[i], 1e-5);
    return slopes;
  };
  const MarginSoftmaxGradients gradients = Inputs<double>(q, p).backward();
  const auto near = [&](const char* what, const Matrix& got, const Matrix& wanted) {
    expect(distance(got, wanted) < 1e-7, c.name, ": ", what, " against finite differences is off by ",
           distance(got, wanted));
  };
  Matrix by_features = slopes_of(q.x);
  if (p.method == Method::adaface)  // its norm is constant in the gradient: compare across the row
    for (int64_t i = 0; i < q.N; i++) {
      double along = 0, square = 0;
      for (int64_t k = 0; k < q.D; k++) along += by_features[i * q.D + k] * q.x[i * q.D + k];
      for (int64_t k = 0; k < q.D; k++) square += q.x[i * q.D + k] * q.x[i * q.D + k];
      const double kept = p.scale_by_norm ? gradients.d_scale : 0;
      if (kept != 0) return;
      for (int64_t k = 0; k < q.D; k++) by_features[i * q.D + k] -= along / square * q.x[i * q.D + k];
    }
  near("d_features", values_of<double>(gradients.d_features), by_features);
  near("d_weight", values_of<double>(gradients.d_weight), slopes_of(q.w));
  if (c.row_margins) near("d_margins", values_of<double>(gradients.d_margins), slopes_of(q.margins));
  if (!is_binary(p.method) && p.negatives == Negatives::plain && p.cosine_epsilon == 0)
    near("d_scale", {gradients.d_scale}, {slope_of(p.scale, 1e-5)});
  if (is_binary(p.method)) near("d_bias", {gradients.d_bias}, {slope_of(p.bias, 1e-5)});
}

void finite_differences() {
  for (const Case& c : every_case(8))
    if (c.p.gradient == Gradient::exact && c.p.project_weight_gradient) finite_differences(c);
}

// --- identities --------------------------------------------------------------------------------------------------------

template <class T>
void thread_invariance(const Case& c, int64_t N, int64_t C, int64_t D) {
  const Problem q = problem_for(c, N, C, D, 17);
  const int before = num_threads();
  std::vector<std::vector<Tensor>> runs;
  std::vector<std::vector<double>> numbers;
  for (int threads : {1, 2, 3}) {
    set_num_threads(threads);
    const Inputs<T> in(q, c.p);
    const auto forward = in.forward();
    const auto gradients = in.backward(forward.lse);
    const auto rows = cpu_backend().inspect_head(in.x, in.w, in.labels, in.margins, c.p);
    const Tensor v = tensor_of<T>(in.w.shape, q.w);
    const auto step = in.step(v, {0.1, 0.9, 1e-4});
    runs.push_back({forward.lse, forward.row_loss, gradients.d_features, gradients.d_weight, gradients.d_margins,
                    step.d_features, step.lse, step.d_margins, rows.nearest_cos, rows.hard, in.w, v});
    numbers.push_back({forward.loss, gradients.d_scale, gradients.d_bias, step.loss, step.d_scale, step.d_bias});
  }
  set_num_threads(before);
  for (size_t run = 1; run < runs.size(); run++) {
    for (size_t i = 0; i < runs[0].size(); i++)
      expect(!std::memcmp(runs[0][i].raw(), runs[run][i].raw(), runs[0][i].bytes()), c.name, ": result ", i, " of ", N,
             "×", C, "×", D, " differs with ", run + 1, " threads");
    expect(numbers[run] == numbers[0], c.name, ": numbers differ with ", run + 1, " threads");
  }
}

void thread_invariance() {
  MarginParams shifted = params(Method::arcface, 200), smooth = params(Method::arcface), mv = params(Method::cosface),
               norm = params(Method::sphereface, 2);
  smooth.label_smoothing = 0.1;
  mv.negatives = Negatives::mv_adaptive;
  norm.scale_by_norm = true;
  for (const Case& c :
       {Case{"arcface", params(Method::arcface), true}, Case{"shifted", shifted}, Case{"smoothing", smooth},
        Case{"hard negatives", mv}, Case{"by norm", norm}, Case{"magface", params(Method::magface)},
        Case{"sphereface2", params(Method::sphereface2)}, Case{"uniface", params(Method::uniface), true}})
    for (int K : {1, 3}) {
      Case with_centers = c;
      with_centers.p.sub_centers = K;
      if (K > 1 && c.p.label_smoothing > 0) continue;
      with_centers.name += " K " + std::to_string(K);
      // a group of tiles for each of three threads, whatever the tile
      thread_invariance<float>(with_centers, 37, K == 1 ? 1501 : 501, 33);
      thread_invariance<double>(with_centers, 5, K == 1 ? 977 : 331, 7);
    }
}

// The classes, and the centers inside each, in another order.
void class_order() {
  for (const Case& c : compositions(64)) {
    const Problem q = problem_for(c, 9, 101, 13, 3);
    std::mt19937 random(1);
    std::vector<int> order(q.C);
    std::vector<int64_t> row_order(q.C * q.K);
    for (int j = 0; j < q.C; j++) order[j] = j;
    std::shuffle(order.begin(), order.end(), random);
    for (int64_t j = 0; j < q.C; j++) {
      for (int64_t k = 0; k < q.K; k++) row_order[j * q.K + k] = order[j] * q.K + k;
      std::shuffle(row_order.begin() + j * q.K, row_order.begin() + (j + 1) * q.K, random);
    }
    Problem shuffled = q;
    for (int64_t j = 0; j < q.C * q.K; j++) std::copy_n(&q.w[j * q.D], q.D, &shuffled.w[row_order[j] * q.D]);
    for (int& label : shuffled.labels) label = label < 0 ? label : order[label];
    const Matrix plain = values_of<double>(Inputs<double>(q, c.p).backward().d_weight),
                 other = values_of<double>(Inputs<double>(shuffled, c.p).backward().d_weight);
    Matrix back(plain.size());
    for (int64_t j = 0; j < q.C * q.K; j++) std::copy_n(&other[row_order[j] * q.D], q.D, &back[j * q.D]);
    expect(distance(back, plain) < 1e-11, c.name, ": permuting the classes permutes d_weight; off by ",
           distance(back, plain));
  }
}

// Two halves of a batch, weighted by their labels, are the batch.
void batch_cut() {
  for (const Case& c : compositions(64)) {
    const Problem q = problem_for(c, 13, 67, 11, 6);
    const Inputs<double> whole(q, c.p);
    const auto forward = whole.forward();
    const auto gradients = whole.backward(forward.lse);
    double loss = 0, d_scale = 0, d_bias = 0;
    Matrix dx, dw(q.w.size()), d_margins;
    for (const auto& [first, last] : {std::pair<int64_t, int64_t>{0, 5}, {5, 13}}) {
      Problem part = q;
      part.N = last - first;
      part.x.assign(q.x.begin() + first * q.D, q.x.begin() + last * q.D);
      part.labels.assign(q.labels.begin() + first, q.labels.begin() + last);
      if (!q.margins.empty()) part.margins.assign(q.margins.begin() + first, q.margins.begin() + last);
      const Inputs<double> in(part, c.p);
      const auto of_part = in.forward();
      const double share = of_part.labelled / forward.labelled;
      const auto g = in.backward(of_part.lse, share);
      loss += share * of_part.loss;
      d_scale += g.d_scale;
      d_bias += g.d_bias;
      for (double v : values_of<double>(g.d_features)) dx.push_back(v);
      for (double v : values_of<double>(g.d_margins)) d_margins.push_back(v);
      const Matrix part_dw = values_of<double>(g.d_weight);
      for (size_t i = 0; i < dw.size(); i++) dw[i] += part_dw[i];
    }
    const double off = std::max({std::fabs(loss - forward.loss) / std::max(1.0, std::fabs(loss)),
                                 distance(values_of<double>(gradients.d_features), dx),
                                 distance(values_of<double>(gradients.d_weight), dw),
                                 distance(values_of<double>(gradients.d_margins), d_margins),
                                 std::fabs(d_scale - gradients.d_scale) / std::max(1.0, std::fabs(d_scale)),
                                 std::fabs(d_bias - gradients.d_bias) / std::max(1.0, std::fabs(d_bias))});
    expect(off < 1e-11, c.name, ": a batch in two parts is off by ", off);
  }
}

// Two parameter sets that are one function: everything agrees.
void same(const std::string& what, const Problem& a_problem, const MarginParams& a, const Problem& b_problem,
          const MarginParams& b) {
  const Inputs<double> one(a_problem, a), other(b_problem, b);
  const auto f = one.forward(), g = other.forward();
  const auto df = one.backward(f.lse), dg = other.backward(g.lse);
  const double off = std::max({std::fabs(f.loss - g.loss), absolute(values_of<double>(f.lse), values_of<double>(g.lse)),
                               absolute(values_of<double>(f.row_loss), values_of<double>(g.row_loss)),
                               distance(values_of<double>(df.d_features), values_of<double>(dg.d_features)),
                               distance(values_of<double>(df.d_weight), values_of<double>(dg.d_weight))});
  expect(off < 1e-10, what, " are off by ", off);
}

void methods_meet() {
  const Problem q = random_problem(17, 91, 12, 12);
  const auto with = [](MarginParams p, auto&& change) {
    change(p);
    return p;
  };
  using P = MarginParams;
  const P softmax = params(Method::softmax), arc = params(Method::arcface), cos = params(Method::cosface, 64, 0.35);
  same("cosface without a margin and softmax", q, params(Method::cosface, 64, 0), q, softmax);
  same("arcface without a margin and softmax", q, params(Method::arcface, 64, 0), q, softmax);
  same("sphereface of factor 1 and softmax", q, with(params(Method::sphereface), [](P& p) { p.margin = 1; }), q,
       softmax);
  same("combined (1, m, 0) and arcface", q,
       with(params(Method::combined), [](P& p) { p.m1 = 1, p.m2 = 0.5, p.m3 = 0; }), q, arc);
  same("combined (1, 0, m) and cosface", q,
       with(params(Method::combined), [](P& p) { p.m1 = 1, p.m2 = 0, p.m3 = 0.35; }), q, cos);
  same("adaface of average norms and cosface", q, with(params(Method::adaface, 64, 0.35), [](P& p) { p.h = 0; }), q,
       cos);
  same("magface of one margin and arcface", q,
       with(params(Method::magface), [](P& p) { p.lower_margin = p.upper_margin = 0.5, p.norm_penalty = 0; }), q, arc);
  same("Mag-CosFace of one margin and cosface", q,
       with(params(Method::magface),
            [](P& p) { p.lower_margin = p.upper_margin = 0.35, p.norm_penalty = 0, p.variant = Variant::cos; }),
       q, cos);
  same("mv negatives with t 0 and plain ones", q,
       with(arc, [](P& p) { p.negatives = Negatives::mv_adaptive, p.t = 0; }), q, arc);
  same("a filter above 1 and plain negatives", q,
       with(arc, [](P& p) { p.negatives = Negatives::filter, p.filter_above = 1; }), q, arc);
  same("sphereface2 of power 1 without a margin and uniface", q,
       with(params(Method::sphereface2, 64, 0), [](P& p) { p.power = 1, p.bias = 0; }), q,
       with(params(Method::uniface, 64, 0), [](P& p) { p.bias = 0; }));
  Problem rows = q;
  rows.margins.assign(q.N, 0.5);
  same("equal margins of rows and one margin", rows, params(Method::arcface, 64, 0.1), q, arc);

  Problem unit = q;  // every norm 8, as far as float32 rounds
  for (int64_t i = 0; i < q.N; i++) {
    const double norm = length(q.x, i, q.D);
    for (int64_t k = 0; k < q.D; k++) unit.x[i * q.D + k] *= 8 / norm;
  }
  const Inputs<double> by_norm(unit, with(softmax, [](P&p) { p.scale_by_norm = true, p.scale = 8; })),
      fixed(unit, softmax);
  expect(std::fabs(by_norm.forward().loss - fixed.forward().loss) < 1e-11, "s‖x‖ is a scale");
  expect(distance(values_of<double>(by_norm.backward().d_weight), values_of<double>(fixed.backward().d_weight)) < 1e-11,
         "and has its d_weight");
}

// A class whose centers are all one is a class of one center, and the first of them gets its gradient.
void equal_centers() {
  for (const Case& c : every_case(64)) {
    if (c.p.sub_centers > 1 || c.p.label_smoothing > 0) continue;
    const Problem q = problem_for(c, 11, 47, 9, 8);
    for (int K : {2, 3}) {
      Problem more = q;
      more.K = K;
      more.w.resize(q.C * K * q.D);
      for (int64_t j = 0; j < q.C * K; j++) std::copy_n(&q.w[j / K * q.D], q.D, &more.w[j * q.D]);
      MarginParams p = c.p;
      p.sub_centers = K;
      const Inputs<double> one(q, c.p), several(more, p);
      const auto f = one.forward(), g = several.forward();
      const auto df = one.backward(f.lse), dg = several.backward(g.lse);
      Matrix dw(more.w.size());
      for (int64_t j = 0; j < q.C; j++)
        std::copy_n(values_of<double>(df.d_weight).begin() + j * q.D, q.D, dw.begin() + j * K * q.D);
      const double off = std::max(distance(values_of<double>(dg.d_weight), dw),
                                  distance(values_of<double>(dg.d_features), values_of<double>(df.d_features)));
      expect(std::fabs(f.loss - g.loss) < 1e-11 * std::max(1.0, f.loss) && off < 1e-11, c.name, ": ", K,
             " equal centers are off by ", off);
      expect(f.correct == g.correct, c.name, ": equal centers are as often correct");
    }
  }
}

void run_here() {
  agreement();
  thread_invariance();
}

void run_once() {
  finite_differences();
  class_order();
  batch_cut();
  methods_meet();
  equal_centers();
}

}  // namespace

int main(int, char** argv) { return on_every_isa(argv[0], run_here, run_once); }
