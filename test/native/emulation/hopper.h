// The functions of native/cuda/hopper/ptx.cuh on the host: barriers in shared memory, the copy engine, and products of a
// warpgroup, which land in the order of a seed.  Models of the documented rules; that the hardware keeps to them is for
// the hardware to show.
//
// Refused, whatever the numbers turn out to be: a box that is written where a product is still reading, or read while it
// is still being written; a store by the copy engine of bytes that no fence has published to it, or overwritten before
// it has read them; too many arrivals; an address outside of what the launch asked for, or of a block that has ended.
//
// `mistake` plants one, so that a test can see that these checks find it.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda.h"

#ifndef __grid_constant__
#define __grid_constant__
#endif
#ifndef __forceinline__
#define __forceinline__ inline
#endif

namespace cuda_emulation {

// wait: barriers are passed at once.  early: products count as done when told.  bytes: half of a stage is waited for.
// fence: nothing is published to the copy engine.  swizzle: the engine turns no pieces.  transposed: operands are read
// along the other axis.  arrivals: a barrier opens one arrival early.  cluster: blocks do not wait for each other.
// read: stores count as read at once, and take their time.  lost: a box's bytes are never counted, and waits are short.
// FM_EMULATED_MISTAKE, where it is set, names one for a library that is opened.
inline std::string mistake;

struct Bytes {
  uint32_t from, to;
  bool meets(Bytes other) const { return from < other.to && other.from < to; }
};

struct SharedBarrier {
  uint32_t arrivals = 0, missing = 0, phase = 0;
  int64_t bytes = 0;  // that were announced and have not come
  std::vector<size_t> waiting;
};
struct NamedBarrier {
  int arrived = 0;
  std::vector<size_t> waiting;
};

// One instruction of a warpgroup, as its 128 threads come to it.
struct Product {
  uint64_t a, b;
  int columns, add;
  bool a_along_rows, b_along_rows;
  float* sums[128];
  int come = 0;
};
struct Warpgroup {
  std::deque<Product> products;  // from `done` on
  size_t done = 0;
  size_t issued[128] = {};
  std::vector<size_t> commits[128];
  std::vector<size_t> waiting;
};
struct Stores {
  int open = 0, committed = 0;  // that the engine has not read
  std::vector<size_t> waiting;
};

struct HopperBlock {
  std::vector<uint8_t> memory;
  std::map<uint32_t, SharedBarrier> barriers;
  std::map<int, NamedBarrier> named;
  std::vector<Warpgroup> groups;
  std::multimap<uint32_t, Bytes> arriving, leaving;  // by their address: boxes that the engine writes, or reads
  std::vector<std::vector<uint32_t>> unpublished;    // of each thread: where it wrote
  bool given_up = false;                             // waits no longer, and so reads and overwrites what it must not
};

class Cluster {
 public:
  explicit Cluster(Block& block) : on_(block), blocks_(block.blocks()) {
    if (const char* planted = std::getenv("FM_EMULATED_MISTAKE")) mistake = planted;
    for (HopperBlock& each : blocks_) {
      each.memory.assign(block.shared_bytes(), 0xff);
      each.groups.resize(block.block_threads() / 128);
      each.unpublished.resize(block.block_threads());
    }
  }

  // --- memory
  HopperBlock& here() { return blocks_[on_.rank()]; }
  HopperBlock& there(uint32_t rank) {
    if (rank >= blocks_.size()) fail("a block that the cluster does not have");
    if (on_.ended(rank)) fail("shared memory of a block that has ended");
    return blocks_[rank];
  }
  uint8_t* at(HopperBlock& block, uint32_t address, uint32_t bytes) {
    if (address < kBase || address - kBase + bytes > block.memory.size()) fail("an address outside of shared memory");
    return block.memory.data() + (address - kBase);
  }

