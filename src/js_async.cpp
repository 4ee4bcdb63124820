#include "js_async.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace fm {
namespace {

class Queue {
 public:
  static Queue& get() {
    static Queue* queue = new Queue;  // its thread sleeps until the process ends
    return *queue;
  }
  void push(std::function<void()> task) {
    std::lock_guard<std::mutex> lock(lock_);
    if (!started_) std::thread([this] { run(); }).detach();
    started_ = true;
    tasks_.push_back(std::move(task));
    ready_.notify_one();
  }

 private:
  void run() {
    for (;;) {
      std::unique_lock<std::mutex> lock(lock_);
      ready_.wait(lock, [this] { return !tasks_.empty(); });
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
    }
  }

  std::mutex lock_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> tasks_;
  bool started_ = false;
};

}  // namespace

void enqueue(Napi::Env env, std::function<void()> work, std::function<void(Napi::Env)> settle) {
  auto callback = Napi::Function::New(env, [](const Napi::CallbackInfo&) {});
  auto done = Napi::ThreadSafeFunction::New(env, callback, "flashmargin", 0, 1);
  auto* shared = new std::function<void(Napi::Env)>(std::move(settle));
  Queue::get().push([done, work = std::move(work), shared]() mutable {
    work();
    work = nullptr;  // frees what it captured before JavaScript hears of the end
    auto call = [](Napi::Env env, Napi::Function, std::function<void(Napi::Env)>* settle) {
      if (env != nullptr) (*settle)(env);
      delete settle;
    };
    if (done.BlockingCall(shared, call) != napi_ok) delete shared;  // the environment has ended
    done.Release();
  });
}

}  // namespace fm
