// Tensors in and out of JavaScript memory, mapped files, and what the addon says of the machine.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "../native/common/devices.h"
#include "../native/cpu/allocator.h"
#include "../native/cpu/isa.h"
#include "../native/cpu/onednn.h"
#include "../native/cpu/parallel.h"
#include "../native/cpu/random.h"
#include "../native/cpu/search.h"
#include "bind.h"

namespace fm {
namespace {

// Of an ArrayBuffer in Node 20; V8 aborts the process past it.
constexpr size_t kLargestBuffer = size_t(4) << 30;

struct HostArray {
  void* data;
  size_t bytes;
  Dtype dtype;
};

// The plain C call: node-addon-api's wrapper refuses an array on a SharedArrayBuffer.
HostArray host_array(const Napi::Value& value, const char* what) {
  FM_CHECK(type, value.IsTypedArray(), "expected ", what, " to be a typed array");
  napi_typedarray_type type;
  size_t length;
  void* data;
  const napi_status status = napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr);
  FM_CHECK(type, status == napi_ok, "expected ", what, " to be a typed array");
  switch (type) {
    case napi_float32_array: return {data, length * 4, Dtype::float32};
    case napi_float64_array: return {data, length * 8, Dtype::float64};
    case napi_int32_array: return {data, length * 4, Dtype::int32};
    case napi_uint8_array: return {data, length, Dtype::uint8};
    default: fail(ErrorKind::type, "expected ", what, " to be a Float32Array, Float64Array, Int32Array or Uint8Array");
  }
}

// (typed array, shape, device index) → handle; copies.
Napi::Value from_array(const Napi::CallbackInfo& info) {
  const HostArray array = host_array(info[0], "data");
  const Shape shape = Js<Shape>::from(info[1]);
  Backend& backend = backend_of(Device{Js<int>::from(info[2])});
  FM_CHECK(shape, size_t(shape.numel()) == array.bytes / size_of(array.dtype), "expected ", shape.numel(),
           " elements for shape ", shape, ", got ", array.bytes / size_of(array.dtype));
  const Tensor t = backend.empty(array.dtype, shape);
  backend.copy_from_host(t, array.data, array.bytes);
  return to_handle(info.Env(), t);
}

// (dtype, shape, device index) → handle, filled with zeros.
Napi::Value zeros(const Napi::CallbackInfo& info) {
  Backend& backend = backend_of(Device{Js<int>::from(info[2])});
  const Tensor t = backend.empty(Js<Dtype>::from(info[0]), Js<Shape>::from(info[1]));
  const FixedThreads fixed;
  backend.fill(t, 0);
  return to_handle(info.Env(), t);
}

// (dtype, shape, device index, counted) → handle; contents are undefined.
Napi::Value empty(const Napi::CallbackInfo& info) {
  Backend& backend = backend_of(Device{Js<int>::from(info[2])});
  const Tensor t = backend.empty(Js<Dtype>::from(info[0]), Js<Shape>::from(info[1]));
  return to_handle(info.Env(), t, info[3].IsUndefined() || Js<bool>::from(info[3]));
}

// (typed array, shape) → a handle on the array's own memory.  Good until JavaScript runs again: the caller disposes it
// before it returns, and nothing else may keep it.
Napi::Value borrow(const Napi::CallbackInfo& info) {
  const HostArray array = host_array(info[0], "data");
  const Shape shape = Js<Shape>::from(info[1]);
  FM_CHECK(shape, size_t(shape.numel()) == array.bytes / size_of(array.dtype), "expected ", shape.numel(),
           " elements for shape ", shape, ", got ", array.bytes / size_of(array.dtype));
  const Tensor t{array.dtype, shape, std::make_shared<Storage>(array.data, array.bytes, Device{}, nullptr)};
  return to_handle(info.Env(), t, false);
}

// (handle, first element, typed array, to_array): copies a part of a tensor from the array, or into it.
Napi::Value copy_part(const Napi::CallbackInfo& info) {
  const Tensor& t = from_handle(info[0], "tensor");
  const HostArray array = host_array(info[2], "data");
  check_dtype("tensor", t, array.dtype);
  const int64_t first = Js<int64_t>::from(info[1]), count = int64_t(array.bytes / size_of(array.dtype));
  FM_CHECK(range, first >= 0 && first <= t.numel() && count <= t.numel() - first, "expected at most ", t.numel(),
           " elements, got ", count, " from ", first);
  void* const part = static_cast<char*>(t.raw()) + first * size_of(t.dtype);
  const Tensor view{t.dtype, {count}, std::make_shared<Storage>(part, array.bytes, t.device(), nullptr)};
  Backend& backend = backend_of(t.device());
  if (Js<bool>::from(info[3])) backend.copy_to_host(array.data, view, array.bytes);
  else {
    changed(t);
    backend.copy_from_host(view, array.data, array.bytes);
    changed(t);  // for a step that began and ended meanwhile
  }
  return info.Env().Undefined();
}

// (handle, handle) → 'none', 'same' or 'partly'
Napi::Value overlap(const Napi::CallbackInfo& info) {
  constexpr const char* names[] = {"none", "same", "partly"};
  const Overlap overlap = overlap_of(from_handle(info[0], "tensor"), from_handle(info[1], "tensor"));
  return Napi::String::New(info.Env(), names[int(overlap)]);
}

// (handle, typed array): copies the tensor into the array.
Napi::Value read_into(const Napi::CallbackInfo& info) {
  const Tensor& t = from_handle(info[0], "tensor");
  const HostArray array = host_array(info[1], "out");
  check_dtype("out's tensor", t, array.dtype);
  backend_of(t.device()).copy_to_host(array.data, t, array.bytes);
  return info.Env().Undefined();
}

// (handle, typed array): copies the array into the tensor.
Napi::Value write_from(const Napi::CallbackInfo& info) {
  const Tensor& t = from_handle(info[0], "tensor");
  const HostArray array = host_array(info[1], "data");
  check_dtype("tensor", t, array.dtype);
  backend_of(t.device()).copy_from_host(t, array.data, array.bytes);
  return info.Env().Undefined();
}

// (handle, std, the generator's four words as Int32Array): draws into a tensor; the words move on.
Napi::Value fill_normal(const Napi::CallbackInfo& info) {
  const Tensor& t = from_handle(info[0], "tensor");
  check_dtype("tensor", t, Dtype::float32);
  const double std = Js<double>::from(info[1]);
  const HostArray words = host_array(info[2], "state");
  Xoshiro128 generator;
  FM_CHECK(type, words.dtype == Dtype::int32 && words.bytes == sizeof generator, "expected state of 4 words");
  std::memcpy(&generator, words.data, sizeof generator);
  const bool here = t.device().is_cpu();
  const Tensor drawn = here ? t : cpu_backend().empty(t.dtype, t.shape);
  draw_normal(drawn.data<float>(), drawn.numel(), std, generator);
  if (!here) backend_of(t.device()).copy_from_host(t, drawn.raw(), drawn.bytes());
  std::memcpy(words.data, &generator, sizeof generator);
  return info.Env().Undefined();
}

// (handle, shape) → a handle on the same storage.
Napi::Value reshape(const Napi::CallbackInfo& info) {
  Tensor t = from_handle(info[0], "tensor");
  const Shape shape = Js<Shape>::from(info[1]);
  FM_CHECK(shape, shape.numel() == t.numel(), "expected a shape of ", t.numel(), " elements for ", t.shape, ", got ",
           shape);
  t.shape = shape;
  return to_handle(info.Env(), t, false);
}

Napi::Value describe(const Napi::CallbackInfo& info) {
  const Tensor& t = from_handle(info[0], "tensor");
  Napi::Array shape = Napi::Array::New(info.Env(), t.shape.size());
  for (size_t i = 0; i < t.shape.size(); i++) shape.Set(uint32_t(i), double(t.shape[i]));
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("shape", shape);
  out.Set("dtype", Js<Dtype>::to(info.Env(), t.dtype));
  return out;
}

// The whole file as an ArrayBuffer, mapped: pages are read when touched, and writes stay private to the process.
Napi::Value map_file(const Napi::CallbackInfo& info) {
  const std::string path = Js<std::string>::from(info[0]);
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  FM_CHECK(io, file >= 0, "cannot open ", path, ": ", std::strerror(errno));
  struct stat status;
  const bool known = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  const size_t bytes = known ? size_t(status.st_size) : 0;
  void* data = bytes ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0) : MAP_FAILED;
  const int error = errno;
  close(file);
  FM_CHECK(io, known, "cannot map ", path, ": not a regular file");
  if (bytes > kLargestBuffer) {
    munmap(data, bytes);
    fail(ErrorKind::io, "cannot map ", path, ": ", bytes, " bytes, more than the ", kLargestBuffer,
         " of an ArrayBuffer; read it in parts");
  }
  if (bytes == 0) return Napi::ArrayBuffer::New(info.Env(), 0);
  FM_CHECK(io, data != MAP_FAILED, "cannot map ", path, ": ", std::strerror(error));
  return Napi::ArrayBuffer::New(info.Env(), data, bytes, [bytes](Napi::Env, void* data) { munmap(data, bytes); });
}

