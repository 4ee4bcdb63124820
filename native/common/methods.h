// The margin methods by name, made from methods.def.
#pragma once
#include "error.h"
#include "margins/arcface.h"
#include "margins/combined.h"
#include "margins/cosface.h"
#include "margins/curricularface.h"
#include "margins/mvsoftmax.h"
#include "margins/softmax.h"
#include "margins/sphereface.h"

namespace fm {

enum class Method : int {
#define METHOD(name, Struct) name,
#include "methods.def"
#undef METHOD
};

inline const char* name_of(Method method) {
  switch (method) {
#define METHOD(name, Struct) \
  case Method::name:         \
    return #name;
#include "methods.def"
#undef METHOD
  }
  return "unknown";
}

template <template <class> class M>
struct MethodTag {
  template <class T>
  using Of = M<T>;
};

// f(tag) with the method's struct: dispatch_method(p.method, [&](auto tag) { using M = typename decltype(tag)::template Of<float>; … })
template <class F>
auto dispatch_method(Method method, F&& f) {
  switch (method) {
#define METHOD(name, Struct) \
  case Method::name:         \
    return f(MethodTag<Struct>{});
#include "methods.def"
#undef METHOD
  }
  fail(ErrorKind::range, "expected a margin method, got number ", int(method));
}

}  // namespace fm
