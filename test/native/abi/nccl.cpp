#include <cuda_runtime_api.h>
#include <nccl.h>

#include "../../../native/cuda/nccl_abi.h"
#include "same_signature.h"

namespace fm::nccl {

static_assert(int(ncclSuccess) == kSuccess);

FM_NCCL_FUNCTIONS(FM_SAME_SIGNATURE)

}  // namespace fm::nccl
