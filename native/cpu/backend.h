// The CPU's table of operations: each method is in the file of its name.
#pragma once
#include "../common/backend.h"

namespace fm {

class CpuBackend final : public Backend {
 public:
  const char* name() const override { return "cpu"; }

  // backend.cpp
  Tensor empty(Dtype dtype, const Shape& shape) override;
  void copy_from_host(const Tensor& to, const void* from, size_t bytes) override;
  void copy_to_host(void* to, const Tensor& from, size_t bytes) override;

  // --- normalize, gemm, conv2d, batch_norm, elementwise, pool, optimizer_step ---
  void fill(const Tensor& x, double value) override;
  Tensor cast(const Tensor& x, Dtype dtype) override;
  Normalized normalize_forward(const Tensor& x) override;
  Tensor normalize_backward(const Tensor& dy, const Tensor& y, const Tensor& norm) override;
  Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b) override;
  Tensor add_bias(const Tensor& x, const Tensor& bias) override;
  Tensor sum_rows(const Tensor& x) override;
  Tensor conv2d_forward(const Tensor& x, const Tensor& weight, ConvParams p) override;
  Tensor conv2d_backward_data(const Tensor& dy, const Tensor& weight, const Shape& x_shape, ConvParams p) override;
  Tensor conv2d_backward_weight(const Tensor& dy, const Tensor& x, const Shape& weight_shape, ConvParams p) override;
  BatchNormForward batch_norm_train(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                    const Tensor& running_mean, const Tensor& running_var, double momentum,
                                    double epsilon, const OptionalTensor& slope,
                                    const OptionalTensor& shortcut) override;
  BatchNormForward batch_norm_eval(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                   const Tensor& running_mean, const Tensor& running_var, double epsilon,
                                   const OptionalTensor& slope, const OptionalTensor& shortcut) override;
  BatchNormGradients batch_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& bias,
                                         const Tensor& mean, const Tensor& inv_std, bool batch_statistics,
                                         const OptionalTensor& slope) override;
  Tensor prelu_forward(const Tensor& x, const Tensor& slope) override;
  PreluGradients prelu_backward(const Tensor& dy, const Tensor& x, const Tensor& slope) override;
  Tensor relu_forward(const Tensor& x) override;
  Tensor relu_backward(const Tensor& dy, const Tensor& y) override;
  Tensor add(const Tensor& a, const Tensor& b) override;
  Tensor multiply(const Tensor& a, const Tensor& b) override;
  void accumulate(const Tensor& into, const Tensor& x) override;
  Tensor scale(const Tensor& x, double factor) override;
  Tensor affine(const Tensor& x, double factor, double offset) override;
  Tensor sqrt_forward(const Tensor& x, double epsilon) override;
  Tensor sqrt_backward(const Tensor& dy, const Tensor& y) override;
  double sum(const Tensor& x) override;
  double dot(const Tensor& a, const Tensor& b) override;
  double sum_of_squares(const std::vector<Tensor>& xs) override;
  Tensor dropout(const Tensor& x, double rate, double seed) override;
  Tensor image_to_float(const Tensor& x) override;
  Tensor global_avg_pool_forward(const Tensor& x) override;
  Tensor global_avg_pool_backward(const Tensor& dy, const Shape& x_shape) override;
  Tensor flatten_forward(const Tensor& x) override;
  Tensor flatten_backward(const Tensor& dy, const Shape& x_shape) override;
  void optimizer_step(const Tensor& weight, const OptimizerState& state, const Tensor& gradient,
                      const OptimizerParams& p) override;
  bool all_finite(const Tensor& x) override;

  // --- softmax, gather, weighted_sum, distances ---
  Tensor softmax_forward(const Tensor& x) override;
  Tensor softmax_backward(const Tensor& dy, const Tensor& y) override;
  Tensor log_softmax_forward(const Tensor& x) override;
  Tensor log_softmax_backward(const Tensor& dy, const Tensor& y) override;
  Tensor gather_rows(const Tensor& x, const Tensor& index) override;
  void scatter_add_rows(const Tensor& into, const Tensor& index, const Tensor& x) override;
  Tensor weighted_sum_forward(const Tensor& weights, const Tensor& x) override;
  WeightedSumGradients weighted_sum_backward(const Tensor& dy, const Tensor& weights, const Tensor& x) override;
  Tensor squared_distances_forward(const Tensor& x) override;
  Tensor squared_distances_backward(const Tensor& dy, const Tensor& x) override;

  // --- margin_softmax ---
  MarginSoftmaxForward margin_softmax_forward(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                              const OptionalTensor& margins, const MarginParams& p,
                                              Precision precision) override;
  MarginSoftmaxGradients margin_softmax_backward(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                                 const OptionalTensor& margins, const Tensor& lse, double d_loss,
                                                 const MarginParams& p, Precision precision) override;
  HeadStep head_step(const Tensor& features, const Tensor& weight, const OptimizerState& state, const Tensor& labels,
                     const OptionalTensor& margins, const MarginParams& p, const OptimizerParams& optimizer,
                     HeadOptions options) override;
  Tensor target_cosines(const Tensor& features, const Tensor& weight, const Tensor& labels,
                        int64_t sub_centers) override;
  Tensor negative_lse(const Tensor& features, const Tensor& weight, const Tensor& labels, const MarginParams& p,
                      const OptionalTensor& classes) override;
  NegativeSums negative_sums(const Tensor& features, const Tensor& weight, const Tensor& labels, const MarginParams& p,
                             HeadOptions options) override;
  HeadRows inspect_head(const Tensor& features, const Tensor& weight, const Tensor& labels,
                        const OptionalTensor& margins, const MarginParams& p) override;
  Tensor margin_logits(const Tensor& features, const Tensor& weight, const Tensor& labels,
                       const OptionalTensor& margins, const MarginParams& p) override;

  // --- search ---
  Neighbours nearest(const Tensor& queries, const Tensor& gallery, int64_t k) override;

  // --- separate kernels ---
  void normalize_into(const Tensor& x, const Tensor& y, const Tensor& norm) override;
  void normalize_backward_into(const OptionalTensor& dy, const Tensor& y, const Tensor& norm,
                               const OptionalTensor& d_norm, const Tensor& dx) override;
  void cosine_logits_forward(const Tensor& features, const Tensor& weight, const Tensor& cosines) override;
  void cosine_logits_backward(const Tensor& d_cosines, const Tensor& features, const Tensor& weight, bool project,
                              const OptionalTensor& d_features, const OptionalTensor& d_weight) override;
  void sub_center_max_forward(const Tensor& cosines, int64_t sub_centers, const Tensor& largest,
                              const Tensor& centers) override;
  void sub_center_max_backward(const Tensor& d_largest, const Tensor& centers, int64_t sub_centers,
                               const Tensor& d_cosines) override;
  void margin_transform_forward(const Tensor& cosines, const Tensor& labels, const OptionalTensor& margins,
                                const OptionalTensor& norms, const MarginParams& p, const Tensor& logits) override;
  MarginTransformSums margin_transform_backward(const Tensor& d_logits, const Tensor& cosines, const Tensor& labels,
                                                const OptionalTensor& margins, const OptionalTensor& norms,
                                                const MarginParams& p, const Tensor& d_cosines,
                                                const OptionalTensor& d_margins,
                                                const OptionalTensor& d_norms) override;
  void curricular_reweight_forward(const Tensor& cosines, const Tensor& labels, double t, double margin,
                                   const Tensor& reweighted) override;
  void curricular_reweight_backward(const Tensor& d_reweighted, const Tensor& cosines, const Tensor& labels, double t,
                                    double margin, const Tensor& d_cosines) override;
  double softmax_cross_entropy_forward(const Tensor& logits, const Tensor& labels, double label_smoothing,
                                       const Tensor& row_loss, const Tensor& lse) override;
  void softmax_cross_entropy_backward(const Tensor& logits, const Tensor& labels, double label_smoothing, double d_loss,
                                      const Tensor& d_logits) override;
  double binary_cross_entropy_forward(const Tensor& logits, const Tensor& labels, double positive_weight,
                                      double negative_weight, const Tensor& row_loss) override;
  void binary_cross_entropy_backward(const Tensor& logits, const Tensor& labels, double positive_weight,
                                     double negative_weight, double d_loss, const Tensor& d_logits) override;
  double norm_regularizer_forward(const Tensor& norms, const Tensor& labels, const MarginParams& p) override;
  void norm_regularizer_backward(const Tensor& norms, const Tensor& labels, const MarginParams& p, double d_loss,
                                 const Tensor& d_norms) override;
};

template <class T>
Tensor cpu_empty(const Shape& shape) {
  return cpu_backend().empty(DtypeOf<T>::value, shape);
}

}  // namespace fm
