// Steps of the head that are replayed as a CUDA graph, under the emulation: bit for bit those of plain launches, on every
// path; and what ends a graph, or leaves it unmade.
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <functional>

#include "cuda_head_test.h"
#include "error_of.h"
#include "in_a_process.h"

namespace {

using namespace fm;

// Of the library that is open in this process.
uint64_t graph_launches() {
  void* const library = dlopen(FM_EMULATED_CUDA, RTLD_NOW | RTLD_NOLOAD);
  return library ? reinterpret_cast<uint64_t (*)()>(dlsym(library, "fm_emulated_graph_launches"))() : 0;
}

void graph(const char* setting) {
  setting ? setenv("FLASHMARGIN_CUDA_GRAPH", setting, 1) : unsetenv("FLASHMARGIN_CUDA_GRAPH");
}

struct Settings {
  const char* name;
  MarginParams p;
  Optimizer type = Optimizer::sgd;
  Precision precision = Precision::float32;
  bool margins = false;
  int64_t C = 90;
  std::function<void(MarginParams&, int)> move = [](MarginParams&, int) {};  // before each step
};

MarginParams params(Method method, int K = 1) {
  MarginParams p;
  p.method = method;
  p.sub_centers = K;
  p.margin = 0.4;
  return p;
}

// A head that takes a step at a time, each with a batch, an lr and a count of its own.
template <class T>
class Stepper {
 public:
  explicit Stepper(const Settings& of)
      : of_(of), q_(random_problem<T>(21, of.C, of.p.sub_centers, 24, 3)), weight_(on(gpu(), rows(), q_.w)) {
    state_.push_back(on(gpu(), rows(), q_.v));
    if (of.type == Optimizer::adamw) state_.push_back(on(gpu(), rows(), absolute(q_.v)));
  }

  // The step's results, and then all of weight and state.
  std::vector<T> step(const std::function<void(Problem<T>&)>& change = [](Problem<T>&) {}) {
    Problem<T> batch = random_problem<T>(q_.N, q_.C, q_.K, q_.D, unsigned(10 + turn_));
    change(batch);
    OptimizerParams optimizer{0.3 / (1 + turn_), 0.7, 0.01, of_.type, 0.8, 0.95, 1e-3, double(1 + turn_)};
    turn_++;
    HeadOptions options;
    options.precision = of_.precision;
    OptionalTensor margins;
    if (of_.margins) margins = on(gpu(), {batch.N}, batch.margins);
    const HeadStep made = gpu().head_step(on(gpu(), {batch.N, batch.D}, batch.x), weight_, state_,
                                          on(gpu(), {batch.N}, batch.labels), margins, of_.p, optimizer, options);
    std::vector<T> all{T(made.loss), T(made.regularizer), T(made.correct), T(made.labelled), T(made.d_scale)};
    for (const Tensor& result : {made.row_loss, made.lse, made.d_features, made.d_margins}) append(all, result);
    append(all, weight_);
    for (const Tensor& each : state_) append(all, each);
    return all;
  }
  std::vector<T> weight() const { return values_of<T>(gpu(), weight_); }
  MarginParams& params() { return of_.p; }
  // Writes what is there: whatever a step left beside it is gone.
  void write_weight() {
    const std::vector<T> values = weight();
    gpu().copy_from_host(weight_, values.data(), weight_.bytes());
  }

 private:
  Shape rows() const { return {q_.C * q_.K, q_.D}; }
  static void append(std::vector<T>& all, const Tensor& t) {
    const std::vector<T> values = values_of<T>(gpu(), t);
    all.insert(all.end(), values.begin(), values.end());
  }
  Settings of_;
  Problem<T> q_;
  Tensor weight_;
  OptimizerState state_;
  int turn_ = 0;
};

template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || !std::memcmp(a.data(), b.data(), a.size() * sizeof(T)));
}

