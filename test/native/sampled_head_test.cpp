// Steps in which some classes take part (HeadOptions::classes), on the CPU and on every path of an emulated device: they
// are steps of a weight that has these rows alone, and move no other row.  And which classes those are (class_sample.h).
#include "../../native/cpu/class_sample.h"

#include <functional>

#include "../../native/cpu/parallel.h"
#include "cuda_head_test.h"
#include "error_of.h"

namespace {

using namespace fm;

using Ints = std::vector<int32_t>;

// The message of what a call throws, without its kind; empty where it throws nothing.
template <class F>
std::string words_of(F&& f) {
  const std::string all = error_of(f);
  return all == "no error" ? "" : all.substr(all.find(' ') + 1);
}

Tensor on_cpu(const Ints& values) { return on(cpu(), {int64_t(values.size())}, values); }

// By sorting all classes.
Ints sorted_sample(const Ints& labels, int64_t C, int64_t count, int64_t seed, int64_t step) {
  std::vector<bool> own(static_cast<size_t>(C));
  for (int32_t label : labels)
    if (label >= 0) own[size_t(label)] = true;
  Ints classes, others;
  for (int32_t j = 0; j < C; j++) (own[size_t(j)] ? classes : others).push_back(j);
  std::stable_sort(others.begin(), others.end(),
                   [&](int32_t a, int32_t b) { return class_draw(seed, step, a) > class_draw(seed, step, b); });
  for (size_t k = 0; int64_t(classes.size()) < count; k++) classes.push_back(others[k]);
  std::sort(classes.begin(), classes.end());
  return classes;
}

void samples() {
  std::mt19937 random(3);
  for (int64_t C : {1, 2, 7, 100, 16384, 16385, 70000})
    for (double rate : {0.001, 0.1, 0.5, 0.999, 1.0})
      for (int64_t N : {0, 1, 40}) {
        Ints labels;
        for (int64_t i = 0; i < N; i++) labels.push_back(i % 5 == 2 ? -1 : int32_t(random() % unsigned(C)));
        const int64_t count = std::max<int64_t>(1, int64_t(rate * double(C))), seed = int64_t(random()), step = N;
        const Ints wanted = sorted_sample(labels, C, count, seed, step);
        for (int threads : {1, 2}) {
          set_num_threads(threads);
          const ClassSample sample = sample_classes(on(cpu(), {N}, labels), C, count, seed, step);
          const Ints got = values_of<int32_t>(cpu(), sample.classes), places = values_of<int32_t>(cpu(), sample.labels);
          bool there = true;
          for (size_t i = 0; i < labels.size(); i++)
            there = there && (labels[i] < 0 ? places[i] == -1 : got[size_t(places[i])] == labels[i]);
          expect(got == wanted && there, count, " of ", C, " classes with ", N, " rows, ", threads, " threads");
        }
      }
  const auto refused = [](const Ints& labels, int64_t C, int64_t count) {
    return words_of([&] { sample_classes(on(cpu(), {int64_t(labels.size())}, labels), C, count, 0, 0); });
  };
  expect(refused({0, 5}, 5, 2) == "expected labels in [0, 5) or -1, got 5 at row 1", refused({0, 5}, 5, 2));
  expect(refused({-2}, 5, 2) == "expected labels in [0, 5) or -1, got -2 at row 0", refused({-2}, 5, 2));
  expect(refused({}, 5, 0) == "expected a count in [1, 5], got 0", refused({}, 5, 0));
  expect(refused({}, 5, 6) == "expected a count in [1, 5], got 6", refused({}, 5, 6));
}

struct Way {
  std::string name;
  Backend& device;
  const char* path = nullptr;
  Precision precision = Precision::float32;
  const char* graph = "off";
  double keep_bytes = -1, filter = 0;
  bool moves_others = false;
};

// The rows of some classes, one after the other.
template <class T>
std::vector<T> rows_of(const std::vector<T>& all, const Ints& classes, int64_t a_class) {
  std::vector<T> rows;
  for (int32_t j : classes) rows.insert(rows.end(), all.begin() + j * a_class, all.begin() + (j + 1) * a_class);
  return rows;
}

template <class T>
void steps(const Way& way, int64_t N, int64_t C, int64_t K, int64_t D, const MarginParams& p, Optimizer type,
           double room = 0) {
  const Problem<T> q = random_problem<T>(N, C, K, D, unsigned(N + C + D));
  Backend& device = way.device;
  const std::string what = way.name + ", " + name_of(p.method) + ", N " + std::to_string(N) + " C " +
                           std::to_string(C) + " K " + std::to_string(K) + " D " + std::to_string(D) +
                           (type == Optimizer::adamw ? ", adamw" : "");
  if (way.path) setenv("FLASHMARGIN_CUDA_HEAD", way.path, 1);
  setenv("FLASHMARGIN_CUDA_GRAPH", way.graph, 1);
  const auto place = [&](const std::vector<T>& values) { return on(device, {int64_t(values.size()) / D, D}, values); };
  std::vector<std::vector<T>> before{q.w, q.v};
  if (type == Optimizer::adamw) before.push_back(absolute(q.v));
  const Tensor weight = place(before[0]);
  OptimizerState state;
  for (size_t k = 1; k < before.size(); k++) state.push_back(place(before[k]));
  const int64_t count = std::max<int64_t>(1, C * 2 / 3), a_class = K * D;
  for (int turn = 0; turn < 4; turn++) {
    const ClassSample sample = sample_classes(on_cpu(q.labels), C, count, 7, turn);
    const Ints classes = values_of<int32_t>(cpu(), sample.classes);
    const Tensor x = on(device, {N, D}, q.x), labels = on(device, {N}, values_of<int32_t>(cpu(), sample.labels));
    OptionalTensor margins;
    if (p.method == Method::arcface) margins = on(device, {N}, q.margins);
    OptimizerParams optimizer{0.3, 0.7, 0.01, type, 0.8, 0.95, 1e-3, double(1 + turn)};
    HeadOptions options;
    options.precision = way.precision, options.keep_bytes = way.keep_bytes, options.gradient_filter = way.filter;
    std::vector<Tensor> alone;
    for (const std::vector<T>& all : before) alone.push_back(place(rows_of(all, classes, a_class)));
    setenv("FLASHMARGIN_CUDA_GRAPH", "off", 1);
    if (!is_binary(p.method)) {
      const auto sums = [&](const Tensor& w, const OptionalTensor& classes) {
        return values_of<T>(device, device.negative_lse(x, w, labels, p, classes));
      };
      const double off = difference(sums(weight, sample.classes), sums(alone[0], {}));
      expect(off <= room, what, ": negative_lse is off by ", off);
    }
    const HeadStep wanted =
        device.head_step(x, alone[0], {alone.begin() + 1, alone.end()}, labels, margins, p, optimizer, options);
    setenv("FLASHMARGIN_CUDA_GRAPH", way.graph, 1);
    options.classes = sample.classes, options.moves_others = way.moves_others;
    const HeadStep got = device.head_step(x, weight, state, labels, margins, p, optimizer, options);
    const auto near = [&](const char* name, const std::vector<T>& a, const std::vector<T>& b) {
      const double off = difference(a, b);
      expect(off <= room, what, ", step ", turn, ": ", name, " is off by ", off);
    };
    const auto values = [&](const Tensor& t) { return values_of<T>(device, t); };
    near("loss", {T(got.loss), T(got.correct), T(got.labelled), T(got.d_scale), T(got.d_bias)},
         {T(wanted.loss), T(wanted.correct), T(wanted.labelled), T(wanted.d_scale), T(wanted.d_bias)});
    expect(got.filtered == wanted.filtered, what, ": filtered ", got.filtered, ", expected ", wanted.filtered);
    near("row_loss", values(got.row_loss), values(wanted.row_loss));
    near("lse", values(got.lse), values(wanted.lse));
    near("d_features", values(got.d_features), values(wanted.d_features));
    near("d_margins", values(got.d_margins), values(wanted.d_margins));
    // All rows by the optimizer alone, of a gradient of 0.
    std::vector<std::vector<T>> moved;
    if (way.moves_others) {
      std::vector<Tensor> all;
      for (const std::vector<T>& values : before) all.push_back(place(values));
      device.optimizer_step(all[0], {all.begin() + 1, all.end()}, place(std::vector<T>(q.w.size())), optimizer);
      for (const Tensor& each : all) moved.push_back(values(each));
    }
    for (size_t k = 0; k < before.size(); k++) {
      const std::vector<T> now = values(k == 0 ? weight : state[k - 1]);
      near("a row that takes part", rows_of(now, classes, a_class), values(alone[k]));
      Ints others;
      for (int32_t j = 0; j < C; j++)
        if (!std::binary_search(classes.begin(), classes.end(), j)) others.push_back(j);
      const std::vector<T> wanted_others = rows_of(way.moves_others ? moved[k] : before[k], others, a_class);
      const double off = difference(rows_of(now, others, a_class), wanted_others);
      expect(off <= (way.moves_others ? 1e-6 : 0), what, ": another row is off by ", off);
      before[k] = now;
    }
  }
}

void refusals(Backend& device) {
  const Problem<float> q = random_problem<float>(6, 20, 2, 9, 4);
  std::vector<float> w = q.w;
  MarginParams p;
  p.method = Method::arcface, p.sub_centers = 2;
  const auto step = [&](Ints classes, Ints labels, bool there = false) {
    HeadOptions options;
    options.classes = on(there ? device : cpu(), {int64_t(classes.size())}, classes);
    const Tensor weight = on(device, {40, 9}, w), velocity = on(device, {40, 9}, q.v);
    return words_of([&] {
      device.head_step(on(device, {6, 9}, q.x), weight, {velocity}, on(device, {6}, labels), {}, p, {0.1, 0.9, 0},
                       options);
    });
  };
  const Ints labels{0, 1, 2, -1, 1, 0};
  const auto says = [&](const std::string& got, const std::string& wanted) { expect(got == wanted, got); };
  says(step({3, 5, 20}, labels), "expected ascending classes in [0, 20), got 20 after 5 at 2");
  says(step({3, 3, 7}, labels), "expected ascending classes in [0, 20), got 3 after 3 at 1");
  says(step({-1, 3, 7}, labels), "expected ascending classes in [0, 20), got -1 after -1 at 0");
  says(step({}, labels), "expected at least one class, got none");
  says(step({3, 7}, labels), "expected labels in [0, 2) or -1, got 2 at row 2");
  if (&device != &cpu()) says(step({3, 5, 7}, labels, true), "expected classes on cpu");
  w[(11 * 2 + 1) * 9 + 4] = NAN;
  says(step({3, 5, 7}, labels), "");
  says(step({3, 5, 11}, labels).substr(0, 42), "expected finite weights, got a row of norm");
  expect(step({3, 5, 11}, labels).find("at class 11, center 1") != std::string::npos, step({3, 5, 11}, labels));
  expect(step({3, 5, 7, 11}, labels).find("at class 11, center 1") != std::string::npos, "a class of no row");
}

MarginParams params(Method method, int64_t K, Negatives negatives = Negatives::plain, double smoothing = 0) {
  MarginParams p;
  p.method = method, p.sub_centers = int(K), p.margin = 0.3, p.negatives = negatives, p.t = 0.3;
  p.label_smoothing = smoothing;
  if (method == Method::sphereface2) p.power = 1, p.bias = -10, p.scale = 16;
  return p;
}

template <class T>
void on_way(const Way& way, int64_t N, int64_t C, int64_t D) {
  steps<T>(way, N, C, 1, D, params(Method::arcface, 1), Optimizer::sgd);
  steps<T>(way, N, C, 3, D, params(Method::cosface, 3, Negatives::curricular), Optimizer::adamw);
  steps<T>(way, N, C, 2, D, params(Method::sphereface2, 2), Optimizer::sgd);
  steps<T>(way, N, C, 1, D, params(Method::magface, 1, Negatives::plain, 0.1), Optimizer::adamw);
}

}  // namespace

