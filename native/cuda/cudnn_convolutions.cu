#include <algorithm>
#include <limits>

#include "each.cuh"
#include "library_ops.h"

namespace fm {
namespace {

// [R, A, B] → [R, B, A].
template <class From, class To>
struct SwapLastAxes {
  const From* from;
  int64_t A, B;
  To* to;
  __device__ void operator()(int64_t i) const {
    to[i] = element_as<To>(from[(i / (A * B) * A + i % A) * B + i / A % B]);
  }
};

const LinkedLibrary<cudnn::Functions>& library() { return libraries().cudnn; }

[[noreturn]] void fail_cudnn(cudnn::Status status, const char* function) {
  char last[512] = "";
  library().call.cudnnGetLastErrorString(last, sizeof last);
  const bool mixed = status == cudnn::kSublibraryVersionMismatch || status == cudnn::kSublibraryLoadingFailed;
  fail(ErrorKind::device, library().call.cudnnGetErrorString(status), " in ", function, *last ? " (" : "", last,
       *last ? ")" : "", ", cuDNN ", library().version, " at ", library().path,
       mixed ? ": set FLASHMARGIN_CUDNN_PATH to a folder that holds all libraries of one cuDNN, or "
             : ": set FLASHMARGIN_CUDNN_PATH to another cuDNN, or ",
       "FLASHMARGIN_CUDA_OPS=own to do without");
}

#define FM_CUDNN(function, ...)                                           \
  do {                                                                    \
    const cudnn::Status fm_status = library().call.function(__VA_ARGS__); \
    if (fm_status != cudnn::kSuccess) fail_cudnn(fm_status, #function);   \
  } while (0)

// Owner of a descriptor.
class Description {
 public:
  Description() = default;
  ~Description() {
    if (handle_) destroy_(handle_);
  }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;
  operator cudnn::Descriptor() const { return handle_; }

  void tensor(cudnn::DataType type, int64_t n, int64_t h, int64_t w, int64_t c) {
    FM_CUDNN(cudnnCreateTensorDescriptor, &handle_);
    destroy_ = library().call.cudnnDestroyTensorDescriptor;
    FM_CUDNN(cudnnSetTensor4dDescriptor, handle_, cudnn::kNhwc, type, int(n), int(c), int(h), int(w));
  }
  // [O, KH, KW, I], the order that goes with [N, H, W, C].
  void filter(cudnn::DataType type, int64_t outputs, int64_t height, int64_t width, int64_t inputs) {
    FM_CUDNN(cudnnCreateFilterDescriptor, &handle_);
    destroy_ = library().call.cudnnDestroyFilterDescriptor;
    FM_CUDNN(cudnnSetFilter4dDescriptor, handle_, type, cudnn::kNhwc, int(outputs), int(inputs), int(height),
             int(width));
  }
  void convolution(cudnn::DataType sums, cudnn::Math math, int64_t padding, int64_t stride) {
    FM_CUDNN(cudnnCreateConvolutionDescriptor, &handle_);
    destroy_ = library().call.cudnnDestroyConvolutionDescriptor;
    FM_CUDNN(cudnnSetConvolution2dDescriptor, handle_, int(padding), int(padding), int(stride), int(stride), 1, 1,
             cudnn::kCrossCorrelation, sums);
    FM_CUDNN(cudnnSetConvolutionMathType, handle_, math);
  }

 private:
  cudnn::Descriptor handle_ = nullptr;
  cudnn::Status (*destroy_)(cudnn::Descriptor) = nullptr;
};

using CudnnElement = Element<cudnn::DataType, cudnn::Math>;

CudnnElement element_of(Dtype dtype) {
  if (dtype == Dtype::bfloat16) return {cudnn::kBfloat16, cudnn::kFloat32, cudnn::kTensorOp};
  return {cudnn::kFloat32, cudnn::kFloat32, library_tf32() ? cudnn::kDefaultMath : cudnn::kFma};
}

}  // namespace

struct CudnnConvolutions::Direction {
  const char* name;
  cudnn::Heuristic heuristic;
  const char* heuristic_name;
  cudnn::Measure measure;
  const char* measure_name;
  cudnn::WorkspaceSize workspace;
  cudnn::Run run;
  const char* run_name;
};

struct CudnnConvolutions::Plan {
  Direction direction;
  CudnnElement element;
  Description a, b, convolution, result;
  int algorithm = 0;
  size_t workspace = 0;
};

CudnnConvolutions::CudnnConvolutions(const Stream& stream, DeviceAllocator& allocator)
    : stream_(stream), allocator_(allocator) {
  FM_CUDNN(cudnnCreate, &handle_);
  FM_CUDNN(cudnnSetStream, handle_, stream_);
}

CudnnConvolutions::~CudnnConvolutions() {
  plans_.clear();
  if (handle_) library().call.cudnnDestroy(handle_);
}

// The first of the library's suggestions that is deterministic, in the arithmetic asked for, and within the workspace; false
// where none is.
bool CudnnConvolutions::choose(Plan& plan, Dtype dtype, const ConvShape& s, const void* a, const void* b,
                               void* result) {
  const Direction& direction = plan.direction;
  constexpr int kMost = 16;
  cudnn::AlgorithmPerf found[kMost] = {};
  int count = 0;
  const size_t limit = library_workspace();
  const bool measured = library_measures();
  cudnn::Status status;
  if (measured) {
    DeviceScratch scratch(allocator_);
    status = direction.measure(handle_, plan.a, a, plan.b, b, plan.convolution, plan.result, result, kMost, &count,
                               found, scratch.take<char>(int64_t(limit)), limit);
  } else {
    status = direction.heuristic(handle_, plan.a, plan.b, plan.convolution, plan.result, kMost, &count, found);
  }
  if (status / 1000 * 1000 == cudnn::kNotSupported) count = 0;
  else if (status != cudnn::kSuccess) fail_cudnn(status, measured ? direction.measure_name : direction.heuristic_name);

  // An algorithm is chosen together with its arithmetic; but fma stays, and with it no tensor core runs, whatever is
  // suggested.  So what one takes is asked of the convolution as it will run; and since suggestions are in the order of
  // their own arithmetic's speed, those of tensor cores come last there.
  const bool fma = plan.element.arithmetic == cudnn::kFma;
  if (fma)
    std::stable_partition(found, found + count, [](const cudnn::AlgorithmPerf& perf) {
      return perf.math == cudnn::kDefaultMath || perf.math == cudnn::kFma;
    });
  for (const cudnn::AlgorithmPerf* perf = found; perf < found + count; perf++) {
    if (perf->status != cudnn::kSuccess || perf->determinism != cudnn::kDeterministic) continue;
    // Its conversion would be to float16, whose numbers end at 65504.
    if (!fma && perf->math == cudnn::kTensorOpAllowConversion) continue;
    if (!fma) FM_CUDNN(cudnnSetConvolutionMathType, plan.convolution, perf->math);
    size_t workspace = 0;
    if (direction.workspace(handle_, plan.a, plan.b, plan.convolution, plan.result, perf->algorithm, &workspace) !=
            cudnn::kSuccess ||
        workspace > limit)
      continue;
    plan.algorithm = perf->algorithm;
    plan.workspace = workspace;
    return true;
  }
  leave_to_own_kernels("cuDNN ", library().version, " has no deterministic algorithm for the ", direction.name, " of ",
                       name_of(dtype), " x ", s.x(), ", weight ", s.weight(), ", stride ", s.stride, ", padding ",
                       s.padding, " within ", limit >> 20, " MiB: raise FLASHMARGIN_CUDA_WORKSPACE (MiB)");
  return false;
}

const CudnnConvolutions::Plan* CudnnConvolutions::plan_of(Kind kind, Dtype dtype, const ConvShape& s, const void* a,
                                                          const void* b, void* result) {
  const Key key{kind,      int64_t(dtype),  s.images,       s.height, s.width,  s.inputs,
                s.outputs, s.kernel_height, s.kernel_width, s.stride, s.padding};
  if (const auto kept = plans_.find(key); kept != plans_.end()) return kept->second.get();
  for (const Shape& shape : {s.x(), s.y(), s.weight()})
    if (shape.numel() > std::numeric_limits<int>::max()) {
      leave_to_own_kernels("cuDNN takes tensors below 2³¹ elements, got ", shape, ": lower batchSize");
      return plans_[key].get();
    }
  const cudnn::Functions& call = library().call;
#define FM_DIRECTION(name, heuristic, measure, workspace, run) \
  Direction { name, call.heuristic, #heuristic, call.measure, #measure, call.workspace, call.run, #run }
  const Direction directions[] = {
      FM_DIRECTION("convolution", cudnnGetConvolutionForwardAlgorithm_v7, cudnnFindConvolutionForwardAlgorithmEx,
                   cudnnGetConvolutionForwardWorkspaceSize, cudnnConvolutionForward),
      FM_DIRECTION("convolution's gradient of x", cudnnGetConvolutionBackwardDataAlgorithm_v7,
                   cudnnFindConvolutionBackwardDataAlgorithmEx, cudnnGetConvolutionBackwardDataWorkspaceSize,
                   cudnnConvolutionBackwardData),
      FM_DIRECTION("convolution's gradient of weight", cudnnGetConvolutionBackwardFilterAlgorithm_v7,
                   cudnnFindConvolutionBackwardFilterAlgorithmEx, cudnnGetConvolutionBackwardFilterWorkspaceSize,
                   cudnnConvolutionBackwardFilter),
  };
#undef FM_DIRECTION
  auto plan = std::make_unique<Plan>();
  plan->direction = directions[kind];
  plan->element = element_of(dtype);
  const cudnn::DataType type = plan->element.data;
  Description& x = kind == kBackwardData ? plan->result : plan->a;
  Description& y = kind == kForward ? plan->result : plan->b;
  Description& weight = kind == kForward ? plan->b : kind == kBackwardData ? plan->a : plan->result;
  x.tensor(type, s.images, s.height, s.width, s.inputs);
  y.tensor(type, s.images, s.out_height, s.out_width, s.outputs);
  weight.filter(type, s.outputs, s.kernel_height, s.kernel_width, s.inputs);
  plan->convolution.convolution(plan->element.sums, plan->element.arithmetic, s.padding, s.stride);
  if (!choose(*plan, dtype, s, a, b, result)) plan.reset();
  return (plans_[key] = std::move(plan)).get();
}

// result may be scratch of the caller's, and so may be the operands.
bool CudnnConvolutions::run(Kind kind, Dtype dtype, const ConvShape& s, const void* a, const void* b, void* result) {
  std::lock_guard<std::mutex> hold(lock_);
  const Plan* const plan = plan_of(kind, dtype, s, a, b, result);
  if (!plan) return false;
  DeviceScratch scratch(allocator_);
  void* workspace = plan->workspace ? scratch.take<char>(int64_t(plan->workspace)) : nullptr;
  const float one = 1, zero = 0;  // of bfloat16 too
  const cudnn::Status status =
      plan->direction.run(handle_, &one, plan->a, a, plan->b, b, plan->convolution, plan->algorithm, workspace,
                          plan->workspace, &zero, plan->result, result);
  if (status != cudnn::kSuccess) fail_cudnn(status, plan->direction.run_name);
  return true;
}

template <class S>
bool CudnnConvolutions::forward(const ConvShape& s, const S* x, const float* weight, S* y) {
  if (s.images == 0) return true;
  DeviceScratch scratch(allocator_);
  return run(kForward, DtypeOf<S>::value, s, x, channels_last<S>(s, weight, scratch), y);
}

template <class S>
bool CudnnConvolutions::backward_data(const ConvShape& s, const S* dy, const float* weight, S* dx) {
  if (s.images == 0) return true;
  DeviceScratch scratch(allocator_);
  return run(kBackwardData, DtypeOf<S>::value, s, channels_last<S>(s, weight, scratch), dy, dx);
}

// The library leaves the gradient in S.
template <class S>
bool CudnnConvolutions::backward_weight(const ConvShape& s, const S* dy, const S* x, float* d_weight) {
  if (s.images == 0) {
    FM_CUDA(cudaMemsetAsync(d_weight, 0, size_t(s.weight().numel()) * sizeof(float), stream_));
    return true;
  }
  DeviceScratch scratch(allocator_);
  const int64_t n = s.weight().numel();
  if constexpr (std::is_same_v<S, float>)
    if (s.taps() == 1) return run(kBackwardWeight, DtypeOf<S>::value, s, x, dy, d_weight);
  S* const result = scratch.take<S>(n);
  if (!run(kBackwardWeight, DtypeOf<S>::value, s, x, dy, result)) return false;
  for_each(stream_, n, SwapLastAxes<S, float>{result, s.taps(), s.inputs, d_weight});
  return true;
}

// weight [O, I, KH, KW] as [O, KH, KW, I].
template <class S>
const S* CudnnConvolutions::channels_last(const ConvShape& s, const float* weight, DeviceScratch& scratch) {
  if constexpr (std::is_same_v<S, float>)
    if (s.taps() == 1) return weight;
  const int64_t n = s.weight().numel();
  S* const ordered = scratch.take<S>(n);
  for_each(stream_, n, SwapLastAxes<float, S>{weight, s.inputs, s.taps(), ordered});
  return ordered;
}

#define FM_CONVOLUTIONS(S)                                                                      \
  template bool CudnnConvolutions::forward(const ConvShape&, const S*, const float*, S*);       \
  template bool CudnnConvolutions::backward_data(const ConvShape&, const S*, const float*, S*); \
  template bool CudnnConvolutions::backward_weight(const ConvShape&, const S*, const S*, float*)
FM_CONVOLUTIONS(float);
FM_CONVOLUTIONS(Bfloat16);

}  // namespace fm
