// A step of the head: by plain launches, or a kept one whose launches are a CUDA graph (step_graph.h).
#include "head_call.cuh"
#include "step_graph.h"

namespace fm {
namespace {

template <class T>
WeightTask<T> weight_task(const Tensor& weight, const OptimizerState& state, const MarginParams& p,
                          Optimizer optimizer) {
  WeightTask<T> task{};
  task.project = p.project_weight_gradient;
  task.weight = weight.data<T>();
  for (size_t k = 0; k < state.size(); k++) task.states[k] = state[k].template data<T>();
  task.optimizer = optimizer;
  return task;
}

// A step up to its results.
template <class T, class E>
void sweep_step(Head<T, E>& head, const HeadPath<T, E>& path, const Tensor& weight, const WeightTask<T>& weights,
                StepTerms terms) {
  head.renew_unit_rows();
  head.prepare_sweeps(weight, &path);
  head.filter(terms.gradient_filter);
  head.keep_terms(terms.keep_bytes);
  head.changes(weight);
  head.add_up();
  head.set_gradient(1);
  head.sweep_gradients(weights, false);
  if (terms.moves_others) head.move_others(weights, weight.dim(0));
}

template <class T, class E>
HeadStep finish_step(Head<T, E>& head, const Tensor& weight, HeadStep out) {
  head.finish_features(1, out.d_features);
  RowOutputs<T> rows;
  rows.loss = out.row_loss.template data<T>();
  rows.lse = out.lse.template data<T>();
  rows.d_margin = out.d_margins.template data<T>();
  head.store(rows);
  const HeadReport report = head.report();
  head.keep_unit_rows(weight, report);
  out.loss = report.loss;
  out.regularizer = report.regularizer;
  out.correct = report.correct;
  out.labelled = report.labelled;
  out.d_scale = report.d_scale;
  out.d_bias = report.d_bias;
  out.filtered = head.filtered(report);
  return out;
}

HeadStep room_for_step(CudaBackend& gpu, const Tensor& features, const Tensor& labels) {
  const auto of_rows = [&] { return gpu.empty(features.dtype, labels.shape); };
  return {0, 0, 0, 0, of_rows(), of_rows(), gpu.empty(features.dtype, features.shape), of_rows(), 0, 0, 0};
}

template <class T, class E>
HeadStep launch_step(CudaBackend& gpu, const HeadPath<T, E>& path, const Tensor& features, const Tensor& weight,
                     const OptimizerState& state, const Tensor& labels, const OptionalTensor& margins,
                     const MarginParams& p, const OptimizerParams& optimizer, StepTerms terms, HeadStep out) {
  const OptionalTensor classes = on_device(gpu, terms.classes);
  Head<T, E> head(gpu, features, weight, labels, margins, p, classes);
  WeightTask<T> weights = weight_task<T>(weight, state, p, optimizer.type);
  weights.numbers = head.store_numbers(optimizer);
  sweep_step(head, path, weight, weights, terms);
  return finish_step(head, weight, std::move(out));
}

// What a step has of its own besides the batch.
template <class T>
struct StepNumbers {
  HeadNumbers<T> head;
  OptimizerStep<T> optimizer;
};

template <class T>
struct StepInputs {
  T* features;      // [N, D]
  int32_t* labels;  // [N]
  T* margins;       // [N] or none
  StepNumbers<T>* numbers;
};
template <class T>
__global__ void load_inputs_kernel(int64_t N, int64_t D, const T* features, const int32_t* labels, const T* margins,
                                   StepNumbers<T> numbers, StepInputs<T> to) {
  const int64_t at = thread_of_grid();
  if (at == 0) *to.numbers = numbers;
  if (at < N) to.labels[at] = labels[at];
  if (at < N && margins) to.margins[at] = margins[at];
  if (at < N * D) to.features[at] = features[at];
}

// Of weight and state, which are another's: the memory of an owner would never be given back.
Tensor unowned(const Tensor& t) {
  Tensor alias = t;
  alias.storage = std::make_shared<Storage>(t.raw(), t.bytes(), t.device(), nullptr);
  return alias;
}

template <class T, class E>
class KeptHead final : public KeptStep {
 public:
  KeptHead(CudaBackend& gpu, const HeadPath<T, E>& path, const Tensor& features, const Tensor& weight,
           const OptimizerState& state, const OptionalTensor& margins, const MarginParams& p, Optimizer optimizer,
           StepTerms terms)
      : gpu_(gpu),
        path_(path),
        p_(p),
        terms_(terms),
        weight_(unowned(weight)),
        features_(gpu.empty(features.dtype, features.shape)),
        labels_(gpu.empty(Dtype::int32, {features.dim(0)})),
        classes_(on_device(gpu, terms.classes)),
        numbers_(gpu.empty(Dtype::uint8, {int64_t(sizeof(StepNumbers<T>))})) {
    if (margins) margins_ = gpu.empty(features.dtype, {features.dim(0)});
    terms_.classes.reset();  // each step has its own
    OptimizerState unowned_state;
    for (const Tensor& each : state) unowned_state.push_back(unowned(each));
    weights_ = weight_task<T>(weight_, unowned_state, p, optimizer);
    weights_.numbers = &numbers()->optimizer;
  }
  ~KeptHead() override {
    const DeviceGuard guard(gpu_.device(), std::nothrow);
    graph_.reset();
  }

