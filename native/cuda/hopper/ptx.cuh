// The instructions of compute capability 9.0 that C++ has no name for, a function each.  Addresses are 32-bit ones of the
// block's shared memory; `block` is a rank within the cluster.
//
// On the host the emulation has the same functions (test/native/emulation/hopper.h), so that the kernels above them run
// as they are written, under models of the copy engine, the barriers and the matrix descriptors.
#pragma once
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#if defined(__CUDACC__)
#include "wgmma.cuh"
#else
#include <hopper.h>
#endif

namespace fm::hopper {

constexpr int kWarpgroup = 128;      // threads that multiply together
constexpr uint32_t kSwizzle = 1024;  // bytes after which the copy engine's 128-byte swizzle repeats: stages begin there
constexpr uint32_t kRowBytes = 128;  // of a swizzled box: 64 bfloat16
constexpr uint32_t kBoxBytes = 8192;           // 64 such rows
constexpr uint32_t kMostShared = 232448 - 16;  // beside given_up_word()
constexpr uint32_t kMostBlocks = 2;            // of a cluster
constexpr uint32_t kPatience = 5;              // seconds that a producer waits for a stage, about

// Matrix descriptors of boxes as the copy engine leaves them under its 128-byte swizzle.
//
// by depth: a row of the operand is 128 bytes, 64 of the depth; groups of 8 rows are 1024 bytes apart.
//   The next 16 of the depth begin 32 bytes on.
// by rows: a step of the depth is 128 bytes, 64 rows of the operand; groups of 8 steps are 1024 bytes apart, blocks of 64
//   rows kBoxBytes.  The next 16 of the depth begin 2048 bytes on.
enum class Along { depth = 0, rows = 1 };

template <Along along>
__device__ __forceinline__ uint64_t descriptor(uint32_t address) {
  const uint64_t leading = along == Along::depth ? 1 : kBoxBytes >> 4;  // ignored by depth
  return uint64_t((address & 0x3ffff) >> 4) | leading << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}
template <Along along>
constexpr uint32_t kDepth16 = along == Along::depth ? 32 : 2048;

#if defined(__CUDACC__)

__device__ __forceinline__ uint32_t shared_memory() {
  extern __shared__ unsigned char memory[];
  return (uint32_t(__cvta_generic_to_shared(memory)) + kSwizzle - 1) & ~(kSwizzle - 1);
}
__device__ __forceinline__ void shared_store(uint32_t to, float value) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(value) : "memory");
}
__device__ __forceinline__ float shared_load(uint32_t from) {
  float value;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(from) : "memory");
  return value;
}

// --- clusters and named barriers -----------------------------------------------------------------------------------

__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void arrive_named(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// --- mbarriers -------------------------------------------------------------------------------------------------------

__device__ __forceinline__ void init_barrier(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void expect_bytes(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// Whether the phase of this parity has ended; waits a microsecond for it.
__device__ __forceinline__ bool passed(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred done;\nmbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2, 1000;\n"
      "selp.u32 %0, 1, 0, done;\n}\n"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done;
}
__device__ __forceinline__ volatile uint32_t& given_up_word() {
  __shared__ uint32_t word;
  return const_cast<volatile uint32_t&>(word);
}
// By one thread, before the others wait for anything.
__device__ __forceinline__ void init_given_up(bool value) { given_up_word() = value; }
__device__ __forceinline__ bool given_up() { return given_up_word(); }
// For both blocks of the cluster, the other first: what this one no longer waits for, that one must not fetch.
__device__ __forceinline__ void give_up() {
  const auto word = uint32_t(__cvta_generic_to_shared(const_cast<uint32_t*>(&given_up_word())));
  for (uint32_t i = 1; i <= kMostBlocks; i++)
    asm volatile(
        "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
        "st.relaxed.cluster.shared::cluster.u32 [there], 1;\nfence.acq_rel.cluster;\n}\n" ::"r"(word),
        "r"((cluster_rank() + i) % kMostBlocks)
        : "memory");
}
// What the copy engine was told before has come when this returns.
__device__ __forceinline__ void let_boxes_land() { __nanosleep(1000000); }
__device__ __forceinline__ uint32_t second_of_four() {
  uint32_t nanoseconds;
  asm volatile("mov.u32 %0, %%globaltimer_lo;" : "=r"(nanoseconds));
  return nanoseconds >> 30;
}
// A barrier that stays shut must not keep the device for ever.  The block's producer keeps the time: it waits for every
// stage to be free again, to the last, and where it has seen kPatience seconds begin it gives up for the cluster.  From
// then on no wait is long, all go on as if they had what they wait for, nothing is fetched, and the kernel ends with
// numbers that its report disowns.  Seconds in which the thread did not run count as one.
__device__ __forceinline__ void wait_barrier(uint32_t barrier, uint32_t parity) {
  while (!passed(barrier, parity) && !given_up()) {}
}
__device__ __forceinline__ void wait_or_give_up(uint32_t barrier, uint32_t parity) {
  if (passed(barrier, parity)) return;
  uint32_t second = second_of_four(), begun = 0;
  while (!passed(barrier, parity) && !given_up()) {
    const uint32_t now = second_of_four();
    if (now != second) second = now, begun++;
    if (begun == kPatience) give_up();
  }
}
// Publishes nothing to the other block: a stage is written and read by the copy engine and the products alone.  With
// .release.cluster an arrival waits for the thread's stores to memory, at every stage.
__device__ __forceinline__ void arrive_barrier(uint32_t barrier, uint32_t block) {
  asm volatile(
      "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(barrier),
      "r"(block)
      : "memory");
}

// --- the copy engine -------------------------------------------------------------------------------------------------

// A box of a map to shared memory, of this block or at the same address of every block in `blocks`, a bit each.
__device__ __forceinline__ void load_box(uint32_t to, const CUtensorMap* map, uint32_t barrier, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
      "[%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z)
      : "memory");
}
__device__ __forceinline__ void share_box(uint32_t to, const CUtensorMap* map, uint32_t barrier, int x, int y, int z,
                                          uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
      "[%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "h"(blocks)
      : "memory");
}
__device__ __forceinline__ void store_box(const CUtensorMap* map, uint32_t from, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
               "r"(from), "r"(x), "r"(y), "r"(z)
               : "memory");
}
__device__ __forceinline__ void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until the engine has read what this thread told it to store.
__device__ __forceinline__ void wait_stores_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
__device__ __forceinline__ void wait_stores() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
// What this thread has written is there for the copy engine, too.
__device__ __forceinline__ void publish_to_engine() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- warpgroup products ----------------------------------------------------------------------------------------------

__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Sums stay in their registers across this point.
template <int n>
__device__ __forceinline__ void pin(float (&sums)[n]) {
#pragma unroll
  for (int i = 0; i < n; i++) asm volatile("" : "+f"(sums[i])::"memory");
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// --- of a warp -------------------------------------------------------------------------------------------------------

// Two floats as bfloat16, to the nearest: `low` in the lower half.
__device__ __forceinline__ uint32_t pack_bfloat16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
// Four 8×8 matrices of bfloat16: lane l gives matrix l/8 the address of its row l%8, and of each matrix has the two
// elements 2·(l%4) of row l/4.
__device__ __forceinline__ void store_matrices(uint32_t row, const uint32_t (&elements)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared::cta.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(elements[0]),
               "r"(elements[1]), "r"(elements[2]), "r"(elements[3])
               : "memory");
}
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#endif

}  // namespace fm::hopper
