#include "sweep.inl"

namespace fm::hopper {

template void run_totals(const Stream&, const DeviceHead<float>&, const BfloatChunk&,
                         const Margined<ReweightedNegative<float>>&, bool, Bfloat16*);
template void run_terms(const Stream&, const DeviceHead<float>&, const BfloatChunk&,
                        const Margined<ReweightedNegative<float>>&, Bfloat16*);
template void run_scores(const Stream&, const DeviceHead<float>&, const BfloatChunk&,
                         const Margined<ReweightedNegative<float>>&);

}  // namespace fm::hopper
