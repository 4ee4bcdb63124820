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
                                    double epsilon) override;
  BatchNormForward batch_norm_eval(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                   const Tensor& running_mean, const Tensor& running_var, double epsilon) override;
  BatchNormGradients batch_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& mean,
                                         const Tensor& inv_std, bool batch_statistics) override;
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
  Tensor dropout(const Tensor& x, double rate, double seed) override;
  Tensor image_to_float(const Tensor& x) override;
  Tensor global_avg_pool_forward(const Tensor& x) override;
  Tensor global_avg_pool_backward(const Tensor& dy, const Shape& x_shape) override;
  Tensor flatten_forward(const Tensor& x) override;
  Tensor flatten_backward(const Tensor& dy, const Shape& x_shape) override;
  void sgd_step(const Tensor& weight, const Tensor& velocity, const Tensor& gradient, SgdParams sgd) override;
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
                                              const OptionalTensor& margins, const MarginParams& p) override;
  MarginSoftmaxGradients margin_softmax_backward(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                                 const OptionalTensor& margins, const Tensor& lse, double d_loss,
                                                 const MarginParams& p) override;
  HeadStep head_step(const Tensor& features, const Tensor& weight, const Tensor& velocity, const Tensor& labels,
                     const OptionalTensor& margins, const MarginParams& p, SgdParams sgd) override;
  Tensor target_cosines(const Tensor& features, const Tensor& weight, const Tensor& labels,
                        int64_t sub_centers) override;
  Tensor negative_lse(const Tensor& features, const Tensor& weight, const Tensor& labels,
                      const MarginParams& p) override;
  HeadRows inspect_head(const Tensor& features, const Tensor& weight, const Tensor& labels,
                        const OptionalTensor& margins, const MarginParams& p) override;
  Tensor margin_logits(const Tensor& features, const Tensor& weight, const Tensor& labels,
                       const OptionalTensor& margins, const MarginParams& p) override;
};

template <class T>
Tensor cpu_empty(const Shape& shape) {
  return cpu_backend().empty(DtypeOf<T>::value, shape);
}

}  // namespace fm
