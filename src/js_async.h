// Long operations: they run one after another, in the order of the calls, on one thread that JavaScript does not
// share, and settle a Promise.  libuv's own pool is left alone.
#pragma once
#include <napi.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>

#include "js_types.h"

namespace fm {

// Runs work on the queue's thread, then settle on the JavaScript thread of env.
void enqueue(Napi::Env env, std::function<void()> work, std::function<void(Napi::Env)> settle);
// Tasks that wait or run.
int queued();
Napi::Error to_js_error(Napi::Env env, const std::string& operation, const std::exception& error);

template <class R, class Work>
Napi::Promise run_async(Napi::Env env, std::string operation, Work work) {
  constexpr bool nothing = std::is_void_v<R>;
  struct Outcome {
    std::optional<std::conditional_t<nothing, std::monostate, R>> result;
    std::optional<Error> failure;
  };
  auto outcome = std::make_shared<Outcome>();
  auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  enqueue(
      env,
      [outcome, work] {
        try {
          if constexpr (nothing) work();
          else outcome->result = work();
        } catch (const Error& error) {
          outcome->failure = error;
        } catch (const std::exception& error) {
          outcome->failure = Error(ErrorKind::range, error.what());
        }
      },
      [outcome, deferred, operation](Napi::Env env) {
        Napi::HandleScope scope(env);
        if (outcome->failure) deferred->Reject(to_js_error(env, operation, *outcome->failure).Value());
        else if constexpr (nothing) deferred->Resolve(env.Undefined());
        else deferred->Resolve(Js<R>::to(env, *outcome->result));
      });
  return deferred->Promise();
}

}  // namespace fm
