#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "../../../native/cuda/cublaslt_abi.h"
#include "same_signature.h"

namespace fm::cublaslt {

static_assert(int(CUBLAS_STATUS_SUCCESS) == kSuccess);
static_assert(int(CUBLAS_STATUS_NOT_SUPPORTED) == kNotSupported);
static_assert(int(CUDA_R_32F) == kFloat32 && int(CUDA_R_16BF) == kBfloat16);
static_assert(int(CUBLAS_COMPUTE_32F) == kComputeFloat32 && int(CUBLAS_COMPUTE_32F_FAST_TF32) == kComputeTf32);
static_assert(int(CUBLAS_OP_N) == kPlain && int(CUBLAS_OP_T) == kTransposed);
static_assert(int(CUBLASLT_MATMUL_DESC_TRANSA) == kTransposeA && int(CUBLASLT_MATMUL_DESC_TRANSB) == kTransposeB);
static_assert(int(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) == kMaxWorkspaceBytes);
static_assert(int(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) == kReductionSchemeMask);
static_assert(uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) == kComputeType);

static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(Algorithm));
using Result = cublasLtMatmulHeuristicResult_t;
static_assert(sizeof(Result) == sizeof(HeuristicResult) &&
              offsetof(Result, algo) == offsetof(HeuristicResult, algorithm) &&
              offsetof(Result, workspaceSize) == offsetof(HeuristicResult, workspace) &&
              offsetof(Result, state) == offsetof(HeuristicResult, state) &&
              offsetof(Result, wavesCount) == offsetof(HeuristicResult, waves));

FM_CUBLASLT_FUNCTIONS(FM_SAME_SIGNATURE)

}  // namespace fm::cublaslt
