// cuDNN 9's legacy convolutions of [N, H, W, C] float32 and bfloat16.  Of the algorithms that it suggests only the last two
// may be used: the others are not supported, not deterministic, take a terabyte, or multiply TF32.  Those of bfloat16 are
// the tensor cores'.  FM_STUB_SUGGESTIONS: how many it suggests; FM_STUB_TENSOR_OP: one that it suggests for tensor cores.
#include <vector>

#include "stub.h"

FM_STUB_LIBRARY("cudnn")

namespace {

enum { success = 0, bad_param = 2000, not_supported = 3000, execution_failed = 5000 };
enum { nhwc = 1, float32 = 0, bfloat16 = 9, cross_correlation = 1 };
enum { default_math = 0, tensor_op = 1, fma = 3 };

struct Description {
  enum { tensor, filter, convolution } kind;
  int type = -1, format = -1;
  int n = 0, c = 0, h = 0, w = 0;  // of a filter n is K
  int pad_h = 0, pad_w = 0, stride_h = 0, stride_w = 0, mode = -1, math = default_math;
};

struct Perf {
  int algorithm, status;
  float time;
  size_t memory;
  int determinism, math;
  int reserved[3];
};

struct Handle {
  void* stream = nullptr;
};

constexpr int kTf32 = 3, kWithWorkspace = 4, kWithoutWorkspace = 5;
constexpr size_t kWorkspace = 5000;

std::string& last_error() {
  static std::string text;
  return text;
}

int refuse(const char* why) {
  last_error() = why;
  return bad_param;
}

int suggest(const Description* x, const Description* w, const Description* conv, const Description* y, int requested,
            int* returned, Perf* to, bool measured) {
  if (x->kind != Description::tensor || y->kind != Description::tensor || w->kind != Description::filter ||
      conv->kind != Description::convolution)
    return refuse("descriptors of another kind");
  const bool half = x->type == bfloat16;
  const int math = half ? tensor_op : fma;
  std::vector<Perf> all = {
      {0, not_supported, 0, 0, 1, math, {}},
      {1, success, 0, 0, 0, math, {}},
      {2, success, 0, size_t(1) << 40, 1, math, {}},
      {kTf32, half ? not_supported : success, 0, 0, 1, tensor_op, {}},
      {kWithWorkspace, success, 0, 0, 1, half ? math : default_math, {}},  // and with fma it takes more
      {kWithoutWorkspace, success, 0, 0, 1, math, {}},
  };
  const size_t relabelled = stub::setting("FM_STUB_TENSOR_OP", all.size());
  if (relabelled < all.size()) all[relabelled].math = tensor_op;
  if (measured) std::swap(all[4], all[5]);
  if (stub::setting("FM_STUB_SUGGESTIONS", all.size()) < all.size())
    all.resize(stub::setting("FM_STUB_SUGGESTIONS", 0));
  *returned = 0;
  for (const Perf& perf : all)
    if (*returned < requested) to[(*returned)++] = perf;
  return success;
}

int workspace_of(const Description* x, const Description* w, const Description* conv, const Description* y,
                 int algorithm, size_t* bytes) {
  if (x->kind != Description::tensor || y->kind != Description::tensor || w->kind != Description::filter ||
      conv->kind != Description::convolution)
    return refuse("descriptors of another kind");
  *bytes = algorithm == 2                                              ? size_t(1) << 40
           : algorithm == kWithWorkspace && conv->math != default_math ? kWorkspace
                                                                       : 0;
  return algorithm == 0 || (algorithm == kTf32 && conv->math == fma) ? not_supported : success;
}

// For each pair of an output pixel and a tap that falls into the image: f(index of x, of w, of y).
template <class F>
void for_taps(const Description& x, const Description& w, const Description& conv, const Description& y, F&& f) {
  for (int n = 0; n < y.n; n++)
    for (int oh = 0; oh < y.h; oh++)
      for (int ow = 0; ow < y.w; ow++)
        for (int kh = 0; kh < w.h; kh++)
          for (int kw = 0; kw < w.w; kw++) {
            const int h = oh * conv.stride_h - conv.pad_h + kh, v = ow * conv.stride_w - conv.pad_w + kw;
            if (h < 0 || h >= x.h || v < 0 || v >= x.w) continue;
            for (int o = 0; o < w.n; o++)
              for (int c = 0; c < w.c; c++)
                f(((size_t(n) * x.h + h) * x.w + v) * x.c + c, ((size_t(o) * w.h + kh) * w.w + kw) * w.c + c,
                  ((size_t(n) * y.h + oh) * y.w + ow) * y.c + o);
          }
}

int check(const Handle* handle, const Description& x, const Description& w, const Description& conv,
          const Description& y, int algorithm, void* workspace, size_t bytes) {
  if (!handle->stream) return refuse("no stream");
  stub::catch_up(handle->stream);
  if (x.format != nhwc || w.format != nhwc || y.format != nhwc) return refuse("another format than NHWC");
  if ((x.type != float32 && x.type != bfloat16) || w.type != x.type || y.type != x.type)
    return refuse("another type than float or bfloat16, or two of them");
  if (conv.type != float32) return refuse("sums of another type than float");
  if (conv.mode != cross_correlation) return refuse("not a cross-correlation");
  if (x.c != w.c || y.c != w.n || x.n != y.n) return refuse("extents that do not fit");
  if (y.h != (x.h + 2 * conv.pad_h - w.h) / conv.stride_h + 1 ||
      y.w != (x.w + 2 * conv.pad_w - w.w) / conv.stride_w + 1)
    return refuse("an output of another size");
  if (algorithm == kTf32) return conv.math == tensor_op ? success : refuse("the math of another algorithm");
  if (algorithm != kWithWorkspace && algorithm != kWithoutWorkspace) return execution_failed;
  if (conv.math != (x.type == bfloat16 ? tensor_op : fma)) return refuse("the math of another type");
  if (algorithm == kWithWorkspace) {
    if (!workspace || bytes < kWorkspace) return refuse("too little workspace");
    std::memset(workspace, 0xff, bytes);
  }
  return success;
}

enum Direction { forward, backward_data, backward_filter };

int convolve(Direction direction, const char* function, const Handle* handle, const void* alpha, const Description& xd,
             const void* x, const Description& wd, const void* w, const Description& conv, const Description& yd,
             const void* y, int algorithm, void* workspace, size_t bytes, const void* beta, void* to, size_t count) {
  if (const int failure = stub::entered(function, execution_failed)) return failure;
  if (const int failure = check(handle, xd, wd, conv, yd, algorithm, workspace, bytes)) return failure;
  stub::counts()["algorithm " + std::to_string(algorithm)]++;
  const bool half = xd.type == bfloat16;
  if (half) stub::counts()["of bfloat16"]++;
  const auto read = [&](const void* from, size_t i) {
    const float value = stub::read(from, half, i);
    return double(algorithm == kTf32 ? stub::tf32(value) : value);
  };
  std::vector<double> sums(count, 0.0);
  for_taps(xd, wd, conv, yd, [&](size_t xi, size_t wi, size_t yi) {
    if (direction == forward) sums[yi] += read(x, xi) * read(w, wi);
    else if (direction == backward_data) sums[xi] += read(y, yi) * read(w, wi);
    else sums[wi] += read(x, xi) * read(y, yi);
  });
  const float a = *static_cast<const float*>(alpha), b = *static_cast<const float*>(beta);
  for (size_t i = 0; i < count; i++)
    stub::write(to, half, i, float(a * sums[i] + (b == 0 ? 0 : double(b) * stub::read(to, half, i))));
  return success;
}

size_t elements(const Description& d) { return size_t(d.n) * d.c * d.h * d.w; }
size_t bytes_of(const Description& d) { return elements(d) * (d.type == bfloat16 ? 2 : 4); }

}  // namespace

