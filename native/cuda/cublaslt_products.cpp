#include <algorithm>

#include "library_ops.h"

namespace fm {
namespace {

constexpr size_t kMostWorkspace = size_t(32) << 20;  // no algorithm gains from more

const LinkedLibrary<cublaslt::Functions>& library() { return libraries().cublaslt; }

[[noreturn]] void fail_cublaslt(cublaslt::Status status, const char* function) {
  fail(ErrorKind::device, library().call.cublasLtGetStatusName(status), " in ", function, ", cuBLASLt ",
       library().version, " at ", library().path,
       ": set FLASHMARGIN_CUBLASLT_PATH to another cuBLASLt, or FLASHMARGIN_CUDA_OPS=own to do without");
}

#define FM_CUBLASLT(function, ...)                                            \
  do {                                                                        \
    const cublaslt::Status fm_status = library().call.function(__VA_ARGS__);  \
    if (fm_status != cublaslt::kSuccess) fail_cublaslt(fm_status, #function); \
  } while (0)

using CublasltElement = Element<cublaslt::DataType, cublaslt::Compute>;

CublasltElement element_of(Dtype dtype) {
  if (dtype == Dtype::bfloat16) return {cublaslt::kBfloat16, cublaslt::kFloat32, cublaslt::kComputeFloat32};
  return {cublaslt::kFloat32, cublaslt::kFloat32, library_tf32() ? cublaslt::kComputeTf32 : cublaslt::kComputeFloat32};
}

// Owner of a description, whichever kind.
template <class Handle>
struct Owned {
  Handle handle = nullptr;
  cublaslt::Status (*destroy)(Handle) = nullptr;
  Owned() = default;
  ~Owned() {
    if (handle) destroy(handle);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  operator Handle() const { return handle; }
};

void make(Owned<cublaslt::Layout>& layout, cublaslt::DataType type, int64_t rows, int64_t columns) {
  FM_CUBLASLT(cublasLtMatrixLayoutCreate, &layout.handle, type, uint64_t(rows), uint64_t(columns), rows);
  layout.destroy = library().call.cublasLtMatrixLayoutDestroy;
}

}  // namespace

struct CublasltProducts::Plan {
  Owned<cublaslt::MatmulDesc> product;
  Owned<cublaslt::Layout> a, b, to;
  cublaslt::Algorithm algorithm;
  size_t workspace;
};

CublasltProducts::CublasltProducts(const Stream& stream, DeviceAllocator& allocator)
    : stream_(stream), allocator_(allocator) {
  FM_CUBLASLT(cublasLtCreate, &handle_);
}

CublasltProducts::~CublasltProducts() {
  plans_.clear();
  if (handle_) library().call.cublasLtDestroy(handle_);
}

// The library reads columns where we write rows, so every matrix of ours is the transposed one to it, and
// to = op(a)·op(b) becomes toᵀ = op(b)ᵀ·op(a)ᵀ: operands and extents change places, op stays.
const CublasltProducts::Plan* CublasltProducts::plan_of(const Key& key) {
  if (const auto kept = plans_.find(key); kept != plans_.end()) return kept->second.get();
  const auto [dtype, M, N, K, transpose_a, transpose_b] = key;
  const CublasltElement element = element_of(Dtype(dtype));
  auto plan = std::make_unique<Plan>();

  FM_CUBLASLT(cublasLtMatmulDescCreate, &plan->product.handle, element.arithmetic, element.sums);
  plan->product.destroy = library().call.cublasLtMatmulDescDestroy;
  const cublaslt::Operation first = transpose_b ? cublaslt::kTransposed : cublaslt::kPlain;
  const cublaslt::Operation second = transpose_a ? cublaslt::kTransposed : cublaslt::kPlain;
  FM_CUBLASLT(cublasLtMatmulDescSetAttribute, plan->product, cublaslt::kTransposeA, &first, sizeof first);
  FM_CUBLASLT(cublasLtMatmulDescSetAttribute, plan->product, cublaslt::kTransposeB, &second, sizeof second);
  make(plan->a, element.data, transpose_a ? M : K, transpose_a ? K : M);
  make(plan->b, element.data, transpose_b ? K : N, transpose_b ? N : K);
  make(plan->to, element.data, N, M);

  Owned<cublaslt::Preference> preference;
  FM_CUBLASLT(cublasLtMatmulPreferenceCreate, &preference.handle);
  preference.destroy = library().call.cublasLtMatmulPreferenceDestroy;
  const uint64_t limit = std::min(library_workspace(), kMostWorkspace);
  FM_CUBLASLT(cublasLtMatmulPreferenceSetAttribute, preference, cublaslt::kMaxWorkspaceBytes, &limit, sizeof limit);
  // Where K is cut, the parts' sums go through the workspace and are added in order.
  const uint32_t reduction = cublaslt::kComputeType;
  FM_CUBLASLT(cublasLtMatmulPreferenceSetAttribute, preference, cublaslt::kReductionSchemeMask, &reduction,
              sizeof reduction);
  cublaslt::HeuristicResult found{};
  int count = 0;
  const cublaslt::Status status = library().call.cublasLtMatmulAlgoGetHeuristic(
      handle_, plan->product, plan->b, plan->a, plan->to, plan->to, preference, 1, &found, &count);
  if (status != cublaslt::kSuccess && status != cublaslt::kNotSupported)
    fail_cublaslt(status, "cublasLtMatmulAlgoGetHeuristic");
  if (status == cublaslt::kSuccess && count > 0 && found.state == cublaslt::kSuccess) {
    plan->algorithm = found.algorithm;
    plan->workspace = found.workspace;
  } else {
    leave_to_own_kernels("cuBLASLt ", library().version, " has no algorithm for a product of ", name_of(Dtype(dtype)),
                         " [", M, ", ", K, "] and [", K, ", ", N, "] within ", limit >> 20, " MiB",
                         limit < kMostWorkspace ? ": raise FLASHMARGIN_CUDA_WORKSPACE (MiB)" : "");
    plan.reset();
  }
  return (plans_[key] = std::move(plan)).get();
}

bool CublasltProducts::multiply(Dtype dtype, const void* a, const void* b, void* to, int64_t M, int64_t N, int64_t K,
                                bool transpose_a, bool transpose_b) {
  if (M == 0 || N == 0) return true;
  if (K == 0) {
    FM_CUDA(cudaMemsetAsync(to, 0, size_t(M * N) * size_of(dtype), stream_));
    return true;
  }
  std::lock_guard<std::mutex> hold(lock_);
  const Plan* const plan = plan_of({int64_t(dtype), M, N, K, transpose_a, transpose_b});
  if (!plan) return false;
  DeviceScratch scratch(allocator_);
  void* workspace = plan->workspace ? scratch.take<char>(int64_t(plan->workspace)) : nullptr;
  const float one = 1, zero = 0;
  FM_CUBLASLT(cublasLtMatmul, handle_, plan->product, &one, b, plan->b, a, plan->a, &zero, to, plan->to, to, plan->to,
              &plan->algorithm, workspace, plan->workspace, stream_);
  return true;
}

}  // namespace fm
