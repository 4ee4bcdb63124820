#include "tensor_map.h"

#include "../cuda_check.h"

namespace fm::hopper {
namespace {

// The driver's function, without a library of the driver's among those this one needs.
decltype(&cuTensorMapEncodeTiled) encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  FM_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
  FM_CHECK(device, found == cudaDriverEntryPointSuccess && function,
           "expected a driver that has cuTensorMapEncodeTiled, of CUDA 12.0 or newer: update the NVIDIA driver, or set "
           "FLASHMARGIN_CUDA_HEAD=plain");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

}  // namespace

CUtensorMap tensor_map(const Boxes& boxes) {
  static const auto encode = encoder();
  constexpr cuuint32_t steps[3] = {1, 1, 1};
  constexpr cuuint64_t bytes = sizeof(Bfloat16);
  const cuuint64_t extents[3] = {cuuint64_t(boxes.extents[0]), cuuint64_t(boxes.extents[1]),
                                 cuuint64_t(boxes.extents[2])};
  const cuuint64_t strides[2] = {cuuint64_t(boxes.strides[0]) * bytes, cuuint64_t(boxes.strides[1]) * bytes};
  CUtensorMap map;
  const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<Bfloat16*>(boxes.data), extents,
                                 strides, boxes.box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                 boxes.box[0] * bytes == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  FM_CHECK(device, result == CUDA_SUCCESS, "cuTensorMapEncodeTiled refused (error ", int(result), ") extents [",
           extents[0], ", ", extents[1], ", ", extents[2], "] with strides of ", strides[0], " and ", strides[1],
           " bytes and boxes of [", boxes.box[0], ", ", boxes.box[1], ", ", boxes.box[2], "]");
  return map;
}

CUtensorMap map_rows(const DeviceHead<float>& head, const BfloatChunk& chunk, uint32_t box_rows) {
  return tensor_map({chunk.embeddings, {chunk.depth, 1, head.N}, {chunk.depth, chunk.depth}, {64, 1, box_rows}});
}
CUtensorMap map_centers(const DeviceHead<float>& head, const BfloatChunk& chunk, uint32_t box_classes) {
  return tensor_map({chunk.weight,
                     {chunk.depth, head.K, classes_of(chunk)},
                     {chunk.depth, head.K * chunk.depth},
                     {64, 1, box_classes}});
}
CUtensorMap map_scores(const DeviceHead<float>& head, const BfloatChunk& chunk, uint32_t box_classes,
                       uint32_t box_rows) {
  return tensor_map({chunk.scores,
                     {classes_of(chunk), head.K, head.N},
                     {chunk.stride / head.K, chunk.stride},
                     {box_classes, 1, box_rows}});
}

}  // namespace fm::hopper
