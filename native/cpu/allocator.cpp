#include "allocator.h"

#include <sys/mman.h>

#include <cstdlib>

#include "../common/block_cache.h"
#include "../common/error.h"

namespace fm {
namespace {

constexpr size_t kHugePage = size_t(2) << 20;

struct SystemMemory {
  void* take(size_t bytes) {
    if (bytes < kHugePage) return std::aligned_alloc(64, bytes);
    void* data = std::aligned_alloc(kHugePage, (bytes + kHugePage - 1) / kHugePage * kHugePage);
    if (data) madvise(data, bytes, MADV_HUGEPAGE);
    return data;
  }
  bool short_of(size_t) const { return false; }
  void give(void* data) { std::free(data); }
};

BlockCache<SystemMemory>& blocks() {
  static auto* blocks = new BlockCache<SystemMemory>(SystemMemory{}, 64);  // outlives every tensor
  return *blocks;
}

}  // namespace

void* allocate(size_t bytes) {
  void* data = blocks().take(bytes);
  FM_CHECK(range, data, "no memory for ", bytes, " bytes (", blocks().use().used,
           " in use): lower the batch size or the number of classes");
  return data;
}
void release(void* data, size_t bytes) { blocks().give(data, bytes); }
MemoryUse memory_use() {
  const auto use = blocks().use();
  return {use.used, use.cached, use.peak};
}
void reset_peak_memory() { blocks().reset_peak(); }
void empty_cache() { blocks().empty(); }

}  // namespace fm
