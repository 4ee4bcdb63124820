// The driver's part of the emulated CUDA: tensor maps, as the copy engine of the emulation reads them.
#pragma once
#include <cstdint>
#include <cstring>

#include "cuda_runtime.h"

enum CUresult { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1 };
enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE = 0 };
enum CUtensorMapSwizzle {
  CU_TENSOR_MAP_SWIZZLE_NONE = 0,
  CU_TENSOR_MAP_SWIZZLE_32B = 1,
  CU_TENSOR_MAP_SWIZZLE_64B = 2,
  CU_TENSOR_MAP_SWIZZLE_128B = 3,
};
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_NONE = 0, CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3 };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE = 0 };
using CUcontext = struct EmulatedContext*;
using cuuint32_t = uint32_t;
using cuuint64_t = uint64_t;

struct alignas(128) CUtensorMap {
  cuuint64_t opaque[16];
};

namespace cuda_emulation {

struct TensorMap {
  char* data;
  uint64_t extents[3], strides[2];  // elements; bytes
  uint32_t box[3], swizzle;         // elements; bytes after which a row of 16-byte pieces is turned: 0, 32, 64, 128
};
static_assert(sizeof(TensorMap) <= sizeof(CUtensorMap));

}  // namespace cuda_emulation

// Three dimensions of bfloat16; refuses what the driver's documentation refuses.
inline CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data,
                                       const cuuint64_t* extents, const cuuint64_t* strides, const cuuint32_t* box,
                                       const cuuint32_t* steps, CUtensorMapInterleave interleave,
                                       CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  if (rank != 3 || type != CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE)
    return CUDA_ERROR_INVALID_VALUE;
  cuda_emulation::TensorMap m{};
  m.data = static_cast<char*>(data);
  m.swizzle = swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? 0 : 16u << int(swizzle);
  bool ok = reinterpret_cast<uintptr_t>(data) % 16 == 0 && reinterpret_cast<uintptr_t>(map) % 64 == 0;
  for (int i = 0; i < 3; i++) {
    m.extents[i] = extents[i];
    m.box[i] = box[i];
    ok = ok && extents[i] > 0 && extents[i] <= uint64_t(1) << 32 && box[i] > 0 && box[i] <= 256 && steps[i] == 1;
  }
  for (int i = 0; i < 2; i++) {
    m.strides[i] = strides[i];
    ok = ok && strides[i] % 16 == 0 && strides[i] < uint64_t(1) << 40;
  }
  ok = ok && box[0] * 2 % 16 == 0 && (m.swizzle == 0 || box[0] * 2 <= m.swizzle);
  if (!ok) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(map, &m, sizeof m);
  return CUDA_SUCCESS;
}

enum { cudaEnableDefault = 0 };
enum cudaDriverEntryPointQueryResult {
  cudaDriverEntryPointSuccess = 0,
  cudaDriverEntryPointSymbolNotFound = 1,
  cudaDriverEntryPointVersionNotSufficent = 2,
};
inline cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                                    cudaDriverEntryPointQueryResult* found) {
  FM_EMULATED_CALL;
  const bool here = std::strcmp(name, "cuTensorMapEncodeTiled") == 0;
  *function = here ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
  *found = here ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
