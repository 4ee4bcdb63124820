// FM_CUDA(call): a call that fails becomes an fm::Error with CUDA's name for it, its text, the call, and what to do.
#pragma once
#include <cuda_runtime.h>

#include "../common/error.h"

namespace fm {

inline const char* remedy_for(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation: return "lower batchSize or sampleRate, or FLASHMARGIN_CUDA_SCRATCH (MiB)";
    case cudaErrorInsufficientDriver:
      return "install an NVIDIA driver that supports this CUDA runtime, or use device 'cpu'";
    case cudaErrorNoDevice: return "no GPU is visible to this process; check nvidia-smi and CUDA_VISIBLE_DEVICES";
    case cudaErrorInvalidDevice: return "no such device; check CUDA_VISIBLE_DEVICES";
    case cudaErrorNoKernelImageForDevice:
      return "the library holds no code for this GPU; build it with its architecture in CMAKE_CUDA_ARCHITECTURES";
    case cudaErrorSystemDriverMismatch: return "driver and its user libraries differ; reboot or reinstall the driver";
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorMisalignedAddress:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc: return "the device's context is lost; restart the process";
    case cudaErrorECCUncorrectable:
      return "the GPU's memory failed and the device's context is lost; see nvidia-smi -q -d ECC, restart the process";
    case cudaErrorLaunchTimeout:
      return "the watchdog of a display ended a kernel and the device's context is lost; restart the process, on a GPU "
             "without a display";
    default: return "";
  }
}

[[noreturn]] inline void fail_cuda(cudaError_t error, const char* call) {
  const std::string remedy = remedy_for(error);
  fail(ErrorKind::device, cudaGetErrorName(error), " (", cudaGetErrorString(error), ") in ", call,
       remedy.empty() ? "" : ": ", remedy);
}

}  // namespace fm

#define FM_CUDA(call)                                              \
  do {                                                             \
    const cudaError_t fm_error = (call);                           \
    if (fm_error != cudaSuccess) ::fm::fail_cuda(fm_error, #call); \
  } while (0)
