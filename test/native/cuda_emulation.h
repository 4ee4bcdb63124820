// Runs a CUDA kernel's source on the host, so that its indexing, reductions and barriers are tested without a GPU.
//
// Each thread of a block is a fiber; blocks run one after the other, those of a cluster together.  Between two barriers
// the threads run in an order drawn from `seed`, so that a result which depends on the order (a missing barrier) differs
// between seeds; so does what a device does by itself once it was told to (a "flight").  A barrier that some threads
// never reach is an error instead of a hang.
//
// Include this before the kernel's .cuh.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#define __global__
#define __host__
#define __device__
#define __shared__ static  // one block at a time
#define __launch_bounds__(...)

namespace cuda_emulation {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

}  // namespace cuda_emulation

inline cuda_emulation::Dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_emulation {

constexpr size_t kLanes = 32;
constexpr size_t kStackBytes = 64 << 10;

// Leaves its stack for another, and comes back when that one leaves for it.  The C library's swapcontext() does the same
// with two system calls.
#if !defined(__x86_64__)
#error "the emulation of CUDA knows the stack of x86-64 alone"
#endif
__attribute__((naked, noinline)) inline void switch_stack(void** /*leave*/, void* /*enter*/) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}

// A copy to shared memory that is under way.
struct Copy {
  void* to;
  const void* from;
  size_t bytes, size;  // the rest up to `size` becomes 0
  unsigned group;
  void run() const {
    std::memcpy(to, from, bytes);
    std::memset(static_cast<char*>(to) + bytes, 0, size - bytes);
  }
};

struct Thread {
  void* stack;  // where it was left
  Dim3 block, index;
  bool ended = false;
  unsigned exchanges = 0;    // how often it has offered something to its warp
  unsigned groups = 0;       // of copies that it has closed
  std::vector<Copy> copies;  // that are under way, in their order
};

// What a warp's lanes offer each other, and what one of them makes of it for all.
struct Exchange {
  static constexpr size_t kOffer = 32, kResults = 128 * sizeof(double);
  alignas(16) char offers[kLanes * kOffer];
  alignas(16) char results[kResults];
};
struct Warp {
  uint32_t waiting = 0, lanes = 0;
  Exchange exchange[2];
};

// Kept from block to block: a fresh stack costs more than most threads do.
inline char* stack_of(size_t thread) {
  static std::vector<std::unique_ptr<char[]>> stacks;
  while (stacks.size() <= thread) stacks.emplace_back(new char[kStackBytes]);
  return stacks[thread].get();
}
// A thread that was left for good has left the guards of its frames: of the outermost ones where it had ended, which
// `bytes` at the stack's end hold.
inline void forget_frames(size_t thread, size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_of(thread) + kStackBytes - bytes, bytes);
#endif
}
constexpr size_t kApart = 5 * 64;  // the frames of neighbours, so that they do not meet in a set of the cache
constexpr size_t kOutermost = (4 << 10) + 32 * kApart;

// A block, or the `blocks` of a cluster, `first` and its neighbours along x.
class Block {
 public:
  Block(Dim3 first, unsigned blocks, Dim3 size, size_t shared_bytes, uint64_t seed, const std::function<void()>& kernel)
      : first_(first),
        size_(size),
        block_threads_(size_t(size.x) * size.y * size.z),
        shared_bytes_(shared_bytes),
        kernel_(kernel),
        random_(uint32_t(seed * 2654435761u) | 1),
        threads_(blocks * block_threads_),
        ready_(new uint32_t[threads_.size()]),
        warps_((threads_.size() + kLanes - 1) / kLanes),
        at_block_barrier_(blocks),
        done_(blocks) {
    if (blocks > 1 && block_threads_ % kLanes != 0) throw std::logic_error("a cluster's blocks are whole warps here");
    for (size_t i = 0; i < threads_.size(); i++) warps_[i / kLanes].lanes++;
  }

  void run() {
    try {
      for (size_t i = 0; i < threads_.size(); i++) start(i);
      while (ready_count_ > 0 || !flights_.empty()) {
        if (!flights_.empty()) {
          std::swap(flights_[draw(flights_.size())], flights_.back());
          const std::function<void()> land = std::move(flights_.back());
          flights_.pop_back();
          land();
        }
        if (ready_count_ > 0) switch_stack(&scheduler_, next());
        if (error_) std::rethrow_exception(error_);
      }
      for (size_t block = 0; block < blocks(); block++)
        if (!ended(block)) throw std::logic_error("a barrier or shuffle was not reached by all threads");
    } catch (...) {
      for (size_t i = 0; i < threads_.size(); i++) forget_frames(i, kStackBytes);
      throw;
    }
  }

