// The head's larger kernels, a translation unit a family; each is there for float, double, and float with products of
// Bfloat16.
#pragma once
#include "head.h"
#include "launch.h"

namespace fm {

template <class T>
struct SweepTask;
template <class T>
struct WeightTask;

// class_sweep.cu.  plain: whatever the method and its negatives are, φ is the cosine.
template <class T, class E>
void run_sweep(const Stream& stream, const DeviceHead<T>& head, const HeadChunk<T, E>& chunk, const SweepTask<T>& task,
               bool plain);

// head_products.cu
template <class T, class E>
void run_features_product(const Stream& stream, const DeviceHead<T>& head, const HeadChunk<T, E>& chunk, T* slabs,
                          int64_t splits);
template <class T, class E>
void run_weights_product(const Stream& stream, const DeviceHead<T>& head, const HeadChunk<T, E>& chunk,
                         const WeightTask<T>& task);

// head_targets.cu
template <class T>
void run_targets(const Stream& stream, const DeviceHead<T>& head);

}  // namespace fm
