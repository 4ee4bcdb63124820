// The CPU's threads.  Work is cut into chunks that do not depend on the number of threads, so that no result does;
// threads take chunks as they become free, and sleep on a futex when there is none (a polling idle thread would
// cost its neighbour up to 40 %).
#pragma once
#include <cstdint>
#include <type_traits>

namespace fm {

// Threads that compute, the caller included; 1 … 256.  Default: the number of online cores, or FLASHMARGIN_THREADS.
void set_num_threads(int threads);
int num_threads();

// Held for the length of an operation, which sizes its scratch by num_threads(): until then set_num_threads waits.
// Not to be nested.
class FixedThreads {
 public:
  FixedThreads();
  ~FixedThreads();
  FixedThreads(const FixedThreads&) = delete;
  FixedThreads& operator=(const FixedThreads&) = delete;
};

// Runs body(context, chunk, thread) for every chunk in [0, chunks).  thread is in [0, num_threads()), for scratch.
// Calls from several threads take turns; a call from inside a body runs serially on its thread.
// Denormals are flushed to zero inside.  An exception from a body is rethrown here after the others have ended.
void run_chunks(int64_t chunks, void (*body)(void* context, int64_t chunk, int thread), void* context);

template <class F>
void parallel_for(int64_t chunks, F&& f) {
  run_chunks(
      chunks,
      [](void* context, int64_t chunk, int thread) {
        auto& body = *static_cast<std::remove_reference_t<F>*>(context);
        if constexpr (std::is_invocable_v<decltype(body), int64_t, int>) body(chunk, thread);
        else body(chunk);
      },
      &f);
}

// parallel_for over [0, n) in ranges of at most `grain`: f(begin, end).
template <class F>
void parallel_ranges(int64_t n, int64_t grain, F&& f) {
  parallel_for((n + grain - 1) / grain, [&](int64_t chunk) {
    const int64_t begin = chunk * grain;
    f(begin, begin + grain < n ? begin + grain : n);
  });
}

}  // namespace fm