  // What is under way without a thread: f() is called at some time from now on.
  void fly(std::function<void()> f) { flights_.push_back(std::move(f)); }
  // This thread waits until somebody releases the list that it is on.
  void park(std::vector<size_t>& waiting) {
    waiting.push_back(current_);
    leave();
  }
  void release(std::vector<size_t>& waiting) {
    for (size_t thread : waiting) make_ready(thread);
    waiting.clear();
  }
  size_t blocks() const { return done_.size(); }
  size_t block_threads() const { return block_threads_; }
  size_t shared_bytes() const { return shared_bytes_; }
  size_t thread() const { return current_; }                 // within the cluster
  size_t rank() const { return current_ / block_threads_; }  // of the thread's block
  bool ended(size_t block) const { return done_[block] == block_threads_; }
  std::shared_ptr<void> extension;  // what an emulation of more than this keeps

  void wait_for_block() {
    at_block_barrier_[rank()]++;
    open_block_barrier(rank());
    leave();
  }
  // A full-mask shuffle is undefined once a lane has ended, so all lanes must come.
  void wait_for_warp() {
    come_to_warp();
    leave();
  }

  // --- what a warp does together -----------------------------------------------------------------------------------
  unsigned lane() const { return unsigned(current_ % kLanes); }
  unsigned lanes() const { return warps_[current_ / kLanes].lanes; }
  // What all lanes of the warp offer, one after the other; good until the next but one exchange, because a lane can only
  // be there when all have come to the next.
  template <class T>
  const T* exchange(const T& mine) {
    return offer(mine, [](const T*, void*) {}).first;
  }
  // What f(offers, results) makes of them, called by one lane when all have come.
  template <class Result, class T, class F>
  const Result* combine(const T& mine, const F& f) {
    static_assert(alignof(Result) <= 16);
    return static_cast<const Result*>(
        offer(mine, [&](const T* offers, void* results) { f(offers, static_cast<Result*>(results)); }).second);
  }

  // --- copies that do not wait ---------------------------------------------------------------------------------------
  void copy_later(void* to, const void* from, size_t bytes, size_t size) {
    Thread& thread = threads_[current_];
    const Copy copy{to, from, bytes, size, thread.groups};
    if (draw(2)) copy.run();
    else thread.copies.push_back(copy);
  }
  void commit_copies() { threads_[current_].groups++; }
  // For all but the last `groups` of them.
  void wait_for_copies(size_t groups) {
    Thread& thread = threads_[current_];
    size_t landed = 0;
    while (landed < thread.copies.size() && thread.copies[landed].group + groups < thread.groups)
      thread.copies[landed++].run();
    thread.copies.erase(thread.copies.begin(), thread.copies.begin() + std::ptrdiff_t(landed));
  }

 private:
  static void entry();

  void start(size_t i) {
    Thread& thread = threads_[i];
    const unsigned within = unsigned(i % block_threads_);
    thread.index = {within % size_.x, within / size_.x % size_.y, within / size_.x / size_.y};
    thread.block = {first_.x + unsigned(i / block_threads_), first_.y, first_.z};
    // As switch_stack() left it: six registers, then where to go, with the alignment of a function's first line.
    forget_frames(i, kOutermost);
    const uintptr_t end = (reinterpret_cast<uintptr_t>(stack_of(i)) + kStackBytes) & ~uintptr_t(63);
    void** const top = reinterpret_cast<void**>(end - i % 32 * kApart);
    void** const left = top - 8;
    for (int word = 0; word < 8; word++) left[word] = nullptr;
    left[6] = reinterpret_cast<void*>(&Block::entry);
    thread.stack = left;
    make_ready(i);
  }

