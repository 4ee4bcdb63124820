// The whole head on an emulated device of compute capability 9.0, whose path is hopper's, against the plain path on the
// same bfloat16 rows: every method with every axis.
#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <tuple>

#include "error_of.h"
#include "hopper_head_test.h"
#include "optimizer_reference.h"

namespace {

using namespace fm;

using Results = std::map<std::string, Matrix>;

// path: none for the one of choice.  SGD's two steps keep all terms, AdamW's as many as fit in keep_bytes.
Results run(const Problem& q, const MarginParams& p, const char* path = nullptr, double keep_bytes = 0) {
  if (path) setenv("FLASHMARGIN_CUDA_HEAD", path, 1);
  else unsetenv("FLASHMARGIN_CUDA_HEAD");
  const Tensor x = on_gpu({q.N, q.D}, q.x), w = on_gpu({q.C * q.K, q.D}, q.w),
               v = on_gpu({q.C * q.K, q.D}, Matrix(size_t(q.C * q.K * q.D), 0.1)),
               labels = on_gpu<int32_t>({q.N}, Matrix(q.labels.begin(), q.labels.end()));
  OptionalTensor margins;
  if (!q.margins.empty()) margins = on_gpu({q.N}, q.margins);
  Results out;
  const auto forward = gpu().margin_softmax_forward(x, w, labels, margins, p, Precision::bfloat16);
  out["row loss"] = from_gpu(forward.row_loss), out["lse"] = from_gpu(forward.lse), out["loss"] = {forward.loss};
  const auto gradients = gpu().margin_softmax_backward(x, w, labels, margins, forward.lse, 1.5, p, Precision::bfloat16);
  out["dx"] = from_gpu(gradients.d_features), out["dw"] = from_gpu(gradients.d_weight);
  out["d_margins"] = from_gpu(gradients.d_margins), out["d_scale"] = {gradients.d_scale};
  out["d_bias"] = {gradients.d_bias};
  HeadOptions options;
  options.precision = Precision::bfloat16;
  gpu().head_step(x, w, {v}, labels, margins, p, {0.3, 0.7, 0.01}, options);
  const auto step = gpu().head_step(x, w, {v}, labels, margins, p, {0.3, 0.7, 0.01}, options);
  out["step dx"] = from_gpu(step.d_features), out["step w"] = from_gpu(w), out["step v"] = from_gpu(v);
  out["step loss"] = {step.loss};
  const Tensor w2 = on_gpu({q.C * q.K, q.D}, q.w), m2 = on_gpu({q.C * q.K, q.D}, Matrix(size_t(q.C * q.K * q.D), 0.1)),
               v2 = on_gpu({q.C * q.K, q.D}, Matrix(size_t(q.C * q.K * q.D), 0.01));
  options.keep_bytes = keep_bytes;
  gpu().head_step(x, w2, {m2, v2}, labels, margins, p, kAdamWCase, options);
  out["AdamW's w"] = from_gpu(w2), out["expAvg"] = from_gpu(m2), out["expAvgSq"] = from_gpu(v2);
  return out;
}

// The sums differ by float32's rounding, and a score by bfloat16's where that tips it over.
double room(const std::string& what) {
  return what.find("loss") != std::string::npos || what == "lse" ? 2e-4 : 1.0 / 128;
}

void agree(const Case& c, int64_t N, int64_t C, int64_t D, unsigned seed, double keep_bytes = 0, int64_t zeros = 0) {
  Problem q = problem_for(c, N, C, D, seed);
  std::fill_n(q.x.begin(), zeros * D, 0);
  try {
    const Results plain = run(q, c.p, "plain"), hopper = run(q, c.p, "hopper", keep_bytes);
    for (const auto& [what, wanted] : plain) {
      const double off = distance(hopper.at(what), wanted, what.find("loss") != std::string::npos ? 1 : 1e-6);
      expect(off < room(what), c.name, ", N ", N, " C ", C, " D ", D, ": ", what, " is off by ", off);
    }
  } catch (const std::exception& error) {
    expect(false, c.name, ": ", error.what());
  }
}

// What a case asks of the sweeps' kernels; the rest of it is the targets' pass, which every path shares.
auto sweeps_of(const MarginParams& p) {
  const bool clipped = p.cosine_epsilon > 0;
  return std::make_tuple(p.negatives, is_binary(p.method) ? int(p.method) : -1, is_binary(p.method) ? p.power : 0,
                         p.sub_centers, p.label_smoothing > 0, clipped, clipped && p.gradient == Gradient::exact,
                         p.scale_by_norm, p.project_weight_gradient);
}

// A path that would wait for ever is found at its first use on a device, and left out.
void stuck() {
  setenv("FM_EMULATED_MISTAKE", "lost", 1);
  Backend& other = backend_of(Device{1});
  const Problem q = problem_for({"", params(Method::arcface, 64)}, 9, 40, 24, 3);
  const auto sum = [&](const char* path) {
    path ? setenv("FLASHMARGIN_CUDA_HEAD", path, 1) : unsetenv("FLASHMARGIN_CUDA_HEAD");
    const auto there = [&](Dtype dtype, const Shape& shape, const void* from) {
      Tensor t = other.empty(dtype, shape);
      other.copy_from_host(t, from, t.bytes());
      return t;
    };
    const std::vector<float> x(q.x.begin(), q.x.end()), w(q.w.begin(), q.w.end());
    const std::vector<int32_t> labels(q.labels.begin(), q.labels.end());
    return other
        .margin_softmax_forward(there(Dtype::float32, {q.N, q.D}, x.data()),
                                there(Dtype::float32, {q.C, q.D}, w.data()), there(Dtype::int32, {q.N}, labels.data()),
                                {}, params(Method::arcface, 64), Precision::bfloat16)
        .loss;
  };
  expect(sum(nullptr) == sum("tensor"), "a path that is stuck is left out");
  try {
    sum("hopper");
    expect(false, "a path that is stuck is refused");
  } catch (const Error& error) {
    const std::string what = error.what();
    expect(what.find("1 center a class its kernels waited in vain") != std::string::npos, "got: ", what);
  }
  setenv("FM_EMULATED_MISTAKE", "", 1);
}

// What a step leaves beside its weight is what the weight is read as, until something else writes there.
void unit_rows() {
  unsetenv("FLASHMARGIN_CUDA_HEAD");
  const int64_t N = 9, C = 150, D = 272;
  const MarginParams p = params(Method::arcface, 64);
  const Problem q = problem_for({"", p}, N, C, D, 3);
  const Tensor x = on_gpu({N, D}, q.x), labels = on_gpu<int32_t>({N}, Matrix(q.labels.begin(), q.labels.end()));
  HeadOptions options;
  options.precision = Precision::bfloat16;
  const OptimizerParams sgd{0.3, 0.7, 0.01};
  const auto lse_of = [&](const Tensor& w) {
    return from_gpu(gpu().margin_softmax_forward(x, w, labels, {}, p, Precision::bfloat16).lse);
  };
  const auto stepped = [&] {
    const Tensor w = on_gpu({C, D}, q.w), v = on_gpu({C, D}, Matrix(size_t(C * D), 0.1));
    gpu().head_step(x, w, {v}, labels, {}, p, sgd, options);
    return w;
  };
  const auto as_read_anew = [&](const Tensor& w, const char* after) {
    const Tensor copy = on_gpu({C, D}, from_gpu(w));
    expect(lse_of(w) == lse_of(copy), "after ", after, " the unit rows are the weight's");
  };
  expect(stepped().storage->derived.value() != nullptr, "a step leaves unit rows");
  as_read_anew(stepped(), "a step");
  const Tensor other = on_gpu({C, D}, Matrix(size_t(C * D), 0.5)), one = on_gpu<int32_t>({1}, Matrix(1, 4.0)),
               row = on_gpu({1, D}, Matrix(size_t(D), 0.7)), norms = on_gpu({C}, Matrix(size_t(C), 0.0));
  const std::vector<std::pair<const char*, std::function<void(const Tensor&)>>> writers = {
      {"copy_from_host",
       [&](const Tensor& w) { gpu().copy_from_host(w, std::vector<float>(size_t(C * D), 0.3f).data(), w.bytes()); }},
      {"fill", [&](const Tensor& w) { gpu().fill(w, 0.5); }},
      {"accumulate", [&](const Tensor& w) { gpu().accumulate(w, other); }},
      {"scatter_add_rows", [&](const Tensor& w) { gpu().scatter_add_rows(w, one, row); }},
      {"normalize_into", [&](const Tensor& w) { gpu().normalize_into(other, w, norms); }},
      {"optimizer_step",
       [&](const Tensor& w) {
         gpu().optimizer_step(w, {on_gpu({C, D}, Matrix(size_t(C * D), 0.1))}, other, sgd);
       }},
      {"a float32 step",
       [&](const Tensor& w) {
         gpu().head_step(x, w, {on_gpu({C, D}, Matrix(size_t(C * D), 0.1))}, labels, {}, p, sgd, {});
       }},
  };
  for (const auto& [name, write] : writers) {
    const Tensor w = stepped();
    write(w);
    expect(w.storage->derived.value() == nullptr, name, " forgets the unit rows");
    as_read_anew(w, name);
  }
  // The same memory as rows of another length.
  const Tensor w2 = stepped();
  const int64_t halves = 2 * C, half = D / 2;
  Tensor reshaped = w2, x2 = on_gpu({N, half}, Matrix(q.x.begin(), q.x.begin() + N * half));
  reshaped.shape = {halves, half};
  const auto lse_of_halves = [&](const Tensor& weight) {
    return from_gpu(gpu().margin_softmax_forward(x2, weight, labels, {}, p, Precision::bfloat16).lse);
  };
  expect(lse_of_halves(reshaped) == lse_of_halves(on_gpu({halves, half}, from_gpu(w2))),
         "a reshaped weight does not take the unit rows of its other shape");
  // Rows that only their exact norm has a direction for are read anew.
  Matrix tiny = q.w;
  for (int64_t d = 0; d < D; d++) tiny[size_t(d)] = 1e-15;
  const Tensor w = on_gpu({C, D}, tiny), v = on_gpu({C, D}, Matrix(size_t(C * D), 0.0));
  OptimizerParams still = sgd;
  still.lr = 0;
  gpu().head_step(x, w, {v}, labels, {}, p, still, options);
  expect(w.storage->derived.value() == nullptr, "a row of an unusual norm leaves no unit rows");
  as_read_anew(w, "a step of a tiny row");
}

// Wherever in a step memory runs out, the weight is as it was.
void memory_runs_out() {
  unsetenv("FLASHMARGIN_CUDA_HEAD");
  const int64_t N = 300, C = 600, D = 24;
  const MarginParams p = params(Method::arcface, 64);
  const Problem q = problem_for({"", p}, N, C, D, 3);
  const Tensor x = on_gpu({N, D}, q.x), labels = on_gpu<int32_t>({N}, Matrix(q.labels.begin(), q.labels.end())),
               w = on_gpu({C, D}, q.w), v = on_gpu({C, D}, Matrix(size_t(C * D), 0.1));
  HeadOptions options;
  options.precision = Precision::bfloat16;
  options.keep_bytes = double(N) * 256 * 2;  // of 256 classes
  const Matrix before = from_gpu(w);
  const auto step = [&] {
    return error_of([&] { gpu().head_step(x, w, {v}, labels, {}, p, {0.3, 0.7, 0.01}, options); });
  };
  const size_t used = size_t(cuda_memory(0).used);
  int failures = 0;
  for (size_t more = 0; more < 4 << 20; more += 12 << 10) {
    setenv("FM_EMULATED_MEMORY", "0", 1);
    error_of([] { gpu().empty(Dtype::uint8, {1 << 20}); });  // gives back what is kept for reuse
    setenv("FM_EMULATED_MEMORY", std::to_string(used + more).c_str(), 1);
    if (step() == "no error") break;
    failures++;
    expect(from_gpu(w) == before, "with ", more, " bytes a step that fails leaves the weight alone");
  }
  unsetenv("FM_EMULATED_MEMORY");
  expect(failures > 10 && from_gpu(w) != before, "memory ran out ", failures, " times before the step");
}

// Without a wish it is hopper's, and where that does not suit the tensor cores'.
void choice() {
  MarginParams p = params(Method::arcface, 64);
  for (const auto& [K, D, path] :
       {std::tuple<int, int, const char*>{1, 24, "hopper"}, {8, 24, "hopper"}, {5, 24, "tensor"}, {1, 20, "tensor"}}) {
    p.sub_centers = K;
    const Problem q = problem_for({"", p}, 9, 40, D, 3);
    expect(run(q, p) == run(q, p, path), "K ", K, ", D ", D, ": the path of choice is ", path);
  }
}

}  // namespace

