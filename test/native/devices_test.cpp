// What is said where a CUDA device is missing.  On a machine with a GPU the same program also uses it.
#include "../../native/common/devices.h"

#include <dlfcn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <initializer_list>
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

// The CUDA library under the host emulation, whose driver, devices and memory fail on demand.
void with_fault(const char* variable, const char* value, const char* what, const std::function<bool()>& claim) {
  setenv(variable, value, 1);
  with_setting(FM_EMULATED_CUDA, what, claim);
  unsetenv(variable);
}

std::string reason() { return fm::cuda_status().reason; }

template <class F>
std::string error_of(F&& f) {
  try {
    f();
    return "no error";
  } catch (const fm::Error& error) {
    return error.kind == fm::ErrorKind::device ? error.what() : std::string("another kind: ") + error.what();
  }
}

bool says(const std::string& text, std::initializer_list<const char*> parts) {
  bool all = true;
  for (const char* part : parts) all = all && has(text, part);
  if (!all) std::printf("it said: %s\n", text.c_str());
  return all;
}

size_t address_space() {
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * size_t(sysconf(_SC_PAGESIZE));
}

// A thread, which the driver says has this context, uses cuda:1: where it is afterwards.
void with_driver(const char* what, void* context, int device) {
  with_setting(FM_EMULATED_CUDA, what, [=] {
    void* const driver = dlopen(FM_STUBS "/driver/libcuda.so.1", RTLD_NOW);
    if (driver) reinterpret_cast<void (*)(void*)>(dlsym(driver, "fm_stub_context"))(context);
    fm::Backend& gpu = fm::backend_of(fm::Device{1});
    gpu.fill(gpu.empty(fm::Dtype::float32, {1000}), 3);
    void* const library = dlopen(FM_EMULATED_CUDA, RTLD_NOW | RTLD_NOLOAD);
    return driver && library && reinterpret_cast<int (*)()>(dlsym(library, "fm_emulated_device"))() == device;
  });
}

