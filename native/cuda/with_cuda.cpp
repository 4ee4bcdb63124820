// The twin of no_cuda.cpp for an addon that was built together with libflashmargin_cuda.so.
#include "../common/cuda_plugin.h"

namespace fm {

const char* cuda_library_hint() {
  return "libflashmargin_cuda.so, built together with the addon, is no longer beside it; "
         "build again, or set FLASHMARGIN_CUDA to its path";
}

}  // namespace fm
