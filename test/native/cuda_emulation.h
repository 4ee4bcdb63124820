// Runs a CUDA kernel's source on the host, so that its indexing, reductions and barriers are tested without a GPU.
//
// Each thread of a block is a fiber; blocks run one after the other.  Between two barriers the threads run in an
// order drawn from `seed`, so that a result which depends on the order (a missing barrier) differs between seeds.
// A barrier that some threads never reach is an error instead of a hang.
//
// Include this before the kernel's .cuh.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

#define __global__
#define __host__
#define __device__
#define __shared__ static  // one block at a time
#define __launch_bounds__(...)

namespace cuda_emulation {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 128 << 10;

enum class State { ready, at_warp_barrier, at_block_barrier, done };

struct Thread {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  State state = State::done;
  Dim3 index;
  uint64_t shuffled = 0;  // what this lane offers to the others
};

class Block {
 public:
  Block(Dim3 size, uint64_t seed, const std::function<void()>& kernel)
      : size_(size), kernel_(kernel), random_(seed), threads_(size.x * size.y * size.z) {}

  void run() {
    for (size_t i = 0; i < threads_.size(); i++) start(i);
    while (const size_t waiting = runnable()) {
      size_t pick = random_() % waiting;
      for (size_t i = 0; i < threads_.size(); i++)
        if (threads_[i].state == State::ready && pick-- == 0) {
          current_ = i;
          swapcontext(&scheduler_, &threads_[i].context);
          break;
        }
      if (error_) std::rethrow_exception(error_);
      open_warp_barriers();
      open_block_barrier();
    }
    for (const Thread& thread : threads_)
      if (thread.state != State::done) throw std::logic_error("a barrier or shuffle was not reached by all threads");
  }

  void wait(State barrier) {
    threads_[current_].state = barrier;
    swapcontext(&threads_[current_].context, &scheduler_);
  }
  Dim3 thread_index() const { return threads_[current_].index; }

  uint64_t shuffle_xor(uint64_t value, int lanes) {
    const size_t self = current_;
    threads_[self].shuffled = value;
    wait(State::at_warp_barrier);
    const uint64_t result = threads_.at(self ^ size_t(lanes)).shuffled;
    wait(State::at_warp_barrier);  // all have read: the next shuffle may write
    return result;
  }

 private:
  static void entry();

  void start(size_t i) {
    Thread& thread = threads_[i];
    thread.index = {unsigned(i) % size_.x, unsigned(i) / size_.x % size_.y, unsigned(i) / size_.x / size_.y};
    thread.state = State::ready;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = kStackBytes;
    thread.context.uc_link = &scheduler_;
    makecontext(&thread.context, &Block::entry, 0);
  }

  size_t runnable() const {
    size_t count = 0;
    for (const Thread& thread : threads_) count += thread.state == State::ready;
    return count;
  }
  size_t count(size_t begin, size_t end, State state) const {
    size_t count = 0;
    for (size_t i = begin; i < end; i++) count += threads_[i].state == state;
    return count;
  }
  void release(size_t begin, size_t end, State from) {
    for (size_t i = begin; i < end; i++)
      if (threads_[i].state == from) threads_[i].state = State::ready;
  }
  // A full-mask shuffle is undefined once a lane has ended, so all lanes must be there.
  void open_warp_barriers() {
    for (size_t begin = 0; begin < threads_.size(); begin += kWarp) {
      const size_t end = std::min(begin + kWarp, threads_.size());
      if (count(begin, end, State::at_warp_barrier) == end - begin) release(begin, end, State::at_warp_barrier);
    }
  }
  // Threads that have ended no longer count.
  void open_block_barrier() {
    const size_t waiting = count(0, threads_.size(), State::at_block_barrier);
    if (waiting > 0 && waiting + count(0, threads_.size(), State::done) == threads_.size())
      release(0, threads_.size(), State::at_block_barrier);
  }

  Dim3 size_;
  const std::function<void()>& kernel_;
  std::mt19937_64 random_;
  std::vector<Thread> threads_;
  ucontext_t scheduler_;
  size_t current_ = 0;
  std::exception_ptr error_;
};

inline Block* block = nullptr;
inline Dim3 block_index, block_size, grid_size;

inline void Block::entry() {
  try {
    block->kernel_();
  } catch (...) {
    block->error_ = std::current_exception();
  }
  block->threads_[block->current_].state = State::done;
}

// emulate(blocks, threads, seed, [&] { kernel(arguments…); })
inline void emulate(Dim3 grid, Dim3 threads, uint64_t seed, const std::function<void()>& kernel) {
  grid_size = grid;
  block_size = threads;
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        block_index = {x, y, z};
        Block one(threads, seed + x + 977 * y + 977 * 977 * z, kernel);
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

#define threadIdx (::cuda_emulation::block->thread_index())
#define blockIdx (::cuda_emulation::block_index)
#define blockDim (::cuda_emulation::block_size)
#define gridDim (::cuda_emulation::grid_size)

inline void __syncthreads() { ::cuda_emulation::block->wait(::cuda_emulation::State::at_block_barrier); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int lanes) {
  const uint64_t bits = ::cuda_emulation::block->shuffle_xor(::cuda_emulation::bits_of(value), lanes);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