template <class T>
void replays(const Settings& of) {
  Stepper<T> replayed(of), launched(of);
  constexpr int kWritten = 3;  // before this step something else writes into the weight
  for (int turn = 0; turn < 6; turn++) {
    if (turn == kWritten) replayed.write_weight(), launched.write_weight();
    of.move(replayed.params(), turn), of.move(launched.params(), turn);
    graph("off");
    const std::vector<T> wanted = launched.step();
    graph("on");
    const uint64_t before = graph_launches();
    const std::vector<T> got = replayed.step();
    const uint64_t launches = graph_launches() - before;
    expect(same(got, wanted), of.name, ": step ", turn, " is that of plain launches");
    if (turn != 1 && turn != kWritten)
      expect(launches == (turn > 1), of.name, ": step ", turn, " launches ", launches, " graphs");
  }
  graph(nullptr);
}

void every_path(const char* path) {
  setenv("FLASHMARGIN_CUDA_HEAD", path, 1);
  const Precision bfloat16 = Precision::bfloat16;
  MarginParams smooth = params(Method::cosface);
  smooth.label_smoothing = 0.1, smooth.scale = 300;  // with a shift, found by a sweep
  replays<float>({"arcface", params(Method::arcface), Optimizer::sgd, bfloat16, true});
  replays<float>({"arcface by AdamW", params(Method::arcface, 3), Optimizer::adamw, bfloat16});
  replays<float>({"smoothed", smooth, Optimizer::sgd, bfloat16, false, 190});
  replays<float>({"sphereface2", params(Method::sphereface2), Optimizer::adamw, bfloat16});
  // Numbers that move from step to step.
  MarginParams hard = params(Method::arcface);
  hard.negatives = Negatives::curricular, hard.scale = 30;
  replays<float>({"curricularface", hard, Optimizer::sgd, bfloat16, false, 90,
                  [](MarginParams& p, int turn) { p.t = 0.1 * turn; }});
  if (path != std::string("plain")) return;
  const Precision float32 = Precision::float32;
  MarginParams adaface = params(Method::adaface);
  adaface.overflow = Overflow::none;
  replays<float>({"adaface", adaface, Optimizer::sgd, float32, false, 90,
                  [](MarginParams& p, int turn) { p.norm_mean = 18 + turn, p.norm_std = 4 + 0.3 * turn; }});
  replays<float>({"adacos", params(Method::softmax), Optimizer::adamw, float32, false, 90,
                  [](MarginParams& p, int turn) { p.scale = 20 - turn; }});
  replays<double>({"sphereface", params(Method::sphereface), Optimizer::sgd, float32, false, 90,
                   [](MarginParams& p, int turn) { p.margin = 1.5, p.lambda = 5 - turn; }});
  replays<float>({"sphereface2", params(Method::sphereface2), Optimizer::sgd, float32, false, 90,
                  [](MarginParams& p, int turn) { p.margin = 0.1 * turn, p.bias = -1 - turn; }});
  replays<float>({"arcface in float32", params(Method::arcface, 2), Optimizer::sgd, Precision::float32, true});
  replays<float>({"AdamW in float32", params(Method::arcface), Optimizer::adamw});
  replays<double>({"arcface in float64", params(Method::arcface), Optimizer::adamw});
}

// A replay that refuses its batch leaves everything alone, and the next one goes on.
bool refusals() {
  const Settings of{"", params(Method::arcface)};
  Stepper<float> replayed(of), launched(of);
  for (int turn = 0; turn < 7; turn++) {
    const bool bad = turn == 3 || turn == 5;
    const auto spoil = [&](Problem<float>& q) {
      if (turn == 3) q.labels[7] = 4000;
      if (turn == 5) q.x[4 * q.D + 1] = NAN;
    };
    const std::vector<float> before = replayed.weight();
    std::vector<float> got, wanted;
    graph("off");
    const std::string wanted_error = error_of([&] { wanted = launched.step(spoil); });
    graph("on");
    const std::string error = error_of([&] { got = replayed.step(spoil); });
    if (error != wanted_error || !same(got, wanted)) return false;
    if (bad && (error.empty() || !same(replayed.weight(), before))) return false;
    if (turn == 3 && error.find("got 4000 at row 7") == std::string::npos) return false;
  }
  return graph_launches() == 5 + 4;  // and those of the check
}

