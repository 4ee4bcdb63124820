#include "../common/methods.h"
#include "head_launch.h"
#include "head_sweep.cuh"

namespace fm {

template <class T, class E>
void run_sweep(const Stream& stream, const DeviceHead<T>& head, const HeadChunk<T, E>& chunk, const SweepTask<T>& task,
               bool plain) {
  const dim3 blocks(unsigned(blocks_for(head.N, Tile<T>::kRows)), unsigned(head.groups));
  dispatch_negative(head, plain, [&](const auto& negative) {
    launch(stream, blocks, Tile<T>::kThreads, class_sweep_kernel<T, E, std::decay_t<decltype(negative)>>, head, chunk,
           task);
  });
}

#define FM_SWEEP(T, E) \
  template void run_sweep(const Stream&, const DeviceHead<T>&, const HeadChunk<T, E>&, const SweepTask<T>&, bool)
FM_SWEEP(float, float);
FM_SWEEP(double, double);
FM_SWEEP(float, Bfloat16);
#undef FM_SWEEP

}  // namespace fm
