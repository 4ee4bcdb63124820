// Libraries that are used where they are found, and missed nowhere: cuDNN 9, cuBLASLt 12 or 13, NCCL 2.  Each is opened
// from the first of these places that has one which fits:
//   1. the file or folder that FLASHMARGIN_CUDNN_PATH, FLASHMARGIN_CUBLASLT_PATH or FLASHMARGIN_NCCL_PATH names: from
//      there or not at all
//   2. this process, where something has loaded it before
//   3. the loader's own places: LD_LIBRARY_PATH, ld.so.conf
//   4. lib64 and lib of CUDA_HOME and CUDA_PATH, lib of CONDA_PREFIX
//   5. NVIDIA's Python wheels: nvidia/*/lib in FLASHMARGIN_PYTHON_SITE, or in the site-packages of VIRTUAL_ENV and
//      CONDA_PREFIX
#pragma once
#include <string>

#include "cuda_check.h"
// After the runtime, for its cudaStream_t.
#include "cublaslt_abi.h"
#include "cudnn_abi.h"
#include "nccl_abi.h"

namespace fm {

struct FoundLibrary {
  std::string path;     // of the file that was opened; empty without one
  std::string version;  // "9.10.2"
  std::string reason;   // why there is none: where was looked, or what was refused and why; empty where there is one
  bool usable() const { return reason.empty(); }
};
template <class F>
struct LinkedLibrary : FoundLibrary {
  F call;  // valid where it is usable
};

struct Libraries {
  LinkedLibrary<cublaslt::Functions> cublaslt;
  LinkedLibrary<cudnn::Functions> cudnn;
  LinkedLibrary<nccl::Functions> nccl;
};

// Looked for at the first call, never closed.
const Libraries& libraries();

}  // namespace fm
