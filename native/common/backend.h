// What a device does.  One list of operations; native/cpu and native/cuda implement it, a file an operation.
// An operation that a device lacks throws an error naming both.
//
// Letters: N batch rows, C classes or channels, D embedding size, H × W image.  Images are [N, H, W, C].
// "float" below is float32 or float64, the same for all tensors of a call.  Convolution, matrices, batch norm, elementwise
// operations, sums, pooling and flattening take bfloat16 activations too, on CUDA: their parameters (weight, bias, slope),
// statistics and the gradients of these are float32 then, but for matmul, which rounds.
#pragma once
#include <string>

#include "margin.h"
#include "optimizers.h"
#include "tensor.h"

namespace fm {

// --- results with names ---------------------------------------------------------------------------------------

struct Normalized {
  Tensor y, norm;
};  // [N, D], [N]
struct BatchNormForward {
  Tensor y, mean, inv_std;
};  // x's shape, [C], [C]
struct BatchNormGradients {
  Tensor dx, d_weight, d_bias;
  OptionalTensor d_slope;
};  // x's shape, [C], [C], [C]
struct PreluGradients {
  Tensor dx, d_slope;
};  // x's shape, [C]
struct WeightedSumGradients {
  Tensor d_weights, dx;
};  // [N, K], [N, K, D]

// Called with the tensors that an operation writes into and that were there before it.
template <class... Tensors>
void changed(const Tensors&... tensors) {
  const auto forget = [](const auto& t) {
    const Tensor* written = nullptr;
    if constexpr (std::is_same_v<std::decay_t<decltype(t)>, Tensor>) written = &t;
    else if (t) written = &*t;
    if (written && written->storage) written->storage->derived.forget();
  };
  (forget(tensors), ...);
}

struct Neighbours {
  Tensor index, score;
};  // int32 [q, k], float32 [q, k]

// Rows without a target (label −1) have row_loss 0, take no part in the mean, and get no gradient.
struct MarginSoftmaxForward {
  double loss;  // mean of row_loss over the rows that have a target, 0 when none has; plus norm_penalty·regularizer
  double regularizer;  // mean of the norms' regulariser over these rows; 0 where the method has none
  Tensor row_loss;     // [N] −log softmax of the target, without any ceiling; of a binary loss all its classes
  Tensor lse;          // [N] log Σ exp(logit) over all classes, the target's with its margin; 0 of a binary loss
  double correct;      // rows with a target whose plain cosine is the largest of all classes (ties count)
  double labelled;     // rows with a target
};
// d_scale: of MarginParams::scale, where negatives are plain and cosines not clipped.  d_bias: of a binary loss.
struct MarginSoftmaxGradients {
  Tensor d_features, d_weight, d_margins;  // [N, D], [C·K, D], [N]
  double d_scale, d_bias;
};
struct HeadStep {
  double loss, regularizer, correct, labelled;
  Tensor row_loss, lse, d_features, d_margins;  // [N], [N], [N, D], [N]
  double d_scale, d_bias;
  double filtered;  // of the tiles of dL/dcos, how many gradient_filter left out: 0 to 1
};
// Of the classes other than each row's target, with plain cosines and the scale s.
struct NegativeSums {
  Tensor lse;              // [N] log Σ e^(s·cos); −∞ where there is none
  OptionalTensor moments;  // float64 [N, P]: Σ e^(s·cos)·cosᵏ, from which the sum at a scale near s follows
  OptionalTensor cosines;  // those that a step keeps
};
// [N] each: the feature's norm, the cosine of the target (0 without one) and the largest of the other classes, how many
// of these are above the target's φ, and which of its class's centers is the target (int32, −1 without one).
struct HeadRows {
  Tensor norm, target_cos, nearest_cos, hard, center;
};
// d_scale: of MarginParams::scale.
struct MarginTransformSums {
  double d_scale, d_bias;
};

// --- parameters -----------------------------------------------------------------------------------------------

struct ConvParams {
  int stride = 1, padding = 0;
};

// Operands of the head's matrix products; weights, sums and the margin's arithmetic stay as the tensors are.
// bfloat16 is for float32 tensors.
enum class Precision : int { float32 = 0, bfloat16 = 1 };

struct HeadOptions {
  Precision precision = Precision::float32;
  // head_step keeps the cosines of as many rows of weight as fit in this many bytes, instead of computing them twice: in
  // steps of 1/32767, two bytes each, of float64 unrounded.  Below 0: as many as fit in 12 MiB, of float32 unrounded.
  // On a GPU the paths that can (HeadPath::whole_rows) keep what dL/dcos is but for its row's factor, in bfloat16; below
  // 0 all in 12 MiB, or none.
  double keep_bytes = -1;
  // What of a row's probability head_step may leave out of dL/dcos, 0 to 1: on a GPU the paths that can
  // (HeadPath::classes_a_mass) leave out tiles whose part is small in every row.  Nothing with label smoothing.
  double gradient_filter = 0;
  // What negative_sums gave for this step's features, weight and labels, with these options: a step whose scale is near
  // moments_scale then computes its cosines once more instead of twice.
  OptionalTensor moments{}, cosines{};
  double moments_scale = 0;
  // [S] int32 on the CPU, ascending: the classes that take part, instead of all.  labels are then places among them, in
  // [0, S) or −1, and other rows of weight and of the optimizer's state are neither read nor moved, but for what follows.
  OptionalTensor classes{};
  // Other rows are moved after all, by head_step, as by a gradient of 0: by momentum and weight decay.
  bool moves_others = false;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;

