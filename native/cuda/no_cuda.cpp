// In place of libflashmargin_cuda.so where it is not built: says so, and what to do.
#include "../common/cuda_plugin.h"

namespace fm {

const char* cuda_library_hint() {
  return "built without CUDA: no nvcc was found (or FM_CUDA=off was set) when the addon was built; "
         "put the CUDA toolkit's nvcc on PATH and build again";
}

}  // namespace fm
