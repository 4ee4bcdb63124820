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
#include <random>
#include <stdexcept>
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
  void run() const {
    std::memcpy(to, from, bytes);
    std::memset(static_cast<char*>(to) + bytes, 0, size - bytes);
  }
};

struct Thread {
  void* stack;  // where it was left
  Dim3 block, index;
  uint64_t shuffled = 0;                     // what this lane offers to the others
  unsigned exchanges = 0;                    // how often it has offered more than that
  std::vector<std::vector<Copy>> copies{1};  // by groups, the last one open
};

// Kept from block to block: a fresh stack costs more than most threads do.
inline char* stack_of(size_t thread) {
  static std::vector<std::unique_ptr<char[]>> stacks;
  while (stacks.size() <= thread) stacks.emplace_back(new char[kStackBytes]);
#if defined(__SANITIZE_ADDRESS__)
  // The last thread left it for good, with the guards of its frames.
  __asan_unpoison_memory_region(stacks[thread].get(), kStackBytes);
#endif
  return stacks[thread].get();
}

// A block, or the `blocks` of a cluster, `first` and its neighbours along x.
class Block {
 public:
  Block(Dim3 first, unsigned blocks, Dim3 size, size_t shared_bytes, uint64_t seed, const std::function<void()>& kernel)
      : first_(first),
        size_(size),
        block_threads_(size_t(size.x) * size.y * size.z),
        shared_bytes_(shared_bytes),
        kernel_(kernel),
        random_(unsigned(seed * 2654435761u + 1)),
        threads_(blocks * block_threads_),
        at_warp_barrier_((threads_.size() + kLanes - 1) / kLanes),
        at_block_barrier_(blocks),
        offers_(at_warp_barrier_.size()),
        done_(blocks) {
    if (blocks > 1 && block_threads_ % kLanes != 0) throw std::logic_error("a cluster's blocks are whole warps here");
  }

  void run() {
    for (size_t i = 0; i < threads_.size(); i++) start(i);
    while (!ready_.empty() || !flights_.empty()) {
      if (!flights_.empty() && (ready_.empty() || random_() % 8 == 0)) {
        std::swap(flights_[random_() % flights_.size()], flights_.back());
        const std::function<void()> land = std::move(flights_.back());
        flights_.pop_back();
        land();
        continue;
      }
      std::swap(ready_[random_() % ready_.size()], ready_.back());
      current_ = ready_.back();
      ready_.pop_back();
      threadIdx = threads_[current_].index;
      blockIdx = threads_[current_].block;
      switch_stack(&scheduler_, threads_[current_].stack);
      if (error_) std::rethrow_exception(error_);
      open_block_barrier(rank());
    }
    for (size_t block = 0; block < blocks(); block++)
      if (!ended(block)) throw std::logic_error("a barrier or shuffle was not reached by all threads");
  }

  // What is under way without a thread: f() is called at some time from now on.
  void fly(std::function<void()> f) { flights_.push_back(std::move(f)); }
  // This thread waits until somebody releases the list that it is on.
  void park(std::vector<size_t>& waiting) {
    waiting.push_back(current_);
    leave();
  }
  void release(std::vector<size_t>& waiting) {
    ready_.insert(ready_.end(), waiting.begin(), waiting.end());
    waiting.clear();
  }
  size_t blocks() const { return done_.size(); }
  size_t block_threads() const { return block_threads_; }
  size_t shared_bytes() const { return shared_bytes_; }
  size_t thread() const { return current_; }                 // within the cluster
  size_t rank() const { return current_ / block_threads_; }  // of the thread's block
  bool ended(size_t block) const { return done_[block] == block_threads_; }
  std::shared_ptr<void> extension;  // what an emulation of more than this keeps