FM_STUB size_t cudnnGetVersion() { return stub::setting("FM_STUB_VERSION", 91002); }
FM_STUB size_t cudnnGetCudartVersion() { return stub::setting("FM_STUB_CUDA", 13000); }
FM_STUB const char* cudnnGetErrorString(int status) {
  switch (status) {
    case success: return "CUDNN_STATUS_SUCCESS";
    case 1002: return "CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH";
    case bad_param: return "CUDNN_STATUS_BAD_PARAM";
    case not_supported: return "CUDNN_STATUS_NOT_SUPPORTED";
    case execution_failed: return "CUDNN_STATUS_EXECUTION_FAILED";
    default: return "CUDNN_STATUS_INTERNAL_ERROR";
  }
}
FM_STUB void cudnnGetLastErrorString(char* to, size_t size) {
  std::strncpy(to, last_error().c_str(), size);
  to[size - 1] = 0;
}

FM_STUB int cudnnCreate(Handle** handle) {
  if (const int failure = stub::entered("cudnnCreate", 1001)) return failure;
  *handle = new Handle;
  return success;
}
FM_STUB int cudnnDestroy(Handle* handle) {
  delete handle;
  return success;
}
FM_STUB int cudnnSetStream(Handle* handle, void* stream) {
  handle->stream = stream;
  return success;
}

