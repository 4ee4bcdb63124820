#include "sweep.inl"

namespace fm::hopper {

template void run_totals(const Stream&, const DeviceHead<float>&, const BfloatChunk&,
                         const Margined<PlainNegative<float>>&, bool);
template void run_terms(const Stream&, const DeviceHead<float>&, const BfloatChunk&,
                        const Margined<PlainNegative<float>>&);
template void run_scores(const Stream&, const DeviceHead<float>&, const BfloatChunk&,
                         const Margined<PlainNegative<float>>&);

}  // namespace fm::hopper