  // --- barriers
  SharedBarrier& barrier(HopperBlock& block, uint32_t address) {
    const auto it = block.barriers.find(address);
    if (it == block.barriers.end()) fail("a barrier that was not made");
    return it->second;
  }
  void init(uint32_t address, uint32_t arrivals) {
    at(here(), address, 8);
    if (address % 8 != 0 || here().barriers.count(address)) fail("a barrier that is there, or not aligned");
    SharedBarrier& made = here().barriers[address];
    made.arrivals = made.missing = arrivals > 1 && mistake == "arrivals" ? arrivals - 1 : arrivals;
  }
  void arrive(SharedBarrier& b, int64_t bytes) {
    if (b.missing == 0) fail("one arrival too many");
    b.missing--;
    b.bytes += bytes;
    turn(b);
  }
  void come(SharedBarrier& b, int64_t bytes) {
    b.bytes -= bytes;
    turn(b);
  }
  void wait(uint32_t address, uint32_t parity, bool keeps_time) {
    if (mistake == "wait") return;
    HopperBlock& block = here();
    SharedBarrier& b = barrier(block, address);
    if (keeps_time && mistake == "lost" && (b.phase & 1) == parity && !block.given_up)
      slowly(2000, [this, &b, phase = b.phase] {
        if (b.phase == phase) give_up();
      });
    while ((b.phase & 1) == parity && !block.given_up) on_.park(b.waiting);
  }
  void give_up() {
    for (HopperBlock& block : blocks_) {
      block.given_up = true;
      for (auto& [address, b] : block.barriers) on_.release(b.waiting);
    }
  }
  void let_boxes_land() {
    std::vector<size_t> waiting;
    slowly(2000, [&] { on_.release(waiting); });
    on_.park(waiting);
  }
  void named(int id, int threads, bool stays) {
    if (id < 0 || id > 15) fail("a named barrier that a block does not have");
    NamedBarrier& b = here().named[id];
    b.arrived++;
    if (b.arrived == threads) {
      b.arrived = 0;
      on_.release(b.waiting);
      return;
    }
    if (stays) on_.park(b.waiting);
  }
  void all() {
    if (mistake == "cluster") return;
    if (++at_all_ == on_.blocks() * on_.block_threads()) {
      at_all_ = 0;
      on_.release(waiting_for_all_);
      return;
    }
    on_.park(waiting_for_all_);
  }

  // --- the copy engine
  static uint32_t turned(const TensorMap& map, uint32_t address) {
    const uint32_t pieces = mistake == "swizzle" || map.swizzle == 0 ? 0 : (map.swizzle - 1) & 0x70;
    return address ^ ((address >> 3) & pieces);
  }
  // f(place in shared memory, the map's elements or none, how many), of each piece of a box at `address`: of what the
  // swizzle leaves together, as much as is in the map or is not.
  template <class F>
  void for_box(const TensorMap& map, uint32_t address, const int (&from)[3], const F& f) {
    uint32_t row = 0;
    for (uint32_t z = 0; z < map.box[2]; z++)
      for (uint32_t y = 0; y < map.box[1]; y++, row++) {
        const int64_t at[3] = {from[0], int64_t(from[1]) + y, int64_t(from[2]) + z};
        bool inside = true;
        for (int i = 1; i < 3; i++) inside = inside && at[i] >= 0 && uint64_t(at[i]) < map.extents[i];
        char* const elements = map.data + at[0] * 2 + at[1] * int64_t(map.strides[0]) + at[2] * int64_t(map.strides[1]);
        for (uint32_t x = 0, n; x < map.box[0]; x += n) {
          n = std::min(kPiece - x % kPiece, map.box[0] - x);
          const auto is_inside = [&](uint32_t i) {
            return inside && at[0] + i >= 0 && uint64_t(at[0] + i) < map.extents[0];
          };
          const bool here = is_inside(x);
          for (uint32_t i = 1; i < n; i++)
            if (is_inside(x + i) != here) n = i;
          f(turned(map, address + (row * map.box[0] + x / kPiece * kPiece) * 2) + x % kPiece * 2,
            here ? elements + int64_t(x) * 2 : nullptr, n);
        }
      }
  }
  static constexpr uint32_t kPiece = 8;  // elements
  static uint32_t bytes_of(const TensorMap& map) { return map.box[0] * map.box[1] * map.box[2] * 2; }
  static TensorMap read_map(const CUtensorMap* from) {
    TensorMap map;
    std::memcpy(&map, from, sizeof map);
    return map;
  }
  void check_box(const TensorMap& map, uint32_t address) {
    // Whole turns of the swizzle, so that the pattern begins with the box.
    if (address % (map.swizzle == 0 ? 128 : map.swizzle * 8) != 0) fail("a box that is not aligned");
  }

