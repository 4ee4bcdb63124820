// What is said where a CUDA device is missing.  On a machine with a GPU the same program also uses it.
#include "../../native/common/devices.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace {

int passed = 0, failed = 0, skipped = 0;

void check(bool ok, const std::string& what) {
  (ok ? passed : failed)++;
  if (!ok) std::printf("FAILED: %s\n", what.c_str());
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// The status is asked once a process, so each setting gets a process of its own.
void with_setting(const char* setting, const char* what, const std::function<bool()>& claim) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    setenv("FLASHMARGIN_CUDA", setting, 1);
    _exit(claim() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  check(WIFEXITED(status) && WEXITSTATUS(status) == 0, what);
}

void settings_are_obeyed() {
  with_setting("off", "off says that it is off", [] {
    const fm::CudaStatus& status = fm::cuda_status();
    return status.devices == 0 && has(status.reason, "FLASHMARGIN_CUDA=off") && status.library.empty();
  });
  with_setting("/nowhere/lib.so", "a missing library is named", [] {
    return fm::cuda_status().devices == 0 && has(fm::cuda_status().reason, "/nowhere/lib.so, which cannot be read");
  });
  with_setting("/proc/self/exe", "a file that is no library is an error of the loader's", [] {
    return fm::cuda_status().devices == 0 && has(fm::cuda_status().reason, "opening the CUDA library failed");
  });
}

void a_missing_device_is_a_sentence() {
  const fm::CudaStatus& status = fm::cuda_status();
  check(status.devices == int(status.list.size()), "as many descriptions as devices");
  check((status.devices == 0) == !status.reason.empty(), "a reason exactly where there is no device: " + status.reason);
  std::printf("cuda: %d device(s), runtime '%s'; %s\n", status.devices, status.runtime.c_str(), status.reason.c_str());
  try {
    fm::backend_of(fm::Device{status.devices});
    check(false, "a device past the last one is refused");
  } catch (const fm::Error& error) {
    check(error.kind == fm::ErrorKind::device && has(error.what(), "cuda:" + std::to_string(status.devices)),
          error.what());
  }
  check(std::string(fm::backend_of(fm::Device{}).name()) == "cpu", "−1 is the CPU");
}

// Everything the CUDA library does, on the first GPU.
void a_device_works() {
  if (fm::cuda_status().devices == 0) {
    std::printf("skipped, no GPU: memory, copies, fill and normalize on cuda:0\n");
    skipped++;
    return;
  }
  fm::Backend& gpu = fm::backend_of(fm::Device{0});
  for (const fm::Shape& shape : {fm::Shape{5, 33}, fm::Shape{3, 4097}, fm::Shape{0, 8}}) {
    std::vector<float> x(size_t(shape.numel())), y(x.size()), back(x.size());
    for (size_t i = 0; i < x.size(); i++) x[i] = float(i % 17) - 8;
    const fm::Tensor on_gpu = gpu.empty(fm::Dtype::float32, shape);
    gpu.copy_from_host(on_gpu, x.data(), on_gpu.bytes());
    gpu.copy_to_host(back.data(), on_gpu, on_gpu.bytes());
    check(back == x, "what went over comes back");
    const fm::Normalized unit = gpu.normalize_forward(on_gpu);
    gpu.copy_to_host(y.data(), unit.y, unit.y.bytes());
    const size_t D = size_t(shape[1]);
    double worst = 0;
    for (size_t n = 0; n * D < x.size(); n++) {
      double squares = 0;
      for (size_t d = 0; d < D; d++) squares += double(x[n * D + d]) * x[n * D + d];
      for (size_t d = 0; d < D; d++)
        worst = std::max(worst, std::abs(y[n * D + d] - x[n * D + d] / std::sqrt(squares)));
    }
    check(worst < 1e-6, "normalize on the GPU");
    // ⟨y, y⟩ = 1, so dx of dy = y vanishes.
    const fm::Tensor dx = gpu.normalize_backward(unit.y, unit.y, unit.norm);
    gpu.copy_to_host(y.data(), dx, dx.bytes());
    for (float value : y) worst = std::max(worst, double(std::abs(value)));
    check(worst < 1e-6, "normalize's gradient on the GPU");
    gpu.fill(on_gpu, 2.5);
    gpu.copy_to_host(back.data(), on_gpu, on_gpu.bytes());
    check(back == std::vector<float>(x.size(), 2.5f), "fill");
  }
  check(fm::cuda_memory(0).peak > 0 && fm::cuda_memory(0).used == 0, "memory is counted, and given back");
}

}  // namespace

int main() {
  settings_are_obeyed();
  a_missing_device_is_a_sentence();
  a_device_works();
  std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed ? 1 : 0;
}
