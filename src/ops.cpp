#include "../native/cpu/class_margins.h"
#include "../native/cpu/class_sample.h"
#include "bind.h"

namespace fm {

FM_RESULT(ClassSample, classes, labels)

void bind_ops(Napi::Object exports) {
  bind(exports, "fill", &Backend::fill);
  bind(exports, "cast", &Backend::cast);
  bind(exports, "normalizeForward", &Backend::normalize_forward);
  bind(exports, "normalizeBackward", &Backend::normalize_backward);
  bind(exports, "matmul", &Backend::matmul);
  bind(exports, "addBias", &Backend::add_bias);
  bind(exports, "sumRows", &Backend::sum_rows);
  bind(exports, "conv2dForward", &Backend::conv2d_forward);
  bind(exports, "conv2dBackwardData", &Backend::conv2d_backward_data);
  bind(exports, "conv2dBackwardWeight", &Backend::conv2d_backward_weight);
  bind(exports, "batchNormTrain", &Backend::batch_norm_train);
  bind(exports, "batchNormEval", &Backend::batch_norm_eval);
  bind(exports, "batchNormBackward", &Backend::batch_norm_backward);
  bind(exports, "preluForward", &Backend::prelu_forward);
  bind(exports, "preluBackward", &Backend::prelu_backward);
  bind(exports, "reluForward", &Backend::relu_forward);
  bind(exports, "reluBackward", &Backend::relu_backward);
  bind(exports, "add", &Backend::add);
  bind(exports, "multiply", &Backend::multiply);
  bind(exports, "accumulate", &Backend::accumulate);
  bind(exports, "scale", &Backend::scale);
  bind(exports, "affine", &Backend::affine);
  bind(exports, "sqrtForward", &Backend::sqrt_forward);
  bind(exports, "sqrtBackward", &Backend::sqrt_backward);
  bind(exports, "sum", &Backend::sum);
  bind(exports, "dot", &Backend::dot);
  bind(exports, "sumOfSquares", &Backend::sum_of_squares);
  bind(exports, "dropout", &Backend::dropout);
  bind(exports, "imageToFloat", &Backend::image_to_float);
  bind(exports, "globalAvgPoolForward", &Backend::global_avg_pool_forward);
  bind(exports, "globalAvgPoolBackward", &Backend::global_avg_pool_backward);
  bind(exports, "flattenForward", &Backend::flatten_forward);
  bind(exports, "flattenBackward", &Backend::flatten_backward);
  bind(exports, "softmaxForward", &Backend::softmax_forward);
  bind(exports, "softmaxBackward", &Backend::softmax_backward);
  bind(exports, "logSoftmaxForward", &Backend::log_softmax_forward);
  bind(exports, "logSoftmaxBackward", &Backend::log_softmax_backward);
  bind_both(exports, "gatherRows", &Backend::gather_rows);
  bind(exports, "scatterAddRows", &Backend::scatter_add_rows);
  bind(exports, "weightedSumForward", &Backend::weighted_sum_forward);
  bind(exports, "weightedSumBackward", &Backend::weighted_sum_backward);
  bind(exports, "squaredDistancesForward", &Backend::squared_distances_forward);
  bind(exports, "squaredDistancesBackward", &Backend::squared_distances_backward);
  bind(exports, "nearest", &Backend::nearest);
  bind(exports, "marginSoftmaxForward", &Backend::margin_softmax_forward);
  bind(exports, "marginSoftmaxBackward", &Backend::margin_softmax_backward);
  bind(exports, "checkMargin", &check_margin);
  bind(exports, "targetCosines", &Backend::target_cosines);
  bind_async(exports, "targetCosinesAsync", &Backend::target_cosines);
  bind(exports, "negativeLse", &Backend::negative_lse);
  bind(exports, "negativeSumsSync", &Backend::negative_sums);
  bind_async(exports, "negativeSums", &Backend::negative_sums);
  bind_async(exports, "inspectHead", &Backend::inspect_head);
  bind(exports, "marginLogits", &Backend::margin_logits);
  bind(exports, "headStepSync", &Backend::head_step);
  bind_async(exports, "headStep", &Backend::head_step);
  bind_both(exports, "normalizeInto", &Backend::normalize_into);
  bind_both(exports, "normalizeBackwardInto", &Backend::normalize_backward_into);
  bind_both(exports, "cosineLogitsForward", &Backend::cosine_logits_forward);
  bind_both(exports, "cosineLogitsBackward", &Backend::cosine_logits_backward);
  bind_both(exports, "subCenterMaxForward", &Backend::sub_center_max_forward);
  bind_both(exports, "subCenterMaxBackward", &Backend::sub_center_max_backward);
  bind_both(exports, "marginTransformForward", &Backend::margin_transform_forward);
  bind_both(exports, "marginTransformBackward", &Backend::margin_transform_backward);
  bind_both(exports, "curricularReweightForward", &Backend::curricular_reweight_forward);
  bind_both(exports, "curricularReweightBackward", &Backend::curricular_reweight_backward);
  bind_both(exports, "softmaxCrossEntropyForward", &Backend::softmax_cross_entropy_forward);
  bind_both(exports, "softmaxCrossEntropyBackward", &Backend::softmax_cross_entropy_backward);
  bind_both(exports, "binaryCrossEntropyForward", &Backend::binary_cross_entropy_forward);
  bind_both(exports, "binaryCrossEntropyBackward", &Backend::binary_cross_entropy_backward);
  bind_both(exports, "normRegularizerForward", &Backend::norm_regularizer_forward);
  bind_both(exports, "normRegularizerBackward", &Backend::norm_regularizer_backward);
  bind(exports, "optimizerStep", &Backend::optimizer_step);
  bind_both(exports, "classMarginsStep", &class_margins_step);
  bind_both(exports, "sampleClasses", &sample_classes);
  bind(exports, "allFinite", &Backend::all_finite);
}

}  // namespace fm