  uint32_t draw(size_t n) {
    random_ ^= random_ << 13, random_ ^= random_ >> 17, random_ ^= random_ << 5;
    return uint32_t(uint64_t(random_) * n >> 32);
  }
  void make_ready(size_t thread) { ready_[ready_count_++] = uint32_t(thread); }
  // Any of the threads that are ready becomes the current one: where it was left.
  void* next() {
    uint32_t& drawn = ready_[draw(ready_count_)];
    current_ = drawn;
    drawn = ready_[--ready_count_];
    const Thread& thread = threads_[current_];
    threadIdx = thread.index;
    blockIdx = thread.block;
    return thread.stack;
  }
  // Goes on with another thread; by way of run() where none is ready, and where something under way may land.
  void leave() {
    const size_t self = current_;
    const bool by_run = ready_count_ == 0 || error_ || (!flights_.empty() && draw(8) == 0);
    void* const enter = by_run ? scheduler_ : next();
    if (by_run || current_ != self) switch_stack(&threads_[self].stack, enter);
  }
  // Threads that have ended no longer count.
  void open_block_barrier(size_t block) {
    if (at_block_barrier_[block] == 0 || at_block_barrier_[block] + done_[block] < block_threads_) return;
    at_block_barrier_[block] = 0;
    for (size_t i = block * block_threads_; i < (block + 1) * block_threads_; i++)
      if (!threads_[i].ended) make_ready(i);
  }
  void come_to_warp() {
    const size_t warp = current_ / kLanes;
    Warp& at = warps_[warp];
    if (++at.waiting < at.lanes) return;
    at.waiting = 0;
    for (size_t lane = 0; lane < at.lanes; lane++) make_ready(warp * kLanes + lane);
  }
  template <class T, class F>
  std::pair<const T*, const void*> offer(const T& mine, const F& when_all_have_come) {
    static_assert(sizeof(T) <= Exchange::kOffer && alignof(T) <= 16);
    Warp& at = warps_[current_ / kLanes];
    Exchange& in = at.exchange[threads_[current_].exchanges++ % 2];
    T* const offers = reinterpret_cast<T*>(in.offers);
    offers[lane()] = mine;
    if (at.waiting + 1 == at.lanes) when_all_have_come(offers, in.results);
    wait_for_warp();
    return {offers, in.results};
  }

  Dim3 first_, size_;
  size_t block_threads_, shared_bytes_;
  const std::function<void()>& kernel_;
  uint32_t random_;
  std::vector<Thread> threads_;
  std::unique_ptr<uint32_t[]> ready_;
  size_t ready_count_ = 0;
  std::vector<std::function<void()>> flights_;
  std::vector<Warp> warps_;
  std::vector<size_t> at_block_barrier_, done_;  // of each block: how many threads
  void* scheduler_ = nullptr;
  size_t current_ = 0;
  std::exception_ptr error_;
};

inline Block* block = nullptr;

inline void Block::entry() {
  try {
    block->kernel_();
  } catch (...) {
    block->error_ = std::current_exception();
  }
  block->threads_[block->current_].ended = true;
  block->done_[block->rank()]++;
  block->open_block_barrier(block->rank());
  block->leave();
}

// emulate(blocks, threads, seed, [&] { kernel(arguments…); })
inline void emulate(Dim3 grid, Dim3 threads, uint64_t seed, const std::function<void()>& kernel, unsigned cluster = 1,
                    size_t shared_bytes = 0) {
  if (grid.x % cluster != 0) throw std::logic_error("a grid is whole clusters");
  static std::mutex one_kernel;
  std::lock_guard<std::mutex> hold(one_kernel);
  gridDim = grid;
  blockDim = threads;
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x += cluster) {
        Block one({x, y, z}, cluster, threads, shared_bytes, seed + x + 977 * y + 977 * 977 * z, kernel);
        block = &one;
        one.run();
      }
}

}  // namespace cuda_emulation

inline void __syncthreads() { ::cuda_emulation::block->wait_for_block(); }
inline void __syncwarp() { ::cuda_emulation::block->wait_for_warp(); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int lanes) {
  const unsigned from = ::cuda_emulation::block->lane() ^ unsigned(lanes);
  if (from >= ::cuda_emulation::block->lanes()) throw std::logic_error("a shuffle from a lane that the warp lacks");
  return ::cuda_emulation::block->exchange(value)[from];
}

inline int __any_sync(unsigned, int predicate) {
  const int* const all = ::cuda_emulation::block->exchange(int(predicate != 0));
  int any = 0;
  for (size_t lane = 0; lane < ::cuda_emulation::block->lanes(); lane++) any |= all[lane];
  return any;
}

inline unsigned __ballot_sync(unsigned, int predicate) {
  const int* const all = ::cuda_emulation::block->exchange(int(predicate != 0));
  unsigned votes = 0;
  for (size_t lane = 0; lane < ::cuda_emulation::block->lanes(); lane++) votes |= unsigned(all[lane]) << lane;
  return votes;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

template <class T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at += value;
  return before;
}
template <class T>
T atomicMin(T* at, T value) {
  const T before = *at;
  if (value < before) *at = value;
  return before;
}