int main() {
  setenv("FLASHMARGIN_CUDA", FM_EMULATED_CUDA, 0);  // or a library that was named, for a GPU
  setenv("FM_EMULATED_CAPABILITY", "90", 1);
  setenv("FLASHMARGIN_CUDA_SCRATCH", "0.05", 1);  // MiB: several chunks of classes
  unsigned seed = 1;
  std::set<decltype(sweeps_of({}))> sweeps;
  std::set<Method> methods;
  for (const Case& c : every_case(16)) {
    if (c.p.sub_centers == 5) continue;  // does not suit
    const bool first = sweeps.insert(sweeps_of(c.p)).second, of_method = methods.insert(c.p.method).second;
    if (first || of_method) agree(c, 21, 190, 24, seed++);
  }
  MarginParams p = params(Method::arcface, 64);
  const Case arcface{"arcface, scale 64", p};
  agree(arcface, 300, 700, 136, seed++);
  agree(arcface, 3, 5, 8, seed++);
  agree(arcface, 70, 300, 520, seed++);
  agree(arcface, 70, 300, 304, seed++);                // both warpgroups have a row
  agree(arcface, 70, 400, 512, seed++, 70 * 256 * 2);  // the terms of 256 classes kept, the others computed again
  p.sub_centers = 8;
  agree({"arcface, K 8", p}, 140, 200, 64, seed++);
  p.scale = 128, p.sub_centers = 1;  // a shift, found by a sweep
  agree({"arcface, scale 128", p}, 70, 300, 64, seed++);
  p = params(Method::softmax, 64), p.scale_by_norm = true;  // of rows of zeros the scale is 0
  agree({"softmax by norm", p}, 9, 40, 24, seed++, 0, 2);
  try {
    unit_rows();
    memory_runs_out();
    choice();
    stuck();
  } catch (const std::exception& error) {
    expect(false, error.what());
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
