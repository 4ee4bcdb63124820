// The part of cuDNN 9's C interface that is called: its numbers, one struct and its signatures, so that building needs
// none of its files.  Handles are opaque.  test/native/abi holds this page against <cudnn.h> where that is installed.
#pragma once
#include <cstddef>

namespace fm::cudnn {

using Handle = struct Context*;
using Descriptor = struct Description*;  // of a tensor, a filter or a convolution: the library has a type for each

enum Status : int {
  kSuccess = 0,
  kSublibraryVersionMismatch = 1002,
  kSublibraryLoadingFailed = 1008,
  kNotSupported = 3000  // and what is above in that thousand, for one reason or another
};
enum DataType : int { kFloat32 = 0, kBfloat16 = 9 };
enum Format : int { kNchw = 0, kNhwc = 1 };
enum Mode : int { kConvolution = 0, kCrossCorrelation = 1 };
enum Determinism : int { kNonDeterministic = 0, kDeterministic = 1 };
// Default lets float32 be multiplied as TF32, 10 bits of mantissa; fma is float32.
enum Math : int { kDefaultMath = 0, kTensorOp = 1, kTensorOpAllowConversion = 2, kFma = 3 };

// Of the three directions, which differ in the type of `algorithm` alone.
struct AlgorithmPerf {
  int algorithm;
  Status status;
  float milliseconds;  // below 0 where it was not measured
  size_t workspace;    // bytes
  Determinism determinism;
  Math math;
  int reserved[3];
};

// The three directions' functions have one shape each: two operands, the convolution, and the result.
using Heuristic = Status (*)(Handle, Descriptor, Descriptor, Descriptor, Descriptor, int, int*, AlgorithmPerf*);
using WorkspaceSize = Status (*)(Handle, Descriptor, Descriptor, Descriptor, Descriptor, int, size_t*);
using Measure = Status (*)(Handle, Descriptor, const void*, Descriptor, const void*, Descriptor, Descriptor, void*, int,
                           int*, AlgorithmPerf*, void*, size_t);
using Run = Status (*)(Handle, const void* alpha, Descriptor, const void*, Descriptor, const void*, Descriptor, int,
                       void*, size_t, const void* beta, Descriptor, void*);

// F(result, name, parameters)
#define FM_CUDNN_FUNCTIONS(F)                                                                                       \
  F(size_t, cudnnGetVersion, ())                                                                                    \
  F(size_t, cudnnGetCudartVersion, ())                                                                              \
  F(const char*, cudnnGetErrorString, (Status))                                                                     \
  F(void, cudnnGetLastErrorString, (char*, size_t))                                                                 \
  F(Status, cudnnCreate, (Handle*))                                                                                 \
  F(Status, cudnnDestroy, (Handle))                                                                                 \
  F(Status, cudnnSetStream, (Handle, cudaStream_t))                                                                 \
  F(Status, cudnnCreateTensorDescriptor, (Descriptor*))                                                             \
  F(Status, cudnnDestroyTensorDescriptor, (Descriptor))                                                             \
  F(Status, cudnnSetTensor4dDescriptor, (Descriptor, Format, DataType, int n, int c, int h, int w))                 \
  F(Status, cudnnCreateFilterDescriptor, (Descriptor*))                                                             \
  F(Status, cudnnDestroyFilterDescriptor, (Descriptor))                                                             \
  F(Status, cudnnSetFilter4dDescriptor, (Descriptor, DataType, Format, int k, int c, int h, int w))                 \
  F(Status, cudnnCreateConvolutionDescriptor, (Descriptor*))                                                        \
  F(Status, cudnnDestroyConvolutionDescriptor, (Descriptor))                                                        \
  F(Status, cudnnSetConvolution2dDescriptor,                                                                        \
    (Descriptor, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h, int dilation_w, Mode, DataType)) \
  F(Status, cudnnSetConvolutionMathType, (Descriptor, Math))                                                        \
  F(Status, cudnnGetConvolutionForwardAlgorithm_v7,                                                                 \
    (Handle, Descriptor, Descriptor, Descriptor, Descriptor, int, int*, AlgorithmPerf*))                            \
  F(Status, cudnnGetConvolutionBackwardDataAlgorithm_v7,                                                            \
    (Handle, Descriptor, Descriptor, Descriptor, Descriptor, int, int*, AlgorithmPerf*))                            \
  F(Status, cudnnGetConvolutionBackwardFilterAlgorithm_v7,                                                          \
    (Handle, Descriptor, Descriptor, Descriptor, Descriptor, int, int*, AlgorithmPerf*))                            \
  F(Status, cudnnGetConvolutionForwardWorkspaceSize,                                                                \
    (Handle, Descriptor, Descriptor, Descriptor, Descriptor, int, size_t*))                                         \
  F(Status, cudnnGetConvolutionBackwardDataWorkspaceSize,                                                           \
    (Handle, Descriptor, Descriptor, Descriptor, Descriptor, int, size_t*))                                         \
  F(Status, cudnnGetConvolutionBackwardFilterWorkspaceSize,                                                         \
    (Handle, Descriptor, Descriptor, Descriptor, Descriptor, int, size_t*))                                         \
  F(Status, cudnnFindConvolutionForwardAlgorithmEx,                                                                 \
    (Handle, Descriptor, const void*, Descriptor, const void*, Descriptor, Descriptor, void*, int, int*,            \
     AlgorithmPerf*, void*, size_t))                                                                                \
  F(Status, cudnnFindConvolutionBackwardDataAlgorithmEx,                                                            \
    (Handle, Descriptor, const void*, Descriptor, const void*, Descriptor, Descriptor, void*, int, int*,            \
     AlgorithmPerf*, void*, size_t))                                                                                \
  F(Status, cudnnFindConvolutionBackwardFilterAlgorithmEx,                                                          \
    (Handle, Descriptor, const void*, Descriptor, const void*, Descriptor, Descriptor, void*, int, int*,            \
     AlgorithmPerf*, void*, size_t))                                                                                \
  F(Status, cudnnConvolutionForward,                                                                                \
    (Handle, const void*, Descriptor, const void*, Descriptor, const void*, Descriptor, int, void*, size_t,         \
     const void*, Descriptor, void*))                                                                               \
  F(Status, cudnnConvolutionBackwardData,                                                                           \
    (Handle, const void*, Descriptor, const void*, Descriptor, const void*, Descriptor, int, void*, size_t,         \
     const void*, Descriptor, void*))                                                                               \
  F(Status, cudnnConvolutionBackwardFilter,                                                                         \
    (Handle, const void*, Descriptor, const void*, Descriptor, const void*, Descriptor, int, void*, size_t,         \
     const void*, Descriptor, void*))

struct Functions {
#define FM_POINTER(result, name, parameters) result(*name) parameters = nullptr;
  FM_CUDNN_FUNCTIONS(FM_POINTER)
#undef FM_POINTER
};

}  // namespace fm::cudnn
