// The sweeps of float64 tensors: a file of their own, because compiling them takes longest.
#include <atomic>

#include "allocator.h"
#include "class_sweep_kinds.h"
#include "parallel.h"
#define FM_KERNELS "class_sweep.inl"
#include "for_each_isa.h"

namespace fm {

void sweep_classes(SweepKind kind, ClassSweep<double>& s, const MarginParams& p) {
  dispatch_sweep<double, double>(kind, p, s.has_extras(), [&](auto config, const auto& negative) {
    FM_KERNEL(class_sweep<decltype(config)>)(s, negative);
  });
}

int64_t kept_bytes(const ClassSweep<double>& s, bool in_steps) { return FM_KERNEL(kept_bytes<double>)(s, in_steps); }

}  // namespace fm
