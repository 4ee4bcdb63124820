// The part of cuBLASLt's C interface that is called, the same in 12 and 13: as cudnn_abi.h.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fm::cublaslt {

using Handle = struct Context*;
using MatmulDesc = struct MatmulDescription*;
using Layout = struct LayoutDescription*;
using Preference = struct PreferenceDescription*;

enum Status : int { kSuccess = 0, kNotSupported = 15 };
enum DataType : int { kFloat32 = 0, kBfloat16 = 14 };
enum Compute : int { kComputeFloat32 = 68, kComputeTf32 = 77 };
enum Operation : int { kPlain = 0, kTransposed = 1 };
enum MatmulAttribute : int { kTransposeA = 3, kTransposeB = 4 };
enum PreferenceAttribute : int { kMaxWorkspaceBytes = 1, kReductionSchemeMask = 3 };
enum ReductionScheme : uint32_t { kComputeType = 2 };

struct Algorithm {
  uint64_t data[8];
};
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace;  // bytes
  Status state;
  float waves;
  int reserved[4];
};

// F(result, name, parameters)
#define FM_CUBLASLT_FUNCTIONS(F)                                                                                     \
  F(size_t, cublasLtGetVersion, ())                                                                                  \
  F(size_t, cublasLtGetCudartVersion, ())                                                                            \
  F(const char*, cublasLtGetStatusName, (Status))                                                                    \
  F(Status, cublasLtCreate, (Handle*))                                                                               \
  F(Status, cublasLtDestroy, (Handle))                                                                               \
  F(Status, cublasLtMatmulDescCreate, (MatmulDesc*, Compute, DataType scale))                                        \
  F(Status, cublasLtMatmulDescSetAttribute, (MatmulDesc, MatmulAttribute, const void*, size_t))                      \
  F(Status, cublasLtMatmulDescDestroy, (MatmulDesc))                                                                 \
  F(Status, cublasLtMatrixLayoutCreate, (Layout*, DataType, uint64_t rows, uint64_t columns, int64_t leading))       \
  F(Status, cublasLtMatrixLayoutDestroy, (Layout))                                                                   \
  F(Status, cublasLtMatmulPreferenceCreate, (Preference*))                                                           \
  F(Status, cublasLtMatmulPreferenceSetAttribute, (Preference, PreferenceAttribute, const void*, size_t))            \
  F(Status, cublasLtMatmulPreferenceDestroy, (Preference))                                                           \
  F(Status, cublasLtMatmulAlgoGetHeuristic,                                                                          \
    (Handle, MatmulDesc, Layout, Layout, Layout, Layout, Preference, int, HeuristicResult*, int*))                   \
  F(Status, cublasLtMatmul,                                                                                          \
    (Handle, MatmulDesc, const void* alpha, const void*, Layout, const void*, Layout, const void* beta, const void*, \
     Layout, void*, Layout, const Algorithm*, void*, size_t, cudaStream_t))

struct Functions {
#define FM_POINTER(result, name, parameters) result(*name) parameters = nullptr;
  FM_CUBLASLT_FUNCTIONS(FM_POINTER)
#undef FM_POINTER
};

}  // namespace fm::cublaslt
