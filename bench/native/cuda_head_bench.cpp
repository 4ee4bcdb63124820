// The whole head step on a CUDA device, a JSON line for each shape:
//
//   cuda_head_bench [--precision float32|bfloat16] [--keep MIB|all] [--steps S] [--rounds R] N,D,C[,K] …
//   … --filter SHARE      leaves tiles out, of features that lie at their class's center
//   … --sample SHARE      steps of so many of the C classes; choosing them takes `sampleMs` more
//
// FLASHMARGIN_CUDA and FLASHMARGIN_CUDA_HEAD choose the library and the kernels, FLASHMARGIN_CUDA_GRAPH whether steps are
// replayed, which those of each copy are from its third on: before that nothing is timed.  A step's time runs to the loss on the
// host.  Steps take turns over as many copies of weight and velocity as overfill the L2 cache, and over several batches;
// all are random, since a GPU multiplies zeros faster.  Memory is of the first shape alone: its peak cannot be reset.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "../../native/common/backend.h"
#include "../../native/common/devices.h"
#include "../../native/common/methods.h"
#include "../../native/cpu/class_sample.h"

namespace {

using namespace fm;

constexpr double kMebi = 1 << 20;
constexpr double kBeyondL2 = 256 * kMebi;  // no GPU has half as much of it
constexpr double kMostHeads = 8;           // that have a CUDA graph at a time
constexpr int kBatches = 4;

struct Settings {
  HeadOptions head;
  double sample = 1;
  int steps = 10, rounds = 2;
};
struct ShapeOfHead {
  int64_t N, D, C, K;
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Normal numbers, repeated with a period that no row's length divides.
class Normals {
 public:
  explicit Normals(float size) : pool_((1 << 20) - 3) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, size);
    for (float& value : pool_) value = normal(random);
  }
  void fill(Backend& device, const Tensor& x) const {
    for (int64_t first = 0; first < x.numel(); first += int64_t(pool_.size())) {
      const int64_t count = std::min(int64_t(pool_.size()), x.numel() - first);
      Tensor part;
      part.shape = {count};
      part.storage =
          std::make_shared<Storage>(x.data<float>() + first, size_t(count) * sizeof(float), x.device(), nullptr);
      device.copy_from_host(part, pool_.data(), part.bytes());
    }
  }

 private:
  std::vector<float> pool_;
};

struct Head {
  Tensor weight, velocity;
};
struct Batch {
  Tensor features, labels;
  OptionalTensor classes;
};

class Bench {
 public:
  // learned: features that lie at their class's center.  sample: a share of the classes.
  Bench(Backend& device, const ShapeOfHead& shape, bool learned, double sample) : device_(device) {
    const auto [N, D, C, K] = shape;
    margin_.method = Method::arcface;
    margin_.sub_centers = int(K);
    const Normals weights(0.01f), velocities(1e-4f), features(1);
    const size_t heads = size_t(std::clamp(kBeyondL2 / (8.0 * C * K * D), 1.0, kMostHeads));
    for (size_t i = 0; i < heads; i++) {
      heads_.push_back({device.empty(Dtype::float32, {C * K, D}), device.empty(Dtype::float32, {C * K, D})});
      weights.fill(device, heads_.back().weight);
      velocities.fill(device, heads_.back().velocity);
    }
    std::mt19937 random(2);
    std::vector<int32_t> labels(size_t(N), 0);
    for (int i = 0; i < kBatches; i++) {
      batches_.push_back({device.empty(Dtype::float32, {N, D}), device.empty(Dtype::int32, {N}), {}});
      features.fill(device, batches_.back().features);
      for (int32_t& label : labels) label = int32_t(random() % uint64_t(C));
      device.copy_from_host(batches_.back().labels, labels.data(), labels.size() * sizeof(int32_t));
      if (sample < 1) choose(labels, C, std::max<int64_t>(1, int64_t(sample * double(C))), i);
      if (!learned) continue;
      std::vector<int32_t> rows;
      for (int32_t label : labels) rows.push_back(int32_t(label * K));
      const Tensor index = device.empty(Dtype::int32, {N});
      device.copy_from_host(index, rows.data(), index.bytes());
      batches_.back().features = device.gather_rows(heads_.front().weight, index);  // all heads began alike
    }
  }

  // Bytes of weights, velocities and batches.
  double held() const {
    double bytes = 0;
    for (const Head& head : heads_) bytes += double(head.weight.bytes() + head.velocity.bytes());
    for (const Batch& batch : batches_) bytes += double(batch.features.bytes() + batch.labels.bytes());
    return bytes;
  }
  size_t heads() const { return heads_.size(); }

  // Milliseconds.
  double step(const HeadOptions& options) {
    const Head& head = heads_[turn_ % heads_.size()];
    const Batch& batch = batches_[turn_ % batches_.size()];
    turn_++;
    HeadOptions of_batch = options;
    of_batch.classes = batch.classes;
    const double began = now();
    const HeadStep made = device_.head_step(batch.features, head.weight, {head.velocity}, batch.labels, std::nullopt,
                                            margin_, OptimizerParams{1e-3, 0.9, 5e-4}, of_batch);
    loss = made.loss, filtered = made.filtered;
    return 1e3 * (now() - began);
  }

  double loss = 0, filtered = 0, sample_ms = 0;

