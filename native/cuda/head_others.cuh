// Rows of weight that take no part in a step (HeadOptions::moves_others).
#pragma once
#include "head_products.cuh"
#include "rows.cuh"

namespace fm {

// Whether a class is one of `classes` [count], ascending.
__device__ inline bool takes_part(const int32_t* classes, int64_t count, int64_t one) {
  int64_t first = 0;
  for (int64_t rest = count; rest > 0;) {
    const int64_t half = rest / 2;
    const bool above = classes[first + half] < one;
    first = above ? first + half + 1 : first;
    rest = above ? rest - half - 1 : half;
  }
  return first < count && classes[first] == one;
}

// A warp a row of weight, of so many: the optimizer's step of no gradient, where the row's class takes no part.
template <class T, class Update>
__global__ void other_rows_kernel(DeviceHead<T> head, WeightTask<T> task, int64_t rows) {
  const int64_t row = thread_of_grid() / kWarp;
  if (row >= rows || head.report->failed() || takes_part(head.classes, head.C, row / head.K)) return;
  const Update update = task.template update<Update>();
  for (int64_t d = threadIdx.x % kWarp; d < head.D; d += kWarp) {
    const int64_t at = row * head.D + d;
    T state[Update::kStates];
#pragma unroll
    for (int k = 0; k < Update::kStates; k++) state[k] = task.states[k][at];
    task.weight[at] = update(task.weight[at], T(0), state);
#pragma unroll
    for (int k = 0; k < Update::kStates; k++) task.states[k][at] = state[k];
  }
}

}  // namespace fm
