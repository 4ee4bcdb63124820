// A tensor in JavaScript: an opaque, type-tagged External that owns a C++ Tensor.  Shape, dtype and device are plain
// fields on the TypeScript side; V8 is told of the memory behind the handle.
#pragma once
#include <napi.h>

#include "../native/common/tensor.h"

namespace fm {

// counted: V8 hears of the memory, and may collect garbage for it at once, 5 … 10 ms; false for a handle that its maker
// disposes soon, and for another one on memory that V8 knows.
Napi::Value to_handle(Napi::Env env, const Tensor& tensor, bool counted = true);
// Throws fm::Error(type) for anything but a tensor handle; `what` names the argument.
const Tensor& from_handle(const Napi::Value& value, const char* what);
void dispose_handle(const Napi::Value& value);

}  // namespace fm