  HeadStep run(const Tensor& features, const Tensor& weight, const Tensor& labels, const OptionalTensor& margins,
               const OptionalTensor& classes, const MarginParams& p, const OptimizerParams& optimizer,
               HeadStep out) override {
    std::lock_guard<std::mutex> hold(lock_);  // until the results are read: the memory is one step's
    const int64_t N = features.dim(0), D = features.dim(1);
    const StepInputs<T> to{features_.data<T>(), labels_.data<int32_t>(), margins_ ? margins_->data<T>() : nullptr,
                           numbers()};
    launch(gpu_.stream(), unsigned(blocks_for(N * D, kRowThreads)), kRowThreads, load_inputs_kernel<T>, N, D,
           static_cast<const T*>(features.data<T>()), static_cast<const int32_t*>(labels.data<int32_t>()),
           margins ? static_cast<const T*>(margins->data<T>()) : nullptr,
           StepNumbers<T>{HeadNumbers<T>(p), OptimizerStep<T>(optimizer)}, to);
    if (classes) gpu_.copy_from_host(*classes_, classes->raw(), classes->bytes());
    if (graph_ && head_->has_unit_rows_of(weight)) {
      head_->changes(weight);
      graph_->launch();
    } else {
      graph_.reset();
      repeats_ = false;
      head_.emplace(gpu_, features_, weight_, labels_, margins_, p_, classes_, &numbers()->head, gpu_.stream());
      sweep_step(*head_, path_, weight, weights_, terms_);
    }
    out = finish_step(*head_, weight, std::move(out));
    repeats_ = head_->has_unit_rows_of(weight);
    return out;
  }

  bool wants_recording() override {
    std::lock_guard<std::mutex> hold(lock_);
    return recordable();
  }
  void record(const Stream& stream) override {
    std::lock_guard<std::mutex> hold(lock_);
    if (!recordable()) return;
    graph_.emplace(stream, gpu_.stream(), [&] {
      Head<T, E> again(gpu_, features_, weight_, labels_, margins_, p_, classes_, &numbers()->head, stream, &*head_);
      sweep_step(again, path_, weight_, weights_, terms_);
    });
  }

 private:
  bool recordable() const { return !graph_ && repeats_; }
  StepNumbers<T>* numbers() const { return static_cast<StepNumbers<T>*>(numbers_.raw()); }

