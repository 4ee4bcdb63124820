#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "../common/error.h"
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace fm {
namespace {

// The calling thread may be a JavaScript thread, whose own arithmetic needs denormals: set, and set back.
class FlushDenormals {
 public:
#if defined(__SSE__)
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#endif
};

inline void pause() {
#if defined(__SSE__)
  _mm_pause();
#endif
}

struct Job {
  void (*body)(void*, int64_t, int) = nullptr;
  void* context = nullptr;
  int64_t chunks = 0;
  int threads = 1;
};

class Pool {
 public:
  static Pool& get() {
    static Pool* pool = new Pool;  // never destroyed: its threads sleep until the process ends
    return *pool;
  }

  int threads() const { return threads_.load(); }
  void set_threads(int threads) {
    FM_CHECK(range, threads >= 1 && threads <= 256, "expected 1 to 256 threads, got ", threads);
    std::lock_guard<std::mutex> turn(turn_);
    threads_ = threads;
  }

  // Helpers come to a job by a door.  Whoever is not through it when the chunks are all taken is not waited for: on a
  // busy machine a helper may be woken long after that.
  void run(const Job& request) {
    if (inside_) return run_serially(request);
    std::lock_guard<std::mutex> turn(turn_);
    job_ = request;
    job_.threads = int(std::min<int64_t>(threads_.load(), request.chunks));
    next_ = 0;
    failure_ = nullptr;
    if (job_.threads == 1) {
      take_chunks(0);
    } else {
      while (int(started_) < job_.threads - 1) {
        const int id = int(++started_);
        std::thread([this, id, seen = generation_.load()] { work(id, seen); }).detach();
      }
      door_.store(kOpen);
      generation_.fetch_add(1);
      generation_.notify_all();
      take_chunks(0);
      door_.fetch_and(~kOpen);
      for (int spins = 0;; spins++) {
        const uint32_t inside = door_.load();
        if (inside == 0) break;
        if (spins > 20000) door_.wait(inside);
        else pause();
      }
    }
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  Pool() {
    const char* wanted = std::getenv("FLASHMARGIN_THREADS");
    const int cores = int(std::max(1u, std::thread::hardware_concurrency()));
    char* end = nullptr;
    const long threads = wanted ? std::strtol(wanted, &end, 10) : std::min(cores, 256);
    FM_CHECK(range, !wanted || (end != wanted && *end == 0 && threads >= 1 && threads <= 256),
             "FLASHMARGIN_THREADS: expected 1 to 256, got '", wanted, "'");
    threads_ = int(threads);
  }

  void run_serially(const Job& job) {
    for (int64_t chunk = 0; chunk < job.chunks; chunk++) job.body(job.context, chunk, thread_);
  }

  void work(int id, uint32_t seen) {
    thread_ = id;
    for (;;) {
      for (int spins = 0; generation_.load() == seen; spins++) {
        if (spins > 4000) generation_.wait(seen);
        else pause();
      }
      seen = generation_.load();
      if (!enter()) continue;
      if (id < job_.threads) take_chunks(id);
      if (door_.fetch_sub(1) == 1) door_.notify_all();
    }
  }

  // False where the job is over.  Inside, the job stays.
  bool enter() {
    uint32_t door = door_.load();
    while (door & kOpen)
      if (door_.compare_exchange_weak(door, door + 1)) return true;
    return false;
  }

  void take_chunks(int id) {
    const FlushDenormals flush;
    inside_ = true;
    try {
      for (int64_t chunk; (chunk = next_.fetch_add(1)) < job_.chunks;) job_.body(job_.context, chunk, id);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(failure_lock_);
      failure_ = std::current_exception();
      next_ = job_.chunks;
    }
    inside_ = false;
  }

  std::mutex turn_, failure_lock_;
  std::atomic<int> threads_{1};
  uint32_t started_ = 0;  // helper threads, changed only by the holder of turn_
  Job job_;
  std::atomic<int64_t> next_{0};
  std::atomic<uint32_t> generation_{0};
  static constexpr uint32_t kOpen = uint32_t(1) << 31;
  std::atomic<uint32_t> door_{0};  // kOpen while a job takes helpers, and how many are inside
  std::exception_ptr failure_;
  static thread_local bool inside_;
  static thread_local int thread_;
};

thread_local bool Pool::inside_ = false;
thread_local int Pool::thread_ = 0;

}  // namespace

static std::shared_mutex& thread_count_lock() {
  static auto* lock = new std::shared_mutex;
  return *lock;
}

FixedThreads::FixedThreads() { thread_count_lock().lock_shared(); }
FixedThreads::~FixedThreads() { thread_count_lock().unlock_shared(); }

void set_num_threads(int threads) {
  const std::unique_lock<std::shared_mutex> alone(thread_count_lock());
  Pool::get().set_threads(threads);
}
int num_threads() { return Pool::get().threads(); }

void run_chunks(int64_t chunks, void (*body)(void*, int64_t, int), void* context) {
  if (chunks > 0) Pool::get().run({body, context, chunks, 1});
}

}  // namespace fm
