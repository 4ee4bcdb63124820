// Long operations: they run one after another, in the order of the calls, on one thread that JavaScript does not
// share, and settle a Promise.  libuv's own pool is left alone.
#pragma once
#include <napi.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "js_types.h"

namespace fm {

// Runs work on the queue's thread, then settle on the JavaScript thread of env.
void enqueue(Napi::Env env, std::function<void()> work, std::function<void(Napi::Env)> settle);
Napi::Error to_js_error(Napi::Env env, const std::string& operation, const std::exception& error);

template <class R, class Work>
Napi::Promise run_async(Napi::Env env, std::string operation, Work work) {
  struct Outcome {
    std::optional<R> result;
    std::optional<Error> failure;
  };
  auto outcome = std::make_shared<Outcome>();
  auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  enqueue(
      env,
      [outcome, work] {
        try {
          outcome->result = work();
        } catch (const Error& error) {
          outcome->failure = error;
        } catch (const std::exception& error) {
          outcome->failure = Error(ErrorKind::range, error.what());
        }
      },
      [outcome, deferred, operation](Napi::Env env) {
        Napi::HandleScope scope(env);
        if (outcome->failure) deferred->Reject(to_js_error(env, operation, *outcome->failure).Value());
        else deferred->Resolve(Js<R>::to(env, *outcome->result));
      });
  return deferred->Promise();
}

}  // namespace fm
