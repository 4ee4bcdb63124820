// Convolutions by oneDNN.  Source and destination stay channels-last, for which oneDNN has generated kernels; weights
// are reordered into the layout that it prefers, which is cheap beside the product.  Each run is on one thread: the caller
// cuts the batch, so that its threads share the work as it comes and no result depends on their number.
#include "../common/onednn_plugin.h"

#include <omp.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <tuple>

namespace {

using dnnl::memory;
using Tag = memory::format_tag;

dnnl::engine& engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}
dnnl::stream& stream() {
  static thread_local dnnl::stream stream(engine());
  return stream;
}

struct Plan : fm_onednn_plan {
  dnnl::primitive primitive;
  memory::desc a, b, to, scratchpad, plain_weight, inner_weight;
  int a_arg, b_arg, to_arg;
  std::unique_ptr<dnnl::reorder> reorder;  // none where the layouts agree
  std::string name;
};

// The calling thread's number of OpenMP threads, by which oneDNN divides its work.
class Threads {
 public:
  explicit Threads(int threads) : saved_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~Threads() { omp_set_num_threads(saved_); }

 private:
  int saved_;
};

memory::desc f32(const memory::dims& dims, Tag tag) { return {dims, memory::data_type::f32, tag}; }

std::unique_ptr<Plan> make(fm_onednn_kind kind, const fm_onednn_shape& s) {
  const auto x = f32({s.images, s.inputs, s.height, s.width}, Tag::nhwc);
  const auto y = f32({s.images, s.outputs, s.out_height, s.out_width}, Tag::nhwc);
  const memory::dims weight_dims{s.outputs, s.inputs, s.kernel_height, s.kernel_width}, strides{s.stride, s.stride};
  const memory::dims before{s.padding, s.padding};
  // Rows and columns that the stride leaves over are not read: the padding after the image makes the extents exact.
  const memory::dims after{(s.out_height - 1) * s.stride + s.kernel_height - s.height - s.padding,
                           (s.out_width - 1) * s.stride + s.kernel_width - s.width - s.padding};
  const auto weight = f32(weight_dims, Tag::any);
  const auto direct = dnnl::algorithm::convolution_direct;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // one for each run, so that runs may overlap
  const dnnl::convolution_forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, direct, x, weight, y, strides, before, after}, attributes, engine());
  auto plan = std::make_unique<Plan>();
  const auto take = [&](const auto& desc) {
    plan->name = desc.impl_info_str();
    plan->scratchpad = desc.scratchpad_desc();
  };
  if (kind == fm_onednn_forward) {
    take(forward);
    plan->primitive = dnnl::convolution_forward(forward);
    plan->a = x, plan->b = plan->inner_weight = forward.weights_desc(), plan->to = y;
    plan->a_arg = DNNL_ARG_SRC, plan->b_arg = DNNL_ARG_WEIGHTS, plan->to_arg = DNNL_ARG_DST;
  } else if (kind == fm_onednn_backward_data) {
    const dnnl::convolution_backward_data::primitive_desc backward({direct, x, weight, y, strides, before, after},
                                                                   attributes, engine(), forward);
    take(backward);
    plan->primitive = dnnl::convolution_backward_data(backward);
    plan->a = y, plan->b = plan->inner_weight = backward.weights_desc(), plan->to = x;
    plan->a_arg = DNNL_ARG_DIFF_DST, plan->b_arg = DNNL_ARG_WEIGHTS, plan->to_arg = DNNL_ARG_DIFF_SRC;
  } else {
    const dnnl::convolution_backward_weights::primitive_desc backward({direct, x, weight, y, strides, before, after},
                                                                      attributes, engine(), forward);
    take(backward);
    plan->primitive = dnnl::convolution_backward_weights(backward);
    plan->a = y, plan->b = x, plan->to = plan->inner_weight = backward.diff_weights_desc();
    plan->a_arg = DNNL_ARG_DIFF_DST, plan->b_arg = DNNL_ARG_SRC, plan->to_arg = DNNL_ARG_DIFF_WEIGHTS;
  }
  // oneDNN 2.6.3 writes past the scratchpad of such a shape, as if its inputs were a multiple of 8.
  if (plan->name == "jit_1x1:avx2" && kind == fm_onednn_backward_weight && s.stride > 1 && s.inputs % 8) return nullptr;
  // The others, "gemm:" and "ref:", are slower than the caller's own kernels.
  if (plan->name.rfind("jit", 0) != 0 && plan->name.rfind("brg", 0) != 0) return nullptr;
  plan->plain_weight = f32(weight_dims, Tag::oihw);
  if (plan->inner_weight != plan->plain_weight) {
    const bool to_inner = kind != fm_onednn_backward_weight;
    const auto& from = to_inner ? plan->plain_weight : plan->inner_weight;
    const auto& to = to_inner ? plan->inner_weight : plan->plain_weight;
    plan->reorder = std::make_unique<dnnl::reorder>(dnnl::reorder::primitive_desc(engine(), from, engine(), to));
  }
  plan->weight_bytes = plan->inner_weight.get_size();
  plan->scratch_bytes = plan->scratchpad.get_size();
  plan->implementation = plan->name.c_str();
  return plan;
}