  // --- memory: contents of a new tensor are undefined -----------------------------------------------------------
  virtual Tensor empty(Dtype dtype, const Shape& shape) = 0;
  virtual void copy_from_host(const Tensor& to, const void* from, size_t bytes) = 0;
  virtual void copy_to_host(void* to, const Tensor& from, size_t bytes) = 0;
  virtual void fill(const Tensor& x, double value) { missing("fill"); }
  // x in another floating dtype, bfloat16 among them, rounded to the nearest.
  virtual Tensor cast(const Tensor& x, Dtype dtype) { missing("cast"); }

  // --- rows -----------------------------------------------------------------------------------------------------
  // y = x / max(‖x‖, 1e-12);  norm = ‖x‖.  dx = (dy − y⟨dy, y⟩) / max(‖x‖, 1e-12).
  virtual Normalized normalize_forward(const Tensor& x) { missing("normalize"); }
  virtual Tensor normalize_backward(const Tensor& dy, const Tensor& y, const Tensor& norm) { missing("normalize"); }

  // op(a)·op(b), matrices; op transposes where the flag says so.
  virtual Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b) { missing("matmul"); }
  virtual Tensor add_bias(const Tensor& x, const Tensor& bias) { missing("addBias"); }  // [N, D] + [D]
  virtual Tensor sum_rows(const Tensor& x) { missing("sumRows"); }                      // [N, D] → [D]

  // Over the rows of [N, K]; backward takes what forward returned.
  virtual Tensor softmax_forward(const Tensor& x) { missing("softmax"); }
  virtual Tensor softmax_backward(const Tensor& dy, const Tensor& y) { missing("softmax"); }
  virtual Tensor log_softmax_forward(const Tensor& x) { missing("logSoftmax"); }
  virtual Tensor log_softmax_backward(const Tensor& dy, const Tensor& y) { missing("logSoftmax"); }
  // y[i] = x[index[i]];  into[index[i]] += x[i], in the order of i.  x [R, D], index int32 [N] in [0, R).
  virtual Tensor gather_rows(const Tensor& x, const Tensor& index) { missing("gatherRows"); }
  virtual void scatter_add_rows(const Tensor& into, const Tensor& index, const Tensor& x) { missing("gatherRows"); }
  // y[n] = Σ_k weights[n, k]·x[n, k]: weights [N, K], x [N, K, D] → [N, D].
  virtual Tensor weighted_sum_forward(const Tensor& weights, const Tensor& x) { missing("weightedSum"); }
  virtual WeightedSumGradients weighted_sum_backward(const Tensor& dy, const Tensor& weights, const Tensor& x) {
    missing("weightedSum");
  }
  // y[i, j] = ‖x_i − x_j‖² of rows [N, D], from their differences: [N, N], its diagonal exactly 0.
  virtual Tensor squared_distances_forward(const Tensor& x) { missing("squaredDistances"); }
  // dx_i = 2·Σ_j (dy[i, j] + dy[j, i])·(x_i − x_j).
  virtual Tensor squared_distances_backward(const Tensor& dy, const Tensor& x) { missing("squaredDistances"); }

