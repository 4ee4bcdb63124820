// What the separate kernels and the operations on rows ask of their arguments, on whichever device: shapes here, and of
// values the limits and the words.
#pragma once
#include <cmath>
#include <limits>

#include "check.h"
#include "head_checks.h"

namespace fm {

// Sums of this many elements of that size stay within T's range.
template <class T>
constexpr double kLargestGradient = sizeof(T) == 4 ? 1e30 : 1e290;
constexpr const char* kGradientRange = "of at most 1e30 (float64: 1e290) in magnitude";
// What rounding may leave of a cosine.
constexpr double kLargestCosine = 1.001;
constexpr const char* kCosineRange = "in [-1, 1]";

template <class T>
FM_HD T saturated(double x) {
  constexpr double largest = kLargestNumber<T>;
  return T(x > largest ? largest : x < -largest ? -largest : x);
}

inline void check_rows(const char* what, const Tensor& x) {
  check_rank(what, x, 2);
  FM_CHECK(shape, x.dim(0) > 0 && x.dim(1) > 0, "expected ", what, " with two axes of at least 1, got ", x.shape);
}

// What is to be written: as `like`, where it is told.
inline void check_result(const char* what, const Tensor& x, const Shape& shape, const Tensor& like) {
  check_shape(what, x, shape);
  check_dtype(what, x, like.dtype);
  check_same_device(x, like);
}

// One number a row.
inline void check_of_rows(const char* what, const Tensor& x, const Tensor& like) {
  check_result(what, x, {like.dim(0)}, like);
}

// int32 [N]; their values are the device's to look at.
inline void check_labels_of(const Tensor& labels, const Tensor& of) {
  check_shape("labels", labels, {of.dim(0)});
  check_dtype("labels", labels, Dtype::int32);
  check_same_device(labels, of);
}

inline void check_d_loss(double d_loss) {
  FM_CHECK(range, std::fabs(d_loss) <= 1e30, "expected a gradient of the loss of at most 1e30 in magnitude, got ",
           d_loss);
}

// --- values that a device refused, in the words of all of them -----------------------------------------------------

// x: the first element of its row whose magnitude is not at most the limit, which `wanted` says.
template <class T>
[[noreturn]] void fail_element(const char* what, const char* wanted, T x, int64_t row, int64_t column) {
  FM_CHECK(non_finite, std::isfinite(x), "expected finite ", what, ", got ", x, " at row ", row, ", column ", column);
  fail(ErrorKind::range, "expected ", what, " ", wanted, ", got ", x, " at row ", row, ", column ", column);
}
template <class T>
[[noreturn]] void fail_row_norm(const char* what, T norm, int64_t row) {
  fail(ErrorKind::non_finite, "expected finite ", what, ", got a row of norm ", norm, " at row ", row);
}
template <class T>
FM_HD bool is_norm(T norm) {
  return norm >= 0 && norm <= kLargestNumber<T>;
}
template <class T>
[[noreturn]] void fail_norm(T norm, int64_t row) {
  fail(ErrorKind::range, "expected finite norms of at least 0, got ", norm, " at row ", row);
}
[[noreturn]] inline void fail_index(int32_t index, int64_t rows, int64_t at) {
  fail(ErrorKind::range, "expected index in [0, ", rows, "), got ", index, " at ", at);
}
[[noreturn]] inline void fail_sub_center(int32_t center, int64_t K, int64_t row, int64_t class_) {
  fail(ErrorKind::range, "expected centers in [0, ", K, "), got ", center, " at row ", row, ", class ", class_);
}

// --- an operation each -----------------------------------------------------------------------------------------------

inline void check_normalize_into(const Tensor& x, const Tensor& y, const Tensor& norm) {
  check_rows("x", x);
  check_result("out.y", y, x.shape, x);
  check_of_rows("out.norm", norm, x);
}
inline void check_normalize_backward_into(const std::optional<Tensor>& dy, const Tensor& y, const Tensor& norm,
                                          const std::optional<Tensor>& d_norm, const Tensor& dx) {
  check_rows("y", y);
  check_of_rows("norm", norm, y);
  if (dy) check_result("dy", *dy, y.shape, y);
  if (d_norm) check_of_rows("dNorm", *d_norm, y);
  check_result("out", dx, y.shape, y);
}

// Returns R.
inline int64_t check_cosine_logits(const Tensor& features, const Tensor& weight) {
  check_rows("features", features);
  check_rank("weight", weight, 2);
  FM_CHECK(shape, weight.dim(0) > 0 && weight.dim(1) == features.dim(1), "expected weight [R, ", features.dim(1),
           "], got ", weight.shape);
  check_dtype("weight", weight, features.dtype);
  check_same_device(weight, features);
  return weight.dim(0);
}

inline void check_sub_centers(int64_t K) {
  FM_CHECK(range, K >= 1 && K <= 1024, "expected subCenters in [1, 1024], got ", K);
}
inline void check_sub_center_max(const Tensor& cosines, int64_t K, const Tensor& largest, const Tensor& centers) {
  check_rows("cosines", cosines);
  check_sub_centers(K);
  FM_CHECK(shape, cosines.dim(1) % K == 0, "expected cosines [N, C * ", K, "] for ", K, " centers a class, got ",
           cosines.shape);
  const Shape of_classes{cosines.dim(0), cosines.dim(1) / K};
  check_result("out.cosines", largest, of_classes, cosines);
  check_shape("out.centers", centers, of_classes);
  check_dtype("out.centers", centers, Dtype::int32);
  check_same_device(centers, cosines);
}
inline void check_sub_center_max_backward(const Tensor& d_largest, const Tensor& centers, int64_t K,
                                          const Tensor& d_cosines) {
  check_rows("dCosines", d_largest);
  check_sub_centers(K);
  check_shape("centers", centers, d_largest.shape);
  check_dtype("centers", centers, Dtype::int32);
  check_same_device(centers, d_largest);
  check_result("out", d_cosines, {d_largest.dim(0), d_largest.dim(1) * K}, d_largest);
}

// cosines or logits [N, C] and labels [N].
inline void check_labelled_rows(const char* what, const Tensor& x, const Tensor& labels) {
  check_rows(what, x);
  check_labels_of(labels, x);
}

// Returns what of p the transform of cosines is about.
inline MarginParams check_margin_transform(const Tensor& cosines, const Tensor& labels,
                                           const std::optional<Tensor>& margins, const std::optional<Tensor>& norms,
                                           MarginParams p) {
  p.sub_centers = 1, p.label_smoothing = 0;
  check_margin(p);
  check_labelled_rows("cosines", cosines, labels);
  const Quality quality = quality_of(p.method);
  if (margins) {
    check_of_rows("margins", *margins, cosines);
    FM_CHECK(range, quality == Quality::margin, "expected no margins of rows with ", name_of(p.method));
  }
  FM_CHECK(range, norms || (quality != Quality::norm && !p.scale_by_norm), "expected norms [", cosines.dim(0),
           "], which ", quality == Quality::norm ? name_of(p.method) : "a scale by the feature's norm",
           " reads, got none");
  if (norms) check_of_rows("norms", *norms, cosines);
  return p;
}

inline MarginParams check_curricular(double t, double margin) {
  MarginParams p;
  p.method = Method::arcface;
  p.negatives = Negatives::curricular;
  p.t = t;
  p.margin = margin;
  p.scale = 1;
  check_margin(p);
  return p;
}

inline void check_softmax_cross_entropy(const Tensor& logits, const Tensor& labels, double smoothing) {
  check_labelled_rows("logits", logits, labels);
  FM_CHECK(range, smoothing >= 0 && smoothing < 1, "expected labelSmoothing in [0, 1), got ", smoothing);
}
inline void check_binary_cross_entropy(const Tensor& logits, const Tensor& labels, double positive, double negative) {
  check_labelled_rows("logits", logits, labels);
  FM_CHECK(range, positive >= 0 && negative >= 0 && positive + negative <= 1e6,
           "expected weights of at least 0, and 1e6 together at the most, got ", positive, " and ", negative);
}
inline void check_norm_regularizer(const Tensor& norms, const Tensor& labels, const MarginParams& p) {
  check_margin(p);
  check_rank("norms", norms, 1);
  FM_CHECK(shape, norms.dim(0) > 0, "expected norms [N] with N of at least 1, got ", norms.shape);
  check_labels_of(labels, norms);
}

inline void check_softmax(const Tensor& x) {
  check_rank("x", x, 2);
  FM_CHECK(shape, x.dim(1) >= 1, "expected rows of at least one element, got ", x.shape);
}
inline void check_gather(const Tensor& x, const Tensor& index) {
  check_rank("x", x, 2);
  check_same_device(x, index);
  check_rank("index", index, 1);
  check_dtype("index", index, Dtype::int32);
}
inline void check_scatter_add(const Tensor& into, const Tensor& index, const Tensor& x) {
  check_rank("into", into, 2);
  check_same_device(into, index);
  check_same_device(into, x);
  check_dtype("x", x, into.dtype);
  check_shape("x", x, {index.numel(), into.dim(1)});
  FM_CHECK(range, overlap_of(into, x) == Overlap::none, "expected x in other memory than into");
  check_rank("index", index, 1);
  check_dtype("index", index, Dtype::int32);
}
inline void check_weighted_sum(const Tensor& weights, const Tensor& x) {
  check_rank("weights", weights, 2);
  check_same_device(weights, x);
  check_dtype("x", x, weights.dtype);
  check_rank("x", x, 3);
  FM_CHECK(shape, x.dim(0) == weights.dim(0) && x.dim(1) == weights.dim(1), "expected x [", weights.dim(0), ", ",
           weights.dim(1), ", D] as weights, got ", x.shape);
}
inline void check_weighted_sum_backward(const Tensor& dy, const Tensor& weights, const Tensor& x) {
  check_weighted_sum(weights, x);
  check_same_device(dy, x);
  check_dtype("dy", dy, x.dtype);
  check_shape("dy", dy, {x.dim(0), x.dim(2)});
}
inline void check_squared_distances_backward(const Tensor& dy, const Tensor& x) {
  check_rank("x", x, 2);
  check_same_device(dy, x);
  check_dtype("dy", dy, x.dtype);
  check_shape("dy", dy, {x.dim(0), x.dim(0)});
}
// Rows of float32, and how many of the gallery are wanted for each query.
inline void check_nearest(int64_t gallery, int64_t d, int64_t k) {
  FM_CHECK(range, k >= 1 && k <= gallery, "expected k in [1, ", gallery, "] (the gallery's rows), got ", k);
  FM_CHECK(range, d >= 1 && gallery <= std::numeric_limits<int32_t>::max(),
           "expected d of at least 1 and fewer than 2^31 rows, got d ", d, " and ", gallery, " rows");
}
inline void check_nearest_rows(const Tensor& queries, const Tensor& gallery, int64_t k) {
  check_rank("queries", queries, 2);
  check_dtype("queries", queries, Dtype::float32);
  check_dtype("gallery", gallery, Dtype::float32);
  check_same_device(queries, gallery);
  FM_CHECK(shape, gallery.shape.size() == 2 && gallery.dim(1) == queries.dim(1), "expected gallery [g, ",
           queries.dim(1), "], got ", gallery.shape);
  check_nearest(gallery.dim(0), queries.dim(1), k);
}

}  // namespace fm
