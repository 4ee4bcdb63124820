#include "../common/methods.h"
#include "head_launch.h"
#include "head_rows.cuh"

namespace fm {

template <class T>
void run_targets(const Stream& stream, const DeviceHead<T>& head) {
  dispatch_method(head.plan.method, [&](auto tag) {
    using M = typename decltype(tag)::template Of<double>;
    launch(stream, unsigned(blocks_for(head.N, kRowThreads)), kRowThreads, target_kernel<T, M>, head);
    return 0;
  });
}

template void run_targets(const Stream&, const DeviceHead<float>&);
template void run_targets(const Stream&, const DeviceHead<double>&);

}  // namespace fm
