#include "devices.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>

namespace fm {
namespace {

constexpr const char* kLibraryName = "libflashmargin_cuda.so";

struct Plugin {
  decltype(&fm_cuda_plugin_version) plugin_version = nullptr;
  decltype(&fm_cuda_runtime_version) runtime_version = nullptr;
  decltype(&fm_cuda_driver_version) driver_version = nullptr;
  decltype(&fm_cuda_device_count) device_count = nullptr;
  decltype(&fm_cuda_device) device = nullptr;
  decltype(&fm_cuda_backend) backend = nullptr;
  decltype(&fm_cuda_head_path) head_path = nullptr;
  decltype(&fm_cuda_memory) memory = nullptr;
  decltype(&fm_cuda_libraries) libraries = nullptr;
  decltype(&fm_cuda_take_left_to_own_kernels) take_left_to_own_kernels = nullptr;
  CudaStatus status;
};

// The folder of the file that holds this code: the addon, or a test program.
std::string own_folder() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<void*>(&cuda_status), &info) || !info.dli_fname) return ".";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

template <class F>
bool look_up(void* handle, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(handle, name));
  return function != nullptr;
}

// Empty when the library is open; otherwise why not.
std::string open_library(Plugin& library) {
  const char* setting = std::getenv("FLASHMARGIN_CUDA");
  const std::string choice = setting ? setting : "";
  if (choice == "off") return "CUDA is switched off by FLASHMARGIN_CUDA=off";

  const bool chosen = !choice.empty() && choice != "auto";
  std::string& path = library.status.library;
  path = chosen ? choice : own_folder() + "/" + kLibraryName;
  if (access(path.c_str(), R_OK) != 0)
    return chosen ? "FLASHMARGIN_CUDA names " + path + ", which cannot be read" : std::string(cuda_library_hint());

  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) return std::string("opening the CUDA library failed: ") + dlerror();
  if (!look_up(handle, "fm_cuda_plugin_version", library.plugin_version))
    return path + " is not flashmargin's CUDA library: it has no fm_cuda_plugin_version";
  if (const int version = library.plugin_version(); version != kCudaPluginVersion)
    return path + " has plug-in version " + std::to_string(version) + ", expected " +
           std::to_string(kCudaPluginVersion) + ": build it from the same sources as the addon";
  if (!look_up(handle, "fm_cuda_runtime_version", library.runtime_version) ||
      !look_up(handle, "fm_cuda_driver_version", library.driver_version) ||
      !look_up(handle, "fm_cuda_device_count", library.device_count) ||
      !look_up(handle, "fm_cuda_device", library.device) || !look_up(handle, "fm_cuda_backend", library.backend) ||
      !look_up(handle, "fm_cuda_head_path", library.head_path) || !look_up(handle, "fm_cuda_memory", library.memory) ||
      !look_up(handle, "fm_cuda_libraries", library.libraries) ||
      !look_up(handle, "fm_cuda_take_left_to_own_kernels", library.take_left_to_own_kernels))
    return path + " is incomplete: " + dlerror();
  return "";
}

std::string cuda_version(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Plugin* find_devices() {
  auto* library = new Plugin;  // never closed: its kernels and blocks outlive every tensor
  CudaStatus& status = library->status;
  status.reason = open_library(*library);
  if (!status.reason.empty()) return library;

  status.runtime = cuda_version(library->runtime_version());
  if (const int driver = library->driver_version()) status.driver = cuda_version(driver);
  char reason[512] = "";
  status.devices = library->device_count(reason, sizeof reason);
  for (int device = 0; device < status.devices; device++) {
    CudaDevice about{};
    if (!library->device(device, &about, reason, sizeof reason)) {
      status.devices = 0;
      break;
    }
    status.list.push_back(about);
  }
  if (status.devices <= 0) {
    status.devices = 0;
    status.list.clear();
    status.reason = reason;
  }
  return library;
}

Plugin& cuda_library() {
  static Plugin* library = find_devices();
  return *library;
}

Plugin& library_with(Device device) {
  Plugin& library = cuda_library();
  const CudaStatus& status = library.status;
  FM_CHECK(device, status.devices > 0, device, " is not available: ", status.reason, "; use device 'cpu'");
  FM_CHECK(device, device.index < status.devices, "expected a device below cuda:", status.devices, ", got ", device);
  return library;
}

}  // namespace

const CudaStatus& cuda_status() { return cuda_library().status; }

CudaMemory cuda_memory(int device) {
  char reason[512] = "";
  CudaMemory memory{};
  const bool known = library_with(Device{device}).memory(device, &memory, reason, sizeof reason);
  FM_CHECK(device, known, reason);
  return memory;
}

CudaHeadPath cuda_head_path(int device) {
  char reason[512] = "";
  CudaHeadPath path{};
  const bool known = library_with(Device{device}).head_path(device, &path, reason, sizeof reason);
  FM_CHECK(device, known, reason);
  return path;
}

std::vector<CudaLibrary> cuda_libraries() {
  const Plugin& plugin = cuda_library();
  std::vector<CudaLibrary> libraries(8);
  libraries.resize(plugin.libraries ? size_t(plugin.libraries(libraries.data(), int(libraries.size()))) : 0);
  return libraries;
}

std::string take_cuda_left_to_own_kernels() {
  const Plugin& plugin = cuda_library();
  char sentence[512] = "";
  if (plugin.take_left_to_own_kernels) plugin.take_left_to_own_kernels(sentence, sizeof sentence);
  return sentence;
}

Backend& backend_of(Device device) {
  if (device.is_cpu()) return cpu_backend();
  char reason[512] = "";
  Backend* backend = library_with(device).backend(device.index, reason, sizeof reason);
  FM_CHECK(device, backend, reason);
  return *backend;
}

}  // namespace fm