  void load(uint32_t to, const CUtensorMap* from, uint32_t address, int x, int y, int z, uint32_t ranks) {
    const TensorMap map = read_map(from);
    check_box(map, to);
    const uint32_t bytes = bytes_of(map);
    for (uint32_t rank = 0; rank < blocks_.size(); rank++) {
      if (!(ranks >> rank & 1)) continue;
      there(rank).arriving.insert({to, Bytes{to, to + bytes}});
      on_.fly([this, map, to, address, x, y, z, rank, bytes] {
        HopperBlock& block = there(rank);
        for (Warpgroup& group : block.groups)
          for (const Product& product : group.products)
            if (!block.given_up && reads(product, {to, to + bytes})) fail("a box is written where a product reads");
        at(block, to, bytes);
        for_box(map, to, {x, y, z}, [&](uint32_t place, const char* elements, uint32_t n) {
          uint8_t* const box = at(block, place, n * 2);
          if (elements) std::memcpy(box, elements, n * 2);
          else std::memset(box, 0, n * 2);
        });
        block.arriving.erase(block.arriving.find(to));
        if (mistake == "lost" && ++boxes_ == 5) return;
        come(barrier(block, address), bytes);
      });
    }
    if (ranks >> blocks_.size()) fail("a block that the cluster does not have");
  }
  void store(const CUtensorMap* to, uint32_t from, int x, int y, int z) {
    const TensorMap map = read_map(to);
    check_box(map, from);
    HopperBlock& block = here();
    const uint32_t bytes = bytes_of(map);
    for (const std::vector<uint32_t>& places : block.unpublished)
      for (uint32_t place : places)
        if (place >= from && place < from + bytes)
          fail("the copy engine is told to store what was not published to it");
    const size_t thread = on_.thread();
    stores_[thread].open++;
    block.leaving.insert({from, Bytes{from, from + bytes}});
    const size_t rank = on_.rank();
    slowly(mistake == "read" ? 4000 : 0, [this, map, from, x, y, z, rank, thread, bytes] {
      HopperBlock& block = there(uint32_t(rank));
      at(block, from, bytes);
      for_box(map, from, {x, y, z}, [&](uint32_t place, char* elements, uint32_t n) {
        if (elements) std::memcpy(elements, at(block, place, n * 2), n * 2);
      });
      block.leaving.erase(block.leaving.find(from));
      Stores& stores = stores_[thread];
      (stores.committed > 0 ? stores.committed : stores.open)--;
      on_.release(stores.waiting);
    });
  }
  void slowly(int times, std::function<void()> f) {
    on_.fly([this, times, f] { times > 0 ? slowly(times - 1, f) : f(); });
  }
  void commit_stores() {
    Stores& stores = stores_[on_.thread()];
    stores.committed += stores.open;
    stores.open = 0;
  }
  void wait_stores() {
    Stores& stores = stores_[on_.thread()];
    while (stores.committed > 0 && mistake != "read") on_.park(stores.waiting);
  }
  void publish() {
    if (mistake != "fence") here().unpublished[on_.thread() % on_.block_threads()].clear();
  }
  void write(uint32_t to, const void* from, uint32_t bytes) {
    HopperBlock& block = here();
    for (const auto& [address, range] : block.leaving)
      if (range.meets({to, to + bytes})) fail("bytes are overwritten before the copy engine has read them");
    std::memcpy(at(block, to, bytes), from, bytes);
    block.unpublished[on_.thread() % on_.block_threads()].push_back(to);
  }

  // --- products
  static uint32_t start_of(uint64_t descriptor) { return uint32_t(descriptor & 0x3fff) << 4; }
  // Where element (row, depth) of an operand is, by the canonical layouts of the 128-byte swizzle.
  static uint32_t place(uint64_t descriptor, bool along_rows, uint32_t row, uint32_t depth) {
    const uint32_t start = start_of(descriptor), leading = uint32_t(descriptor >> 16 & 0x3fff) << 4,
                   stride = uint32_t(descriptor >> 32 & 0x3fff) << 4;
    if (mistake == "transposed") along_rows = !along_rows;
    const uint32_t linear = along_rows
                                ? start + row % 64 * 2 + row / 64 * leading + depth % 8 * 128 + depth / 8 * stride
                                : start + depth * 2 + row % 8 * 128 + row / 8 * stride;
    return linear ^ ((linear >> 3) & 0x70);
  }
  static bool reads(const Product& p, Bytes range) {
    const auto meets = [&](uint64_t descriptor, bool along_rows, uint32_t rows) {
      const uint32_t start = start_of(descriptor);
      if (!along_rows) return Bytes{start & ~127u, (start & ~127u) + rows * 128}.meets(range);
      for (uint32_t block = 0; block < (rows + 63) / 64; block++) {
        const uint32_t from = start + block * (uint32_t(descriptor >> 16 & 0x3fff) << 4);
        if (Bytes{from, from + 2048}.meets(range)) return true;
      }
      return false;
    };
    return meets(p.a, p.a_along_rows, 64) || meets(p.b, p.b_along_rows, uint32_t(p.columns));
  }
  Warpgroup& group() { return here().groups.at(on_.thread() % on_.block_threads() / 128); }

