// What the margin head refuses, in the same words on every device.
#pragma once
#include <optional>

#include "methods.h"
#include "tensor.h"

namespace fm {

// Σ f(i), in eight sums side by side: each waits for the one before it alone.
template <class F>
inline double sum_of(int64_t n, F&& f) {
  double parts[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int k = 0; k < 8; k++) parts[k] += f(i + k);
  for (; i < n; i++) parts[i % 8] += f(i);
  return ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
}

// ‖x‖ without overflow or underflow; not finite if an element is not.
template <class T>
inline double exact_norm(const T* x, int64_t n) {
  const double squares = sum_of(n, [x](int64_t i) { return double(x[i]) * double(x[i]); });
  // Of float, a double holds every square.
  if (sizeof(T) == 4 || (squares > 1e-280 && squares < 1e300)) return __builtin_sqrt(squares);
  double largest = 0;
  for (int64_t i = 0; i < n; i++) {
    const double a = x[i] < 0 ? -double(x[i]) : double(x[i]);
    if (!(a <= __DBL_MAX__)) return a;  // NaN or infinite
    if (a > largest) largest = a;
  }
  if (largest == 0) return 0;
  const double unit = largest < 1e-300 ? 1e-300 : largest;
  return unit * __builtin_sqrt(sum_of(n, [x, unit](int64_t i) { return (x[i] / unit) * (x[i] / unit); }));
}

// Shapes and dtypes; returns N.
inline int64_t check_head(const Tensor& features, const Tensor& weight, const Tensor& labels,
                          const std::optional<Tensor>& margins, const MarginParams& p) {
  check_margin(p);
  const int64_t K = p.sub_centers;
  check_rank("features", features, 2);
  check_rank("weight", weight, 2);
  FM_CHECK(shape, features.dim(0) > 0 && features.dim(1) > 0, "expected features [N, D] with N, D of at least 1, got ",
           features.shape);
  FM_CHECK(shape, weight.dim(0) > 0 && weight.dim(1) == features.dim(1), "expected weight [C, ", features.dim(1),
           "], got ", weight.shape);
  FM_CHECK(shape, weight.dim(0) % K == 0, "expected weight [C * ", K, ", ", features.dim(1), "] for ", K,
           " centers a class, got ", weight.shape);
  check_dtype("weight", weight, features.dtype);
  check_shape("labels", labels, {features.dim(0)});
  check_dtype("labels", labels, Dtype::int32);
  if (!margins) return features.dim(0);
  check_shape("margins", *margins, {features.dim(0)});
  check_dtype("margins", *margins, features.dtype);
  FM_CHECK(range, quality_of(p.method) == Quality::margin, "expected no margins of rows with ", name_of(p.method));
  return features.dim(0);
}

// Of HeadOptions::classes, in memory of the host; returns the classes of a step.
inline int64_t check_classes(const std::optional<Tensor>& classes, const Tensor& weight, int64_t K) {
  const int64_t C = weight.dim(0) / K;
  if (!classes) return C;
  check_rank("classes", *classes, 1);
  check_dtype("classes", *classes, Dtype::int32);
  FM_CHECK(type, classes->device().is_cpu(), "expected classes on cpu");
  FM_CHECK(shape, classes->numel() > 0, "expected at least one class, got none");
  const int32_t* const each = classes->data<int32_t>();
  int64_t before = -1;
  for (int64_t i = 0; i < classes->numel(); before = each[i++])
    FM_CHECK(range, each[i] > before && each[i] < C, "expected ascending classes in [0, ", C, "), got ", each[i],
             " after ", before, " at ", i);
  return classes->numel();
}

template <class T>
FM_HD bool is_margin(T margin) {
  return std::fabs(margin) <= T(kPi) * T(1.000001);  // NaN is none
}

[[noreturn]] inline void fail_label(int64_t label, int64_t C, int64_t row) {
  fail(ErrorKind::range, "expected labels in [0, ", C, ") or -1, got ", label, " at row ", row);
}
template <class T>
[[noreturn]] void fail_margin(T margin, int64_t row) {
  fail(ErrorKind::range, "expected margins in [-pi, pi], got ", margin, " at row ", row);
}
[[noreturn]] inline void fail_feature(double norm, int64_t row) {
  fail(ErrorKind::non_finite, "expected finite features, got a row of norm ", norm, " at row ", row);
}
// center: a row of weight.
[[noreturn]] inline void fail_center(double norm, int64_t center, int64_t K) {
  if (K == 1) fail(ErrorKind::non_finite, "expected finite weights, got a row of norm ", norm, " at class ", center);
  fail(ErrorKind::non_finite, "expected finite weights, got a row of norm ", norm, " at class ", center / K,
       ", center ", center % K);
}
template <class T>
[[noreturn]] void fail_lse(T lse, int64_t row) {
  fail(ErrorKind::range, "expected a finite lse, got ", lse, " at row ", row);
}

}  // namespace fm