Napi::Value histograms_of_pairs(const Napi::CallbackInfo& info) {
  const HostArray embeddings = host_array(info[0], "embeddings"), labels = host_array(info[1], "labels");
  const int64_t dim = Js<int64_t>::from(info[2]), bins = Js<int64_t>::from(info[3]);
  FM_CHECK(type, embeddings.dtype == Dtype::float32 && labels.dtype == Dtype::int32,
           "expected a Float32Array and an Int32Array");
  const int64_t n = labels.bytes / 4;
  FM_CHECK(range, dim >= 1 && int64_t(embeddings.bytes) == n * dim * 4, "expected ", n * dim, " elements for ", n,
           " labels of ", dim, ", got ", embeddings.bytes / 4);
  FM_CHECK(range, bins >= 1 && bins <= (1 << 22), "expected bins in [1, 4194304], got ", bins);
  auto genuine = Napi::Float64Array::New(info.Env(), size_t(bins));
  auto impostor = Napi::Float64Array::New(info.Env(), size_t(bins));
  const FixedThreads fixed;
  pair_histograms(static_cast<float*>(embeddings.data), static_cast<int32_t*>(labels.data), n, dim, bins,
                  genuine.Data(), impostor.Data());
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("genuine", genuine);
  out.Set("impostor", impostor);
  return out;
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  const MemoryUse use = memory_use();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("used", double(use.used));
  out.Set("cached", double(use.cached));
  out.Set("peak", double(use.peak));
  return out;
}

