// The fused head step against the three matrix products that any head needs, alternating in one process:
//
//   gemm3   OpenBLAS's sgemm for the logits, dX and dW: no softmax, no update
//   mat     the whole step with the [N, C] logits held: the same products, vectorised softmax, projection and SGD
//   ours    CpuBackend::head_step as it is by default
//   ours-fast, ours-bf16, ours-bf16-fast            with the cosines of all classes kept, with bfloat16 products, both
//
//   head_bench N D C threads reps [--json]           times of the first three, then the memory of each mode in a process
//                                                    of its own
//   head_bench N D C threads reps --modes A,B,…      times of these; ratios are to the first
//                                                    --cpu after them: processor time
//   head_bench N D C threads reps --memory MODE      that process
//   head_bench N D C threads reps --only MODE        times one mode, without OpenBLAS where it is one of ours
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "materialized_head.h"
#include "process.h"

namespace {

using namespace fm;

constexpr double kMebi = 1 << 20;

// Seconds; of the processor's time, where one thread is timed on a machine that has other work.
bool of_processor = false;
double now() {
  timespec time;
  clock_gettime(of_processor ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Bench {
  int N, D, C, threads;
  Tensor x, w, velocity, labels;
  MarginParams margin;
  OptimizerParams sgd{1e-3, 0.9, 5e-4};
  std::unique_ptr<bench::MaterializedHead> twin;  // of gemm3 and mat

  Bench(int N, int D, int C, int threads) : N(N), D(D), C(C), threads(threads) {
    set_num_threads(threads);
    margin.method = Method::arcface;
    x = cpu_empty<float>({N, D});
    w = cpu_empty<float>({C, D});
    velocity = cpu_empty<float>({C, D});
    labels = cpu_backend().empty(Dtype::int32, {N});
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> pool((1 << 20) - 3);
    for (float& value : pool) value = normal(random);
    for (int64_t i = 0; i < x.numel(); i++) x.data<float>()[i] = normal(random);
    for (int64_t i = 0; i < w.numel(); i++) w.data<float>()[i] = 0.01f * pool[i % pool.size()];
    std::fill_n(velocity.data<float>(), velocity.numel(), 0.f);
    for (int i = 0; i < N; i++) labels.data<int32_t>()[i] = int32_t(random() % unsigned(C));
  }

  // Of weights of its own, the same numbers.
  bool make_twin(bool trains) {
    const bench::Sgemm sgemm = bench::load_sgemm(threads);
    if (!sgemm) return false;
    twin = std::make_unique<bench::MaterializedHead>(N, D, C, sgemm, trains);
    for (int64_t j = 0; j < C; j++)
      std::memcpy(twin->w.data<float>() + j * twin->Dp, w.data<float>() + j * D, D * sizeof(float));
    return true;
  }

  double ours(HeadOptions options) {
    return cpu_backend().head_step(x, w, {velocity}, labels, std::nullopt, margin, sgd, options).loss;
  }

  double run(const std::string& mode) {
    if (mode == "gemm3") return twin->gemm3(x), 0;
    if (mode == "mat") return twin->step(x, labels, margin, sgd);
    HeadOptions options;
    if (mode.find("-bf16") != mode.npos) options.precision = Precision::bfloat16;
    if (mode.find("-fast") != mode.npos) options.keep_bytes = INFINITY;
    return ours(options);
  }
};

const std::vector<std::string> kModes = {"gemm3", "mat", "ours", "ours-fast", "ours-bf16", "ours-bf16-fast"};
bool is_ours(const std::string& mode) { return mode.rfind("ours", 0) == 0; }

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> out;
  std::istringstream in(list);
  for (std::string each; std::getline(in, each, ',');) out.push_back(each);
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6)
    return std::puts("usage: head_bench N D C threads reps [--json | --modes A,B,… | --memory MODE | --only MODE]"), 2;
  const int N = std::atoi(argv[1]), D = std::atoi(argv[2]), C = std::atoi(argv[3]), threads = std::atoi(argv[4]);
  const int reps = std::max(1, std::atoi(argv[5]));
  const std::string option = argc > 6 ? argv[6] : "", only = argc > 7 ? argv[7] : "";
  const bool json = option == "--json";
  of_processor = argc > 8 && !std::strcmp(argv[8], "--cpu");
  std::vector<std::string> modes(kModes.begin(), kModes.begin() + 3);
  if (!only.empty()) modes = split(only);
  for (const std::string& mode : modes)
    if (std::find(kModes.begin(), kModes.end(), mode) == kModes.end())
      return std::printf("unknown mode '%s'\n", mode.c_str()), 2;
  const bool all_ours = std::all_of(modes.begin(), modes.end(), is_ours);
  const bool materializes = std::find(modes.begin(), modes.end(), "mat") != modes.end();

  Bench run(N, D, C, threads);
  if (option == "--memory") {
    if (!all_ours && !run.make_twin(materializes)) return 1;
    const double before = bench::status_mebibytes("VmRSS:");
    for (int i = 0; i < 2; i++) run.run(only);
    std::printf("%.1f\n", bench::status_mebibytes("VmHWM:") - before);
    return 0;
  }
  if (!all_ours && !run.make_twin(materializes)) return 1;

  std::map<std::string, std::vector<double>> times;
  for (int rep = -1; rep < reps; rep++)
    for (const std::string& mode : modes) {
      const double start = now();
      run.run(mode);
      if (rep >= 0) times[mode].push_back(now() - start);
    }

  if (!json) std::printf("N=%d D=%d C=%d threads=%d\n", N, D, C, threads);
  for (const std::string& mode : modes) {
    const double ms = median(times[mode]) * 1e3;
    const auto [fastest, slowest] = std::minmax_element(times[mode].begin(), times[mode].end());
    std::vector<double> ratios;
    for (int rep = 0; rep < reps; rep++) ratios.push_back(times[mode][rep] / times[modes[0]][rep]);
    double memory = -1;
    if (option != "--only") {
      char command[4096];
      std::snprintf(command, sizeof command, "'%s' %d %d %d %d 1 --memory %s", argv[0], N, D, C, threads, mode.c_str());
      if (FILE* pipe = popen(command, "r")) {
        if (std::fscanf(pipe, "%lf", &memory) != 1) memory = -1;
        pclose(pipe);
      }
    }
    const double gflops = (is_ours(mode) && mode.find("-fast") == mode.npos ? 8.0 : 6.0) * N * C * D / ms / 1e6;
    if (json)
      std::printf(
          "{\"bench\":\"head\",\"mode\":\"%s\",\"N\":%d,\"D\":%d,\"C\":%d,\"threads\":%d,\"reps\":%d,\"ms\":%.3f,"
          "\"min\":%.3f,\"max\":%.3f,\"ratio\":%.4f,\"gflops\":%.1f,\"extraMiB\":%.1f}\n",
          mode.c_str(), N, D, C, threads, reps, ms, *fastest * 1e3, *slowest * 1e3, median(ratios), gflops, memory);
    else
      std::printf(
          "%-14s %9.2f ms (%.2f to %.2f)  ratio %.3f  %6.1f GFLOP/s  %.1f MiB beyond weight and velocity (%.0f)\n",
          mode.c_str(), ms, *fastest * 1e3, *slowest * 1e3, median(ratios), gflops, memory, 8.0 * C * D / kMebi);
  }
  std::fflush(stdout);
  _exit(0);  // OpenBLAS's threads need no farewell
}