// Another weight, or a scale that needs a shift: other steps.
bool other_steps() {
  const Settings of{"", params(Method::arcface)};
  Stepper<float> one(of), other(of);
  const auto launches = [&](Stepper<float>& stepper) {
    const uint64_t before = graph_launches();
    stepper.step();
    return graph_launches() - before;
  };
  one.step(), one.step();
  const bool first = launches(one) == 1 && launches(other) == 0 && launches(other) == 0 && launches(other) == 1;
  one.params().scale = 300;
  return first && launches(one) == 0 && launches(one) == 0 && launches(one) == 1 && launches(other) == 1;
}

bool right_steps(
    int turns, const std::function<void(int)>& before_step = [](int) {}) {
  const Settings of{"", params(Method::arcface), Optimizer::adamw};
  Stepper<float> one(of), launched(of);
  bool right = true;
  for (int turn = 0; turn < turns; turn++) {
    graph("off");
    const std::vector<float> wanted = launched.step();
    graph(nullptr);
    before_step(turn);
    right = same(one.step(), wanted) && right;
  }
  return right;
}

bool says(const std::string& text, const std::string& part) {
  const bool has = text.find(part) != std::string::npos;
  if (!has) std::printf("it said: %s\n", text.c_str());
  return has;
}

// What cannot be recorded is launched, and said.
bool fails(const char* call) {
  const bool right = right_steps(6, [&](int turn) { setenv("FM_EMULATED_FAILURE", turn == 1 ? call : "", 1); });
  unsetenv("FM_EMULATED_FAILURE");
  Stepper<float> wished({"", params(Method::arcface)});
  graph("on");
  wished.step();
  const std::string error = error_of([&] { wished.step(); });
  return right && graph_launches() == 0 && says(error, "FLASHMARGIN_CUDA_GRAPH=on does not suit: ") &&
         says(error, call);
}
// A failure after the check, of one graph: none from then on.
bool fails_later() {
  right_steps(3);
  const uint64_t before = graph_launches();
  const bool right =
      right_steps(4, [&](int turn) { setenv("FM_EMULATED_FAILURE", turn < 2 ? "cudaGraphInstantiate" : "", 1); });
  unsetenv("FM_EMULATED_FAILURE");
  return before > 0 && right && right_steps(4) && graph_launches() == before &&
         says(cuda_head_path(0).warning, "not replayed as a CUDA graph: cudaErrorIllegalAddress");
}

bool differs() {
  setenv("FM_EMULATED_WRONG_GRAPH", "1", 1);
  const bool right = right_steps(5);
  const std::string warning = cuda_head_path(0).warning;
  return right && says(warning, "the head's steps are not replayed as a CUDA graph: ") &&
         says(warning, "differs from that of plain launches");
}

// The memory of kept steps is there for whoever has none, and a second time ends it.
bool memory() {
  const Settings of{"", params(Method::arcface)};
  Stepper<float> one(of), launched(of);
  const uint64_t without = cuda_memory(0).used;
  bool right = true;
  for (int turn = 0; turn < 12; turn++) {
    graph("off");
    const std::vector<float> wanted = launched.step();
    graph(nullptr);
    right = same(one.step(), wanted) && right;
    if (turn != 3 && turn != 7) continue;
    const uint64_t kept = cuda_memory(0).used;
    right = right && kept > without;
    const int64_t wanted_bytes = (turn == 3 ? 13 : 17) << 10;  // a size that nothing else has, nor had
    setenv("FM_EMULATED_MEMORY", std::to_string(kept + uint64_t(wanted_bytes) / 2).c_str(), 1);
    gpu().empty(Dtype::uint8, {wanted_bytes});
    unsetenv("FM_EMULATED_MEMORY");
    right = right && cuda_memory(0).used == without;
  }
  return right && says(cuda_head_path(0).warning, "memory was short while steps were kept") &&
         cuda_memory(0).used == without;
}

