// The head's paths of bfloat16 products under the emulation: against the exact step and against the plain path, which
// multiplies the same rounded operands; which of them is taken; and the order of threads.
#include "cuda_head_test.h"

namespace {

using namespace fm;

struct Results {
  std::vector<float> row_loss, lse, dx, dw, d_margins, step_dx, w, v, adamw_w, adamw_m, adamw_v, step_lse,
      step_d_margins;
  std::vector<double> scalars;  // of forward, backward and step
  std::vector<double> counts;   // rows that are right
};

// The values as they are, in double.
Problem<double> widened(const Problem<float>& q) {
  const auto wide = [](const std::vector<float>& x) { return std::vector<double>(x.begin(), x.end()); };
  return {q.N, q.C, q.K, q.D, wide(q.x), wide(q.w), wide(q.v), wide(q.margins), q.labels};
}

// The whole of it in T.
template <class T>
Results run(Backend& device, const Problem<T>& q, const MarginParams& p, bool with_margins, Precision precision) {
  const Tensor x = on(device, {q.N, q.D}, q.x), w = on(device, {q.C * q.K, q.D}, q.w),
               v = on(device, {q.C * q.K, q.D}, q.v), labels = on(device, {q.N}, q.labels);
  const Tensor w2 = on(device, {q.C * q.K, q.D}, q.w), m2 = on(device, {q.C * q.K, q.D}, q.v),
               v2 = on(device, {q.C * q.K, q.D}, absolute(q.v));
  OptionalTensor margins;
  if (with_margins) margins = on(device, {q.N}, q.margins);
  const auto get = [&](const Tensor& t) {
    const std::vector<T> values = values_of<T>(device, t);
    return std::vector<float>(values.begin(), values.end());
  };
  Results out;
  const MarginSoftmaxForward f = device.margin_softmax_forward(x, w, labels, margins, p, precision);
  const MarginSoftmaxGradients g = device.margin_softmax_backward(x, w, labels, margins, f.lse, -2.5, p, precision);
  out.row_loss = get(f.row_loss);
  out.lse = get(f.lse);
  out.dx = get(g.d_features);
  out.dw = get(g.d_weight);
  out.d_margins = get(g.d_margins);
  const HeadStep s = device.head_step(x, w, {v}, labels, margins, p, kSgdCase, {precision, -1});
  out.step_dx = get(s.d_features);
  out.step_lse = get(s.lse);
  out.step_d_margins = get(s.d_margins);
  out.w = get(w);
  out.v = get(v);
  device.head_step(x, w2, {m2, v2}, labels, margins, p, kAdamWCase, {precision, -1});
  out.adamw_w = get(w2), out.adamw_m = get(m2), out.adamw_v = get(v2);
  out.scalars = {f.loss, f.regularizer, s.loss, s.regularizer, g.d_scale, g.d_bias, s.d_scale, s.d_bias};
  out.counts = {f.correct, f.labelled, s.correct, s.labelled};
  return out;
}

// While it lives.
struct Setting {
  const char* name;
  Setting(const char* name, const std::string& value) : name(name) { setenv(name, value.c_str(), 1); }
  ~Setting() { unsetenv(name); }
};

Results on_path(const char* path, const Problem<float>& q, const MarginParams& p, bool margins) {
  const Setting wish("FLASHMARGIN_CUDA_HEAD", path);
  return run(gpu(), q, p, margins, Precision::bfloat16);
}

// ‖got − wanted‖ / ‖wanted‖, or of `least` where that is more.
double distance(const std::vector<float>& got, const std::vector<float>& wanted, double least = 1e-30) {
  if (got.size() != wanted.size()) return INFINITY;
  double apart = 0, size = 0;
  for (size_t i = 0; i < wanted.size(); i++) {
    if (!std::isfinite(got[i]) || !std::isfinite(wanted[i])) return INFINITY;
    apart += (double(got[i]) - wanted[i]) * (double(got[i]) - wanted[i]);
    size += double(wanted[i]) * wanted[i];
  }
  return std::sqrt(apart) / std::max(std::sqrt(size), least);
}

using Field = std::vector<float> Results::*;
constexpr std::pair<const char*, Field> kGradients[] = {
    {"d_features", &Results::dx},  {"d_weight", &Results::dw},      {"the step's d_features", &Results::step_dx},
    {"weight", &Results::w},       {"velocity", &Results::v},       {"AdamW's weight", &Results::adamw_w},
    {"expAvg", &Results::adamw_m}, {"expAvgSq", &Results::adamw_v},
};
constexpr std::pair<const char*, Field> kLogits[] = {
    {"row_loss", &Results::row_loss}, {"lse", &Results::lse}, {"the step's lse", &Results::step_lse}};

double worst_against_plain = 0, worst_apart = 0;

// The tensor cores' results are the plain path's but for the order of sums: now and then that rounds a dL/dcos the other
// way, by 1/256 of itself.
void close_to_plain(const Results& got, const Results& plain, double scale, const std::string& what) {
  for (const auto& [name, field] : kLogits) {
    const double d = difference(got.*field, plain.*field, 1);
    expect(d <= 2e-6 * scale, what, ": ", name, " is ", d, " from the plain path's");
  }
  for (const auto& [name, field] : kGradients) {
    const double d = distance(got.*field, plain.*field, 1e-3);
    worst_apart = std::max(worst_apart, d);
    expect(d <= 1e-3, what, ": ", name, " is ", d, " from the plain path's");
  }
  expect(got.counts == plain.counts, what, ": rows that are right");
  for (size_t i = 0; i < plain.scalars.size(); i++)
    expect(std::fabs(got.scalars[i] - plain.scalars[i]) <= 1e-3 * std::max(scale, std::fabs(plain.scalars[i])), what,
           ": scalar ", i, " is ", got.scalars[i], ", expected ", plain.scalars[i]);
}

void agreement(int64_t N, int64_t C, int64_t K, int64_t D, unsigned seed, int draws) {
  const Problem<float> q = random_problem<float>(N, C, K, D, seed);
  std::mt19937 random(seed);
  for (Method method : kMethods)
    for (int draw = 0; draw < draws; draw++) {
      MarginParams p = random_params(random, method, K);
      while (!allowed(p)) p = random_params(random, method, K);
      const bool margins = quality_of(method) == Quality::margin && random() % 2;
      std::ostringstream what;
      what << name_of(method) << " N=" << N << " C=" << C << " K=" << K << " D=" << D << " draw " << draw
           << " negatives " << int(p.negatives) << " scale " << p.scale << (p.scale_by_norm ? " by norm" : "");
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
      const Results tensor = on_path("tensor", q, p, margins), plain = on_path("plain", q, p, margins);
      close_to_plain(tensor, plain, largest, what.str());
      const Results exact = run(cpu(), widened(q), p, margins, Precision::float32);
      for (const auto& [name, field] : kGradients) {
        const double of_plain = distance(plain.*field, exact.*field), error = distance(tensor.*field, exact.*field);
        worst_against_plain = std::max(worst_against_plain, error / (of_plain + 1e-5));
        expect(error <= 2 * of_plain + 1e-5, what.str(), ": ", name, " is off by ", error, ", the plain path's by ",
               of_plain);
      }
      // A cosine is off by some 2⁻⁹ of √D terms' worth of it.
      const double lse = difference(tensor.lse, exact.lse, 1);
      if (p.negatives == Negatives::plain) expect(lse <= 0.01 * largest, what.str(), ": lse is off by ", lse);
    }
}

// Where memory is short, rows of weight are rounded a chunk at a time: to the same bits.
void short_memory() {
  const Problem<float> q = random_problem<float>(40, 900, 2, 64, 9);
  MarginParams p;
  p.method = Method::arcface;
  p.sub_centers = 2;
  const Results roomy = on_path("tensor", q, p, false);
  const size_t used = 6 * size_t(q.C * q.K * q.D) * sizeof(float);
  const Setting memory("FM_EMULATED_MEMORY", std::to_string(used + (400 << 10)));
  const Results tight = on_path("tensor", q, p, false);
  expect(roomy.dw == tight.dw && roomy.w == tight.w && roomy.adamw_w == tight.adamw_w && roomy.dx == tight.dx &&
             roomy.lse == tight.lse,
         "short of memory the bits are the same");
}

// The CPU's own bfloat16 products are the third witness.
void beside_the_cpu() {
  for (int K : {1, 3}) {
    const Problem<float> q = random_problem<float>(70, 203, K, 64, 11);
    MarginParams p;
    p.method = Method::arcface;
    p.sub_centers = K;
    const Results tensor = on_path("tensor", q, p, false), here = run(cpu(), q, p, false, Precision::bfloat16),
                  exact = run(cpu(), widened(q), p, false, Precision::float32);
    for (const auto& [name, field] : kGradients) {
      const double of_cpu = distance(here.*field, exact.*field), error = distance(tensor.*field, exact.*field);
      expect(error <= 2 * of_cpu + 1e-5, "K=", K, ": ", name, " is off by ", error, ", the CPU's by ", of_cpu);
    }
  }
}

// Rows and classes of zeros, norms beyond float's squares, cosines of ±1.
void extremes() {
  for (double scale : {64.0, 512.0}) {
    Problem<float> q = random_problem<float>(12, 140, 1, 9, 21);
    const auto row_of = [&](std::vector<float>& m, int64_t i) { return m.data() + i * q.D; };
    q.labels[6] = 20;
    q.labels[8] = 30;
    for (int64_t d = 0; d < q.D; d++) {
      row_of(q.x, 0)[d] = 0;
      row_of(q.x, 1)[d] = 2 * row_of(q.w, q.labels[1])[d];
      row_of(q.x, 2)[d] = -4 * row_of(q.w, q.labels[2])[d];
      row_of(q.x, 5)[d] *= 1e-20f;
      row_of(q.x, 6)[d] *= 1e20f;
      row_of(q.w, 30)[d] = 0;
      row_of(q.w, 31)[d] *= 1e-20f;
      row_of(q.w, 32)[d] *= 1e20f;
      row_of(q.w, 33)[d] = row_of(q.w, q.labels[1])[d];
    }
    MarginParams p;
    p.method = Method::arcface;
    p.scale = scale;
    const Results tensor = on_path("tensor", q, p, false), plain = on_path("plain", q, p, false);
    for (const auto& [name, field] : kGradients) {
      const std::vector<float>&got = tensor.*field, &wanted = plain.*field;
      for (size_t i = 0; i < wanted.size(); i += size_t(q.D)) {
        const std::vector<float> a(got.begin() + i, got.begin() + i + q.D),
            b(wanted.begin() + i, wanted.begin() + i + q.D);
        expect(distance(a, b, 1e-6) <= 5e-3, "extremes, scale ", scale, ": ", name, " row ", i / size_t(q.D), " is ",
               distance(a, b), " from the plain path's");
      }
    }
    expect(difference(tensor.lse, plain.lse, 1) <= 2e-6 * scale, "extremes: lse");
  }
}

void order_of_threads() {
  for (int K : {1, 3})
    for (Negatives negatives : {Negatives::plain, Negatives::curricular}) {
      const Problem<float> q = random_problem<float>(131, 307, K, 40, 5);
      MarginParams p;
      p.method = Method::cosface;
      p.sub_centers = K;
      p.negatives = negatives;
      p.t = 0.2;
      std::vector<Results> runs;
      for (const char* seed : {"1", "77777", "4242"}) {
        const Setting order("FM_EMULATED_SEED", seed);
        runs.push_back(on_path("tensor", q, p, true));
      }
      for (const Results& run : runs)
        expect(run.scalars == runs[0].scalars && run.counts == runs[0].counts && run.dx == runs[0].dx &&
                   run.dw == runs[0].dw && run.w == runs[0].w && run.v == runs[0].v && run.lse == runs[0].lse &&
                   run.step_dx == runs[0].step_dx && run.d_margins == runs[0].d_margins,
               "K=", K, ": the order of threads changes nothing");
    }
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
    return "no error";
  } catch (const Error& error) {
    return error.what();
  }
}