FM_STUB int cudnnCreateTensorDescriptor(Description** d) {
  *d = new Description{Description::tensor};
  return success;
}
FM_STUB int cudnnDestroyTensorDescriptor(Description* d) {
  delete d;
  return success;
}
FM_STUB int cudnnSetTensor4dDescriptor(Description* d, int format, int type, int n, int c, int h, int w) {
  d->format = format, d->type = type, d->n = n, d->c = c, d->h = h, d->w = w;
  return success;
}
FM_STUB int cudnnCreateFilterDescriptor(Description** d) {
  *d = new Description{Description::filter};
  return success;
}
FM_STUB int cudnnDestroyFilterDescriptor(Description* d) {
  delete d;
  return success;
}
FM_STUB int cudnnSetFilter4dDescriptor(Description* d, int type, int format, int k, int c, int h, int w) {
  d->format = format, d->type = type, d->n = k, d->c = c, d->h = h, d->w = w;
  return success;
}
FM_STUB int cudnnCreateConvolutionDescriptor(Description** d) {
  *d = new Description{Description::convolution};
  return success;
}
FM_STUB int cudnnDestroyConvolutionDescriptor(Description* d) {
  delete d;
  return success;
}
FM_STUB int cudnnSetConvolution2dDescriptor(Description* d, int pad_h, int pad_w, int u, int v, int dilation_h,
                                            int dilation_w, int mode, int compute_type) {
  if (dilation_h != 1 || dilation_w != 1) return refuse("a dilation");
  d->pad_h = pad_h, d->pad_w = pad_w, d->stride_h = u, d->stride_w = v, d->mode = mode, d->type = compute_type;
  return success;
}
FM_STUB int cudnnSetConvolutionMathType(Description* d, int math) {
  d->math = math;
  return success;
}

FM_STUB int cudnnGetConvolutionForwardWorkspaceSize(Handle*, Description* x, Description* w, Description* conv,
                                                    Description* y, int algorithm, size_t* bytes) {
  return workspace_of(x, w, conv, y, algorithm, bytes);
}
FM_STUB int cudnnGetConvolutionBackwardDataWorkspaceSize(Handle*, Description* w, Description* dy, Description* conv,
                                                         Description* dx, int algorithm, size_t* bytes) {
  return workspace_of(dx, w, conv, dy, algorithm, bytes);
}
FM_STUB int cudnnGetConvolutionBackwardFilterWorkspaceSize(Handle*, Description* x, Description* dy, Description* conv,
                                                           Description* dw, int algorithm, size_t* bytes) {
  return workspace_of(x, dw, conv, dy, algorithm, bytes);
}

