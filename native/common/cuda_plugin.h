// What libflashmargin_cuda.so offers to the program that opens it.  native/cuda/plugin.cpp defines these names;
// devices.cpp looks them up.  Both sides are built from one tree by one compiler, so a Backend may cross.
#pragma once
#include <cstddef>
#include <cstdint>

#include "backend.h"

namespace fm {

// Raised whenever Backend or this file changes, so that an older library is refused rather than called.
constexpr int kCudaPluginVersion = 12;

struct CudaDevice {
  char name[256];
  int major, minor;  // compute capability
  uint64_t memory;   // bytes
  char head[160];    // which kernels the margin head can take there, and why
};
// Which of the head's paths multiply bfloat16 on a device; warning: which are off because they disagree with the plain
// path, or empty.
struct CudaHeadPath {
  char chosen[512], warning[512];
};
// Bytes; used, cached and peak are this process's, total is the device's.
struct CudaMemory {
  uint64_t used, cached, peak, total;
};

// A library of others that the CUDA library opens where it finds one.
struct CudaLibrary {
  char name[16];  // "cuDNN"
  bool used;
  char version[32];   // "9.10.2"; empty where none was found
  char path[512];     // of its file
  char detail[1024];  // what it computes; why it does not where it is not used
};

// The sentence for a library that is not there: no_cuda.cpp or with_cuda.cpp, whichever the build chose.
const char* cuda_library_hint();

}  // namespace fm

// A failure is a negative number, false or nullptr, and a sentence in reason; reason may be cut to its size.
extern "C" {
int fm_cuda_plugin_version();
int fm_cuda_runtime_version();  // 13000 is CUDA 13.0
int fm_cuda_driver_version();   // the newest CUDA that the driver knows; 0 without one
int fm_cuda_device_count(char* reason, size_t size);
bool fm_cuda_device(int device, fm::CudaDevice* about, char* reason, size_t size);
fm::Backend* fm_cuda_backend(int device, char* reason, size_t size);
bool fm_cuda_head_path(int device, fm::CudaHeadPath* path, char* reason, size_t size);
bool fm_cuda_memory(int device, fm::CudaMemory* memory, char* reason, size_t size);
int fm_cuda_libraries(fm::CudaLibrary* libraries, int most);  // how many were written
void fm_cuda_take_left_to_own_kernels(char* sentence, size_t size);
}
