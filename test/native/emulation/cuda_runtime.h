// The CUDA runtime, as much of it as native/cuda calls, on the host: memory is the host's, a launch runs under the
// emulation, and a stream does what it is told in order, at any time until somebody waits for it: a wait that is missing
// shows.  Faults on demand, by environment variables read at each call:
//   FM_EMULATED_DRIVER   the driver's version, 0 for none   (default 13000)
//   FM_EMULATED_DEVICES  how many                           (default 2)
//   FM_EMULATED_MEMORY   bytes a device has                 (default 1 GiB)
//   FM_EMULATED_FAILURE  a runtime function that fails with an illegal address from now on
//   FM_EMULATED_SEED     of the order in which threads run, and of when streams do
//   FM_EMULATED_CAPABILITY  10 times the compute capability   (default 80)
//   FM_EMULATED_WRONG_MMA   1: tensor cores that lose a product
//   FM_EMULATED_WRONG_GRAPH   1: graphs that lose their last launch
//
// Between the beginning and the end of a capture, launches, copies and memory sets of its stream are recorded with their
// arguments and done by each launch of the graph.  What would wait or allocate then fails, and makes the capture invalid.
#pragma once
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../cuda_emulation.h"

#define CUDART_VERSION 13000

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorECCUncorrectable = 214,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchTimeout = 702,
  cudaErrorHardwareStackError = 714,
  cudaErrorIllegalInstruction = 715,
  cudaErrorMisalignedAddress = 716,
  cudaErrorInvalidAddressSpace = 717,
  cudaErrorInvalidPc = 718,
  cudaErrorLaunchFailure = 719,
  cudaErrorSystemDriverMismatch = 803,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorIllegalState = 401,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };

struct alignas(8) float2 {
  float x, y;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  size_t totalGlobalMem;
};
using cudaStream_t = struct EmulatedStream*;
using cudaEvent_t = struct EmulatedEvent*;
using cudaGraph_t = struct EmulatedGraph*;
using cudaGraphExec_t = struct EmulatedGraph*;
struct EmulatedGraph {
  std::vector<std::function<void()>> work;
};
namespace cuda_emulation {
struct Queue;
}
struct EmulatedStream {
  void (*catch_up)(void* stream);  // first: a library that computes at once calls it
  std::shared_ptr<cuda_emulation::Queue> queue;
  EmulatedGraph* capture = nullptr;
  bool invalid = false;
};
struct EmulatedEvent {
  std::shared_ptr<cuda_emulation::Queue> queue;  // of the stream that it was recorded on
  uint64_t at = 0;
};
enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension = 4 };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  union {
    struct {
      unsigned x, y, z;
    } clusterDim;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

namespace cuda_emulation {

// What a stream was told and has not done yet.
struct Queue {
  std::deque<std::function<void()>> waiting;
  uint64_t told = 0, begun = 0;
};
struct Devices {
  std::recursive_mutex running;
  std::vector<std::shared_ptr<Queue>> queues;
  std::mutex lock;
  std::map<void*, std::pair<int, size_t>> blocks;  // device, bytes
  std::map<int, size_t> used;
  std::map<void*, size_t> most_shared;  // of kernels that may have more than 48 KiB
  uint64_t launches = 0;
  uint64_t graph_launches = 0;
};
inline Devices& devices() {
  static auto* one = new Devices;
  return *one;
}
inline thread_local int current_device = 0;
inline bool late = true;  // false where a test of kernels waits for no stream
// The stream that this thread captures, other than in the relaxed mode.
inline thread_local EmulatedStream* capturing = nullptr;

inline uint64_t setting(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

// The first `until` of all that the stream was told.
inline void run(Queue& queue, uint64_t until) {
  std::lock_guard<std::recursive_mutex> hold(devices().running);
  while (queue.begun < until) {
    const std::function<void()> work = std::move(queue.waiting.front());
    queue.waiting.pop_front();
    queue.begun++;
    work();
  }
}
inline void run(Queue& queue) {
  std::lock_guard<std::recursive_mutex> hold(devices().running);
  run(queue, queue.told);
}
inline void run_all() {
  std::lock_guard<std::recursive_mutex> hold(devices().running);
  for (const auto& queue : devices().queues) run(*queue);
}

// Until the stream is waited for, or where it is captured, whenever the graph is launched.
template <class F>
cudaError_t enqueue(EmulatedStream* stream, F&& work) {
  if (!stream) return work(), cudaSuccess;
  if (stream->capture && stream->invalid) return cudaErrorStreamCaptureInvalidated;
  if (stream->capture) return stream->capture->work.emplace_back(std::forward<F>(work)), cudaSuccess;
  std::lock_guard<std::recursive_mutex> hold(devices().running);
  Queue& queue = *stream->queue;
  queue.waiting.emplace_back(std::forward<F>(work));
  queue.told++;
  std::minstd_rand chance(unsigned(setting("FM_EMULATED_SEED", 1) * 7919 + queue.told));
  chance.discard(3);
  if (!late || chance() % 4 == 0) run(queue);
  return cudaSuccess;
}
// What must not be called while a stream is captured, by the thread that does so or of that stream.
inline cudaError_t while_capturing(EmulatedStream* stream = nullptr) {
  if (!stream || !stream->capture) stream = capturing;
  if (!stream || !stream->capture) return cudaSuccess;
  stream->invalid = true;
  return cudaErrorStreamCaptureUnsupported;
}

inline int driver() { return int(setting("FM_EMULATED_DRIVER", CUDART_VERSION)); }
inline int device_count() { return int(setting("FM_EMULATED_DEVICES", 2)); }
inline int capability() { return int(setting("FM_EMULATED_CAPABILITY", 80)); }
inline size_t memory() { return setting("FM_EMULATED_MEMORY", size_t(1) << 30); }

// A real cuDNN or cuBLASLt knows nothing of this memory: unless a test asks for one, our own kernels compute.
inline const int own_kernels = setenv("FLASHMARGIN_CUDA_OPS", "own", 0);

// What every call of this name answers before it does anything.
inline cudaError_t fault(const char* call) {
  if (driver() < CUDART_VERSION) return cudaErrorInsufficientDriver;
  if (device_count() == 0) return cudaErrorNoDevice;
  const char* failing = std::getenv("FM_EMULATED_FAILURE");
  return failing && failing == std::string(call) ? cudaErrorIllegalAddress : cudaSuccess;
}

}  // namespace cuda_emulation

// For a test that opens a library of these sources: how many graphs were launched.
extern "C" __attribute__((visibility("default"), used)) inline uint64_t fm_emulated_graph_launches() {
  return cuda_emulation::devices().graph_launches;
}
// And on which device this thread is.
extern "C" __attribute__((visibility("default"), used)) inline int fm_emulated_device() {
  return cuda_emulation::current_device;
}

#define FM_EMULATED_CALL \
  if (const cudaError_t error = ::cuda_emulation::fault(__func__)) return error
#define FM_NOT_WHILE_CAPTURING(...) \
  if (const cudaError_t error = ::cuda_emulation::while_capturing(__VA_ARGS__)) return error

inline const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
    default: return "cudaErrorOther";
  }
}
inline const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    default: return "another error";
  }
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = cuda_emulation::driver();
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  FM_EMULATED_CALL;
  *count = cuda_emulation::device_count();
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  FM_EMULATED_CALL;
  *device = cuda_emulation::current_device;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  FM_EMULATED_CALL;
  if (device < 0 || device >= cuda_emulation::device_count()) return cudaErrorInvalidDevice;
  cuda_emulation::current_device = device;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* about, int device) {
  FM_EMULATED_CALL;
  if (device < 0 || device >= cuda_emulation::device_count()) return cudaErrorInvalidDevice;
  std::snprintf(about->name, sizeof about->name, "Emulated GPU");
  about->major = cuda_emulation::capability() / 10;
  about->minor = cuda_emulation::capability() % 10;
  about->multiProcessorCount = 4;
  about->totalGlobalMem = cuda_emulation::memory();
  return cudaSuccess;
}

