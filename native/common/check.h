// Checks that several operations share.
#pragma once
#include "tensor.h"

namespace fm {

// Same device, dtype and shape.
inline void check_alike(const char* a_name, const Tensor& a, const char* b_name, const Tensor& b) {
  check_same_device(a, b);
  FM_CHECK(type, a.dtype == b.dtype, "expected ", a_name, " and ", b_name, " of one dtype, got ", name_of(a.dtype),
           " and ", name_of(b.dtype));
  FM_CHECK(shape, a.shape == b.shape, "expected ", b_name, " ", a.shape, " as ", a_name, ", got ", b.shape);
}
// One value a channel, the last axis of x, in the precision that goes with x's.
inline void check_channels(const char* name, const Tensor& x, const Tensor& parameter) {
  check_same_device(x, parameter);
  FM_CHECK(shape, !x.shape.empty(), "expected x with at least one axis, got ", x.shape);
  check_dtype(name, parameter, parameter_dtype(x.dtype));
  check_shape(name, parameter, {x.shape.back()});
}

inline void check_batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                             const Tensor& running_var, double epsilon, const OptionalTensor& slope,
                             const OptionalTensor& shortcut) {
  check_channels("weight", x, weight);
  check_channels("bias", x, bias);
  check_channels("running_mean", x, running_mean);
  check_channels("running_var", x, running_var);
  FM_CHECK(range, epsilon >= 0, "expected epsilon of at least 0, got ", epsilon);
  FM_CHECK(range, !slope || !shortcut, "expected a slope or a shortcut, got both");
  if (slope) check_channels("slope", x, *slope);
  if (shortcut) check_alike("x", x, "shortcut", *shortcut);
}
inline void check_batch_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, const Tensor& bias,
                                      const Tensor& mean, const Tensor& inv_std, const OptionalTensor& slope) {
  check_alike("x", x, "dy", dy);
  check_channels("weight", x, weight);
  check_channels("bias", x, bias);
  check_channels("mean", x, mean);
  check_channels("inv_std", x, inv_std);
  if (slope) check_channels("slope", x, *slope);
}

}  // namespace fm
