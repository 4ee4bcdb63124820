// Memory that is kept for reuse: a training step asks for the same sizes again and again, and fresh pages cost more
// than the arithmetic done on them.
#pragma once
#include <cstddef>

namespace fm {

// 64-byte aligned; large blocks sit on huge pages.  Contents are undefined.  Throws fm::Error when there is no memory.
void* allocate(size_t bytes);
void release(void* data, size_t bytes);

struct MemoryUse {
  size_t used, cached, peak;
};  // bytes in tensors and scratch, kept for reuse, high-water mark of used
MemoryUse memory_use();
void reset_peak_memory();
void empty_cache();  // gives the kept blocks back to the system

// Scratch for one call.
template <class T>
class Scratch {
 public:
  explicit Scratch(size_t count) : count_(count), data_(static_cast<T*>(allocate(count * sizeof(T)))) {}
  ~Scratch() { release(data_, count_ * sizeof(T)); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() const { return data_; }
  T& operator[](size_t i) const { return data_[i]; }
  size_t size() const { return count_; }

 private:
  size_t count_;
  T* data_;
};

}  // namespace fm
