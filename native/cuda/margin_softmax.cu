// The margin head's calls on a GPU, but for its step (head_step.cu).
#include "head_call.cuh"

namespace fm {

MarginSoftmaxForward CudaBackend::margin_softmax_forward(const Tensor& features, const Tensor& weight,
                                                         const Tensor& labels, const OptionalTensor& margins,
                                                         const MarginParams& p, Precision precision) {
  const DeviceGuard guard(device_);
  return dispatch_precision(features.dtype, precision, [&](auto zero, auto operand) -> MarginSoftmaxForward {
    using T = decltype(zero);
    Head<T, decltype(operand)> head(*this, features, weight, labels, margins, p);
    head.prepare_sweeps(weight);
    head.add_up();
    MarginSoftmaxForward out{0, 0, empty(features.dtype, labels.shape), empty(features.dtype, labels.shape), 0, 0};
    RowOutputs<T> rows;
    rows.loss = out.row_loss.template data<T>();
    rows.lse = out.lse.template data<T>();
    head.store(rows);
    const HeadReport report = head.report();
    out.loss = report.loss;
    out.regularizer = report.regularizer;
    out.correct = report.correct;
    out.labelled = report.labelled;
    return out;
  });
}

MarginSoftmaxGradients CudaBackend::margin_softmax_backward(const Tensor& features, const Tensor& weight,
                                                            const Tensor& labels, const OptionalTensor& margins,
                                                            const Tensor& lse, double d_loss, const MarginParams& p,
                                                            Precision precision) {
  const DeviceGuard guard(device_);
  return dispatch_precision(features.dtype, precision, [&](auto zero, auto operand) -> MarginSoftmaxGradients {
    using T = decltype(zero);
    Head<T, decltype(operand)> head(*this, features, weight, labels, margins, p);
    check_shape("lse", lse, labels.shape);
    check_here("lse", lse);
    FM_CHECK(range, std::isfinite(d_loss), "expected a finite gradient of the loss, got ", d_loss);
    MarginSoftmaxGradients out{empty(features.dtype, features.shape), empty(features.dtype, weight.shape),
                               empty(features.dtype, labels.shape), 0, 0};
    head.prepare_sweeps(weight);
    head.load_lse(lse);
    head.set_gradient(d_loss);
    WeightTask<T> weights{};
    weights.project = p.project_weight_gradient;
    weights.d_weight = out.d_weight.template data<T>();
    head.sweep_gradients(weights, true);
    head.find_missing();
    head.set_gradient(d_loss);
    head.finish_features(d_loss, out.d_features);
    head.finish_weight(out.d_weight);
    RowOutputs<T> rows;
    rows.d_margin = out.d_margins.template data<T>();
    head.store(rows);
    const HeadReport report = head.report();
    out.d_scale = report.d_scale;
    out.d_bias = report.d_bias;
    return out;
  });
}

Tensor CudaBackend::target_cosines(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                   int64_t sub_centers) {
  const DeviceGuard guard(device_);
  return dispatch_float(features.dtype, [&](auto zero) -> Tensor {
    using T = decltype(zero);
    MarginParams plain;
    plain.sub_centers = int(sub_centers);
    Head<T> head(*this, features, weight, labels, std::nullopt, plain);
    Tensor out = empty(features.dtype, labels.shape);
    RowOutputs<T> rows;
    rows.cos = out.data<T>();
    head.store(rows);
    head.report(false);
    return out;
  });
}

Tensor CudaBackend::negative_lse(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                 const MarginParams& p, const OptionalTensor& classes) {
  const DeviceGuard guard(device_);
  return dispatch_float(features.dtype, [&](auto zero) -> Tensor {
    using T = decltype(zero);
    FM_CHECK(range, !is_binary(p.method), "expected a method with a softmax, got ", name_of(p.method));
    check_classes(classes, weight, p.sub_centers);
    const OptionalTensor taking_part = on_device(*this, classes);
    Head<T> head(*this, features, weight, labels, std::nullopt, p, taking_part);
    head.prepare_sweeps(weight);
    head.add_up();
    Tensor out = empty(features.dtype, labels.shape);
    RowOutputs<T> rows;
    rows.negatives = out.data<T>();
    head.store(rows);
    head.report(false);
    return out;
  });
}

HeadRows CudaBackend::inspect_head(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                   const OptionalTensor& margins, const MarginParams& p) {
  const DeviceGuard guard(device_);
  return dispatch_float(features.dtype, [&](auto zero) -> HeadRows {
    using T = decltype(zero);
    Head<T> head(*this, features, weight, labels, margins, p);
    head.prepare_sweeps(weight);
    head.inspect();
    const auto of_rows = [&] { return empty(features.dtype, labels.shape); };
    HeadRows out{of_rows(), of_rows(), of_rows(), of_rows(), empty(Dtype::int32, labels.shape)};
    RowOutputs<T> rows;
    rows.norm = out.norm.template data<T>();
    rows.cos = out.target_cos.template data<T>();
    rows.nearest = out.nearest_cos.template data<T>();
    rows.hard = out.hard.template data<T>();
    rows.center = out.center.template data<int32_t>();
    head.store(rows);
    head.report(false);
    return out;
  });
}

Tensor CudaBackend::margin_logits(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                  const OptionalTensor& margins, const MarginParams& p) {
  const DeviceGuard guard(device_);
  return dispatch_float(features.dtype, [&](auto zero) -> Tensor {
    using T = decltype(zero);
    Head<T> head(*this, features, weight, labels, margins, p);
    head.prepare_sweeps(weight);
    Tensor out = empty(features.dtype, {labels.dim(0), weight.dim(0) / p.sub_centers});
    head.write_logits(out);
    RowOutputs<T> rows;
    rows.logits = out.data<T>();
    head.store(rows);
    head.report(false);
    return out;
  });
}

}  // namespace fm
