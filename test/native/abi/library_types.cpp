#include <cuda_runtime_api.h>
#include <library_types.h>

#include "../../../native/cuda/cublaslt_abi.h"

static_assert(int(CUDA_R_32F) == fm::cublaslt::kFloat32);
static_assert(int(CUDA_R_16BF) == fm::cublaslt::kBfloat16);
