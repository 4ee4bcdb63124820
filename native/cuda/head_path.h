// The paths of the head: who multiplies.  One table of them, in order of preference; Head in head_call.cuh calls them
// and knows nothing more of them.
//
// A path of Bfloat16 operands is for float32 tensors with Precision::bfloat16: it gets unit rows that are rounded
// already, leaves dL/dcos in Bfloat16, and adds up in float32.  Float32 and float64 products have the plain path alone.
#pragma once
#include <string>

#include "backend.h"
#include "head_launch.h"
#include "tile_sizes.h"

namespace fm {

// What a path is chosen by.
struct HeadCase {
  int capability;  // 90 is compute capability 9.0
  int64_t N, C, K, D;
};

// All numbers follow from the shapes and not from the device, and so do the order of the sums and the results' bits.
template <class T, class E>
struct HeadPath {
  const char* name;                            // of FLASHMARGIN_CUDA_HEAD
  const char* about;                           // what multiplies, for a person
  std::string (*why_not)(const HeadCase& of);  // empty where it suits
  int64_t rows;                                // of a sweep's tile, and of what HeadChunk::dots adds up
  int64_t axes;                                // of a tile of dX, which is `rows` high
  int64_t sweep_blocks, product_blocks;        // about: row tiles × DeviceHead::groups; tiles of dX × splits
  int64_t (*classes_a_tile)(int64_t K);
  // Of rows of D, weights_product has whole ones at once: then it needs no dots, renews unit rows with the rows, and the
  // sweep can keep terms.
  bool (*whole_rows)(int64_t D);
  // Of SweepTask::masses; none of a path that leaves no tiles out.
  int64_t (*classes_a_mass)(int64_t K);
  decltype(&run_sweep<T, E>) sweep;  // adds to group_sums, group_counts and group_largest
  decltype(&run_features_product<T, E>) features_product;
  decltype(&run_weights_product<T, E>) weights_product;
};

template <class T, class E>
const HeadPath<T, E>& plain_head_path() {
  static const HeadPath<T, E> path{"plain",
                                   "plain multiply-adds",
                                   [](const HeadCase&) { return std::string(); },
                                   Tile<T>::kRows,
                                   Tile<T>::kColumns,
                                   2048,
                                   512,
                                   [](int64_t K) { return K < Tile<T>::kColumns ? Tile<T>::kColumns / K : 1; },
                                   [](int64_t) { return false; },
                                   nullptr,
                                   run_sweep<T, E>,
                                   run_features_product<T, E>,
                                   run_weights_product<T, E>};
  return path;
}

using Bfloat16Path = HeadPath<float, Bfloat16>;
extern const Bfloat16Path kHopperPath;  // hopper/path.cu

// head_path.cpp: the first of the table that suits and agrees with the plain path, or the one that FLASHMARGIN_CUDA_HEAD
// names.
const Bfloat16Path& bfloat16_head_path(CudaBackend& gpu, const HeadCase& of);

template <class T, class E>
const HeadPath<T, E>& head_path(CudaBackend& gpu, const HeadCase& of) {
  if constexpr (std::is_same_v<E, Bfloat16>) return bfloat16_head_path(gpu, of);
  else return plain_head_path<T, E>();
}

// In words: which path heads of one center a class take and whether their steps are replayed, and what disagrees with the
// plain path or with plain launches; empty where nothing does.
struct HeadPathReport {
  std::string chosen, warning;
};
HeadPathReport report_head_path(CudaBackend& gpu);

// What a call throws where kernels of its path gave up waiting for each other.
struct StuckPath : Error {
  using Error::Error;
};

// Of HeadOptions: which terms of dL/dcos a step keeps, which it leaves out, which classes have any, and whether the
// others move.
struct StepTerms {
  double keep_bytes = -1, gradient_filter = 0;
  OptionalTensor classes{};
  bool moves_others = false;
};

// head_step.cu: a step on this path, by plain launches.
template <class T, class E>
HeadStep step_on_path(CudaBackend& gpu, const HeadPath<T, E>& path, const Tensor& features, const Tensor& weight,
                      const OptimizerState& state, const Tensor& labels, const MarginParams& p,
                      const OptimizerParams& optimizer, StepTerms terms);
// head_check.cpp: empty where steps on it agree with the plain path's, or how they do not.  Compared once a device.
std::string disagreement_of(CudaBackend& gpu, const Bfloat16Path& path);

}  // namespace fm
