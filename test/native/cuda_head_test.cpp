// The whole CUDA library under the host emulation, as a device beside the CPU: the head's kernels against the CPU's on
// random problems over every method and axis, extremes, errors, and the order of threads.
#include "cuda_head_test.h"
#include "error_of.h"

namespace {

using namespace fm;

// What a device makes of a problem.
template <class T>
struct Results {
  std::vector<double> scalars;  // loss, regularizer, correct, labelled of forward and step; d_scale and d_bias of both
  std::vector<T> row_loss, lse, dx, dw, d_margins, step_dx, step_w, step_v, step_loss, adamw_w, adamw_m, adamw_v,
      step_lse, logits, negatives;
  std::vector<T> norm, target_cos, nearest, hard, cosines;
  std::vector<int32_t> center;
};

template <class T>
Results<T> run(Backend& device, const Problem<T>& q, const MarginParams& p, bool with_margins, double d_loss = -2.5) {
  const Tensor x = on(device, {q.N, q.D}, q.x), w = on(device, {q.C * q.K, q.D}, q.w),
               v = on(device, {q.C * q.K, q.D}, q.v), labels = on(device, {q.N}, q.labels);
  OptionalTensor margins;
  if (with_margins) margins = on(device, {q.N}, q.margins);
  Results<T> out;
  const auto get = [&](const Tensor& t) { return values_of<T>(device, t); };
  const MarginSoftmaxForward f = device.margin_softmax_forward(x, w, labels, margins, p);
  out.row_loss = get(f.row_loss);
  out.lse = get(f.lse);
  const MarginSoftmaxGradients g = device.margin_softmax_backward(x, w, labels, margins, f.lse, d_loss, p);
  out.dx = get(g.d_features);
  out.dw = get(g.d_weight);
  out.d_margins = get(g.d_margins);
  out.logits = get(device.margin_logits(x, w, labels, margins, p));
  if (!is_binary(p.method)) out.negatives = get(device.negative_lse(x, w, labels, p));
  const HeadRows rows = device.inspect_head(x, w, labels, margins, p);
  out.norm = get(rows.norm);
  out.target_cos = get(rows.target_cos);
  out.nearest = get(rows.nearest_cos);
  out.hard = get(rows.hard);
  out.center = values_of<int32_t>(device, rows.center);
  out.cosines = get(device.target_cosines(x, w, labels, q.K));
  const HeadStep s = device.head_step(x, w, {v}, labels, margins, p, {0.3, 0.7, 0.01});
  out.step_dx = get(s.d_features);
  out.step_loss = get(s.row_loss);
  out.step_lse = get(s.lse);
  out.step_w = get(w);
  out.step_v = get(v);
  const Tensor w2 = on(device, {q.C * q.K, q.D}, q.w), m2 = on(device, {q.C * q.K, q.D}, q.v),
               v2 = on(device, {q.C * q.K, q.D}, absolute(q.v));
  device.head_step(x, w2, {m2, v2}, labels, margins, p, kAdamWCase);
  out.adamw_w = get(w2), out.adamw_m = get(m2), out.adamw_v = get(v2);
  out.scalars = {f.loss,    f.regularizer, s.loss,    s.regularizer, g.d_scale, g.d_bias,
                 s.d_scale, s.d_bias,      f.correct, f.labelled,    s.correct, s.labelled};
  return out;
}

template <class T>
void agree(const Results<T>& got, const Results<T>& wanted, double largest_logit, const std::string& what,
           double least_gradient = 1e-3) {
  const bool single = sizeof(T) == 4;
  const double logit = (single ? 1e-6 : 1e-13) * std::max(1.0, largest_logit);
  const double gradient = (single ? 1e-5 : 1e-12) * std::max(1.0, largest_logit / 64);
  // Gradients are compared with the largest, unless all are below `least_gradient`, where terms have cancelled.
  const auto near = [&](const char* name, const std::vector<T>& a, const std::vector<T>& b, double tolerance,
                        double size = 0) {
    const double d = difference(a, b, size, size < 0 ? least_gradient : 1e-30);
    expect(d <= tolerance, what, ": ", name, " is off by ", d, ", at most ", tolerance);
  };
  const double loss_size =
      std::max(1.0, *std::max_element(wanted.row_loss.begin(), wanted.row_loss.end()) / largest_logit);
  near("row_loss", got.row_loss, wanted.row_loss, logit, loss_size);
  near("lse", got.lse, wanted.lse, logit, 1);
  near("logits", got.logits, wanted.logits, logit, 1);
  near("negative_lse", got.negatives, wanted.negatives, logit, 1);
  near("the step's row_loss", got.step_loss, wanted.step_loss, logit, loss_size);
  near("the step's lse", got.step_lse, wanted.step_lse, logit, 1);
  near("d_features", got.dx, wanted.dx, gradient, -1);
  near("d_weight", got.dw, wanted.dw, gradient, -1);
  near("d_margins", got.d_margins, wanted.d_margins, gradient, -1);
  near("the step's d_features", got.step_dx, wanted.step_dx, gradient, -1);
  near("weight", got.step_w, wanted.step_w, gradient, -1);
  near("velocity", got.step_v, wanted.step_v, gradient, -1);
  near("AdamW's weight", got.adamw_w, wanted.adamw_w, gradient, -1);
  near("expAvg", got.adamw_m, wanted.adamw_m, gradient, -1);
  near("expAvgSq", got.adamw_v, wanted.adamw_v, 2 * gradient, -1);
  near("norm", got.norm, wanted.norm, single ? 1e-6 : 1e-14);
  near("target_cos", got.target_cos, wanted.target_cos, single ? 1e-6 : 1e-14, 1);
  near("target_cosines", got.cosines, wanted.cosines, single ? 1e-6 : 1e-14, 1);
  near("nearest", got.nearest, wanted.nearest, single ? 1e-6 : 1e-14, 1);
  expect(got.hard == wanted.hard, what, ": hard negatives");
  expect(got.center == wanted.center, what, ": centers");
  for (size_t i = 0; i < wanted.scalars.size(); i++) {
    const double size = std::max(1.0, std::fabs(wanted.scalars[i]));
    const double tolerance = i >= 8  ? 0
                             : i < 4 ? std::max(logit, 1e-6 * size)
                                     : gradient * std::max(size, largest_logit);
    expect(std::fabs(got.scalars[i] - wanted.scalars[i]) <= tolerance, what, ": scalar ", i, " is ", got.scalars[i],
           ", expected ", wanted.scalars[i]);
  }
}

template <class T>
void agreement(int64_t N, int64_t C, int64_t K, int64_t D, unsigned seed, int draws) {
  const Problem<T> q = random_problem<T>(N, C, K, D, seed);
  std::mt19937 random(seed);
  for (Method method : kMethods)
    for (int draw = 0; draw < draws; draw++) {
      MarginParams p = random_params(random, method, K);
      while (!allowed(p)) p = random_params(random, method, K);
      const bool margins = quality_of(method) == Quality::margin && random() % 2;
      std::ostringstream what;
      what << (sizeof(T) == 4 ? "float32 " : "float64 ") << name_of(method) << " N=" << N << " C=" << C << " K=" << K
           << " D=" << D << " draw " << draw << " overflow " << int(p.overflow) << " negatives " << int(p.negatives)
           << " scale " << p.scale << (p.scale_by_norm ? " by norm" : "") << " gradient " << int(p.gradient);
      double largest = p.scale * 2;
      if (p.scale_by_norm) {
        double norm = 0;
        for (int64_t i = 0; i < N; i++) {
          double square = 0;
          for (int64_t d = 0; d < D; d++) square += double(q.x[i * D + d]) * double(q.x[i * D + d]);
          norm = std::max(norm, std::sqrt(square));
        }
        largest *= norm;
      }
      const Results<T> wanted = run(cpu(), q, p, margins), got = run(gpu(), q, p, margins);
      agree(got, wanted, largest, what.str());
    }
}

// Norms beyond float's squares, rows and classes of zeros, targets at ±1, a negative at 1.
template <class T>
void extremes() {
  const T small = sizeof(T) == 4 ? T(1e-20) : T(1e-150), large = sizeof(T) == 4 ? T(1e20) : T(1e150);
  for (double scale : {64.0, 512.0})
    for (int variant = 0; variant < 4; variant++) {
      Problem<T> q = random_problem<T>(12, 140, 1, 9, 21);
      const auto row_of = [&](std::vector<T>& m, int64_t i) { return m.data() + i * q.D; };
      q.labels[6] = 20;
      q.labels[8] = 30;
      for (int64_t d = 0; d < q.D; d++) {
        row_of(q.x, 0)[d] = 0;
        row_of(q.x, 1)[d] = 2 * row_of(q.w, q.labels[1])[d];
        row_of(q.x, 2)[d] = -4 * row_of(q.w, q.labels[2])[d];
        row_of(q.x, 5)[d] *= small;
        row_of(q.x, 6)[d] *= large;
        row_of(q.w, 30)[d] = 0;
        row_of(q.w, 31)[d] *= small;
        row_of(q.w, 32)[d] *= large;
        row_of(q.w, 33)[d] = row_of(q.w, q.labels[1])[d];
      }
      MarginParams p;
      p.method = Method::arcface;
      p.scale = scale;
      p.overflow = Overflow(variant);
      p.gradient = Gradient(variant % 2);
      const Results<T> wanted = run(cpu(), q, p, false), got = run(gpu(), q, p, false);
      std::ostringstream what;
      what << "extremes, scale " << scale << " overflow " << variant;
      // Of a row 1e-20 long the gradient is 1e20 times the others': rows are compared one by one.
      const auto rows = [&](const char* name, const std::vector<T>& a, const std::vector<T>& b) {
        for (size_t i = 0; i < b.size(); i += size_t(q.D)) {
          const std::vector<T> x(a.begin() + i, a.begin() + i + q.D), y(b.begin() + i, b.begin() + i + q.D);
          // A gradient of exactly 0 is rounding on one side and 0 on the other.
          double largest = 0;
          for (T value : b) largest = std::max(largest, std::min(std::fabs(double(value)), 1.0));
          const double d = difference(x, y), absolute = difference(x, y, largest);
          expect(std::min(d, absolute) <= 2e-4, what.str(), ": ", name, " row ", i / size_t(q.D), " is off by ", d);
        }
      };
      expect(difference(got.lse, wanted.lse, 1) <= 1e-6 * scale, what.str(), ": lse is off by ",
             difference(got.lse, wanted.lse, 1));
      expect(difference(got.row_loss, wanted.row_loss, 1) <= 1e-6 * scale, what.str(), ": row_loss");
      rows("d_features", got.dx, wanted.dx);
      rows("d_weight", got.dw, wanted.dw);
      rows("the step's d_features", got.step_dx, wanted.step_dx);
      rows("weight", got.step_w, wanted.step_w);
      for (const auto* values : {&got.dx, &got.dw, &got.step_dx, &got.step_w, &got.step_v, &got.lse, &got.row_loss})
        expect(std::all_of(values->begin(), values->end(), [](T value) { return std::isfinite(value); }), what.str(),
               ": a result is not finite");
    }
}

template <class T>
void order_of_threads() {
  const Problem<T> q = random_problem<T>(67, 301, 2, 19, 5);
  MarginParams p;
  p.method = Method::arcface;
  p.sub_centers = 2;
  setenv("FM_EMULATED_SEED", "1", 1);
  const Results<T> once = run(gpu(), q, p, true);
  setenv("FM_EMULATED_SEED", "77777", 1);
  const Results<T> again = run(gpu(), q, p, true);
  expect(once.scalars == again.scalars && once.dx == again.dx && once.dw == again.dw && once.step_w == again.step_w &&
             once.step_v == again.step_v && once.step_dx == again.step_dx && once.lse == again.lse &&
             once.hard == again.hard && once.logits == again.logits,
         "the order of threads changes nothing");
}

// --- errors: the CPU's words -----------------------------------------------------------------------------------------

void errors() {
  using T = float;
  const Problem<T> good = random_problem<T>(20, 300, 3, 16, 4);
  MarginParams p;
  p.method = Method::arcface;
  p.sub_centers = 3;
  const auto refused = [&](const Problem<T>& q, const char* what, const std::string& part, const MarginParams& p) {
    std::vector<std::string> messages;
    for (Backend* device : {&cpu(), &gpu()}) {
      const Tensor x = on(*device, {q.N, q.D}, q.x), w = on(*device, {q.C * q.K, q.D}, q.w),
                   v = on(*device, {q.C * q.K, q.D}, q.v), labels = on(*device, {q.N}, q.labels),
                   margins = on(*device, {q.N}, q.margins);
      messages.push_back(error_of([&] { device->head_step(x, w, {v}, labels, margins, p, {}); }));
      messages.push_back(error_of([&] { device->margin_softmax_forward(x, w, labels, margins, p); }));
      messages.push_back(error_of([&] { device->margin_logits(x, w, labels, margins, p); }));
      messages.push_back(error_of([&] { device->inspect_head(x, w, labels, margins, p); }));
      const std::vector<T> new_w = values_of<T>(*device, w), new_v = values_of<T>(*device, v);
      expect(!std::memcmp(new_w.data(), q.w.data(), q.w.size() * sizeof(T)) && new_v == q.v, what,
             ": leaves weight and velocity alone on ", device->name());
    }
    for (size_t i = 0; i < messages.size(); i++)
      expect(messages[i] == messages[0] && messages[i].find(part) != std::string::npos, what, ": '", messages[i],
             "', expected '", part, "'");
  };
  Problem<T> q = good;
  q.labels[17] = 90001, q.labels[18] = -3;
  refused(q, "a label past the last class", "expected labels in [0, 300) or -1, got 90001 at row 17", p);
  q = good;
  q.labels[11] = -2;
  refused(q, "a label below −1", "got -2 at row 11", p);
  q = good;
  q.margins[7] = NAN;
  refused(q, "a margin that is none", "expected margins in [-pi, pi], got nan at row 7", p);
  q = good;
  q.x[4 * 16 + 3] = -INFINITY, q.x[9 * 16] = NAN;
  refused(q, "a feature that is not finite", "got a row of norm inf at row 4", p);
  q = good;
  q.x[4 * 16 + 3] = NAN;
  refused(q, "a feature that is NaN", "got a row of norm nan at row 4", p);
  q = good;
  for (int32_t& label : q.labels) label = 7;
  q.w[(205 * 3 + 1) * 16 + 5] = INFINITY;
  refused(q, "a weight that is not finite", "got a row of norm inf at class 205, center 1", p);
  q.w[(205 * 3 + 1) * 16 + 5] = NAN;
  p.scale = 300;
  refused(q, "a weight that is NaN, with a shift", "got a row of norm nan at class 205, center 1", p);
  q = good;
  const Tensor x = on(gpu(), {20, 16}, q.x), w = on(gpu(), {900, 16}, q.w), labels = on(gpu(), {20}, q.labels);
  std::vector<T> lse(20, 60);
  lse[3] = INFINITY;
  const std::string message =
      error_of([&] { gpu().margin_softmax_backward(x, w, labels, {}, on(gpu(), {20}, lse), 1, p); });
  expect(message == "1 expected a finite lse, got inf at row 3", "an lse that is not finite: ", message);
  const Tensor elsewhere = on(cpu(), {20, 16}, q.x);
  const std::string where = error_of([&] { gpu().margin_softmax_forward(elsewhere, w, labels, {}, p); });
  expect(where.find("expected features on cuda:0, got cpu") != std::string::npos, "a tensor elsewhere: ", where);
}

// Learned rows: the gradient is what is left of a difference.
void learned() {
  Problem<float> q = random_problem<float>(9, 200, 1, 24, 31);
  for (int64_t i = 0; i < q.N; i++)
    for (int64_t d = 0; q.labels[i] >= 0 && d < q.D; d++)
      q.x[i * q.D + d] = 5 * q.w[q.labels[i] * q.D + d] + 0.01f * q.x[i * q.D + d];
  MarginParams p;
  p.method = Method::cosface;
  p.margin = 0.2;
  agree(run(gpu(), q, p, false), run(cpu(), q, p, false), 64, "learned rows", 1e-30);
}

constexpr int64_t kShapes[][4] = {
    {1, 1, 1, 1},     {1, 1, 1, 8},  {5, 7, 1, 3},    {3, 259, 1, 17},  // less than a tile each way, and ragged
    {65, 131, 1, 67},                                                   // one more than a tile
    {2, 2, 2, 33},    {7, 90, 3, 5}, {66, 129, 2, 9},                   // centers within a tile
    {4, 3, 130, 12},                                                    // a class wider than a tile
};

}  // namespace

int main() {
  setenv("FLASHMARGIN_CUDA", FM_EMULATED_CUDA, 0);  // or a library that was named, for a GPU
  setenv("FLASHMARGIN_CUDA_SCRATCH", "0.05", 1);    // MiB: several chunks of classes
  try {
    unsigned seed = 1;
    for (const auto& [N, C, K, D] : kShapes) {
      agreement<float>(N, C, K, D, seed++, 2);
      agreement<double>(N, C, K, D, seed++, 1);
    }
    extremes<float>();
    extremes<double>();
    order_of_threads<float>();
    order_of_threads<double>();
    learned();
    errors();
  } catch (const std::exception& error) {
    expect(false, error.what());
  }
  expect(cuda_memory(0).used == 0 && cuda_memory(0).peak > 0, "memory is counted, and given back");
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