  // --- convolution: weight [O, I, KH, KW] as the field stores it, x [N, H, W, I], y [N, OH, OW, O] ----------------
  virtual Tensor conv2d_forward(const Tensor& x, const Tensor& weight, ConvParams p) { missing("conv2d"); }
  virtual Tensor conv2d_backward_data(const Tensor& dy, const Tensor& weight, const Shape& x_shape, ConvParams p) {
    missing("conv2d");
  }
  virtual Tensor conv2d_backward_weight(const Tensor& dy, const Tensor& x, const Shape& weight_shape, ConvParams p) {
    missing("conv2d");
  }

  // --- batch norm over all axes but the last ----------------------------------------------------------------------
  // Training: batch statistics (biased variance); running ← (1 − momentum)·running + momentum·batch, the running
  // variance with the unbiased batch variance, both in place.  weight and bias are [C].  In the same pass y goes through
  // a PReLU of slope [C], or a shortcut of x's shape is added to it, where one of these is given.
  virtual BatchNormForward batch_norm_train(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                            const Tensor& running_mean, const Tensor& running_var, double momentum,
                                            double epsilon, const OptionalTensor& slope = {},
                                            const OptionalTensor& shortcut = {}) {
    missing("batchNorm");
  }
  // Evaluation: running statistics; mean and inv_std are those that were used.
  virtual BatchNormForward batch_norm_eval(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                           const Tensor& running_mean, const Tensor& running_var, double epsilon,
                                           const OptionalTensor& slope = {}, const OptionalTensor& shortcut = {}) {
    missing("batchNorm");
  }
  // batch_statistics: mean and inv_std came from x itself (training), so that they have gradients too.  slope: the forward
  // pass's, whose gradient is d_slope.  A shortcut's gradient is dy.
  virtual BatchNormGradients batch_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                                 const Tensor& bias, const Tensor& mean, const Tensor& inv_std,
                                                 bool batch_statistics, const OptionalTensor& slope = {}) {
    missing("batchNorm");
  }

  // --- elementwise; slope is [C], one a channel (last axis) -------------------------------------------------------
  virtual Tensor prelu_forward(const Tensor& x, const Tensor& slope) { missing("prelu"); }
  virtual PreluGradients prelu_backward(const Tensor& dy, const Tensor& x, const Tensor& slope) { missing("prelu"); }
  virtual Tensor relu_forward(const Tensor& x) { missing("relu"); }
  virtual Tensor relu_backward(const Tensor& dy, const Tensor& y) { missing("relu"); }
  virtual Tensor add(const Tensor& a, const Tensor& b) { missing("add"); }
  virtual Tensor multiply(const Tensor& a, const Tensor& b) { missing("multiply"); }
  virtual void accumulate(const Tensor& into, const Tensor& x) { missing("accumulate"); }  // into += x
  virtual Tensor scale(const Tensor& x, double factor) { missing("scale"); }
  virtual Tensor affine(const Tensor& x, double factor, double offset) { missing("affine"); }  // factor·x + offset
  virtual Tensor sqrt_forward(const Tensor& x, double epsilon) { missing("sqrt"); }            // √(x + ε)
  virtual Tensor sqrt_backward(const Tensor& dy, const Tensor& y) { missing("sqrt"); }         // 0 where dy is 0
  virtual double sum(const Tensor& x) { missing("sum"); }
  virtual double dot(const Tensor& a, const Tensor& b) { missing("dot"); }  // Σ a·b
  // Of all of them together; the squares of float32 are not rounded to it.
  virtual double sum_of_squares(const std::vector<Tensor>& xs) { missing("sumOfSquares"); }
  // A counter-based mask: element i is kept, times 1/(1 − rate), when random(seed, i) ≥ rate.  Its own backward.
  virtual Tensor dropout(const Tensor& x, double rate, double seed) { missing("dropout"); }
  // x / 127.5 − 1 from uint8, to float32.
  virtual Tensor image_to_float(const Tensor& x) { missing("imageToFloat"); }

  // --- shape ----------------------------------------------------------------------------------------------------
  virtual Tensor global_avg_pool_forward(const Tensor& x) { missing("globalAvgPool"); }  // [N, H, W, C] → [N, C]
  virtual Tensor global_avg_pool_backward(const Tensor& dy, const Shape& x_shape) { missing("globalAvgPool"); }
  // [N, H, W, C] → [N, C·H·W], channel-major, the order in which the field's weights are stored.
  virtual Tensor flatten_forward(const Tensor& x) { missing("flatten"); }
  virtual Tensor flatten_backward(const Tensor& dy, const Shape& x_shape) { missing("flatten"); }

  // --- the head: features [N, D], weight [C·K, D], labels int32 [N] in [−1, C), margins [N] or none ---------------
  // K = p.sub_centers, class j's centers are rows j·K … j·K + K − 1.  margins are the rows' own, for methods that read one.
  // The [N, C] logits never exist.  A label outside its range, or a row that is not finite, is an error naming the row.
  virtual MarginSoftmaxForward margin_softmax_forward(const Tensor& features, const Tensor& weight,
                                                      const Tensor& labels, const OptionalTensor& margins,
                                                      const MarginParams& p, Precision precision = Precision::float32) {
    missing("marginSoftmax");
  }
  // Gradients of d_loss·loss; lse is what the forward returned.
  virtual MarginSoftmaxGradients margin_softmax_backward(const Tensor& features, const Tensor& weight,
                                                         const Tensor& labels, const OptionalTensor& margins,
                                                         const Tensor& lse, double d_loss, const MarginParams& p,
                                                         Precision precision = Precision::float32) {
    missing("marginSoftmax");
  }
  // Forward, backward and the optimizer's update of weight and its state [C·K, D], in place; nothing is changed when it
  // throws.
  virtual HeadStep head_step(const Tensor& features, const Tensor& weight, const OptimizerState& state,
                             const Tensor& labels, const OptionalTensor& margins, const MarginParams& p,
                             const OptimizerParams& optimizer, HeadOptions options = {}) {
    missing("headStep");
  }
  // [N]: each row's plain cosine to its target; 0 where it has none.  N·D·K work, whatever C is.
  virtual Tensor target_cosines(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                int64_t sub_centers) {
    missing("targetCosines");
  }
  // [N]: log Σ exp(logit) over the classes other than the target; −∞ where there is none.  classes: HeadOptions'.
  virtual Tensor negative_lse(const Tensor& features, const Tensor& weight, const Tensor& labels, const MarginParams& p,
                              const OptionalTensor& classes = {}) {
    missing("negativeLse");
  }
  // The same, and what saves the step that follows a sweep over the classes.
  virtual NegativeSums negative_sums(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                     const MarginParams& p, HeadOptions options) {
    return {negative_lse(features, weight, labels, p, options.classes), {}, {}};
  }
  virtual HeadRows inspect_head(const Tensor& features, const Tensor& weight, const Tensor& labels,
                                const OptionalTensor& margins, const MarginParams& p) {
    missing("inspectHead");
  }
  // The plain logits, for inspection and small C: s·φ (+ bias), [N, C].  The one place that holds them.
  virtual Tensor margin_logits(const Tensor& features, const Tensor& weight, const Tensor& labels,
                               const OptionalTensor& margins, const MarginParams& p) {
    missing("marginLogits");
  }

  // --- separate kernels: the head's stages one by one, on [N, C] arrays ----------------------------------------------
  // Results are written to tensors that are there (the last ones), undefined when the call throws.  A result may be the
  // very memory of a floating input of its shape, but not a part of it.  A row that is not finite, or too large to
  // compute with, is an error naming row and column; no finite input gives a value that is not finite: results beyond
  // the dtype's range are its largest number.  Labels are int32 [N] in [−1, C).

  // As normalize, whatever the size of x's elements.
  virtual void normalize_into(const Tensor& x, const Tensor& y, const Tensor& norm) { missing("normalize"); }
  // dx = (dy − y⟨dy, y⟩)/max(‖x‖, 1e-12) + d_norm·y; 0 where ‖x‖ < 1e-12.
  virtual void normalize_backward_into(const OptionalTensor& dy, const Tensor& y, const Tensor& norm,
                                       const OptionalTensor& d_norm, const Tensor& dx) {
    missing("normalize");
  }
  // [N, D], [R, D] → [N, R]: the cosines between rows, both normalised inside.
  virtual void cosine_logits_forward(const Tensor& features, const Tensor& weight, const Tensor& cosines) {
    missing("cosineLogits");
  }
  // project: as MarginParams::project_weight_gradient.
  virtual void cosine_logits_backward(const Tensor& d_cosines, const Tensor& features, const Tensor& weight,
                                      bool project, const OptionalTensor& d_features, const OptionalTensor& d_weight) {
    missing("cosineLogits");
  }
  // [N, C·K] → [N, C]: the largest of each class's K, and int32 [N, C] which it is, the first of equal ones.
  virtual void sub_center_max_forward(const Tensor& cosines, int64_t sub_centers, const Tensor& largest,
                                      const Tensor& centers) {
    missing("subCenterMax");
  }
  virtual void sub_center_max_backward(const Tensor& d_largest, const Tensor& centers, int64_t sub_centers,
                                       const Tensor& d_cosines) {
    missing("subCenterMax");
  }
  // s·φ (+ bias) of cosines [N, C]; norms [N] for a method or a scale that reads them.  Sub-centers and label smoothing
  // are other kernels' business.
  virtual void margin_transform_forward(const Tensor& cosines, const Tensor& labels, const OptionalTensor& margins,
                                        const OptionalTensor& norms, const MarginParams& p, const Tensor& logits) {
    missing("marginTransform");
  }
  virtual MarginTransformSums margin_transform_backward(const Tensor& d_logits, const Tensor& cosines,
                                                        const Tensor& labels, const OptionalTensor& margins,
                                                        const OptionalTensor& norms, const MarginParams& p,
                                                        const Tensor& d_cosines, const OptionalTensor& d_margins,
                                                        const OptionalTensor& d_norms) {
    missing("marginTransform");
  }
  // Negatives c above cos(θ_y + margin) become c·(t + c); all else stays.
  virtual void curricular_reweight_forward(const Tensor& cosines, const Tensor& labels, double t, double margin,
                                           const Tensor& reweighted) {
    missing("curricularReweight");
  }
  virtual void curricular_reweight_backward(const Tensor& d_reweighted, const Tensor& cosines, const Tensor& labels,
                                            double t, double margin, const Tensor& d_cosines) {
    missing("curricularReweight");
  }
  // The mean over rows with a target of −log softmax; row_loss and lse [N] as in MarginSoftmaxForward.
  virtual double softmax_cross_entropy_forward(const Tensor& logits, const Tensor& labels, double label_smoothing,
                                               const Tensor& row_loss, const Tensor& lse) {
    missing("softmaxCrossEntropy");
  }
  virtual void softmax_cross_entropy_backward(const Tensor& logits, const Tensor& labels, double label_smoothing,
                                              double d_loss, const Tensor& d_logits) {
    missing("softmaxCrossEntropy");
  }
  // The mean over rows with a target of positive_weight·ln(1 + e^−z_y) + negative_weight·Σ ln(1 + e^z_j).
  virtual double binary_cross_entropy_forward(const Tensor& logits, const Tensor& labels, double positive_weight,
                                              double negative_weight, const Tensor& row_loss) {
    missing("binaryCrossEntropy");
  }
  virtual void binary_cross_entropy_backward(const Tensor& logits, const Tensor& labels, double positive_weight,
                                             double negative_weight, double d_loss, const Tensor& d_logits) {
    missing("binaryCrossEntropy");
  }
  // norm_penalty times the mean over rows with a target of the method's regulariser; 0 where it has none.
  virtual double norm_regularizer_forward(const Tensor& norms, const Tensor& labels, const MarginParams& p) {
    missing("normRegularizer");
  }
  virtual void norm_regularizer_backward(const Tensor& norms, const Tensor& labels, const MarginParams& p,
                                         double d_loss, const Tensor& d_norms) {
    missing("normRegularizer");
  }

  // --- search ---------------------------------------------------------------------------------------------------
  // float32 [q, D] and [g, D]: the k rows of the gallery with the largest dot products, best first, of equal ones the
  // lowest; 1 ≤ k ≤ g.  A place for which there is no comparable (non-NaN) score has index −1 and score −∞.
  virtual Neighbours nearest(const Tensor& queries, const Tensor& gallery, int64_t k) { missing("nearest"); }

  // --- optimizer ------------------------------------------------------------------------------------------------
  virtual void optimizer_step(const Tensor& weight, const OptimizerState& state, const Tensor& gradient,
                              const OptimizerParams& p) {
    missing("optimizerStep");
  }
  // True when every element is finite.
  virtual bool all_finite(const Tensor& x) { missing("allFinite"); }

 protected:
  [[noreturn]] void missing(const char* operation) const {
    fail(ErrorKind::device, operation, " is not available on ", name(), "; use device 'cpu'");
  }
};

// The devices.  cuda_backend() throws with the reason when there is none.
Backend& cpu_backend();
Backend& backend_of(Device device);

}  // namespace fm
