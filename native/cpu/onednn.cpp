#include "onednn.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../common/onednn_plugin.h"
#include "allocator.h"
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
  // OpenMP's threads, which reorder large weights, would then spin on the cores that our own threads need.
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

std::atomic<OnednnUse> use{OnednnUse::where_faster};

fm_onednn_shape shape_of(const ConvShape& s, int64_t images) {
  return {images,         s.height,     s.width,     s.inputs, s.outputs, s.kernel_height,
          s.kernel_width, s.out_height, s.out_width, s.stride, s.padding};
}

int reorder_threads(const fm_onednn_plan* plan) { return plan->weight_bytes < (size_t(1) << 18) ? 1 : num_threads(); }

// Images [first, first + count) in chunks of `step`, all by one plan.
bool run_chunks_of(fm_onednn_kind kind, const ConvShape& s, int64_t first, int64_t count, int64_t step,
                   const float* from, int64_t from_size, const float* weight, float* to, int64_t to_size) {
  const fm_onednn* api = plugin().api;
  const fm_onednn_shape shape = shape_of(s, step);
  const fm_onednn_plan* plan = api->plan(kind, &shape);
  if (!plan) return false;
  Scratch<float> inner(plan->weight_bytes / sizeof(float));
  const size_t pad = (plan->scratch_bytes + 63) / 64 * 64;
  Scratch<char> scratch(pad * num_threads());
  if (!api->reorder(plan, weight, inner.data(), reorder_threads(plan))) return false;
  std::atomic<bool> done{true};
  parallel_for(count / step, [&](int64_t chunk, int thread) {
    const int64_t image = first + chunk * step;
    if (!api->run(plan, from + image * from_size, inner.data(), to + image * to_size, scratch.data() + thread * pad))
      done = false;
  });
  return done;
}

// Forward and backward data: a batch is cut into at most 16 chunks of at least 98 output pixels.
bool convolve_images(fm_onednn_kind kind, const ConvShape& s, const float* from, int64_t from_size, const float* weight,
                     float* to, int64_t to_size) {
  if (use == OnednnUse::never || !plugin().api || s.images == 0) return false;
  const int64_t pixels = s.out_height * s.out_width;
  const int64_t step = std::min(s.images, std::max((s.images + 15) / 16, (98 + pixels - 1) / pixels));
  const int64_t whole = s.images / step * step, left = s.images - whole;
  return run_chunks_of(kind, s, 0, whole, step, from, from_size, weight, to, to_size) &&
         (left == 0 || run_chunks_of(kind, s, whole, left, left, from, from_size, weight, to, to_size));
}

}  // namespace

const char* onednn_status() { return plugin().status.c_str(); }
bool onednn_available() { return plugin().api != nullptr; }
void set_onednn_use(OnednnUse value) { use = value; }

bool onednn_forward(const ConvShape& s, const float* x, const float* weight, float* y) {
  return convolve_images(fm_onednn_forward, s, x, s.height * s.width * s.inputs, weight, y,
                         s.out_height * s.out_width * s.outputs);
}

bool onednn_backward_data(const ConvShape& s, const float* dy, const float* weight, float* dx) {
  return convolve_images(fm_onednn_backward_data, s, dy, s.out_height * s.out_width * s.outputs, weight, dx,
                         s.height * s.width * s.inputs);
}

// The chunks of a batch give a d_weight each, which are added in order.
bool onednn_backward_weight(const ConvShape& s, const float* dy, const float* x, float* d_weight) {
  const fm_onednn* api = plugin().api;
  if (use == OnednnUse::never || !api || s.images == 0) return false;
  const int64_t size = s.outputs * s.inputs * s.kernel_height * s.kernel_width;
  int64_t chunks = 8;
  while (s.images % chunks != 0) chunks--;
  if (use == OnednnUse::where_faster) {
    // Measured by conv_bench: oneDNN's channels-last kernel is slow for a strided window, large images and 3 channels.
    const bool strided = s.stride > 1 && s.kernel_height > 1;
    if ((strided && s.inputs >= 16) || s.inputs == 3 || s.out_height * s.out_width > 5000) return false;
    if (chunks < 4 || size > 300000) return false;  // too few for our threads, or the sums cost more than is won
  }
  const fm_onednn_shape shape = shape_of(s, s.images / chunks);
  const fm_onednn_plan* plan = api->plan(fm_onednn_backward_weight, &shape);
  if (!plan) return false;
  const int64_t inner = int64_t(plan->weight_bytes / sizeof(float));
  Scratch<float> parts(size_t(inner * chunks));
  const size_t pad = (plan->scratch_bytes + 63) / 64 * 64;
  Scratch<char> scratch(pad * num_threads());
  std::atomic<bool> done{true};
  const int64_t dy_size = shape.images * s.out_height * s.out_width * s.outputs,
                x_size = shape.images * s.height * s.width * s.inputs;
  parallel_for(chunks, [&](int64_t i, int thread) {
    if (!api->run(plan, dy + i * dy_size, x + i * x_size, parts.data() + i * inner, scratch.data() + thread * pad))
      done = false;
  });
  if (!done) return false;
  float* sum = parts.data();
  parallel_ranges(inner, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = 1; chunk < chunks; chunk++)
      for (int64_t k = begin; k < end; k++) sum[k] += sum[chunk * inner + k];
  });
  return api->reorder(plan, sum, d_weight, reorder_threads(plan)) != 0;
}

}  // namespace fm
