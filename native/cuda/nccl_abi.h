// The part of NCCL 2's C interface that is called: as cudnn_abi.h.  So far NCCL is only found.
#pragma once

namespace fm::nccl {

enum Status : int { kSuccess = 0 };

// F(result, name, parameters)
#define FM_NCCL_FUNCTIONS(F) F(Status, ncclGetVersion, (int*))

struct Functions {
#define FM_POINTER(result, name, parameters) result(*name) parameters = nullptr;
  FM_NCCL_FUNCTIONS(FM_POINTER)
#undef FM_POINTER
};

}  // namespace fm::nccl
