// The head's larger kernels, a translation unit a family; each is there for float and double.
#pragma once
#include "head.h"
#include "launch.h"

namespace fm {

template <class T>
struct SweepTask;
template <class T>
struct WeightTask;

// class_sweep.cu.  plain: whatever the method and its negatives are, φ is the cosine.
template <class T>
void run_sweep(const Stream& stream, const DeviceHead<T>& head, const SweepTask<T>& task, bool plain = false);

// head_products.cu
template <class T>
void run_features_product(const Stream& stream, const DeviceHead<T>& head, const T* scores, int64_t first_center,
                          int64_t columns, T* slabs, int64_t splits);
template <class T>
void run_weights_product(const Stream& stream, const DeviceHead<T>& head, const WeightTask<T>& task);

// head_targets.cu
template <class T>
void run_targets(const Stream& stream, const DeviceHead<T>& head);

}  // namespace fm
