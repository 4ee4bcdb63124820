#include <cstdio>

#include "backend.h"
#include "head_path.h"
#include "library_ops.h"

namespace fm {
namespace {

// Runs f; an error becomes the sentence in reason, and the answer `failed`.
template <class R, class F>
R answer(R failed, char* reason, size_t size, F&& f) {
  try {
    return f();
  } catch (const std::exception& error) {
    std::snprintf(reason, size, "%s", error.what());
    return failed;
  }
}

// In words for a person; the kernels are chosen where they are launched.
const char* head_kernels(int major, int minor) {
  if (major * 10 + minor < 75) return "none: the library has no code for compute capability below 7.5";
  if (major < 8) return "plain kernels: tensor cores for bfloat16 need compute capability 8.0";
  return "tensor cores for precision bfloat16, plain kernels for float32 and float64";
}

CudaLibrary about(const char* name, const FoundLibrary& library, const char* use, const std::string& off) {
  CudaLibrary about{};
  about.used = library.usable() && off.empty();
  std::snprintf(about.name, sizeof about.name, "%s", name);
  std::snprintf(about.version, sizeof about.version, "%s", library.version.c_str());
  std::snprintf(about.path, sizeof about.path, "%s", library.path.c_str());
  const std::string& why_not = off.empty() ? library.reason : off;
  std::snprintf(about.detail, sizeof about.detail, "%s", about.used ? use : why_not.c_str());
  return about;
}

}  // namespace
}  // namespace fm

#define FM_EXPORT extern "C" __attribute__((visibility("default")))

FM_EXPORT int fm_cuda_plugin_version() { return fm::kCudaPluginVersion; }
FM_EXPORT int fm_cuda_runtime_version() { return CUDART_VERSION; }

FM_EXPORT int fm_cuda_driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

FM_EXPORT int fm_cuda_device_count(char* reason, size_t size) {
  return fm::answer(-1, reason, size, [] {
    int driver = 0, count = 0;
    FM_CUDA(cudaDriverGetVersion(&driver));
    FM_CHECK(device, driver > 0, "no NVIDIA driver was found (libcuda.so.1): install one that supports CUDA ",
             CUDART_VERSION / 1000, " or newer");
    FM_CUDA(cudaGetDeviceCount(&count));
    FM_CHECK(device, count > 0, "the driver reports no GPU");
    return count;
  });
}

FM_EXPORT bool fm_cuda_device(int device, fm::CudaDevice* about, char* reason, size_t size) {
  return fm::answer(false, reason, size, [&] {
    cudaDeviceProp properties;
    FM_CUDA(cudaGetDeviceProperties(&properties, device));
    std::snprintf(about->name, sizeof about->name, "%s", properties.name);
    about->major = properties.major;
    about->minor = properties.minor;
    about->memory = properties.totalGlobalMem;
    std::snprintf(about->head, sizeof about->head, "%s", fm::head_kernels(properties.major, properties.minor));
    return true;
  });
}

FM_EXPORT fm::Backend* fm_cuda_backend(int device, char* reason, size_t size) {
  return fm::answer<fm::Backend*>(nullptr, reason, size, [&] { return &fm::cuda_backend(device); });
}

FM_EXPORT bool fm_cuda_head_path(int device, fm::CudaHeadPath* path, char* reason, size_t size) {
  return fm::answer(false, reason, size, [&] {
    const fm::DeviceGuard guard(device);
    const fm::HeadPathReport report = fm::report_head_path(fm::cuda_backend(device));
    std::snprintf(path->chosen, sizeof path->chosen, "%s", report.chosen.c_str());
    std::snprintf(path->warning, sizeof path->warning, "%s", report.warning.c_str());
    return true;
  });
}

FM_EXPORT bool fm_cuda_memory(int device, fm::CudaMemory* memory, char* reason, size_t size) {
  return fm::answer(false, reason, size, [&] {
    *memory = fm::cuda_backend(device).memory();
    return true;
  });
}

FM_EXPORT int fm_cuda_libraries(fm::CudaLibrary* to, int most) {
  const fm::Libraries& found = fm::libraries();
  const std::string off = fm::library_ops_off();
  const fm::CudaLibrary all[] = {
      fm::about("cuDNN", found.cudnn, "float32 and bfloat16 convolutions", off),
      fm::about("cuBLASLt", found.cublaslt, "float32 and bfloat16 matrix products", off),
      fm::about("NCCL", found.nccl, "found; nothing uses it yet", ""),
  };
  int count = 0;
  for (const fm::CudaLibrary& library : all)
    if (count < most) to[count++] = library;
  return count;
}

FM_EXPORT void fm_cuda_take_left_to_own_kernels(char* sentence, size_t size) {
  std::snprintf(sentence, size, "%s", fm::take_left_to_own_kernels().c_str());
}
