// Convolutions by oneDNN.  Source and destination stay channels-last, for which oneDNN has generated kernels; weights
// are reordered into the layout that it prefers, which is cheap beside the product.
#include "plugin.h"

#include <omp.h>

#include <cstring>
#include <map>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <tuple>
#include <unordered_map>

namespace {

using dnnl::memory;
using Tag = memory::format_tag;

dnnl::engine& engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}
dnnl::stream& stream() {
  static dnnl::stream stream(engine());
  return stream;
}

// A primitive and its fixed memories; data pointers are set at each call.
struct Plan {
  dnnl::primitive primitive;
  int a_arg = 0, b_arg = 0, to_arg = 0;
  memory a, b, to;
  memory plain_weight;     // [O, I, KH, KW]
  dnnl::reorder reorder;   // plain → inner before, or inner → plain after; none when the layouts agree
  bool reorders = false;
  std::string name;
};

using Key = std::tuple<int, int, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;

memory::desc f32(memory::dims dims, Tag tag) { return {dims, memory::data_type::f32, tag}; }

Plan make(fm_onednn_kind kind, const fm_onednn_shape& s) {
  const memory::dims x_dims{s.images, s.inputs, s.height, s.width}, y_dims{s.images, s.outputs, s.out_height, s.out_width};
  const memory::dims weight_dims{s.outputs, s.inputs, s.kernel_height, s.kernel_width}, strides{s.stride, s.stride};
  const memory::dims before{s.padding, s.padding};
  // Rows and columns that the stride leaves over are not read: the padding after the image makes the extents exact.
  const memory::dims after{(s.out_height - 1) * s.stride + s.kernel_height - s.height - s.padding,
                           (s.out_width - 1) * s.stride + s.kernel_width - s.width - s.padding};
  const auto x = f32(x_dims, Tag::nhwc), y = f32(y_dims, Tag::nhwc), weight = f32(weight_dims, Tag::any);
  const auto algorithm = dnnl::algorithm::convolution_direct;
  const dnnl::convolution_forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, algorithm, x, weight, y, strides, before, after}, engine());
  Plan plan;
  memory::desc inner;
  if (kind == fm_onednn_forward) {
    plan.primitive = dnnl::convolution_forward(forward);
    plan.name = forward.impl_info_str();
    inner = forward.weights_desc();
    plan.a = memory(x, engine(), nullptr), plan.to = memory(y, engine(), nullptr);
    plan.a_arg = DNNL_ARG_SRC, plan.b_arg = DNNL_ARG_WEIGHTS, plan.to_arg = DNNL_ARG_DST;
  } else if (kind == fm_onednn_backward_data) {
    const dnnl::convolution_backward_data::primitive_desc backward({algorithm, x, weight, y, strides, before, after}, engine(),
                                                                   forward);
    plan.primitive = dnnl::convolution_backward_data(backward);
    plan.name = backward.impl_info_str();
    inner = backward.weights_desc();
    plan.a = memory(y, engine(), nullptr), plan.to = memory(x, engine(), nullptr);
    plan.a_arg = DNNL_ARG_DIFF_DST, plan.b_arg = DNNL_ARG_WEIGHTS, plan.to_arg = DNNL_ARG_DIFF_SRC;
  } else {
    const dnnl::convolution_backward_weights::primitive_desc backward({algorithm, x, weight, y, strides, before, after}, engine(),
                                                                      forward);
    plan.primitive = dnnl::convolution_backward_weights(backward);
    plan.name = backward.impl_info_str();
    inner = backward.diff_weights_desc();
    plan.a = memory(y, engine(), nullptr), plan.b = memory(x, engine(), nullptr);
    plan.a_arg = DNNL_ARG_DIFF_DST, plan.b_arg = DNNL_ARG_SRC, plan.to_arg = DNNL_ARG_DIFF_WEIGHTS;
  }
  const auto plain = f32(weight_dims, Tag::oihw);
  plan.reorders = inner != plain;
  plan.plain_weight = memory(plain, engine(), nullptr);
  memory& weight_memory = kind == fm_onednn_backward_weight ? plan.to : plan.b;
  weight_memory = plan.reorders ? memory(inner, engine()) : memory(inner, engine(), nullptr);
  if (plan.reorders)
    plan.reorder = kind == fm_onednn_backward_weight ? dnnl::reorder(weight_memory, plan.plain_weight)
                                                     : dnnl::reorder(plan.plain_weight, weight_memory);
  return plan;
}

std::mutex turn;  // a plan's memories serve one call at a time

Plan& plan_of(fm_onednn_kind kind, const fm_onednn_shape& s, int threads) {
  static std::map<Key, Plan> plans;
  const Key key{kind, threads, s.images, s.height, s.width, s.inputs, s.outputs, s.kernel_height, s.kernel_width, s.stride,
                s.padding};
  auto found = plans.find(key);
  if (found == plans.end()) found = plans.emplace(key, make(kind, s)).first;
  return found->second;
}

// oneDNN divides the work by the number of threads of the calling thread's next parallel region.
class Threads {
 public:
  explicit Threads(int threads) : saved_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~Threads() { omp_set_num_threads(saved_); }

 private:
  int saved_;
};

int convolve(fm_onednn_kind kind, const fm_onednn_shape* shape, int threads, const float* a, const float* b, float* to,
             const char** reason) {
  static std::string failure;
  const std::lock_guard<std::mutex> lock(turn);
  try {
    const Threads limit(threads);
    Plan& plan = plan_of(kind, *shape, threads);
    plan.a.set_data_handle(const_cast<float*>(a), stream());
    if (kind == fm_onednn_backward_weight) {
      plan.b.set_data_handle(const_cast<float*>(b), stream());
      (plan.reorders ? plan.plain_weight : plan.to).set_data_handle(to, stream());
    } else {
      plan.to.set_data_handle(to, stream());
      (plan.reorders ? plan.plain_weight : plan.b).set_data_handle(const_cast<float*>(b), stream());
      if (plan.reorders) plan.reorder.execute(stream(), plan.plain_weight, plan.b);
    }
    plan.primitive.execute(stream(), {{plan.a_arg, plan.a}, {plan.b_arg, plan.b}, {plan.to_arg, plan.to}});
    if (kind == fm_onednn_backward_weight && plan.reorders) plan.reorder.execute(stream(), plan.to, plan.plain_weight);
    stream().wait();
    return 0;
  } catch (const std::exception& error) {
    failure = error.what();
    *reason = failure.c_str();
    return 1;
  }
}

const char* implementation(fm_onednn_kind kind, const fm_onednn_shape* shape, int threads) {
  const std::lock_guard<std::mutex> lock(turn);
  try {
    const Threads limit(threads);
    return plan_of(kind, *shape, threads).name.c_str();
  } catch (const std::exception&) {
    return "";
  }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const fm_onednn* fm_onednn_plugin() {
  static const std::string version = [] {
    const dnnl_version_t* v = dnnl_version();
    return "oneDNN " + std::to_string(v->major) + '.' + std::to_string(v->minor) + '.' + std::to_string(v->patch);
  }();
  static const fm_onednn plugin{FM_ONEDNN_ABI, version.c_str(), convolve, implementation};
  return &plugin;
}
