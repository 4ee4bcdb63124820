// GFLOP/s of the convolutions of iresnet at 112 × 112 and of a small network, forward and both backwards, by our kernels and
// by oneDNN.  Usage: conv_bench [threads = 1] [repeats = 7] [part of a name].  Repeats alternate between the two; medians.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../../native/common/backend.h"
#include "../../native/cpu/isa.h"
#include "../../native/cpu/onednn.h"
#include "../../native/cpu/parallel.h"

using namespace fm;

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Case {
  int64_t batch, inputs, outputs, size;
  int stride;
  int64_t kernel;
  std::string name() const {
    return std::to_string(kernel) + 'x' + std::to_string(kernel) + " s" + std::to_string(stride) + ' ' +
           std::to_string(inputs) + "->" + std::to_string(outputs) + " @" + std::to_string(size) + " n" +
           std::to_string(batch);
  }
};

const Case kCases[] = {
    // a small network on 32 × 32
    {256, 1, 24, 32, 2, 3},
    {256, 24, 24, 16, 1, 3},
    {256, 24, 48, 16, 1, 3},
    {256, 48, 48, 16, 2, 3},
    {256, 24, 48, 16, 2, 1},
    {256, 48, 96, 8, 1, 3},
    {256, 96, 96, 8, 2, 3},
    {256, 96, 96, 4, 1, 3},
    {256, 1, 32, 32, 2, 3},
    {256, 32, 32, 16, 1, 3},
    {256, 32, 64, 16, 1, 3},
    {256, 64, 64, 16, 2, 3},
    {256, 64, 128, 8, 1, 3},
    {256, 128, 128, 8, 2, 3},
    {256, 128, 128, 4, 1, 3},
    {256, 64, 128, 8, 2, 1},
    // iresnet
    {8, 3, 64, 112, 1, 3},
    {8, 64, 64, 112, 1, 3},
    {8, 64, 64, 112, 2, 3},
    {8, 64, 64, 56, 1, 3},
    {8, 64, 128, 56, 1, 3},
    {8, 128, 128, 56, 2, 3},
    {8, 128, 128, 28, 1, 3},
    {8, 128, 256, 28, 1, 3},
    {8, 256, 256, 28, 2, 3},
    {8, 256, 256, 14, 1, 3},
    {8, 256, 512, 14, 1, 3},
    {8, 512, 512, 14, 2, 3},
    {8, 512, 512, 7, 1, 3},
    {8, 64, 64, 112, 2, 1},
    {8, 64, 128, 56, 2, 1},
    {8, 128, 256, 28, 2, 1},
    {8, 256, 512, 14, 2, 1}};

Tensor ramp(const Shape& shape) {
  Tensor t = cpu_backend().empty(Dtype::float32, shape);
  for (int64_t i = 0; i < t.numel(); i++) t.data<float>()[i] = float(i % 17) * 0.01f - 0.08f;
  return t;
}

// Median seconds of f with our kernels and with oneDNN.
std::pair<double, double> compare(const std::function<void()>& f, int repeats) {
  std::vector<double> times[2];
  for (int i = -1; i < repeats; i++)
    for (int plugin = 0; plugin < (onednn_available() ? 2 : 1); plugin++) {
      set_onednn_use(plugin ? OnednnUse::always : OnednnUse::never);
      const double start = now();
      f();
      if (i >= 0) times[plugin].push_back(now() - start);
    }
  const auto median = [](std::vector<double>& v) {
    std::sort(v.begin(), v.end());
    return v.empty() ? 0.0 : v[v.size() / 2];
  };
  return {median(times[0]), median(times[1])};
}

}  // namespace

int main(int count, char** arguments) {
  const int threads = count > 1 ? std::atoi(arguments[1]) : 1, repeats = count > 2 ? std::atoi(arguments[2]) : 7;
  const char* part = count > 3 ? arguments[3] : "";
  set_num_threads(threads);
  std::printf("%d threads, %s, %s; GFLOP/s: ours / oneDNN\n%-30s %15s %15s %15s\n", threads, name_of(isa()),
              onednn_status(), "", "forward", "backward data", "backward weight");
  double ours = 0, theirs = 0, flops = 0;
  for (const Case& c : kCases) {
    if (!std::strstr(c.name().c_str(), part)) continue;
    const ConvParams p{c.stride, int(c.kernel / 2)};
    const int64_t out = (c.size + 2 * p.padding - c.kernel) / c.stride + 1;
    const Shape x_shape{c.batch, c.size, c.size, c.inputs}, weight_shape{c.outputs, c.inputs, c.kernel, c.kernel};
    const Tensor x = ramp(x_shape), weight = ramp(weight_shape), dy = ramp({c.batch, out, out, c.outputs});
    const double work = 2e-9 * double(dy.numel() * c.inputs * c.kernel * c.kernel);
    Backend& cpu = cpu_backend();
    std::printf("%-30s", c.name().c_str());
    const std::function<void()> passes[] = {[&] { cpu.conv2d_forward(x, weight, p); },
                                            [&] { cpu.conv2d_backward_data(dy, weight, x_shape, p); },
                                            [&] { cpu.conv2d_backward_weight(dy, x, weight_shape, p); }};
    for (const auto& pass : passes) {
      const auto [own, plugin] = compare(pass, repeats);
      std::printf(" %7.1f/%7.1f", work / own, plugin > 0 ? work / plugin : 0.0);
      std::fflush(stdout);
      if (c.inputs <= 3 && &pass == &passes[1]) continue;  // no network asks for the gradient of its images
      ours += own, theirs += plugin, flops += work;
    }
    std::printf("\n");
  }
  std::printf("%-30s ours %.1f ms, %.1f GFLOP/s", "all, without d images", ours * 1e3, flops / ours);
  if (theirs > 0) std::printf("; oneDNN %.1f ms, %.1f GFLOP/s", theirs * 1e3, flops / theirs);
  std::printf("\n");
}