 private:
  // Of the last batch.
  void choose(const std::vector<int32_t>& labels, int64_t C, int64_t count, int64_t step) {
    const Tensor on_cpu = cpu_backend().empty(Dtype::int32, {int64_t(labels.size())});
    std::copy(labels.begin(), labels.end(), on_cpu.data<int32_t>());
    const double began = now();
    const ClassSample sample = sample_classes(on_cpu, C, count, 1, step);
    sample_ms = 1e3 * (now() - began);
    batches_.back().classes = sample.classes;
    device_.copy_from_host(batches_.back().labels, sample.labels.raw(), sample.labels.bytes());
  }

  Backend& device_;
  MarginParams margin_;
  std::vector<Head> heads_;
  std::vector<Batch> batches_;
  size_t turn_ = 0;
};

void measure(const ShapeOfHead& shape, const Settings& settings, bool with_memory) {
  const auto [N, D, C, K] = shape;
  const double filter = settings.head.gradient_filter;
  Bench bench(backend_of(Device{0}), shape, filter > 0, settings.sample);
  for (size_t i = 0; i < 3 * bench.heads(); i++) bench.step(settings.head);
  std::vector<double> all, rounds;
  for (int round = 0; round < settings.rounds; round++) {
    std::vector<double> times;
    for (int i = 0; i < settings.steps; i++) times.push_back(bench.step(settings.head));
    rounds.push_back(median(times));
    all.insert(all.end(), times.begin(), times.end());
  }
  const auto [fastest, slowest] = std::minmax_element(all.begin(), all.end());
  const char* path = std::getenv("FLASHMARGIN_CUDA_HEAD");
  const char* graph = std::getenv("FLASHMARGIN_CUDA_GRAPH");
  const double ms = median(all);
  std::printf(
      "{\"bench\":\"gpu-head\",\"peer\":\"ours\",\"path\":\"%s\",\"graph\":\"%s\",\"precision\":\"%s\",\"N\":%lld,"
      "\"D\":%lld,"
      "\"C\":%lld,\"K\":%lld,\"ms\":%.5g,\"min\":%.5g,\"max\":%.5g,\"roundMs\":[",
      path && *path ? path : "auto", graph && *graph ? graph : "auto",
      settings.head.precision == Precision::bfloat16 ? "bfloat16" : "float32", (long long)N, (long long)D, (long long)C,
      (long long)K, ms, *fastest, *slowest);
  for (size_t i = 0; i < rounds.size(); i++) std::printf("%s%.5g", i ? "," : "", rounds[i]);
  std::printf("],\"steps\":%zu,\"heads\":%zu,\"tflops\":%.4g,\"loss\":%.6g", all.size(), bench.heads(),
              6.0 * double(N) * settings.sample * double(C * K) * double(D) / ms / 1e9, bench.loss);
  const double keep = settings.head.keep_bytes;
  if (keep >= 0) std::printf(std::isinf(keep) ? ",\"keep\":\"all\"" : ",\"keep\":\"%g MiB\"", keep / kMebi);
  if (filter > 0) std::printf(",\"filter\":%g,\"filtered\":%.4f", filter, bench.filtered);
  if (settings.sample < 1) std::printf(",\"sample\":%g,\"sampleMs\":%.4g", settings.sample, bench.sample_ms);
  if (with_memory) std::printf(",\"extraMiB\":%.1f", (double(cuda_memory(0).peak) - bench.held()) / kMebi);
  std::printf("}\n");
  std::fflush(stdout);
}

bool parse(const std::string& text, ShapeOfHead& shape) {
  std::istringstream in(text);
  std::vector<int64_t> numbers;
  for (std::string each; std::getline(in, each, ',');) numbers.push_back(std::atoll(each.c_str()));
  if (numbers.size() < 3 || numbers.size() > 4 || *std::min_element(numbers.begin(), numbers.end()) < 1) return false;
  shape = {numbers[0], numbers[1], numbers[2], numbers.size() > 3 ? numbers[3] : 1};
  return true;
}

int usage(const std::string& what) {
  std::fprintf(stderr,
               "cuda_head_bench: %s\n"
               "usage: cuda_head_bench [--precision float32|bfloat16] [--keep MIB|all] [--filter SHARE] "
               "[--sample SHARE] "
               "[--steps S] [--rounds R] N,D,C[,K] ...\n",
               what.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  std::vector<ShapeOfHead> shapes;
  for (int i = 1; i < argc; i++) {
    const std::string name = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    ShapeOfHead shape;
    if (name == "--precision" && (value == "float32" || value == "bfloat16"))
      settings.head.precision = value == "bfloat16" ? Precision::bfloat16 : Precision::float32, i++;
    else if (name == "--keep" && value == "all") settings.head.keep_bytes = INFINITY, i++;
    else if (name == "--keep" && std::atof(value.c_str()) > 0)
      settings.head.keep_bytes = std::atof(value.c_str()) * kMebi, i++;
    else if (name == "--filter" && std::atof(value.c_str()) > 0 && std::atof(value.c_str()) < 1)
      settings.head.gradient_filter = std::atof(value.c_str()), i++;
    else if (name == "--sample" && std::atof(value.c_str()) > 0 && std::atof(value.c_str()) < 1)
      settings.sample = std::atof(value.c_str()), i++;
    else if (name == "--steps" && std::atoi(value.c_str()) > 0) settings.steps = std::atoi(value.c_str()), i++;
    else if (name == "--rounds" && std::atoi(value.c_str()) > 0) settings.rounds = std::atoi(value.c_str()), i++;
    else if (parse(name, shape)) shapes.push_back(shape);
    else return usage("'" + name + "' is neither an option with its value nor a shape");
  }
  if (shapes.empty()) return usage("expected a shape");
  try {
    for (size_t i = 0; i < shapes.size(); i++) measure(shapes[i], settings, i == 0);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_head_bench: %s\n", error.what());
    return 1;
  }
}