int main() {
  setenv("FLASHMARGIN_CUDA", FM_EMULATED_CUDA, 0);  // or a library that was named, for a GPU
  setenv("FM_EMULATED_CAPABILITY", "90", 1);
  try {
    samples();
    refusals(cpu());
    refusals(gpu());
    on_way<float>({"cpu", cpu()}, 13, 211, 35);
    on_way<double>({"cpu, float64", cpu()}, 13, 211, 35);
    on_way<float>({"cpu, bfloat16", cpu(), nullptr, Precision::bfloat16}, 13, 211, 35);
    on_way<float>({"cpu, all kept", cpu(), nullptr, Precision::float32, "off", 1e9}, 13, 211, 64);
    on_way<float>({"plain", gpu(), "plain"}, 13, 111, 35);
    on_way<double>({"plain, float64, replayed", gpu(), "plain", Precision::float32, "on"}, 13, 111, 35);
    on_way<float>({"plain, bfloat16", gpu(), "plain", Precision::bfloat16}, 13, 111, 35);
    on_way<float>({"tensor, replayed", gpu(), "tensor", Precision::bfloat16, "on"}, 13, 111, 35);
    for (int64_t D : {40, 304, 520})
      on_way<float>({"hopper", gpu(), "hopper", Precision::bfloat16, D == 304 ? "on" : "off", D == 304 ? 1e9 : 0}, 13,
                    D == 40 ? 311 : 111, D);
    steps<float>({"hopper, filtered", gpu(), "hopper", Precision::bfloat16, "on", 0, 0.3}, 264, 811, 1, 24,
                 params(Method::arcface, 1), Optimizer::sgd);
    Way moving{"cpu, others move", cpu()};
    moving.moves_others = true;
    on_way<float>(moving, 13, 211, 35);
    Way replayed{"hopper, others move", gpu(), "hopper", Precision::bfloat16, "on"};
    replayed.moves_others = true;
    steps<float>(replayed, 13, 111, 2, 40, params(Method::cosface, 2), Optimizer::adamw);
    Way plain{"plain, others move", gpu(), "plain"};
    plain.moves_others = true;
    steps<double>(plain, 13, 111, 1, 9, params(Method::cosface, 1), Optimizer::sgd);
    // Chunks of few classes, whose rows are copied one chunk after the other: sums in another order.
    setenv("FLASHMARGIN_CUDA_SCRATCH", "0.05", 1);  // MiB
    steps<float>({"plain in chunks", gpu(), "plain"}, 40, 901, 2, 35, params(Method::arcface, 2), Optimizer::sgd, 1e-4);
    steps<float>({"hopper in chunks", gpu(), "hopper", Precision::bfloat16, "off", 0}, 40, 901, 1, 40,
                 params(Method::arcface, 1), Optimizer::sgd);
  } catch (const std::exception& error) {
    expect(false, error.what());
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
