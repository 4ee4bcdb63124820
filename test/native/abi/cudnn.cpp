#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "../../../native/cuda/cudnn_abi.h"
#include "same_signature.h"

namespace fm::cudnn {

static_assert(int(CUDNN_STATUS_SUCCESS) == kSuccess);
static_assert(int(CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH) == kSublibraryVersionMismatch);
static_assert(int(CUDNN_STATUS_NOT_SUPPORTED) == kNotSupported);
#if CUDNN_VERSION >= 90200
static_assert(int(CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED) == kSublibraryLoadingFailed);
#endif
static_assert(int(CUDNN_DATA_FLOAT) == kFloat32 && int(CUDNN_DATA_BFLOAT16) == kBfloat16);
static_assert(int(CUDNN_TENSOR_NCHW) == kNchw && int(CUDNN_TENSOR_NHWC) == kNhwc);
static_assert(int(CUDNN_CONVOLUTION) == kConvolution && int(CUDNN_CROSS_CORRELATION) == kCrossCorrelation);
static_assert(int(CUDNN_NON_DETERMINISTIC) == kNonDeterministic && int(CUDNN_DETERMINISTIC) == kDeterministic);
static_assert(int(CUDNN_DEFAULT_MATH) == kDefaultMath && int(CUDNN_TENSOR_OP_MATH) == kTensorOp);
static_assert(int(CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION) == kTensorOpAllowConversion && int(CUDNN_FMA_MATH) == kFma);

template <class Perf>
constexpr bool same_layout() {
  return sizeof(Perf) == sizeof(AlgorithmPerf) && offsetof(Perf, algo) == offsetof(AlgorithmPerf, algorithm) &&
         offsetof(Perf, status) == offsetof(AlgorithmPerf, status) &&
         offsetof(Perf, time) == offsetof(AlgorithmPerf, milliseconds) &&
         offsetof(Perf, memory) == offsetof(AlgorithmPerf, workspace) &&
         offsetof(Perf, determinism) == offsetof(AlgorithmPerf, determinism) &&
         offsetof(Perf, mathType) == offsetof(AlgorithmPerf, math);
}
static_assert(same_layout<cudnnConvolutionFwdAlgoPerf_t>());
static_assert(same_layout<cudnnConvolutionBwdDataAlgoPerf_t>());
static_assert(same_layout<cudnnConvolutionBwdFilterAlgoPerf_t>());

FM_CUDNN_FUNCTIONS(FM_SAME_SIGNATURE)

}  // namespace fm::cudnn
