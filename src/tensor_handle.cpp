#include "tensor_handle.h"

#include <algorithm>

#include "../native/common/devices.h"

namespace fm {
namespace {

constexpr napi_type_tag kTensorTag = {0x8d1f6c52a7e94b03, 0xb6c3f0e2915d4a78};

struct Handle : Tensor {
  bool counted;
  Handle(const Tensor& tensor, bool counted) : Tensor(tensor), counted(counted) {}
};

// A collection stops the thread that feeds the device.  V8 begins one when 64 MiB more than at the last are held: of a
// device, when half of its memory is.
int64_t weighed(const Tensor& tensor) {
  if (tensor.device().is_cpu()) return int64_t(tensor.bytes());
  const double memory = double(cuda_status().list[size_t(tensor.device().index)].memory);
  return int64_t(double(tensor.bytes()) / std::max(1.0, memory / (128 << 20)));
}

// sign: 1 when a handle appears, −1 when it goes.
void tell_v8(Napi::Env env, const Handle& handle, int sign) {
  if (handle.counted) Napi::MemoryManagement::AdjustExternalMemory(env, sign * weighed(handle));
}

}  // namespace

Napi::Value to_handle(Napi::Env env, const Tensor& tensor, bool counted) {
  auto* owned = new Handle(tensor, counted);
  tell_v8(env, *owned, 1);
  auto handle = Napi::External<Handle>::New(env, owned, [](Napi::Env env, Handle* tensor) {
    if (tensor->storage) tell_v8(env, *tensor, -1);
    delete tensor;
  });
  handle.TypeTag(&kTensorTag);
  return handle;
}

static Handle& tensor_in(const Napi::Value& value, const char* what) {
  FM_CHECK(type, value.IsExternal() && value.As<Napi::External<Handle>>().CheckTypeTag(&kTensorTag), "expected ", what,
           " to be a tensor handle");
  return *value.As<Napi::External<Handle>>().Data();
}

const Tensor& from_handle(const Napi::Value& value, const char* what) { return tensor_in(value, what); }

void dispose_handle(const Napi::Value& value) {
  Handle& tensor = tensor_in(value, "tensor");
  if (!tensor.storage) return;
  tell_v8(value.Env(), tensor, -1);
  tensor.storage.reset();
}

}  // namespace fm