  void wait_for_block() { park(at_block_barrier_[rank()]); }
  // A full-mask shuffle is undefined once a lane has ended, so all lanes must come.
  void wait_for_warp() {
    const size_t warp = current_ / kLanes;
    const size_t lanes = std::min(kLanes, threads_.size() - warp * kLanes);
    at_warp_barrier_[warp].push_back(current_);
    if (at_warp_barrier_[warp].size() == lanes) release(at_warp_barrier_[warp]);
    leave();
  }
  uint64_t shuffle_xor(uint64_t value, int lanes) { return shuffle(value, (current_ % kLanes) ^ size_t(lanes)); }
  uint64_t shuffle(uint64_t value, size_t lane) {
    const size_t self = current_;
    threads_[self].shuffled = value;
    wait_for_warp();
    const uint64_t result = threads_.at(self - self % kLanes + lane).shuffled;
    wait_for_warp();  // all have read: the next shuffle may write
    return result;
  }

  // --- what a warp does together -----------------------------------------------------------------------------------
  unsigned lane() const { return unsigned(current_ % kLanes); }
  // What all lanes of the warp offer, one after the other; good until the next but one exchange, because a lane can only
  // be there when all have come to the next.
  const void* exchange(const void* mine, size_t bytes) {
    std::vector<char>& offers = offers_[current_ / kLanes].in[threads_[current_].exchanges++ % 2];
    if (offers.size() < bytes * kLanes) offers.resize(bytes * kLanes);
    std::memcpy(offers.data() + bytes * lane(), mine, bytes);
    wait_for_warp();
    return offers.data();
  }

  // --- copies that do not wait ---------------------------------------------------------------------------------------
  void copy_later(void* to, const void* from, size_t bytes, size_t size) {
    const Copy copy{to, from, bytes, size};
    if (random_() / 64 % 2) copy.run();
    else threads_[current_].copies.back().push_back(copy);
  }
  void commit_copies() { threads_[current_].copies.emplace_back(); }
  // For all but the last `groups` of them.
  void wait_for_copies(size_t groups) {
    auto& copies = threads_[current_].copies;
    while (copies.size() > groups + 1) {
      for (const Copy& copy : copies.front()) copy.run();
      copies.erase(copies.begin());
    }
  }

 private:
  struct Offers {
    std::vector<char> in[2];
  };

  static void entry();

  void start(size_t i) {
    Thread& thread = threads_[i];
    const unsigned within = unsigned(i % block_threads_);
    thread.index = {within % size_.x, within / size_.x % size_.y, within / size_.x / size_.y};
    thread.block = {first_.x + unsigned(i / block_threads_), first_.y, first_.z};
    // As switch_stack() left it: six registers, then where to go, with the alignment of a function's first line.
    void** const top =
        reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(stack_of(i)) + kStackBytes) & ~uintptr_t(63));
    void** const left = top - 8;
    std::memset(left, 0, 8 * sizeof(void*));
    left[6] = reinterpret_cast<void*>(&Block::entry);
    thread.stack = left;
    ready_.push_back(i);
  }

  void leave() { switch_stack(&threads_[current_].stack, scheduler_); }
  // Threads that have ended no longer count.
  void open_block_barrier(size_t block) {
    std::vector<size_t>& waiting = at_block_barrier_[block];
    if (!waiting.empty() && waiting.size() + done_[block] == block_threads_) release(waiting);
  }

  Dim3 first_, size_;
  size_t block_threads_, shared_bytes_;
  const std::function<void()>& kernel_;
  std::minstd_rand random_;
  std::vector<Thread> threads_;
  std::vector<size_t> ready_;
  std::vector<std::function<void()>> flights_;
  std::vector<std::vector<size_t>> at_warp_barrier_, at_block_barrier_;
  std::vector<Offers> offers_;  // a warp
  std::vector<size_t> done_;    // of each block
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
  block->done_[block->rank()]++;
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

template <class T>
uint64_t bits_of(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

}  // namespace cuda_emulation

inline void __syncthreads() { ::cuda_emulation::block->wait_for_block(); }
inline void __syncwarp() { ::cuda_emulation::block->wait_for_warp(); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int lanes) {
  const uint64_t bits = ::cuda_emulation::block->shuffle_xor(::cuda_emulation::bits_of(value), lanes);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

inline int __any_sync(unsigned, int predicate) {
  for (int lanes = 16; lanes > 0; lanes /= 2) predicate |= __shfl_xor_sync(0xffffffffu, int(predicate != 0), lanes);
  return predicate;
}

template <class T>
T atomicMin(T* at, T value) {
  const T before = *at;
  if (value < before) *at = value;
  return before;
}
