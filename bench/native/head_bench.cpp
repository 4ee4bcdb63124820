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
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "../../native/common/methods.h"
#include "../../native/cpu/allocator.h"
#include "../../native/cpu/backend.h"
#include "../../native/cpu/parallel.h"
#define FM_KERNELS "../../bench/native/materialized_head.inl"
#include "../../native/cpu/for_each_isa.h"

namespace {

using namespace fm;
using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);

constexpr double kMebi = 1 << 20;
constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;

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

double status_mebibytes(const char* field) {
  char line[256];
  double kib = 0;
  FILE* file = std::fopen("/proc/self/status", "r");
  while (file && std::fgets(line, sizeof line, file))
    if (!std::strncmp(line, field, std::strlen(field))) kib = std::atof(line + std::strlen(field) + 1);
  if (file) std::fclose(file);
  return kib / 1024;
}

struct Bench {
  int N, D, C, threads;
  Tensor x, w, velocity, labels;
  MarginParams margin;
  SgdParams sgd{1e-3, 0.9, 5e-4};
  Sgemm sgemm = nullptr;
  const char* blas_core = "";

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

  bool load_blas() {
    const std::string count = std::to_string(threads);
    setenv("OPENBLAS_NUM_THREADS", count.c_str(), 1);
    void* library = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!library) return std::fprintf(stderr, "%s\n", dlerror()), false;
    sgemm = reinterpret_cast<Sgemm>(dlsym(library, "cblas_sgemm"));
    if (auto core = reinterpret_cast<char* (*)()>(dlsym(library, "openblas_get_corename"))) blas_core = core();
    return sgemm != nullptr;
  }

  // Buffers of the two materialising modes, kept between steps.
  Tensor unit, logits, gradient, inverse, embeddings, d_embeddings;
  void materialize() {
    if (unit.storage) return;
    unit = cpu_empty<float>({C, D});
    logits = cpu_empty<float>({N, C});
    gradient = cpu_empty<float>({C, D});
    inverse = cpu_empty<float>({C});
    d_embeddings = cpu_empty<float>({N, D});
    embeddings = cpu_backend().normalize_forward(x).y;
    std::memcpy(unit.raw(), w.raw(), w.bytes());
  }

  void products(int which) {
    float *e = embeddings.data<float>(), *u = unit.data<float>(), *l = logits.data<float>();
    if (which == 0) sgemm(kRowMajor, kPlain, kTransposed, N, C, D, 1, e, D, u, D, 0, l, C);
    if (which == 1) sgemm(kRowMajor, kPlain, kPlain, N, D, C, 1, l, C, u, D, 0, d_embeddings.data<float>(), D);
    if (which == 2) sgemm(kRowMajor, kTransposed, kPlain, C, D, N, 1, l, C, e, D, 0, gradient.data<float>(), D);
  }

  double gemm3() {
    materialize();
    for (int which : {0, 1, 2}) products(which);
    return 0;
  }

  double mat() {
    materialize();
    const auto normalized = cpu_backend().normalize_forward(x);
    embeddings = normalized.y;
    const auto normalize_rows = FM_KERNEL(normalize_rows);
    parallel_ranges(C, 512, [&](int64_t begin, int64_t end) {
      normalize_rows(w.data<float>(), unit.data<float>(), inverse.data<float>(), begin, end, D);
    });
    products(0);
    const ArcFace<double> arcface(margin);
    const auto softmax_row = FM_KERNEL(softmax_row);
    std::vector<double> losses(N);
    parallel_for(N, [&](int64_t i) {
      float* row = logits.data<float>() + i * C;
      const int label = labels.data<int32_t>()[i];
      const Phi<double> phi = target_phi(arcface, margin, double(row[label]), margin.margin);
      losses[i] = softmax_row(row, C, label, float(margin.scale), float(phi.value), float(phi.slope), 1.f / N);
    });
    products(1);
    products(2);
    cpu_backend().normalize_backward(d_embeddings, embeddings, normalized.norm);
    const auto update_rows = FM_KERNEL(update_rows);
    parallel_ranges(C, 512, [&](int64_t begin, int64_t end) {
      update_rows(w.data<float>(), velocity.data<float>(), gradient.data<float>(), unit.data<float>(),
                  inverse.data<float>(), begin, end, D, float(sgd.lr), float(sgd.momentum), float(sgd.weight_decay));
    });
    double loss = 0;
    for (double value : losses) loss += value / N;
    return loss;
  }

  double ours(HeadOptions options) {
    return cpu_backend().head_step(x, w, velocity, labels, std::nullopt, margin, sgd, options).loss;
  }

  double run(const std::string& mode) {
    if (mode == "gemm3") return gemm3();
    if (mode == "mat") return mat();
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
  for (const std::string& mode : modes) {
    if (std::find(kModes.begin(), kModes.end(), mode) == kModes.end())
      return std::printf("unknown mode '%s'\n", mode.c_str()), 2;
    if (mode == "mat" && (D % 16 || C % 16))
      return std::puts("expected D and C in multiples of 16: mat has no tails"), 2;
  }
  const bool all_ours = std::all_of(modes.begin(), modes.end(), is_ours);

  Bench bench(N, D, C, threads);
  if (option == "--memory") {
    const double before = status_mebibytes("VmRSS:");
    if (!all_ours && !bench.load_blas()) return 1;
    for (int i = 0; i < 2; i++) bench.run(only);
    std::printf("%.1f\n", status_mebibytes("VmHWM:") - before);
    return 0;
  }
  if (!all_ours && !bench.load_blas()) return 1;

  std::map<std::string, std::vector<double>> times;
  for (int rep = -1; rep < reps; rep++)
    for (const std::string& mode : modes) {
      const double start = now();
      bench.run(mode);
      if (rep >= 0) times[mode].push_back(now() - start);
    }

  if (!json) std::printf("N=%d D=%d C=%d threads=%d, OpenBLAS core %s\n", N, D, C, threads, bench.blas_core);
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
