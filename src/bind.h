// bind(exports, "name", &Backend::operation): reads the C++ signature, converts each argument by its type, runs the
// operation on the device of its first tensor, and turns C++ errors into JavaScript ones with the operation's name in
// front.  bind_async: the same on the device's queue, returning a Promise.  The one place that does so.
#pragma once
#include <napi.h>

#include <tuple>
#include <utility>

#include "js_async.h"
#include "js_types.h"

namespace fm {

// Throws the JavaScript error that stands for a C++ one: an Error whose `code` says which class lib/errors.ts makes of it.
Napi::Error to_js_error(Napi::Env env, const std::string& operation, const std::exception& error);

template <class First, class... Rest>
Backend& backend_for(const First& first, const Rest&... rest) {
  if constexpr (std::is_same_v<First, Tensor>) return backend_of(first.device());
  else return backend_for(rest...);
}

template <class... Args, size_t... I>
std::tuple<std::decay_t<Args>...> read_arguments(const Napi::CallbackInfo& info, std::index_sequence<I...>) {
  FM_CHECK(type, info.Length() >= sizeof...(Args), "expected ", sizeof...(Args), " arguments, got ", info.Length());
  return {Js<std::decay_t<Args>>::from(info[I])...};
}

// f is called with the environment's converted arguments: a plain function or a lambda.
template <class R, class... Args, class F>
void bind_as(Napi::Object exports, const char* name, F f) {
  exports.Set(name, Napi::Function::New(
                        exports.Env(),
                        [f, name](const Napi::CallbackInfo& info) -> Napi::Value {
                          try {
                            auto args = read_arguments<Args...>(info, std::index_sequence_for<Args...>{});
                            if constexpr (std::is_void_v<R>) {
                              std::apply(f, args);
                              return info.Env().Undefined();
                            } else {
                              return Js<R>::to(info.Env(), std::apply(f, args));
                            }
                          } catch (const Napi::Error&) {
                            throw;
                          } catch (const std::exception& error) {
                            throw to_js_error(info.Env(), name, error);
                          }
                        },
                        name));
}

template <class R, class... Args>
void bind(Napi::Object exports, const char* name, R (*f)(Args...)) {
  bind_as<R, Args...>(exports, name, f);
}
template <class R, class... Args>
void bind(Napi::Object exports, const char* name, R (Backend::*f)(Args...)) {
  bind_as<R, Args...>(exports, name,
                      [f](const std::decay_t<Args>&... args) { return (backend_for(args...).*f)(args...); });
}

template <class R, class... Args>
void bind_async(Napi::Object exports, const char* name, R (Backend::*f)(Args...)) {
  exports.Set(name, Napi::Function::New(
                        exports.Env(),
                        [f, name](const Napi::CallbackInfo& info) -> Napi::Value {
                          try {
                            auto args = read_arguments<Args...>(info, std::index_sequence_for<Args...>{});
                            return run_async<R>(info.Env(), name, [f, args] {
                              return std::apply([f](const auto&... each) { return (backend_for(each...).*f)(each...); },
                                                args);
                            });
                          } catch (const Napi::Error&) {
                            throw;
                          } catch (const std::exception& error) {
                            throw to_js_error(info.Env(), name, error);
                          }
                        },
                        name));
}

}  // namespace fm