inline cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  FM_EMULATED_CALL;
  auto& all = cuda_emulation::devices();
  std::lock_guard<std::mutex> hold(all.lock);
  *total = cuda_emulation::memory();
  *free = *total - std::min(*total, all.used[cuda_emulation::current_device]);
  return cudaSuccess;
}
// New memory holds NaN, so that what a kernel forgets to write shows.
inline cudaError_t cudaMalloc(void** data, size_t bytes) {
  FM_EMULATED_CALL;
  FM_NOT_WHILE_CAPTURING();
  auto& all = cuda_emulation::devices();
  std::lock_guard<std::mutex> hold(all.lock);
  size_t& used = all.used[cuda_emulation::current_device];
  if (used + bytes > cuda_emulation::memory()) return cudaErrorMemoryAllocation;
  *data = std::aligned_alloc(512, (bytes + 511) / 512 * 512);
  if (!*data) return cudaErrorMemoryAllocation;
  std::memset(*data, 0xff, bytes);
  all.blocks[*data] = {cuda_emulation::current_device, bytes};
  used += bytes;
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* data) {
  FM_EMULATED_CALL;
  FM_NOT_WHILE_CAPTURING();
  cuda_emulation::run_all();
  auto& all = cuda_emulation::devices();
  std::lock_guard<std::mutex> hold(all.lock);
  const auto it = all.blocks.find(data);
  if (it == all.blocks.end()) return cudaErrorInvalidValue;
  all.used[it->second.first] -= it->second.second;
  all.blocks.erase(it);
  std::free(data);
  return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** data, size_t bytes) {
  FM_EMULATED_CALL;
  FM_NOT_WHILE_CAPTURING();
  *data = std::malloc(bytes);
  return *data ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFreeHost(void* data) {
  cuda_emulation::run_all();
  std::free(data);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  FM_EMULATED_CALL;
  return cuda_emulation::enqueue(stream, [=] { std::memcpy(to, from, bytes); });
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  FM_EMULATED_CALL;
  return cuda_emulation::enqueue(stream, [=] { std::memset(to, value, bytes); });
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t stream);
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  FM_EMULATED_CALL;
  *stream = new EmulatedStream{[](void* of) { cudaStreamSynchronize(static_cast<cudaStream_t>(of)); },
                               std::make_shared<cuda_emulation::Queue>()};
  auto& all = cuda_emulation::devices();
  std::lock_guard<std::recursive_mutex> hold(all.running);
  all.queues.push_back((*stream)->queue);
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  cuda_emulation::run(*stream->queue);
  delete stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  FM_EMULATED_CALL;
  FM_NOT_WHILE_CAPTURING(stream);
  cuda_emulation::run(*stream->queue);
  return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  FM_EMULATED_CALL;
  if (stream->capture) return cudaErrorIllegalState;
  stream->capture = new EmulatedGraph, stream->invalid = false;
  if (mode != cudaStreamCaptureModeRelaxed) cuda_emulation::capturing = stream;
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!stream->capture) return cudaErrorIllegalState;
  *graph = std::exchange(stream->capture, nullptr);
  cuda_emulation::capturing = nullptr;
  FM_EMULATED_CALL;
  if (!stream->invalid) return cudaSuccess;
  delete std::exchange(*graph, nullptr);
  return cudaErrorStreamCaptureInvalidated;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* launchable, cudaGraph_t graph, unsigned long long) {
  FM_EMULATED_CALL;
  *launchable = new EmulatedGraph(*graph);
  if (cuda_emulation::setting("FM_EMULATED_WRONG_GRAPH", 0)) (*launchable)->work.pop_back();
  return cudaSuccess;
}
inline cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t stream) {
  FM_EMULATED_CALL;
  FM_NOT_WHILE_CAPTURING(stream);
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  FM_EMULATED_CALL;
  cuda_emulation::devices().graph_launches++;
  for (const auto& work : graph->work)
    if (const cudaError_t error = cuda_emulation::enqueue(stream, work)) return error;
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  FM_EMULATED_CALL;
  *event = new EmulatedEvent;
  return cudaSuccess;
}
inline cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  FM_EMULATED_CALL;
  FM_NOT_WHILE_CAPTURING(stream);  // legal, but nothing here knows what it would mean
  std::lock_guard<std::recursive_mutex> hold(cuda_emulation::devices().running);
  *event = {stream->queue, stream->queue->told};
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  FM_EMULATED_CALL;
  FM_NOT_WHILE_CAPTURING();
  if (event->queue) cuda_emulation::run(*event->queue, event->at);
  return cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  FM_EMULATED_CALL;
  FM_NOT_WHILE_CAPTURING(stream);
  if (!event->queue) return cudaSuccess;
  return cuda_emulation::enqueue(stream, [queue = event->queue, at = event->at] { cuda_emulation::run(*queue, at); });
}
inline cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) {
  FM_EMULATED_CALL;
  *ms = 0;
  return cudaSuccess;
}

