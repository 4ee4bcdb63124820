// Memory blocks that are kept for reuse, by size.  Where the blocks come from is the Source's:
//   void* take(size_t bytes)      nullptr when there is none left
//   bool short_of(size_t bytes)   whether taking them leaves others too little
//   void give(void* data)
#pragma once
#include <cstddef>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace fm {

template <class Source>
class BlockCache {
 public:
  // Bytes handed out, kept for reuse, high-water mark of used.
  struct Use {
    size_t used = 0, cached = 0, peak = 0;
  };

  // grain: the smallest block and the unit of all sizes; a power of two.
  BlockCache(Source source, size_t grain) : source_(source), grain_(grain) {}

  // nullptr when the source has none left, even after everything kept went back to it.
  void* take(size_t bytes) {
    const size_t size = rounded(bytes);
    std::lock_guard<std::mutex> lock(lock_);
    void* data = nullptr;
    if (auto it = kept_.find(size); it != kept_.end() && !it->second.empty()) {
      data = it->second.back();
      it->second.pop_back();
      use_.cached -= size;
    } else {
      // Once: where even the blocks in use leave others little, each miss would drop what the next one looks for.
      if (use_.cached && !spared_ && source_.short_of(size)) drop(), spared_ = true;
      if (!(data = source_.take(size))) {
        drop();
        spared_ = false;
        data = source_.take(size);
      }
    }
    if (!data) return nullptr;
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

  Use use() {
    std::lock_guard<std::mutex> lock(lock_);
    return use_;
  }

  void reset_peak() {
    std::lock_guard<std::mutex> lock(lock_);
    use_.peak = use_.used;
  }

  // Gives everything kept back to the source.
  void empty() {
    std::lock_guard<std::mutex> lock(lock_);
    drop();
  }

 private:
  // Few sizes, so that blocks are found again: multiples of 1/8 of the power of two below.
  size_t rounded(size_t bytes) const {
    size_t step = grain_;
    while (step * 16 <= bytes) step *= 2;
    return bytes == 0 ? step : (bytes + step - 1) / step * step;
  }

  void drop() {
    for (auto& [size, blocks] : kept_)
      for (void* data : blocks) source_.give(data);
    kept_.clear();
    use_.cached = 0;
  }

  Source source_;
  size_t grain_;
  std::mutex lock_;
  std::unordered_map<size_t, std::vector<void*>> kept_;
  Use use_;
  bool spared_ = false;  // others, since memory last ran out
};

}  // namespace fm