void choice() {
  MarginParams p;
  p.method = Method::softmax;
  const auto error_with = [&](const char* path, int64_t K) {
    p.sub_centers = int(K);
    const Problem<float> q = random_problem<float>(3, 5, K, 8, 1);
    return error_of([&] { on_path(path, q, p, false); });
  };
  expect(error_with("tensor", 8) == "no error", "a class of eight centers");
  std::string message = error_with("tensor", 9);
  expect(message == "FLASHMARGIN_CUDA_HEAD=tensor does not suit: its tiles hold at most 8 centers of a class, not 9",
         "a path that does not suit: ", message);
  message = error_with("fast", 1);
  expect(message.find("expected FLASHMARGIN_CUDA_HEAD to be one of ") == 0 && message.find(", got fast") > 0,
         "a path that there is not: ", message);

  // Without a wish the first that suits: more centers than a tile holds are the plain path's.
  for (int K : {3, 9}) {
    const Problem<float> q = random_problem<float>(5, 11, K, 24, 3);
    p.sub_centers = K;
    const Results chosen = run(gpu(), q, p, false, Precision::bfloat16),
                  expected = on_path(K == 3 ? "tensor" : "plain", q, p, false);
    expect(chosen.dw == expected.dw && chosen.lse == expected.lse, "K=", K, ": the path of choice");
  }

  // The second device's tensor cores are wrong: not taken, and refused where they are asked for.
  const Problem<float> small = random_problem<float>(5, 11, 1, 24, 3);
  p.sub_centers = 1;
  Backend& second = backend_of(Device{1});
  const Results fallen_back = [&] {
    const Setting wrong("FM_EMULATED_WRONG_MMA", "1");
    return run(second, small, p, false, Precision::bfloat16);
  }();
  const Results plain = on_path("plain", small, p, false);
  expect(fallen_back.dw == plain.dw && fallen_back.lse == plain.lse, "the path that disagreed is not taken");
  message = error_of([&] {
    const Setting wish("FLASHMARGIN_CUDA_HEAD", "tensor");
    run(second, small, p, false, Precision::bfloat16);
  });
  expect(message.find(
             "FLASHMARGIN_CUDA_HEAD=tensor does not suit: on a small case with 1 center a class its lse is ") == 0,
         "a path that disagreed, asked for: ", message);

  const Problem<double> q = widened(random_problem<float>(3, 5, 1, 8, 1));
  p.sub_centers = 1;
  message = error_of([&] { run(gpu(), q, p, false, Precision::bfloat16); });
  expect(message == "expected float32 tensors for precision bfloat16, got float64", "float64: ", message);
}

constexpr int64_t kShapes[][4] = {
    {1, 1, 1, 1},      {5, 7, 1, 3},     {3, 259, 1, 17},  // less than a tile each way, and ragged
    {129, 201, 1, 35}, {2, 128, 1, 130},                   // more than a tile
    {2, 2, 2, 33},     {7, 90, 3, 5},    {66, 129, 2, 9}, {9, 70, 4, 40}, {20, 37, 5, 31}, {5, 20, 8, 16},
};

}  // namespace

int main() {
  setenv("FLASHMARGIN_CUDA", FM_EMULATED_CUDA, 0);  // or a library that was named, for a GPU
  setenv("FLASHMARGIN_CUDA_SCRATCH", "0.05", 1);    // MiB: several chunks of classes
  try {
    unsigned seed = 1;
    for (const auto& [N, C, K, D] : kShapes) agreement(N, C, K, D, seed++, 1);
    short_memory();
    beside_the_cpu();
    extremes();
    order_of_threads();
    choice();
  } catch (const std::exception& error) {
    expect(false, error.what());
  }
  std::printf("at worst %.2f of the plain path's error, %.1e from it\n", worst_against_plain, worst_apart);
  expect(cuda_memory(0).used == 0, "memory is given back");
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
