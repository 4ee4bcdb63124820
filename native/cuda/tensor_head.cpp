#include "tensor_head.h"

namespace fm {
namespace {

std::string why_not(const HeadCase& of) {
  if (of.capability < 80)
    return "tensor cores for bfloat16 need compute capability 8.0, the device has " +
           std::to_string(of.capability / 10) + "." + std::to_string(of.capability % 10);
  if (of.K > TensorTile::kMostCenters)
    return "its tiles hold at most " + std::to_string(TensorTile::kMostCenters) + " centers of a class, not " +
           std::to_string(of.K);
  return "";
}

int64_t classes_a_tile(int64_t K) { return TensorTile::kWarpColumns / 8 / K * 16; }

}  // namespace

const Bfloat16Path kTensorPath{"tensor",
                               "tensor cores (mma.sync)",
                               why_not,
                               TensorTile::kRows,
                               TensorTile::kColumns,
                               1024,
                               256,
                               classes_a_tile,
                               [](int64_t) { return false; },
                               nullptr,
                               run_tensor_sweep,
                               run_tensor_features,
                               run_tensor_weights};

}  // namespace fm
