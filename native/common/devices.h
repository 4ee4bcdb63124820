// Which devices there are, and why CUDA is missing where it is.  backend_of() is in backend.h.
//
// libflashmargin_cuda.so is opened at run time, from beside the addon.  FLASHMARGIN_CUDA=off leaves it closed;
// FLASHMARGIN_CUDA=<path> opens another.
#pragma once
#include <string>
#include <vector>

#include "cuda_plugin.h"

namespace fm {

struct CudaStatus {
  int devices = 0;
  std::string reason;   // why there is no device; empty when there is one
  std::string library;  // path of the library that was opened, or looked for
  std::string runtime;  // "13.0", once the library was opened
  std::string driver;   // the newest CUDA that the driver knows, "13.0"; empty without one
  std::vector<CudaDevice> list;
};

// Asked once, at the first call; a driver installed later is seen by the next process.
const CudaStatus& cuda_status();
CudaMemory cuda_memory(int device);
// Compares the paths with the plain one, at the first call.
CudaHeadPath cuda_head_path(int device);
// The libraries of others that the CUDA library found, and did not; none where it is not open itself.  Looks for them at
// the first call, which takes a while.
std::vector<CudaLibrary> cuda_libraries();
// What a library has no algorithm for, since this was last asked, and our own kernels compute; or empty.
std::string take_cuda_left_to_own_kernels();

}  // namespace fm
