// One peer of bench/runners/peers.mjs: keeps its weights and answers commands on stdin, a JSON line each, so that
// programs in several languages take turns on one machine.  bench/data.mjs has the data and the commands.
//   peer_bench gemm3|mat|ours N D C threads
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <sstream>

#include "materialized_head.h"
#include "process.h"

namespace {

using namespace fm;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void forget_peak() {
  if (FILE* file = std::fopen("/proc/self/clear_refs", "w")) {
    std::fputs("5", file);
    std::fclose(file);
  }
}

// Uniform in [−1, 1).
float value(uint32_t index) {
  uint32_t x = index * 0x9E3779B1u;
  x ^= x >> 15;
  x *= 0x85EBCA77u;
  x ^= x >> 13;
  return float(x * 0x1p-31 - 1);
}
float weight(int64_t index) { return float(0.01 * double(value(uint32_t(index)))); }

struct Peer {
  std::string mode;
  int N, D, C;
  bench::MaterializedHead held;
  Tensor x, labels, w, velocity, d_features;
  MarginParams margin;

  Peer(const std::string& mode, int N, int D, int C, bench::Sgemm sgemm)
      : mode(mode), N(N), D(D), C(C), held(N, D, mode == "ours" ? 1 : C, sgemm, mode == "mat") {
    margin.method = Method::arcface;
    x = cpu_empty<float>({N, D});
    labels = cpu_backend().empty(Dtype::int32, {N});
    for (int64_t i = 0; i < x.numel(); i++) x.data<float>()[i] = value(uint32_t(i) + 0xABCDEF01u);
    for (int64_t i = 0; i < N; i++) labels.data<int32_t>()[i] = int32_t((i * 7919 + 13) % C);
    if (mode == "ours") {
      w = cpu_empty<float>({C, D});
      velocity = cpu_empty<float>({C, D});
      std::memset(velocity.raw(), 0, velocity.bytes());
    } else {
      w = held.w;
    }
    for (int64_t j = 0; j < C; j++)
      for (int64_t k = 0; k < D; k++) row(j)[k] = weight(j * D + k);
  }

  float* row(int64_t j) { return w.data<float>() + j * w.shape[1]; }

  double step(double lr) {
    const OptimizerParams sgd{lr, 0.9, 5e-4};
    if (mode == "gemm3") return held.gemm3(x), 0;
    if (mode == "mat") {
      const double loss = held.step(x, labels, margin, sgd);
      d_features = held.d_features;
      return loss;
    }
    const HeadStep result = cpu_backend().head_step(x, w, {velocity}, labels, {}, margin, sgd);
    d_features = result.d_features;
    return result.loss;
  }

  // The first step from the initial weights: loss, dX of the first row, and how far that row's class center moved.
  void check() {
    const double loss = step(1e-3);
    if (mode == "gemm3") return void(std::puts("{}"));
    const int64_t label = labels.data<int32_t>()[0];
    std::printf("{\"loss\":%.9g,\"dFeatures\":[", loss);
    for (int k = 0; k < 16; k++) std::printf("%s%.9g", k ? "," : "", double(d_features.data<float>()[k]));
    std::printf("],\"moved\":[");
    for (int k = 0; k < 16; k++)
      std::printf("%s%.9g", k ? "," : "", double(row(label)[k]) - double(weight(label * D + k)));
    std::puts("]}");
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) return std::puts("usage: peer_bench gemm3|mat|ours N D C threads"), 2;
  const std::string mode = argv[1];
  const int N = std::atoi(argv[2]), D = std::atoi(argv[3]), C = std::atoi(argv[4]), threads = std::atoi(argv[5]);
  fm::set_num_threads(threads);
  const bench::Sgemm sgemm = mode == "ours" ? nullptr : bench::load_sgemm(threads);
  if (mode != "ours" && !sgemm) return 3;

  Peer peer(mode, N, D, C, sgemm);
  forget_peak();
  const double before = bench::status_mebibytes("VmRSS:");
  std::puts("{\"ready\":true}");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::string command;
    in >> command;
    if (command == "check") {
      peer.check();
    } else if (command == "time") {
      int steps = 1, warm = 0;
      in >> steps >> warm;
      for (int i = 0; i < warm; i++) peer.step(1e-6);
      std::printf("{\"ms\":[");
      for (int i = 0; i < steps; i++) {
        const double start = now();
        peer.step(1e-6);
        std::printf("%s%.4f", i ? "," : "", (now() - start) * 1e3);
      }
      std::puts("]}");
    } else if (command == "memory") {
      std::printf("{\"extraMiB\":%.1f}\n", bench::status_mebibytes("VmHWM:") - before);
    }
    std::fflush(stdout);
  }
  _exit(0);  // OpenBLAS's threads need no farewell
}
