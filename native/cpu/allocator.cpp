#include "allocator.h"

#include <sys/mman.h>

#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "../common/error.h"

namespace fm {
namespace {

constexpr size_t kHugePage = size_t(2) << 20;

// Few sizes, so that blocks are found again: multiples of 1/8 of the power of two below, of 64 bytes at least.
size_t rounded(size_t bytes) {
  size_t step = 64;
  while (step * 16 <= bytes) step *= 2;
  return (bytes + step - 1) / step * step + (bytes == 0 ? step : 0);
}

class Blocks {
 public:
  void* take(size_t bytes) {
    const size_t size = rounded(bytes);
    std::lock_guard<std::mutex> lock(lock_);
    void* data = nullptr;
    if (auto it = kept_.find(size); it != kept_.end() && !it->second.empty()) {
      data = it->second.back();
      it->second.pop_back();
      use_.cached -= size;
    } else {
      data = fresh(size);
      if (!data) {
        drop_all();
        data = fresh(size);
      }
      FM_CHECK(range, data, "no memory for ", bytes, " bytes (", use_.used,
               " in use): lower the batch size or the number of classes");
    }
    use_.used += size;
    if (use_.used > use_.peak) use_.peak = use_.used;
    return data;
  }

  void give(void* data, size_t bytes) {
    const size_t size = rounded(bytes);
    std::lock_guard<std::mutex> lock(lock_);
    kept_[size].push_back(data);
    use_.used -= size;
    use_.cached += size;
  }

  void drop_all_locked() {
    std::lock_guard<std::mutex> lock(lock_);
    drop_all();
  }
  MemoryUse use() {
    std::lock_guard<std::mutex> lock(lock_);
    return use_;
  }
  void reset_peak() {
    std::lock_guard<std::mutex> lock(lock_);
    use_.peak = use_.used;
  }

 private:
  static void* fresh(size_t size) {
    if (size < kHugePage) return std::aligned_alloc(64, size);
    void* data = std::aligned_alloc(kHugePage, (size + kHugePage - 1) / kHugePage * kHugePage);
    if (data) madvise(data, size, MADV_HUGEPAGE);
    return data;
  }
  void drop_all() {
    for (auto& [size, blocks] : kept_) {
      for (void* data : blocks) std::free(data);
      blocks.clear();
    }
    use_.cached = 0;
  }

  std::mutex lock_;
  std::unordered_map<size_t, std::vector<void*>> kept_;
  MemoryUse use_{0, 0, 0};
};

Blocks& blocks() {
  static Blocks* blocks = new Blocks;  // outlives every tensor
  return *blocks;
}

}  // namespace

void* allocate(size_t bytes) { return blocks().take(bytes); }
void release(void* data, size_t bytes) { blocks().give(data, bytes); }
MemoryUse memory_use() { return blocks().use(); }
void reset_peak_memory() { blocks().reset_peak(); }
void empty_cache() { blocks().drop_all_locked(); }

}  // namespace fm