FM_STUB int cudnnGetConvolutionForwardAlgorithm_v7(Handle*, Description* x, Description* w, Description* conv,
                                                   Description* y, int requested, int* returned, Perf* to) {
  if (const int failure = stub::entered(__func__, bad_param)) return failure;
  return suggest(x, w, conv, y, requested, returned, to, false);
}
FM_STUB int cudnnGetConvolutionBackwardDataAlgorithm_v7(Handle*, Description* w, Description* dy, Description* conv,
                                                        Description* dx, int requested, int* returned, Perf* to) {
  if (const int failure = stub::entered(__func__, bad_param)) return failure;
  return suggest(dx, w, conv, dy, requested, returned, to, false);
}
FM_STUB int cudnnGetConvolutionBackwardFilterAlgorithm_v7(Handle*, Description* x, Description* dy, Description* conv,
                                                          Description* dw, int requested, int* returned, Perf* to) {
  if (const int failure = stub::entered(__func__, bad_param)) return failure;
  return suggest(x, dw, conv, dy, requested, returned, to, false);
}

// Timing an algorithm writes result and workspace.
FM_STUB int cudnnFindConvolutionForwardAlgorithmEx(Handle*, Description* xd, const void*, Description* wd, const void*,
                                                   Description* conv, Description* yd, void* y, int requested,
                                                   int* returned, Perf* to, void* workspace, size_t bytes) {
  if (const int failure = stub::entered(__func__, bad_param)) return failure;
  std::memset(y, 0xff, bytes_of(*yd));
  std::memset(workspace, 0xff, bytes);
  return suggest(xd, wd, conv, yd, requested, returned, to, true);
}
FM_STUB int cudnnFindConvolutionBackwardDataAlgorithmEx(Handle*, Description* wd, const void*, Description* dyd,
                                                        const void*, Description* conv, Description* dxd, void* dx,
                                                        int requested, int* returned, Perf* to, void* workspace,
                                                        size_t bytes) {
  if (const int failure = stub::entered(__func__, bad_param)) return failure;
  std::memset(dx, 0xff, bytes_of(*dxd));
  std::memset(workspace, 0xff, bytes);
  return suggest(dxd, wd, conv, dyd, requested, returned, to, true);
}
FM_STUB int cudnnFindConvolutionBackwardFilterAlgorithmEx(Handle*, Description* xd, const void*, Description* dyd,
                                                          const void*, Description* conv, Description* dwd, void* dw,
                                                          int requested, int* returned, Perf* to, void* workspace,
                                                          size_t bytes) {
  if (const int failure = stub::entered(__func__, bad_param)) return failure;
  std::memset(dw, 0xff, bytes_of(*dwd));
  std::memset(workspace, 0xff, bytes);
  return suggest(xd, dwd, conv, dyd, requested, returned, to, true);
}

FM_STUB int cudnnConvolutionForward(Handle* handle, const void* alpha, Description* xd, const void* x, Description* wd,
                                    const void* w, Description* conv, int algorithm, void* workspace, size_t bytes,
                                    const void* beta, Description* yd, void* y) {
  return convolve(forward, __func__, handle, alpha, *xd, x, *wd, w, *conv, *yd, y, algorithm, workspace, bytes, beta, y,
                  elements(*yd));
}
FM_STUB int cudnnConvolutionBackwardData(Handle* handle, const void* alpha, Description* wd, const void* w,
                                         Description* dyd, const void* dy, Description* conv, int algorithm,
                                         void* workspace, size_t bytes, const void* beta, Description* dxd, void* dx) {
  return convolve(backward_data, __func__, handle, alpha, *dxd, dx, *wd, w, *conv, *dyd, dy, algorithm, workspace,
                  bytes, beta, dx, elements(*dxd));
}
FM_STUB int cudnnConvolutionBackwardFilter(Handle* handle, const void* alpha, Description* xd, const void* x,
                                           Description* dyd, const void* dy, Description* conv, int algorithm,
                                           void* workspace, size_t bytes, const void* beta, Description* dwd,
                                           void* dw) {
  return convolve(backward_filter, __func__, handle, alpha, *xd, x, *dwd, dw, *conv, *dyd, dy, algorithm, workspace,
                  bytes, beta, dw, elements(*dwd));
}
