#include "backend.h"

#include <map>
#include <mutex>

#include "launch.h"
#include "library_ops.h"
#include "staging.h"
#include "step_graph.h"

namespace fm {
namespace {

template <class T>
__global__ void fill_kernel(T* x, int64_t n, T value) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) x[i] = value;
}

template <class T>
void launch_fill(const Tensor& x, T value, const Stream& stream) {
  constexpr int64_t kThreads = 256, kMostBlocks = 4096;
  const int64_t n = x.numel(), blocks = blocks_for(n, kThreads);
  launch(stream, unsigned(blocks < kMostBlocks ? blocks : kMostBlocks), kThreads, fill_kernel<T>, x.data<T>(), n,
         value);
}

int capability_of(int device) {
  cudaDeviceProp about;
  FM_CUDA(cudaGetDeviceProperties(&about, device));
  return about.major * 10 + about.minor;
}

}  // namespace

CudaBackend::CudaBackend(int device)
    : device_(device),
      capability_(capability_of(device)),
      name_("cuda:" + std::to_string(device)),
      stream_(device),
      allocator_(device),
      staging_(new Staging(device)),
      libraries_(new LibraryOps(stream_, allocator_, capability_)),
      graphs_(new StepGraphs(device)) {
  allocator_.on_shortage(
      [](void* of) {
        const auto* const gpu = static_cast<CudaBackend*>(of);
        return gpu->staging_->give_up_memory() || gpu->graphs_->give_up_memory();
      },
      this);
}
CudaBackend::~CudaBackend() = default;

void CudaBackend::release(void* data, size_t bytes) {
  graphs_->forget(data);
  allocator_.release(data, bytes);
}

void CudaBackend::read(void* to, const void* from, size_t bytes) { staging_->to_host(stream_, to, from, bytes); }

void CudaBackend::check_here(const char* what, const Tensor& x) const {
  FM_CHECK(device, x.device() == Device{device_}, "expected ", what, " on ", name_, ", got ", x.device());
}

Tensor CudaBackend::empty(Dtype dtype, const Shape& shape) {
  for (int64_t extent : shape) FM_CHECK(shape, extent >= 0, "expected extents of at least 0, got ", shape);
  Tensor t{dtype, shape, nullptr};
  const size_t bytes = t.bytes();
  t.storage = std::make_shared<Storage>(
      allocator_.allocate(bytes), bytes, Device{device_},
      [](void* data, size_t bytes, Device device) { cuda_backend(device.index).release(data, bytes); });
  return t;
}

// Of both copies, the caller may change or free the host's memory as soon as they return.
void CudaBackend::copy_from_host(const Tensor& to, const void* from, size_t bytes) {
  check_here("the tensor to fill", to);
  FM_CHECK(shape, bytes == to.bytes(), "expected ", to.bytes(), " bytes for ", to.shape, ", got ", bytes);
  const DeviceGuard guard(device_);
  changed(to);
  staging_->to_device(stream_, to.raw(), from, bytes);
  changed(to);  // for a step that began and ended meanwhile
}

void CudaBackend::copy_to_host(void* to, const Tensor& from, size_t bytes) {
  check_here("the tensor to read", from);
  FM_CHECK(shape, bytes == from.bytes(), "expected ", from.bytes(), " bytes for ", from.shape, ", got ", bytes);
  const DeviceGuard guard(device_);
  staging_->to_host(stream_, to, from.raw(), bytes);
}

void CudaBackend::fill(const Tensor& x, double value) {
  check_here("the tensor to fill", x);
  if (x.numel() == 0) return;
  const DeviceGuard guard(device_);
  changed(x);
  if (value == 0) {
    FM_CUDA(cudaMemsetAsync(x.raw(), 0, x.bytes(), stream_));
    return;
  }
  switch (x.dtype) {
    case Dtype::float32: return launch_fill<float>(x, float(value), stream_);
    case Dtype::float64: return launch_fill<double>(x, value, stream_);
    case Dtype::int32: return launch_fill<int32_t>(x, int32_t(value), stream_);
    case Dtype::uint8: return launch_fill<uint8_t>(x, uint8_t(value), stream_);
    case Dtype::bfloat16: return launch_fill<Bfloat16>(x, Bfloat16(float(value)), stream_);
  }
}

CudaBackend& cuda_backend(int device) {
  static auto* lock = new std::mutex;
  static auto* backends = new std::map<int, CudaBackend*>;  // outlive every tensor
  std::lock_guard<std::mutex> hold(*lock);
  CudaBackend*& backend = (*backends)[device];
  if (!backend) backend = new CudaBackend(device);
  return *backend;
}

}  // namespace fm
