#include "js_async.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
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
    waiting_.fetch_add(1);
    tasks_.push_back(std::move(task));
    ready_.notify_one();
  }

  int waiting() const { return waiting_.load(); }

 private:
  void run() {
    for (;;) {
      std::unique_lock<std::mutex> lock(lock_);
      ready_.wait(lock, [this] { return !tasks_.empty(); });
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      task = nullptr;
      waiting_.fetch_sub(1);
    }
  }

  std::mutex lock_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> tasks_;
  bool started_ = false;
  std::atomic<int> waiting_{0};
};

}  // namespace

namespace {

// A task between its threads.  The environment may end while the task runs: its hook then closes `done` before
// Node frees what is behind it, and the task's end is told to nobody.
struct Pending {
  std::mutex lock;
  bool closed = false;
  Napi::ThreadSafeFunction done;
  std::function<void(Napi::Env)> settle;
};

using Shared = std::shared_ptr<Pending>;

void close_pending(void* hook) {
  auto* pending = static_cast<Shared*>(hook);
  {
    const std::lock_guard<std::mutex> lock((*pending)->lock);
    (*pending)->closed = true;
  }
  delete pending;
}

// On the JavaScript thread; without an environment where it ended before.
void settle_pending(Napi::Env env, Napi::Function, Shared* pending) {
  const std::unique_ptr<Shared> owned(pending);
  if (env == nullptr) return;
  try {
    (*owned)->settle(env);
  } catch (const Napi::Error&) {
    // A worker that is being terminated runs no JavaScript any more: nobody waits for the promise.
  }
}

}  // namespace

void enqueue(Napi::Env env, std::function<void()> work, std::function<void(Napi::Env)> settle) {
  auto pending = std::make_shared<Pending>();
  auto callback = Napi::Function::New(env, [](const Napi::CallbackInfo&) {});
  pending->done = Napi::ThreadSafeFunction::New(env, callback, "flashmargin", 0, 1);
  // After the function's own hook, so that it is called before it.
  auto* hook = new Shared(pending);
  napi_add_env_cleanup_hook(env, close_pending, hook);
  pending->settle = [settle = std::move(settle), hook](Napi::Env env) {
    napi_remove_env_cleanup_hook(env, close_pending, hook);
    delete hook;
    settle(env);
  };
  Queue::get().push([pending, work = std::move(work)]() mutable {
    work();
    work = nullptr;  // frees what it captured before JavaScript hears of the end
    const std::lock_guard<std::mutex> lock(pending->lock);
    if (pending->closed) return;
    auto* shared = new Shared(pending);
    if (pending->done.BlockingCall(shared, settle_pending) != napi_ok) delete shared;
    else pending->done.Release();
  });
}

int queued() { return Queue::get().waiting(); }

}  // namespace fm
