#include "../common/methods.h"
#include "head_launch.h"
#include "head_sweep.cuh"

namespace fm {

template <class T>
void run_sweep(const Stream& stream, const DeviceHead<T>& head, const SweepTask<T>& task, bool plain) {
  const dim3 blocks(unsigned(blocks_for(head.N, Tile<T>::kRows)), unsigned(head.groups));
  const auto go = [&](const auto& negative) {
    launch(stream, blocks, Tile<T>::kThreads, class_sweep_kernel<T, std::decay_t<decltype(negative)>>, head, task,
           negative);
  };
  if (plain) return go(PlainNegative<T>{});
  dispatch_method(head.p.method, [&](auto tag) {
    using M = typename decltype(tag)::template Of<T>;
    if constexpr (M::binary) go(M::negatives(head.p));
    else if (head.p.negatives == Negatives::plain) go(PlainNegative<T>{});
    else go(ReweightedNegative<T>(head.p));
    return 0;
  });
}

template void run_sweep(const Stream&, const DeviceHead<float>&, const SweepTask<float>&, bool);
template void run_sweep(const Stream&, const DeviceHead<double>&, const SweepTask<double>&, bool);

}  // namespace fm
