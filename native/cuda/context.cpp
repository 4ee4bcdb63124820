#include <cuda.h>
#include <dlfcn.h>

#include "cuda_raii.h"

namespace fm {

bool has_context() noexcept {
  // The runtime has opened the driver.  Its own way to the driver's functions may make the context that is asked for.
  static const auto current = [] {
    void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    return reinterpret_cast<CUresult (*)(CUcontext*)>(driver ? dlsym(driver, "cuCtxGetCurrent") : nullptr);
  }();
  CUcontext context = nullptr;
  return !current || (current(&context) == CUDA_SUCCESS && context);
}

}  // namespace fm