template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute, int bytes) {
  FM_EMULATED_CALL;
  if (bytes > 232448) return cudaErrorInvalidValue;  // of compute capability 9.0
  auto& all = cuda_emulation::devices();
  std::lock_guard<std::mutex> hold(all.lock);
  all.most_shared[reinterpret_cast<void*>(kernel)] = size_t(bytes);
  return cudaSuccess;
}

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
  FM_EMULATED_CALL;
  const dim3 grid = config->gridDim, block = config->blockDim;
  // The limits of every GPU since compute capability 3.0.
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return cudaErrorInvalidValue;
  const size_t threads = size_t(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024) return cudaErrorInvalidValue;
  unsigned cluster = 1;
  for (unsigned i = 0; i < config->numAttrs; i++)
    if (config->attrs[i].id == cudaLaunchAttributeClusterDimension) cluster = config->attrs[i].val.clusterDim.x;
  if (cluster == 0 || cluster > 8 || grid.x % cluster != 0) return cudaErrorInvalidValue;
  const size_t shared_bytes = config->dynamicSmemBytes;
  if (shared_bytes > 48 << 10) {
    auto& all = cuda_emulation::devices();
    std::lock_guard<std::mutex> hold(all.lock);
    if (shared_bytes > all.most_shared[reinterpret_cast<void*>(kernel)]) return cudaErrorInvalidValue;
  }
  return cuda_emulation::enqueue(config->stream, [grid, block, cluster, shared_bytes, kernel,
                                                  values = std::tuple<std::decay_t<P>...>(arguments...)] {
    const uint64_t seed = cuda_emulation::setting("FM_EMULATED_SEED", 1) + 7919 * cuda_emulation::devices().launches++;
    cuda_emulation::emulate(
        {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, seed,
        [&] { std::apply([&](const auto&... value) { kernel(std::decay_t<P>(value)...); }, values); }, cluster,
        shared_bytes);
  });
}