Napi::Value cuda_library_list(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  for (const CudaLibrary& library : cuda_libraries()) {
    Napi::Object about = Napi::Object::New(info.Env());
    about.Set("name", library.name);
    about.Set("used", library.used);
    about.Set("version", library.version);
    about.Set("path", library.path);
    about.Set("detail", library.detail);
    out[out.Length()] = about;
  }
  return out;
}

Napi::Value status(const Napi::CallbackInfo& info) {
  const CudaStatus cuda = cuda_status();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("isa", name_of(isa()));
  out.Set("threads", num_threads());
  out.Set("onednn", onednn_status());
  out.Set("cudaDevices", cuda.devices);
  out.Set("cuda", cuda.reason);
  out.Set("cudaRuntime", cuda.runtime);
  out.Set("cudaDriver", cuda.driver);
  Napi::Array devices = Napi::Array::New(info.Env());
  for (const CudaDevice& device : cuda.list) {
    Napi::Object about = Napi::Object::New(info.Env());
    about.Set("name", device.name);
    about.Set("computeCapability", std::to_string(device.major) + "." + std::to_string(device.minor));
    about.Set("memory", double(device.memory));
    about.Set("head", device.head);
    devices[devices.Length()] = about;
  }
  out.Set("cudaList", devices);
  return out;
}

// (device index) → which of the head's paths multiply bfloat16 there.
Napi::Value head_path(const Napi::CallbackInfo& info) {
  const CudaHeadPath path = cuda_head_path(Js<int>::from(info[0]));
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("chosen", path.chosen);
  out.Set("warning", path.warning);
  return out;
}

}  // namespace

void bind_host(Napi::Object exports) {
  define(exports, "fromArray", from_array);
  define(exports, "zeros", zeros);
  define(exports, "empty", empty);
  define(exports, "borrow", borrow);
  define(exports, "copyPart", copy_part);
  define(exports, "overlap", overlap);
  define(exports, "readInto", read_into);
  define(exports, "writeFrom", write_from);
  define(exports, "fillNormal", fill_normal);
  define(exports, "reshape", reshape);
  define(exports, "describe", describe);
  define(exports, "dispose", [](const Napi::CallbackInfo& info) {
    dispose_handle(info[0]);
    return info.Env().Undefined();
  });
  define(exports, "mapFile", map_file);
  define(exports, "pairHistograms", histograms_of_pairs);
  define(exports, "memory", memory);
  define(exports, "headPath", head_path);
  define(exports, "status", status);
  define(exports, "cudaLibraries", cuda_library_list);
  define(exports, "takeLeftToOwnKernels", [](const Napi::CallbackInfo& info) -> Napi::Value {
    return Napi::String::New(info.Env(), take_cuda_left_to_own_kernels());
  });
  bind(exports, "queued", queued);
  bind(exports, "setNumThreads", set_num_threads);
  bind(exports, "emptyCache", empty_cache);
  bind(exports, "resetPeakMemory", reset_peak_memory);
}

}  // namespace fm
