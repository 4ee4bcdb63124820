#include "sweep.inl"

namespace fm::hopper {

template void run_totals(const Stream&, const DeviceHead<float>&, const BfloatChunk&,
                         const Margined<PlainNegative<float>>&, bool, Bfloat16*);
template void run_terms(const Stream&, const DeviceHead<float>&, const BfloatChunk&,
                        const Margined<PlainNegative<float>>&, Bfloat16*);
template void run_scores(const Stream&, const DeviceHead<float>&, const BfloatChunk&,
                         const Margined<PlainNegative<float>>&);

}  // namespace fm::hopper