  void issue(int columns, float* sums, uint64_t a, uint64_t b, int add, bool a_along_rows, bool b_along_rows) {
    Warpgroup& g = group();
    const size_t lane = on_.thread() % 128, at = g.issued[lane]++ - g.done;
    if (at == g.products.size()) {
      g.products.push_back(Product{a, b, columns, add, a_along_rows, b_along_rows, {}});
      for (const auto& [address, range] : here().arriving)
        if (!here().given_up && reads(g.products.back(), range)) fail("a product reads a box that has not come");
    }
    Product& p = g.products[at];
    if (p.a != a || p.b != b || (p.add != 0) != (add != 0) || p.columns != columns)
      fail("a warpgroup's threads differ in their product");
    p.sums[lane] = sums;
    if (++p.come < 128) return;
    const size_t rank = on_.rank(), which = on_.thread() % on_.block_threads() / 128;
    on_.fly([this, rank, which] {
      Warpgroup& g = blocks_[rank].groups[which];
      run(blocks_[rank], g.products.front());
      g.products.pop_front();
      g.done++;
      on_.release(g.waiting);
    });
  }
  void commit() {
    Warpgroup& g = group();
    g.commits[on_.thread() % 128].push_back(g.issued[on_.thread() % 128]);
  }
  void wait(int pending) {
    if (mistake == "early") return;
    Warpgroup& g = group();
    std::vector<size_t>& commits = g.commits[on_.thread() % 128];
    if (commits.size() <= size_t(pending)) return;
    const size_t upto = commits[commits.size() - 1 - size_t(pending)];
    while (g.done < upto) on_.park(g.waiting);
    commits.erase(commits.begin(), commits.end() - pending);
  }

  [[noreturn]] static void fail(const char* what) { throw std::logic_error(what); }

  static constexpr uint32_t kBase = 1024;  // of a block's memory: address 0 is nobody's

 private:
  void turn(SharedBarrier& b) {
    if (b.missing > 0 || b.bytes != 0) return;
    b.phase++;
    b.missing = b.arrivals;
    on_.release(b.waiting);
  }
  // Operand [rows, 16], or [16, rows] where `across`.  Of 8 elements that lie in a line the swizzle leaves the order.
  void read(HopperBlock& block, uint64_t descriptor, bool along_rows, uint32_t rows, bool across, float* to) {
    const bool lies_along_rows = (mistake == "transposed") != along_rows;
    const uint32_t row_step = lies_along_rows ? 8 : 1, depth_step = lies_along_rows ? 1 : 8;
    for (uint32_t row = 0; row < rows; row += row_step)
      for (uint32_t depth = 0; depth < 16; depth += depth_step) {
        const uint8_t* const line = at(block, place(descriptor, along_rows, row, depth), 16);
        for (uint32_t i = 0; i < 8; i++) {
          uint16_t bits;
          std::memcpy(&bits, line + i * 2, 2);
          const uint32_t whole = uint32_t(bits) << 16;
          const uint32_t r = row + (lies_along_rows ? i : 0), k = depth + (lies_along_rows ? 0 : i);
          std::memcpy(&to[across ? k * rows + r : r * 16 + k], &whole, 4);
        }
      }
  }
  // row [n] += a [16] · b [16, n], none of them a kernel's memory.
  __attribute__((optimize("O3"), no_sanitize("address", "undefined"))) static void multiply(const float* a,
                                                                                            const float* b, int n,
                                                                                            float* row) {
    for (int k = 0; k < 16; k++)
      for (int j = 0; j < n; j++) row[j] += a[k] * b[k * n + j];
  }
  void run(HopperBlock& block, const Product& p) {
    const int n = p.columns;
    float a[64 * 16], b[16 * 256], row[256];
    read(block, p.a, p.a_along_rows, 64, false, a);
    read(block, p.b, p.b_along_rows, uint32_t(n), true, b);
    for (int i = 0; i < 64; i++) {
      const auto sums_at = [&](int j) {
        return &p.sums[i / 16 * 32 + i % 8 * 4 + j % 8 / 2][j / 8 * 4 + i % 16 / 8 * 2];
      };
      for (int j = 0; j < n; j += 2) {
        const float* const two = sums_at(j);
        row[j] = p.add ? two[0] : 0, row[j + 1] = p.add ? two[1] : 0;
      }
      multiply(a + i * 16, b, n, row);
      for (int j = 0; j < n; j += 2) {
        float* const two = sums_at(j);
        two[0] = row[j], two[1] = row[j + 1];
      }
    }
  }