const fm_onednn_plan* plan_of(fm_onednn_kind kind, const fm_onednn_shape* s) {
  using Key = std::tuple<int, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t>;
  static std::map<Key, std::unique_ptr<Plan>> plans;
  static std::mutex turn;
  const std::lock_guard<std::mutex> lock(turn);
  const Key key{kind,       s->images,        s->height,       s->width,  s->inputs,
                s->outputs, s->kernel_height, s->kernel_width, s->stride, s->padding};
  auto found = plans.find(key);
  if (found == plans.end()) {
    std::unique_ptr<Plan> plan;
    try {
      const Threads one(1);
      plan = make(kind, *s);
    } catch (const std::exception&) {  // no kernel at all: remembered as such
    }
    found = plans.emplace(key, std::move(plan)).first;
  }
  return found->second.get();
}

int reorder(const fm_onednn_plan* base, const float* from, float* to, int threads) {
  const Plan& plan = *static_cast<const Plan*>(base);
  if (!plan.reorder) {
    std::memcpy(to, from, plan.weight_bytes);
    return 1;
  }
  try {
    const Threads limit(threads);
    const bool to_inner = plan.to_arg != DNNL_ARG_DIFF_WEIGHTS;
    memory source(to_inner ? plan.plain_weight : plan.inner_weight, engine(), const_cast<float*>(from));
    memory target(to_inner ? plan.inner_weight : plan.plain_weight, engine(), to);
    plan.reorder->execute(stream(), source, target);
    stream().wait();
    return 1;
  } catch (const std::exception&) {
    return 0;
  }
}

int run(const fm_onednn_plan* base, const float* a, const float* b, float* to, void* scratch) {
  const Plan& plan = *static_cast<const Plan*>(base);
  try {
    const Threads one(1);
    plan.primitive.execute(stream(), {{plan.a_arg, memory(plan.a, engine(), const_cast<float*>(a))},
                                      {plan.b_arg, memory(plan.b, engine(), const_cast<float*>(b))},
                                      {plan.to_arg, memory(plan.to, engine(), to)},
                                      {DNNL_ARG_SCRATCHPAD, memory(plan.scratchpad, engine(), scratch)}});
    stream().wait();
    return 1;
  } catch (const std::exception&) {
    return 0;
  }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const fm_onednn* fm_onednn_plugin() {
  static const std::string version = [] {
    const dnnl_version_t* v = dnnl_version();
    return "oneDNN " + std::to_string(v->major) + '.' + std::to_string(v->minor) + '.' + std::to_string(v->patch);
  }();
  static const fm_onednn plugin{FM_ONEDNN_ABI, version.c_str(), plan_of, reorder, run};
  return &plugin;
}