  CudaBackend& gpu_;
  const HeadPath<T, E>& path_;
  MarginParams p_;  // for its plan; a step's numbers are on the device
  StepTerms terms_;
  Tensor weight_, features_, labels_;
  OptionalTensor classes_, margins_;
  Tensor numbers_;
  WeightTask<T> weights_;
  std::mutex lock_;
  std::optional<Head<T, E>> head_;
  std::optional<CudaGraph> graph_;
  bool repeats_ = false;  // head_ is whole, and what its step left is what the next one begins with
};

template <class T, class E>
StepKey key_of(const HeadPath<T, E>& path, const Tensor& features, const Tensor& weight, const OptimizerState& state,
               const OptionalTensor& margins, const MarginParams& p, Optimizer optimizer, StepTerms terms) {
  const int64_t S = terms.classes ? terms.classes->numel() : 0;
  const double C = S ? double(S) : double(weight.dim(0)) / p.sub_centers;
  StepKey key{{&path, weight.raw()}, numbers_of(plan_of<T>(p, C))};
  for (const Tensor& each : state) key.places.push_back(each.raw());
  for (int64_t number : {features.dim(0), features.dim(1), weight.dim(0), S, int64_t(margins.has_value()),
                         int64_t(optimizer), scratch_bytes()})
    key.numbers.push_back(double(number));
  key.numbers.push_back(terms.keep_bytes);
  key.numbers.push_back(terms.gradient_filter);
  key.numbers.push_back(terms.moves_others);
  return key;
}

template <class T, class E>
HeadStep step(CudaBackend& gpu, const Tensor& features, const Tensor& weight, const OptimizerState& state,
              const Tensor& labels, const OptionalTensor& margins, const MarginParams& p,
              const OptimizerParams& optimizer, StepTerms terms) {
  check_call(gpu, features, weight, labels, margins, p);
  check_optimizer(optimizer, weight, state);
  const int64_t C = check_classes(terms.classes, weight, p.sub_centers);
  const HeadPath<T, E>& path =
      head_path<T, E>(gpu, {gpu.capability(), features.dim(0), C, p.sub_centers, weight.dim(1)});
  HeadStep out = room_for_step(gpu, features, labels);
  const auto by_launches = [&] {
    return launch_step(gpu, path, features, weight, state, labels, margins, p, optimizer, terms, std::move(out));
  };
  StepGraphs& graphs = gpu.graphs();
  const StepGraphs::Wish wish = StepGraphs::wish();
  if (wish == StepGraphs::Wish::off) return by_launches();
  const StepKey key = key_of(path, features, weight, state, margins, p, optimizer.type, terms);
  std::shared_ptr<KeptStep> kept = graphs.find(key);
  if (!kept && !graphs.met_before(key)) return by_launches();
  try {
    if (!kept) {
      const std::string off = graphs.off(), reason = off.empty() ? graph_disagreement(gpu, path) : off;
      FM_CHECK(range, reason.empty() || wish != StepGraphs::Wish::on,
               "FLASHMARGIN_CUDA_GRAPH=on does not suit: ", reason);
      if (!reason.empty()) return by_launches();
      kept = kept_step(gpu, path, features, weight, state, margins, p, optimizer.type, terms);
    }
    out = kept->run(features, weight, labels, margins, terms.classes, p, optimizer, std::move(out));
  } catch (const OutOfMemory&) {  // before anything was changed
    kept.reset();
    out = room_for_step(gpu, features, labels);
    return by_launches();
  }
  try {
    if (kept->wants_recording()) graphs.keep(key, kept);
  } catch (const Error& error) {  // the step is done
    graphs.switch_off(error.what());
  }
  return out;
}

}  // namespace

HeadStep CudaBackend::head_step(const Tensor& features, const Tensor& weight, const OptimizerState& state,
                                const Tensor& labels, const OptionalTensor& margins, const MarginParams& p,
                                const OptimizerParams& optimizer, HeadOptions options) {
  const DeviceGuard guard(device_);
  return dispatch_precision(features.dtype, options.precision, [&](auto zero, auto operand) {
    return step<decltype(zero), decltype(operand)>(
        *this, features, weight, state, labels, margins, p, optimizer,
        {options.keep_bytes, options.gradient_filter, options.classes, options.moves_others});
  });
}

template <class T, class E>
HeadStep step_on_path(CudaBackend& gpu, const HeadPath<T, E>& path, const Tensor& features, const Tensor& weight,
                      const OptimizerState& state, const Tensor& labels, const MarginParams& p,
                      const OptimizerParams& optimizer, StepTerms terms) {
  return launch_step(gpu, path, features, weight, state, labels, std::nullopt, p, optimizer, terms,
                     room_for_step(gpu, features, labels));
}

template <class T, class E>
std::shared_ptr<KeptStep> kept_step(CudaBackend& gpu, const HeadPath<T, E>& path, const Tensor& features,
                                    const Tensor& weight, const OptimizerState& state, const OptionalTensor& margins,
                                    const MarginParams& p, Optimizer optimizer, StepTerms terms) {
  return std::make_shared<KeptHead<T, E>>(gpu, path, features, weight, state, margins, p, optimizer, terms);
}

#define FM_STEPS(T, E)                                                                                              \
  template HeadStep step_on_path(CudaBackend&, const HeadPath<T, E>&, const Tensor&, const Tensor&,                 \
                                 const OptimizerState&, const Tensor&, const MarginParams&, const OptimizerParams&, \
                                 StepTerms);                                                                        \
  template std::shared_ptr<KeptStep> kept_step(CudaBackend&, const HeadPath<T, E>&, const Tensor&, const Tensor&,   \
                                               const OptimizerState&, const OptionalTensor&, const MarginParams&,   \
                                               Optimizer, StepTerms)
FM_STEPS(float, float);
FM_STEPS(double, double);
FM_STEPS(float, Bfloat16);
#undef FM_STEPS

}  // namespace fm