  Block& on_;
  std::vector<HopperBlock> blocks_;
  std::map<size_t, Stores> stores_;  // of a thread
  size_t at_all_ = 0, boxes_ = 0;
  std::vector<size_t> waiting_for_all_;
};

inline Cluster& cluster() {
  if (!block->extension) block->extension = std::make_shared<Cluster>(*block);
  return *static_cast<Cluster*>(block->extension.get());
}

}  // namespace cuda_emulation

namespace fm::hopper {

inline cuda_emulation::Cluster& emulated() { return cuda_emulation::cluster(); }

inline uint32_t shared_memory() { return cuda_emulation::Cluster::kBase; }
inline void shared_store(uint32_t to, float value) { emulated().write(to, &value, 4); }
inline float shared_load(uint32_t from) {
  float value;
  std::memcpy(&value, emulated().at(emulated().here(), from, 4), 4);
  return value;
}

inline uint32_t cluster_rank() { return uint32_t(cuda_emulation::block->rank()); }
inline void cluster_barrier() { emulated().all(); }
inline void named_barrier(int id, int threads) { emulated().named(id, threads, true); }
inline void arrive_named(int id, int threads) { emulated().named(id, threads, false); }

inline void init_barrier(uint32_t barrier, uint32_t arrivals) { emulated().init(barrier, arrivals); }
inline void publish_barriers() {}
inline void expect_bytes(uint32_t barrier, uint32_t bytes) {
  auto& on = emulated();
  on.arrive(on.barrier(on.here(), barrier), cuda_emulation::mistake == "bytes" ? bytes / 2 : bytes);
}
inline void wait_barrier(uint32_t barrier, uint32_t parity) { emulated().wait(barrier, parity, false); }
inline void wait_or_give_up(uint32_t barrier, uint32_t parity) { emulated().wait(barrier, parity, true); }
inline void init_given_up(bool value) { emulated().here().given_up = value; }
inline void give_up() { emulated().give_up(); }
inline void let_boxes_land() { emulated().let_boxes_land(); }
inline bool given_up() { return emulated().here().given_up; }
inline void arrive_barrier(uint32_t barrier, uint32_t block) {
  auto& on = emulated();
  on.arrive(on.barrier(on.there(block), barrier), 0);
}

inline void load_box(uint32_t to, const CUtensorMap* map, uint32_t barrier, int x, int y, int z) {
  emulated().load(to, map, barrier, x, y, z, 1u << cluster_rank());
}
inline void share_box(uint32_t to, const CUtensorMap* map, uint32_t barrier, int x, int y, int z, uint16_t blocks) {
  emulated().load(to, map, barrier, x, y, z, blocks);
}
inline void store_box(const CUtensorMap* map, uint32_t from, int x, int y, int z) {
  emulated().store(map, from, x, y, z);
}
inline void commit_stores() { emulated().commit_stores(); }
inline void wait_stores_read() { emulated().wait_stores(); }
inline void wait_stores() { emulated().wait_stores(); }
inline void publish_to_engine() { emulated().publish(); }

inline void begin_products() {}
inline void commit_products() { emulated().commit(); }
template <int kPending>
void wait_products() {
  emulated().wait(kPending);
}
template <int columns, int kAlongA, int kAlongB>
void multiply(float (&sums)[columns / 2], uint64_t a, uint64_t b, int add) {
  emulated().issue(columns, sums, a, b, add, kAlongA != 0, kAlongB != 0);
}
// The products write sums behind the compiler's back.
template <int n>
void pin(float (&sums)[n]) {
  asm volatile("" : : "r"(&sums[0]) : "memory");
}
template <int kRegisters>
void take_registers() {}
template <int kRegisters>
void give_registers() {}

inline uint32_t pack_bfloat16(float low, float high) {
  const auto rounded = [](float value) {
    uint32_t whole;
    std::memcpy(&whole, &value, 4);
    return (whole + 0x7fff + (whole >> 16 & 1)) >> 16;
  };
  return rounded(low) | rounded(high) << 16;
}
inline void store_matrices(uint32_t row, const uint32_t (&elements)[4]) {
  const uint32_t* const rows = cuda_emulation::block->exchange(row);
  const size_t lane = cuda_emulation::block->lane();
  for (size_t matrix = 0; matrix < 4; matrix++) {
    const uint32_t address = rows[matrix * 8 + lane / 4];
    if (address % 16 != 0) cuda_emulation::Cluster::fail("a row of a matrix that is not aligned");
    emulated().write(address + uint32_t(lane % 4) * 4, &elements[matrix], 4);
  }
}
inline float power_of_two(float x) {
  const float y = std::exp2(x);
  return y < 1.17549435e-38f ? 0 : y;
}

}  // namespace fm::hopper
