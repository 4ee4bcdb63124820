#include "onednn.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../onednn/plugin.h"
#include "conv2d.h"
#include "parallel.h"

namespace fm {
namespace {

constexpr const char* kLibrary = "libflashmargin_onednn.so";

struct Plugin {
  const fm_onednn* api = nullptr;
  std::string status;
};

// The folder of the library or program that this function is in, with a slash at its end.
std::string own_folder() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<void*>(&own_folder), &info) || !info.dli_fname) return "";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "./" : path.substr(0, slash + 1);
}

Plugin open() {
  Plugin plugin;
  const char* wanted = std::getenv("FLASHMARGIN_ONEDNN");
  if (wanted && !std::strcmp(wanted, "off")) {
    plugin.status = "oneDNN is off: FLASHMARGIN_ONEDNN=off";
    return plugin;
  }
  // oneDNN's OpenMP threads would spin after each convolution on the cores that our own threads then need.
  setenv("OMP_WAIT_POLICY", "passive", 0);
  setenv("GOMP_SPINCOUNT", "2000", 0);
  const std::string path = wanted && *wanted ? wanted : own_folder() + kLibrary;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* reason = dlerror();
    plugin.status = std::string("no oneDNN plug-in: ") + (reason ? reason : path.c_str());
    return plugin;
  }
  const auto entry = reinterpret_cast<const fm_onednn* (*)()>(dlsym(library, "fm_onednn_plugin"));
  const fm_onednn* api = entry ? entry() : nullptr;
  if (!api || api->abi != FM_ONEDNN_ABI) {
    plugin.status = path + " is not a oneDNN plug-in of this version";
    return plugin;
  }
  plugin.api = api;
  plugin.status = api->version;
  return plugin;
}

const Plugin& plugin() {
  static const Plugin* plugin = new Plugin(open());
  return *plugin;
}

std::atomic<bool> enabled{true};

bool convolve(fm_onednn_kind kind, const ConvShape& s, const float* a, const float* b, float* to) {
  if (!enabled || !plugin().api) return false;
  const fm_onednn_shape shape{s.images,     s.height,    s.width,  s.inputs,  s.outputs, s.kernel_height, s.kernel_width,
                              s.out_height, s.out_width, s.stride, s.padding};
  const char* reason = "";
  return plugin().api->convolve(kind, &shape, num_threads(), a, b, to, &reason) == 0;
}

}  // namespace

const char* onednn_status() { return plugin().status.c_str(); }
bool onednn_available() { return plugin().api != nullptr; }
void set_onednn_enabled(bool value) { enabled = value; }

bool onednn_forward(const ConvShape& s, const float* x, const float* weight, float* y) {
  return convolve(fm_onednn_forward, s, x, weight, y);
}
bool onednn_backward_data(const ConvShape& s, const float* dy, const float* weight, float* dx) {
  return convolve(fm_onednn_backward_data, s, dy, weight, dx);
}
bool onednn_backward_weight(const ConvShape& s, const float* dy, const float* x, float* d_weight) {
  return convolve(fm_onednn_backward_weight, s, dy, x, d_weight);
}

}  // namespace fm