// Eight are kept; what is freed with its weight takes its graph along.
bool many() {
  const Settings of{"", params(Method::arcface)};
  bool right = true;
  {
    std::vector<Stepper<float>> heads;
    for (int i = 0; i < 9; i++) heads.emplace_back(of);
    const auto round = [&](int count) {
      const uint64_t before = graph_launches();
      for (int i = 0; i < count; i++) heads[size_t(i)].step();
      return graph_launches() - before;
    };
    round(8), round(8);
    right = round(8) == 8;
    heads[8].step(), heads[8].step();  // in place of the first
    const uint64_t before = graph_launches();
    heads[7].step(), heads[8].step();
    right = right && graph_launches() == before + 2;
    heads[0].step();
    right = right && graph_launches() == before + 2;
  }
  return right && cuda_memory(0).used == 0;
}

bool settings() {
  graph("off");
  Stepper<float> one({"", params(Method::arcface)});
  for (int turn = 0; turn < 4; turn++) one.step();
  const bool off = graph_launches() == 0 && says(cuda_head_path(0).chosen, "FLASHMARGIN_CUDA_GRAPH=off");
  graph("sometimes");
  const bool refused = says(error_of([&] { one.step(); }), "expected FLASHMARGIN_CUDA_GRAPH on or off, got sometimes");
  graph(nullptr);
  return off && refused && says(cuda_head_path(0).chosen, "steps that repeat are replayed as a CUDA graph");
}

// The emulation itself: nothing happens before the launch, and what waits spoils a capture.
bool emulation() {
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  int value = 1;
  cudaGraph_t recorded = nullptr;
  cudaGraphExec_t launchable = nullptr;
  bool right = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess;
  cudaMemsetAsync(&value, 0, sizeof value, stream);
  right = right && value == 1 && cudaStreamEndCapture(stream, &recorded) == cudaSuccess && value == 1 &&
          cudaGraphInstantiate(&launchable, recorded, 0) == cudaSuccess &&
          cudaStreamSynchronize(stream) == cudaSuccess && value == 1 &&
          cudaGraphLaunch(launchable, stream) == cudaSuccess && cudaStreamSynchronize(stream) == cudaSuccess &&
          value == 0;
  cudaGraphDestroy(recorded);
  cudaGraphExecDestroy(launchable);
  void* data = nullptr;
  const std::function<cudaError_t()> refused[] = {[&] { return cudaStreamSynchronize(stream); },
                                                  [&] { return cudaMalloc(&data, 8); }};
  for (const auto& call : refused) {
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    right = right && call() == cudaErrorStreamCaptureUnsupported &&
            cudaMemsetAsync(&value, 0, sizeof value, stream) == cudaErrorStreamCaptureInvalidated &&
            cudaStreamEndCapture(stream, &recorded) == cudaErrorStreamCaptureInvalidated && !recorded &&
            call() == cudaSuccess;
  }
  cudaFree(data);
  cudaStreamDestroy(stream);
  return right;
}

// What is known of a device is known once a process, so each case has its own.
void alone(const std::string& what, const std::function<bool()>& claim) {
  const auto with_what_it_expects = [&] {
    failed = 0;
    return claim() && failed == 0;
  };
  expect(in_a_process(what, with_what_it_expects), what);
}

}  // namespace

int main() {
  setenv("FLASHMARGIN_CUDA", FM_EMULATED_CUDA, 1);
  setenv("FLASHMARGIN_CUDA_SCRATCH", "0.01", 1);  // MiB: several chunks of classes
  for (const char* path : {"plain", "tensor", "hopper"})
    alone(std::string("replays on the path ") + path, [&] {
      setenv("FM_EMULATED_CAPABILITY", path == std::string("hopper") ? "90" : "80", 1);
      every_path(path);
      return passed > 0;
    });
  alone("a replay refuses its batch", refusals);
  alone("another weight or parameter", other_steps);
  for (const char* call :
       {"cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphUpload", "cudaGraphLaunch"})
    alone(std::string(call) + " fails", [&] { return fails(call); });
  alone("a graph fails after the check", fails_later);
  alone("replays that differ", differs);
  alone("memory runs out", memory);
  alone("more heads than are kept", many);
  alone("settings", settings);
  alone("the emulation of captures", emulation);
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