void faults_are_sentences() {
  if (access(FM_EMULATED_CUDA, R_OK) != 0) {
    std::printf("skipped, no emulated library: what is said of drivers, devices and memory that fail\n");
    skipped++;
    return;
  }
  with_setting(FM_OTHER_CUDA, "a library of another version is refused", [] {
    return fm::cuda_status().devices == 0 &&
           says(reason(), {"has plug-in version 0, expected ", "build it from the same"});
  });
  with_setting(FM_EMULATED_CUDA, "devices are described", [] {
    const fm::CudaStatus& status = fm::cuda_status();
    return status.devices == 2 && status.reason.empty() && status.runtime == "13.0" && status.driver == "13.0" &&
           says(status.list[1].name, {"Emulated GPU"}) && status.list[1].major == 8 &&
           says(status.list[1].head, {"tensor cores for precision bfloat16", "plain kernels for float32"});
  });
  with_setting(FM_EMULATED_CUDA, "the head's path, compared with the plain one", [] {
    const fm::CudaHeadPath path = fm::cuda_head_path(1);
    return says(path.chosen, {"bfloat16 by tensor cores (mma.sync)"}) && !path.warning[0];
  });
  with_fault("FM_EMULATED_WRONG_MMA", "1", "a path that disagrees is off", [] {
    const fm::CudaHeadPath path = fm::cuda_head_path(0);
    return says(path.chosen, {"bfloat16 by plain multiply-adds"}) &&
           says(path.warning, {"the head's path 'tensor' is off: on a small case with 1 center a class its lse is ",
                               " from the plain path's, expected at most 0.0001"});
  });
  with_fault("FM_EMULATED_CAPABILITY", "75", "a device without tensor cores for bfloat16", [] {
    const fm::CudaHeadPath path = fm::cuda_head_path(0);
    return says(fm::cuda_status().list[0].head, {"plain kernels: tensor cores for bfloat16 need"}) &&
           says(path.chosen, {"not by tensor cores (mma.sync): tensor cores for bfloat16 need compute capability 8.0, "
                              "the device has 7.5; bfloat16 by plain multiply-adds"}) &&
           !path.warning[0];
  });
  with_fault("FM_EMULATED_DRIVER", "0", "no driver", [] {
    return fm::cuda_status().devices == 0 && fm::cuda_status().driver.empty() &&
           says(reason(), {"no NVIDIA driver was found", "install one that supports CUDA 13"});
  });
  with_fault("FM_EMULATED_DRIVER", "12040", "a driver too old", [] {
    return fm::cuda_status().devices == 0 && fm::cuda_status().driver == "12.4" &&
           says(reason(), {"cudaErrorInsufficientDriver", "cudaGetDeviceCount", "install an NVIDIA driver"});
  });
  with_fault("FM_EMULATED_DEVICES", "0", "no GPU", [] {
    return fm::cuda_status().devices == 0 && says(reason(), {"cudaErrorNoDevice", "CUDA_VISIBLE_DEVICES"});
  });
  with_fault("FM_EMULATED_MEMORY", "1000000", "no memory", [] {
    fm::Backend& gpu = fm::backend_of(fm::Device{1});
    const fm::Tensor kept = gpu.empty(fm::Dtype::float32, {100000});
    const std::string text = error_of([&] { gpu.empty(fm::Dtype::float32, {200000}); });
    return says(text, {"cudaErrorMemoryAllocation allocating 0.001 GiB", "in use", "by this process's tensors",
                       "lower batchSize"});
  });
  with_fault("FM_EMULATED_MEMORY", "1000000", "memory that was given back is found again, in another size", [] {
    fm::Backend& gpu = fm::backend_of(fm::Device{0});
    for (int64_t n : {100000, 150000, 200000}) gpu.empty(fm::Dtype::float32, {n});
    return fm::cuda_memory(0).used == 0 && fm::cuda_memory(0).peak >= 800000;
  });
  with_fault("FM_EMULATED_MEMORY", "1000000", "what is kept for reuse goes back where others would have less than 1/32",
             [] {
               // Of 1,000,000 bytes 327,680 are kept, and 589,824 or 655,360 more taken.
               const auto kept_beside = [](int device, int64_t n) {
                 fm::Backend& gpu = fm::backend_of(fm::Device{device});
                 gpu.empty(fm::Dtype::float32, {75000});
                 const fm::Tensor taken = gpu.empty(fm::Dtype::float32, {n});
                 return fm::cuda_memory(device).cached;
               };
               return kept_beside(0, 135000) == 327680 && kept_beside(1, 155000) == 0;
             });
  for (const char* call :
       {"cudaMalloc", "cudaMemcpyAsync", "cudaEventSynchronize", "cudaLaunchKernelEx", "cudaMallocHost"})
    with_setting(FM_EMULATED_CUDA, call, [call] {
      fm::Backend& gpu = fm::backend_of(fm::Device{0});
      const std::string text = error_of([&] {
        setenv("FM_EMULATED_FAILURE", call, 1);
        const fm::Tensor x = gpu.empty(fm::Dtype::float32, {1000});
        std::vector<float> values(1000, 1.0f);
        gpu.copy_from_host(x, values.data(), x.bytes());
        gpu.fill(x, 3);
        gpu.copy_to_host(values.data(), x, x.bytes());
      });
      unsetenv("FM_EMULATED_FAILURE");
      return says(text, {"cudaErrorIllegalAddress (an illegal memory access was encountered) in ", call,
                         "restart the process"});
    });
  with_setting(FM_EMULATED_CUDA, "copies whose events cannot be made keep no memory", [] {
    fm::Backend& gpu = fm::backend_of(fm::Device{0});
    const fm::Tensor x = gpu.empty(fm::Dtype::float32, {1});
    float value = 2, back = 0;
    const auto copy = [&] { return error_of([&] { gpu.copy_from_host(x, &value, 4); }); };
    setenv("FM_EMULATED_FAILURE", "cudaEventCreateWithFlags", 1);
    const size_t before = address_space();
    bool said = true;
    for (int i = 0; i < 50; i++) said = said && says(copy(), {"in cudaEventCreateWithFlags"});
    unsetenv("FM_EMULATED_FAILURE");
    const bool kept_none = address_space() < before + (size_t(50) << 20);
    said = said && copy() == "no error";
    gpu.copy_to_host(&back, x, 4);
    return said && kept_none && back == value;
  });
#ifndef __SANITIZE_ADDRESS__  // which ends a process whose malloc fails
  with_setting(FM_EMULATED_CUDA, "no memory of the host to pin", [] {
    fm::Backend& gpu = fm::backend_of(fm::Device{0});
    const fm::Tensor x = gpu.empty(fm::Dtype::float32, {1});
    const rlimit most{address_space() + (size_t(4) << 20), RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &most);
    const float value = 2;
    return says(error_of([&] { gpu.copy_from_host(x, &value, 4); }),
                {"cudaErrorMemoryAllocation pinning 8 MiB of the host's memory for copies", "fewer workers"});
  });
#endif
  with_driver("a thread that has used no device stays on its first", nullptr, 1);
  with_driver("a thread that has used another device goes back to it", &passed, 0);
  for (const char* seed : {"1", "2", "3", "4", "5", "6"})
    with_fault("FM_EMULATED_SEED", seed, "copies beside what runs are those of their turn", [] {
      fm::Backend& gpu = fm::backend_of(fm::Device{0});
      const int64_t n = (int64_t(5) << 20) / 8 + 1;
      const size_t count = size_t(n);
      std::vector<fm::Tensor> doubled;  // nobody waits for them before all are on their way
      for (int turn = 0; turn < 12; turn++) {
        const std::vector<float> sent(count, float(turn));
        const fm::Tensor x = gpu.empty(fm::Dtype::float32, {n});
        gpu.copy_from_host(x, sent.data(), x.bytes());
        doubled.push_back(gpu.scale(x, 2));
      }
      bool right = true;
      for (int turn = 0; turn < 12; turn++) {
        std::vector<float> back(count);
        gpu.copy_to_host(back.data(), doubled[size_t(turn)], count * sizeof(float));
        right = right && back == std::vector<float>(count, float(2 * turn));
      }
      return right;
    });
  const auto copied = [](const fm::Tensor& x) {
    const size_t count = size_t(x.numel());
    const std::vector<float> sent(count, 7);
    std::vector<float> back(count);
    fm::Backend& gpu = fm::backend_of(x.device());
    gpu.copy_from_host(x, sent.data(), x.bytes());
    gpu.copy_to_host(back.data(), x, x.bytes());
    return back == sent;
  };
  with_fault("FM_EMULATED_MEMORY", "16777216", "what copies have taken is given up for a tensor", [copied] {
    fm::Backend& gpu = fm::backend_of(fm::Device{0});
    const fm::Tensor x = gpu.empty(fm::Dtype::float32, {int64_t(1) << 19});
    const bool beside = copied(x) && copied(x);                                // by 2 MiB each of the device's
    const fm::Tensor rest = gpu.empty(fm::Dtype::uint8, {int64_t(13) << 20});  // of 16
    return beside && copied(x);
  });
  with_fault("FM_EMULATED_MEMORY", "3145728", "a copy that has no room beside is made all the same",
             [copied] { return copied(fm::backend_of(fm::Device{0}).empty(fm::Dtype::float32, {int64_t(1) << 19})); });
  with_setting(FM_EMULATED_CUDA, "a large copy goes through in parts, both ways", [] {
    fm::Backend& gpu = fm::backend_of(fm::Device{0});
    const int64_t n = (int64_t(9) << 20) / 4 + 3;
    std::vector<float> values(size_t(n), 0.0f), back(size_t(n), 0.0f);
    for (size_t i = 0; i < values.size(); i++) values[i] = float(i % 8191);
    const fm::Tensor x = gpu.empty(fm::Dtype::float32, {n});
    gpu.copy_from_host(x, values.data(), x.bytes());
    gpu.copy_to_host(back.data(), x, x.bytes());
    return back == values;
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
  unsetenv("FM_EMULATED_CAPABILITY");
  settings_are_obeyed();
  faults_are_sentences();
  a_missing_device_is_a_sentence();
  a_device_works();
  std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed ? 1 : 0;
}
