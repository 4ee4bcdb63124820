// bind(exports, "name", &Backend::operation): reads the C++ signature, converts each argument by its type, runs the
// operation on the device of its first tensor, and turns C++ errors into JavaScript ones with the operation's name in
// front.  bind_async: the same on the device's queue, returning a Promise.  The one place that does so.
#pragma once
#include <napi.h>

#include <string>
#include <tuple>
#include <utility>

#include "../native/cpu/parallel.h"
#include "js_async.h"
#include "js_types.h"

namespace fm {

// exports.name = f, a function of Napi::CallbackInfo; what f throws reaches JavaScript as an error.
template <class F>
void define(Napi::Object exports, const char* name, F f) {
  const auto guarded = [f, name = std::string(name)](const Napi::CallbackInfo& info) -> Napi::Value {
    try {
      return f(info);
    } catch (const Napi::Error&) {
      throw;
    } catch (const std::exception& error) {
      throw to_js_error(info.Env(), name, error);
    }
  };
  exports.Set(name, Napi::Function::New(exports.Env(), guarded, name));
}

template <class First, class... Rest>
Backend& backend_for(const First& first, const Rest&... rest) {
  if constexpr (std::is_same_v<First, Tensor>) return backend_of(first.device());
  else if constexpr (std::is_same_v<First, std::vector<Tensor>>) {
    FM_CHECK(type, !first.empty(), "expected at least one tensor");
    return backend_of(first[0].device());
  } else return backend_for(rest...);
}

template <class R, class... Params, class... Args>
R run_operation(R (Backend::*f)(Params...), const Args&... args) {
  const FixedThreads fixed;
  return (backend_for(args...).*f)(args...);
}

template <class... Args, size_t... I>
std::tuple<std::decay_t<Args>...> read_arguments(const Napi::CallbackInfo& info, std::index_sequence<I...>) {
  FM_CHECK(type, info.Length() >= sizeof...(Args), "expected ", sizeof...(Args), " arguments, got ", info.Length());
  return {Js<std::decay_t<Args>>::from(info[I])...};
}

// f is called with the converted arguments: a plain function or a lambda.
template <class R, class... Args, class F>
void bind_as(Napi::Object exports, const char* name, F f) {
  define(exports, name, [f](const Napi::CallbackInfo& info) -> Napi::Value {
    const auto args = read_arguments<Args...>(info, std::index_sequence_for<Args...>{});
    if constexpr (std::is_void_v<R>) {
      std::apply(f, args);
      return info.Env().Undefined();
    } else {
      return Js<R>::to(info.Env(), std::apply(f, args));
    }
  });
}

template <class R, class... Args>
void bind(Napi::Object exports, const char* name, R (*f)(Args...)) {
  bind_as<R, Args...>(exports, name, f);
}
template <class R, class... Args>
void bind(Napi::Object exports, const char* name, R (Backend::*f)(Args...)) {
  bind_as<R, Args...>(exports, name, [f](const std::decay_t<Args>&... args) { return run_operation(f, args...); });
}

template <class R, class... Args, class F>
void bind_async_as(Napi::Object exports, const char* name, F f) {
  define(exports, name, [f, name = std::string(name)](const Napi::CallbackInfo& info) -> Napi::Value {
    const auto args = read_arguments<Args...>(info, std::index_sequence_for<Args...>{});
    return run_async<R>(info.Env(), name, [f, args] { return std::apply(f, args); });
  });
}

template <class R, class... Args>
void bind_async(Napi::Object exports, const char* name, R (*f)(Args...)) {
  bind_async_as<R, Args...>(exports, name, f);
}
template <class R, class... Args>
void bind_async(Napi::Object exports, const char* name, R (Backend::*f)(Args...)) {
  bind_async_as<R, Args...>(exports, name,
                            [f](const std::decay_t<Args>&... args) { return run_operation(f, args...); });
}

// name on the calling thread, nameAsync on the device's queue.
template <class F>
void bind_both(Napi::Object exports, const std::string& name, F f) {
  bind(exports, name.c_str(), f);
  bind_async(exports, (name + "Async").c_str(), f);
}

}  // namespace fm
