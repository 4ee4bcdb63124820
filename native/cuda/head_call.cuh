// What a call of the margin head does on a GPU, part by part.  Its three products are a path's (head_path.h).
//
// The classes are met in chunks.  Of a chunk, dL/dcos of all rows is in memory (as many classes as the scratch holds),
// and from it come its share of dX and its dW, whose epilogue takes the optimizer's step; the loss alone needs none of
// that.  Each call reads one small report at its end, and waits for nothing before.
//
// Of the first classes, as many as HeadOptions::keep_bytes holds, a path may keep what the sweep for the loss has found,
// but for a factor of the row: then dL/dcos is not computed a second time.  And tiles of dL/dcos that no row has much of
// may be left out (head_filter.cuh).
#pragma once
#include "../common/head_checks.h"
#include "../common/methods.h"
#include "backend.h"
#include "head_filter.cuh"
#include "head_others.cuh"
#include "head_path.h"
#include "head_products.cuh"
#include "head_rows.cuh"
#include "head_sweep.cuh"

namespace fm {

constexpr int64_t kCenterChunks = 256;  // of Σ ŵ
// Offsets within a step of a tile fit an int: 128 rows of D, 48 rows of a chunk's columns.  So do a launch's tiles of
// axes its y.
constexpr int64_t kMostRows = int64_t(1) << 30, kMostAxes = int64_t(65535) * Tile<double>::kColumns,
                  kMostColumns = int64_t(1) << 25;

// Of C classes, with sums in T.
template <class T>
HeadPlan plan_of(const MarginParams& p, double C) {
  const double largest_phi = ReweightedNegative<double>(p).largest();
  // A scale that is the feature's norm is known to the device alone.
  const bool shifts = !is_binary(p.method) && (p.scale_by_norm || safe_shift<T>(p.scale, largest_phi, C) > 0);
  return {p.method,
          p.negatives,
          p.gradient,
          p.cosine_epsilon,
          p.sub_centers,
          p.project_weight_gradient,
          p.label_smoothing > 0,
          shifts};
}

// Of HeadOptions::keep_bytes below 0, where all classes fit in that.
constexpr double kLeanBytes = 12 << 20;

constexpr int64_t in_steps(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// The rows of a weight as the products read them, kept from step to step beside it (Storage::derived).
struct UnitRows {
  DeviceScratch memory;
  Bfloat16* units = nullptr;  // [R, depth]
  float* inverse = nullptr;   // [R]
  const int64_t R, D;
  UnitRows(CudaBackend& gpu, int64_t R, int64_t D) : memory(gpu.allocator()), R(R), D(D) {}
};

// Throws what a call can be refused for before it launches anything.
inline void check_call(const CudaBackend& gpu, const Tensor& features, const Tensor& weight, const Tensor& labels,
                       const OptionalTensor& margins, const MarginParams& p) {
  const int64_t N = check_head(features, weight, labels, margins, p);
  gpu.check_here("features", features);
  gpu.check_here("weight", weight);
  gpu.check_here("labels", labels);
  if (margins) gpu.check_here("margins", *margins);
  FM_CHECK(shape, N <= kMostRows, "expected at most ", kMostRows, " rows, got ", N);
  FM_CHECK(shape, weight.dim(1) <= kMostAxes, "expected rows of at most ", kMostAxes, ", got ", weight.dim(1));
}

// HeadOptions::classes, where the head's kernels read them as long as it lives.
inline OptionalTensor on_device(CudaBackend& gpu, const OptionalTensor& classes) {
  if (!classes) return {};
  Tensor there = gpu.empty(classes->dtype, classes->shape);
  gpu.copy_from_host(there, classes->raw(), classes->bytes());
  return there;
}

// E: what the products multiply, T or Bfloat16.
template <class T, class E = T>
class Head {
  static constexpr bool kRounds = !std::is_same_v<T, E>;

 public:
  // Normalises the rows and finds the targets' φ.
  Head(CudaBackend& gpu, const Tensor& features, const Tensor& weight, const Tensor& labels,
       const OptionalTensor& margins, const MarginParams& p, const OptionalTensor& classes = {})
      : Head(gpu, features, weight, labels, margins, p, classes, nullptr, gpu.stream()) {}
  // On another stream.  classes: those of HeadOptions, on the device.  numbers: where the device has p's, or other ones of
  // its plan; or none.  again: in the memory of a head that did the same.
  Head(CudaBackend& gpu, const Tensor& features, const Tensor& weight, const Tensor& labels,
       const OptionalTensor& margins, const MarginParams& p, const OptionalTensor& classes,
       const HeadNumbers<T>* numbers, const Stream& stream, const Head* again = nullptr)
      : gpu_(gpu), stream_(stream), scratch_(gpu.allocator(), again ? &again->scratch_ : nullptr), again_(again) {
    check_call(gpu, features, weight, labels, margins, p);
    const int64_t N = features.dim(0);
    on_.N = N, on_.K = p.sub_centers, on_.D = weight.dim(1);
    on_.C = classes ? classes->numel() : weight.dim(0) / on_.K, on_.R = on_.C * on_.K;
    on_.classes = classes ? classes->data<int32_t>() : nullptr;
    on_.x = features.data<T>();
    on_.w = weight.data<T>();
    on_.labels = labels.data<int32_t>();
    on_.margins = margins ? margins->data<T>() : nullptr;
    on_.plan = plan_of<T>(p, double(on_.C));
    on_.numbers = numbers ? numbers : stored(HeadNumbers<T>(p));
    on_.binary = is_binary(p.method);
    on_.quality = quality_of(p.method);
    on_.report = scratch_.take<HeadReport>(1);
    on_.rows = scratch_.take<HeadRow>(N);
    on_.embeddings = scratch_.take<T>(N * on_.D);
    on_.target_rows = scratch_.take<T>(N * on_.D);
    on_.centers = scratch_.take<int64_t>(N);
    T* const row_values = scratch_.take<T>(9 * N);
    T** const fields[] = {&on_.scale,           &on_.shift,      &on_.threshold, &on_.factor,         &on_.spread,
                          &on_.target_gradient, &on_.target_cos, &on_.largest,   &on_.seen_target_cos};
    for (int field = 0; field < 9; field++) *fields[field] = row_values + field * N;
    on_.sums = scratch_.take<double>(N);
    on_.counts = scratch_.take<double>(N);
    launch(stream_, 1, 1, clear_report_kernel<T>, on_);
    launch(stream_, 1, kReportThreads, check_labels_kernel<T>, on_);
    launch(stream_, unsigned(N), kRowThreads, head_rows_kernel<T>, on_);
    run_targets(stream_, on_);
  }

  // What every sweep needs: a path, by its default the one of choice, and the norms of all rows of weight.
  void prepare_sweeps(const Tensor& weight, const HeadPath<T, E>* path = nullptr) {
    path_ = path ? path : &head_path<T, E>(gpu_, {gpu_.capability(), on_.N, on_.C, on_.K, on_.D});
    depth_ = kRounds ? in_steps(on_.D, kDepthStep) : on_.D;
    if (!find_unit_rows(weight)) {
      if (!on_.inverse) on_.inverse = scratch_.take<T>(on_.R);
      if constexpr (kRounds)
        if (!units_) units_ = scratch_.take_if_affordable<E>(on_.R * depth_);
      launch(stream_, unsigned(blocks_for(on_.R * kWeightThreads, kRowThreads)), kRowThreads, weight_rows_kernel<T, E>,
             on_, units_, depth_);
    }
    if constexpr (kRounds) {
      E* const rounded = scratch_.take<E>(on_.N * depth_);
      round_rows(on_.embeddings, {}, 0, nullptr, on_.N, rounded);
      embeddings_ = rounded;
    } else {
      embeddings_ = on_.embeddings;
    }
    const int64_t row_tiles = blocks_for(on_.N, path_->rows), tiles = blocks_for(on_.C, classes_a_tile());
    on_.groups = std::min(tiles, std::max<int64_t>(1, path_->sweep_blocks / row_tiles));
    on_.group_sums = scratch_.take<double>(on_.groups * on_.N);
    on_.group_counts = scratch_.take<double>(on_.groups * on_.N);
    on_.group_largest = scratch_.take<T>(on_.groups * on_.N);
    if (on_.plan.smooths) add_up_centers();
  }

  // Before prepare_sweeps, of a call that steps: unit rows stay with the weight, and are renewed with it.
  void renew_unit_rows() { renews_ = true; }
  // Before the step writes into it.
  void changes(const Tensor& weight) { change_ = weight.storage->derived.forget().second; }
  // After the step.
  void keep_unit_rows(const Tensor& weight, const HeadReport& report) {
    if (!report.unusual) weight.storage->derived.keep(kept_rows_, change_);
  }
  // Whether a step in this head's memory finds what its last one left, or needs nothing.
  bool has_unit_rows_of(const Tensor& weight) const {
    return !kept_rows_ || weight.storage->derived.value() == kept_rows_;
  }

  // After prepare_sweeps and before keep_terms: how much of a row's probability sweep_gradients may leave out, if the path
  // can.
  void filter(double most) {
    if (!(most > 0) || !path_->classes_a_mass || on_.plan.smooths) return;
    left_out_ = most;
    classes_a_mass_ = path_->classes_a_mass(on_.K);
    masses_ = scratch_.take<Bfloat16>(blocks_for(on_.C, classes_a_mass_) * on_.N);
  }
  // Of all tiles, those that were.
  double filtered(const HeadReport& report) const {
    return masses_ ? 1 - double(report.tiles) / double(filter_blocks(on_.C) * filter_row_blocks(on_.N)) : 0;
  }

  // After prepare_sweeps: of how many classes add_up leaves the terms for sweep_gradients.
  void keep_terms(double bytes) {
    if (!path_->whole_rows(on_.D) || on_.plan.smooths || !units_) return;
    const int64_t whole = classes_a_cut();
    const double a_class = double(on_.N) * on_.K * sizeof(E);
    if (bytes < 0) kept_ = a_class * in_steps(on_.C, kScoreStep) <= kLeanBytes ? on_.C : 0;
    else if (a_class * in_steps(on_.C, kScoreStep) <= bytes) kept_ = on_.C;
    else kept_ = int64_t(bytes / a_class) / whole * whole;
    kept_ = std::min(kept_, kMostColumns / on_.K / whole * whole);
    if (kept_) terms_ = scratch_.take<E>(on_.N * on_.K * in_steps(kept_, kScoreStep));
  }

  // The largest exponents of the rows, where e^(s·φ) needs a shift.
  void find_shift() {
    if (!on_.plan.shifts) return;
    sweep_classes(maximum_task());
    per_row(shift_kernel<T>);
  }

  // Σ over the negatives, and from it each row's log-sum-exp and loss.
  void add_up() {
    find_shift();
    SweepTask<T> task = sweep_task();
    task.totals = true;
    clear_groups();
    if (masses_) {
      task.masses = masses_;
      const size_t bytes = size_t(blocks_for(on_.C, classes_a_mass_) * on_.N) * sizeof(Bfloat16);
      FM_CUDA(cudaMemsetAsync(masses_, 0, bytes, stream_));
    }
    if (kept_) {
      SweepTask<T> keeping = task;
      keeping.terms = true;
      path_->sweep(stream_, on_, kept_chunk(), keeping, false);
    }
    sweep_from(kept_, task, false);
    launch(stream_, unsigned(blocks_for(on_.N, kRowThreads / kWarp)), kRowThreads, finish_rows_kernel<T>, on_);
  }

  void load_lse(const Tensor& lse) { per_row(load_lse_kernel<T>, lse.data<T>(), on_.plan.shifts); }
  void set_gradient(double d_loss) { per_row(gradient_kernel<T>, d_loss); }
  void find_missing() { per_row(missing_kernel<T>); }

  // dX of the negatives and dW, a chunk of classes at a time.  totals: the sums again, of a backward.
  void sweep_gradients(WeightTask<T> weights, bool totals) {
    const int64_t N = on_.N, D = on_.D, most = classes_a_chunk(N * int64_t(sizeof(E)));
    const int64_t row_tiles = blocks_for(N, path_->rows), axis_tiles = blocks_for(D, path_->axes);
    splits_ =
        std::min(std::max<int64_t>(1, path_->product_blocks / (row_tiles * axis_tiles)), blocks_for(most * on_.K, 64));
    slabs_ = scratch_.take<T>(splits_ * N * D);
    FM_CUDA(cudaMemsetAsync(slabs_, 0, size_t(splits_ * N * D) * sizeof(T), stream_));
    find_chains();
    SweepTask<T> task = sweep_task();
    task.totals = totals;
    if (totals) clear_groups();
    // All memory is taken before the first row of weight changes.
    E* scores = nullptr;
    T* dots = nullptr;
    if (kept_ < on_.C) {
      scores = scratch_.take<E>(N * on_.K * in_steps(most, kScoreStep));
      if (!path_->whole_rows(D)) dots = scratch_.take<T>(row_tiles * most * on_.K);
    }
    E* const scaled = kept_ ? scratch_.take<E>(N * depth_) : nullptr;
    const ClassChunks chunks{on_.C, kept_, most};
    LiveTiles live{};
    if (masses_) live = find_live_tiles(chunks);
    const auto live_of = [&](const HeadChunk<T, E>& chunk) {
      return live.tiles ? live_tiles_of(live, chunks, chunks.chunk_from(chunk.first_class), N) : LiveTiles{};
    };
    if (kept_) {
      // The factors of the rows: of dX when it is added up, of dW in the rows that it is added up of.
      HeadChunk<T, E> chunk = kept_chunk();
      chunk.live = live_of(chunk);
      path_->features_product(stream_, on_, chunk, slabs_, splits_);
      launch(stream_, unsigned(blocks_for(splits_ * N * D, kRowThreads)), kRowThreads, scale_slabs_kernel<T>, on_,
             slabs_, splits_);
      round_rows(on_.embeddings, {}, 0, on_.factor, N, scaled);
      chunk.embeddings = scaled;
      path_->weights_product(stream_, on_, chunk, weights);
    }
    for_chunks(kept_, most, [&](HeadChunk<T, E> chunk) {
      chunk.scores = scores;
      chunk.dots = dots;
      chunk.live = live_of(chunk);
      path_->sweep(stream_, on_, chunk, task, false);
      path_->features_product(stream_, on_, chunk, slabs_, splits_);
      path_->weights_product(stream_, on_, chunk, weights);
    });
    if (totals) per_row(add_groups_kernel<T>);
  }

  // After sweep_gradients: of all rows of weight.
  void move_others(const WeightTask<T>& weights, int64_t rows) {
    if (!on_.classes) return;
    weights.with_update([&](auto update) {
      using Update = decltype(update);
      if constexpr (Update::kStates > 0)
        launch(stream_, unsigned(blocks_for(rows, kRowThreads / kWarp)), kRowThreads, other_rows_kernel<T, Update>, on_,
               weights, rows);
    });
  }

  const OptimizerStep<T>* store_numbers(const OptimizerParams& optimizer) {
    return stored(OptimizerStep<T>(optimizer));
  }

  void finish_features(double d_loss, const Tensor& d_features) {
    launch(stream_, unsigned(on_.N), kRowThreads, finish_features_kernel<T>, on_, slabs_, splits_, d_loss,
           d_features.data<T>());
  }
  void finish_weight(const Tensor& d_weight) {
    launch(stream_, unsigned(on_.N), kRowThreads, finish_weight_kernel<T>, on_, d_weight.data<T>());
  }

  void inspect() {
    per_row(inspect_kernel<T>);
    SweepTask<T> task = maximum_task();
    task.cosine_limit = 2;
    sweep_classes(task, true);
  }

  void write_logits(const Tensor& logits) {
    SweepTask<T> task = sweep_task();
    task.logits = logits.data<T>();
    sweep_classes(task);
  }

  void store(const RowOutputs<T>& outputs) { per_row(row_outputs_kernel<T>, outputs); }

  // Waits for the device; throws what the kernels refused.
  HeadReport report(bool sums = true) {
    if (sums) launch(stream_, 1, kReportThreads, report_kernel<T>, on_);
    HeadReport report;
    gpu_.read(&report, on_.report, sizeof report);
    if (report.given_up())
      throw StuckPath(ErrorKind::device,
                      std::string("kernels of the head's path '") + path_->name + "' waited in vain for each other; " +
                          (report.half_stepped
                               ? "rows of weight and of the optimizer's state may be wrong now, go back to a checkpoint"
                               : "weight and the optimizer's state are as they were") +
                          ": set FLASHMARGIN_CUDA_HEAD=tensor, and report this with the output of flashmargin doctor");
    if (report.failed()) fail_with(report);
    return report;
  }

 private:
  template <class Numbers>
  const Numbers* stored(const Numbers& numbers) {
    auto* const to = scratch_.take<Numbers>(1);
    launch(stream_, 1, 1, store_kernel<Numbers>, numbers, to);
    return to;
  }

  template <class... P, class... A>
  void per_row(void (*kernel)(P...), const A&... arguments) {
    launch(stream_, unsigned(blocks_for(on_.N, kRowThreads)), kRowThreads, kernel, on_, arguments...);
  }

  int64_t classes_a_tile() const { return path_->classes_a_tile(on_.K); }
  // What the classes may be cut at.
  int64_t classes_a_cut() const { return masses_ ? kFilterClasses : classes_a_tile(); }

  // Whether the products read a copy of the rows of weight.
  bool copies() const { return kRounds || on_.classes; }

  // As many as the scratch holds, in whole tiles; whether or not units_ are there, so that memory does not decide in what
  // order is added up.  bytes: of a row of weight, besides itself.
  int64_t classes_a_chunk(int64_t bytes) const {
    if (copies()) bytes += depth_ * int64_t(sizeof(E));
    const int64_t cut = classes_a_cut(), affordable = std::min(scratch_bytes() / bytes, kMostColumns) / on_.K;
    return std::min(on_.C, std::max<int64_t>(1, affordable / cut) * cut);
  }

  // The unit rows that are with the weight, or room for them.  True where they are there.
  bool find_unit_rows(const Tensor& weight) {
    if constexpr (kRounds) {
      if (!path_->whole_rows(on_.D) || on_.classes) return false;
      if (again_) {
        kept_rows_ = again_->kept_rows_;
        if (kept_rows_) units_ = kept_rows_->units, on_.inverse = kept_rows_->inverse;
        return kept_rows_ != nullptr;
      }
      Derived& derived = weight.storage->derived;
      // A step that fails leaves none behind.
      kept_rows_ = std::static_pointer_cast<UnitRows>(renews_ ? derived.forget().first : derived.value());
      // Of another shape where the weight was reshaped.
      if (kept_rows_ && (kept_rows_->R != on_.R || kept_rows_->D != on_.D)) kept_rows_ = nullptr;
      const bool there = kept_rows_ != nullptr;
      if (!there && renews_) {
        auto rows = std::make_shared<UnitRows>(gpu_, on_.R, on_.D);
        rows->units = rows->memory.template take_if_affordable<E>(on_.R * depth_);
        if (!rows->units) return false;
        rows->inverse = rows->memory.template take<T>(on_.R);
        kept_rows_ = std::move(rows);
      }
      if (kept_rows_) units_ = kept_rows_->units, on_.inverse = kept_rows_->inverse;
      return there;
    }
    return false;
  }

  // Classes from first to last, without scores.  rounded: for rows of weight, where units_ are not there.
  HeadChunk<T, E> chunk_of(int64_t first, int64_t last, E* rounded) {
    const int64_t columns = (last - first) * on_.K, stride = on_.K * in_steps(last - first, kScoreStep);
    const T* const inverse = on_.inverse + first * on_.K;
    HeadChunk<T, E> chunk{first,   last,   columns, depth_,  embeddings_, rounded,
                          nullptr, stride, nullptr, nullptr, nullptr};
    if constexpr (!kRounds) {
      if (rounded) round_rows(on_.w, on_.places(), first * on_.K, nullptr, columns, rounded);
      else chunk.weight = on_.w + first * on_.K * on_.D;
      chunk.inverse = inverse;
    } else if (units_) {
      E* const units = units_ + first * on_.K * depth_;
      chunk.weight = units;
      if (renews_ && kept_rows_) chunk.units = units;
    } else {
      round_rows(on_.w, on_.places(), first * on_.K, inverse, columns, rounded);
    }
    return chunk;
  }
  HeadChunk<T, E> kept_chunk() {
    HeadChunk<T, E> chunk = chunk_of(0, kept_, nullptr);
    chunk.scores = terms_;
    return chunk;
  }

  // f(chunk), of at most so many classes, from `first` on.  Rows of weight may change as soon as their chunk is done.
  template <class F>
  void for_chunks(int64_t first, int64_t most, const F& f) {
    E* rounded = nullptr;
    if (copies() && !units_) rounded = scratch_.take<E>(most * on_.K * depth_);
    for (; first < on_.C; first += most) f(chunk_of(first, std::min(on_.C, first + most), rounded));
  }

  // All classes, for what they add to their rows.
  void sweep_classes(const SweepTask<T>& task, bool plain = false) {
    clear_groups();
    sweep_from(0, task, plain);
  }
  void sweep_from(int64_t first, const SweepTask<T>& task, bool plain) {
    for_chunks(first, copies() ? classes_a_chunk(0) : on_.C,
               [&](const HeadChunk<T, E>& chunk) { path_->sweep(stream_, on_, chunk, task, plain); });
    per_row(add_groups_kernel<T>);
  }

  // to[row] = x[row]·scale[row], or as it is, rounded and filled up with zeros; x at `places` of the rows from `first` on.
  void round_rows(const T* x, const ClassRows& places, int64_t first, const T* scale, int64_t rows, E* to) {
    launch(stream_, unsigned(blocks_for(rows, kRowThreads / kWarp)), kRowThreads, round_rows_kernel<T, E>, x, places,
           first, scale, rows, on_.D, to, depth_);
  }

  SweepTask<T> sweep_task() const {
    SweepTask<T> task;
    task.cosine_limit = on_.plan.cosine_epsilon > 0 ? T(1 - on_.plan.cosine_epsilon) : T(2);
    task.slope_outside = on_.plan.gradient == Gradient::detached ? T(1) : T(0);
    return task;
  }
  SweepTask<T> maximum_task() const {
    SweepTask<T> task = sweep_task();
    task.maximum = true;
    return task;
  }

  void clear_groups() {
    const int64_t n = on_.groups * on_.N;
    FM_CUDA(cudaMemsetAsync(on_.group_sums, 0, size_t(n) * sizeof(double), stream_));
    FM_CUDA(cudaMemsetAsync(on_.group_counts, 0, size_t(n) * sizeof(double), stream_));
    launch(stream_, unsigned(blocks_for(n, kRowThreads)), kRowThreads, fill_rows_kernel<T>, on_.group_largest, n,
           kAbsent);
  }

  void add_up_centers() {
    const int64_t chunks = std::min(kCenterChunks, on_.R), axes = blocks_for(on_.D, kRowThreads);
    double* const parts = scratch_.take<double>(chunks * on_.D);
    on_.sum_of_centers = scratch_.take<double>(on_.D);
    launch(stream_, dim3(unsigned(chunks), unsigned(axes)), kRowThreads, sum_centers_kernel<T>, on_, parts);
    launch(stream_, unsigned(axes), kRowThreads, add_centers_kernel<T>, on_, parts, chunks);
  }

  LiveTiles find_live_tiles(const ClassChunks& chunks) {
    const int64_t N = on_.N, blocks = filter_blocks(on_.C), row_blocks = filter_row_blocks(N);
    double* const limits = scratch_.take<double>(N);
    uint8_t* const live = scratch_.take<uint8_t>(blocks * row_blocks);
    const LiveTiles all{scratch_.take<int32_t>(blocks * row_blocks), scratch_.take<int32_t>(blocks + chunks.count()),
                        scratch_.take<int32_t>(blocks * row_blocks),
                        scratch_.take<int32_t>(chunks.count() * row_blocks)};
    per_row(filter_limits_kernel<T>, left_out_, limits);
    launch(stream_, unsigned(blocks), kFilterRows, find_live_kernel, N, on_.C, static_cast<const Bfloat16*>(masses_),
           classes_a_mass_, static_cast<const double*>(limits), live);
    launch(stream_, unsigned(chunks.count()), kListThreads, list_live_kernel, N, chunks,
           static_cast<const uint8_t*>(live), all, on_.report);
    return all;
  }

  void find_chains() {
    on_.next = scratch_.take<int32_t>(on_.N);
    on_.first = scratch_.take<int32_t>(on_.R);
    FM_CUDA(cudaMemsetAsync(on_.first, 0xff, size_t(on_.R) * sizeof(int32_t), stream_));
    per_row(chains_kernel<T>);
  }

  [[noreturn]] void fail_with(const HeadReport& report) {
    const auto row_norm = [&](const T* rows, int64_t row) {
      std::vector<T> values(size_t(on_.D));
      gpu_.read(values.data(), rows + row * on_.D, values.size() * sizeof(T));
      return exact_norm(values.data(), on_.D);
    };
    constexpr unsigned long long none = HeadReport::kNone;
    if (report.bad_label < none) {
      int32_t label = 0;
      gpu_.read(&label, on_.labels + report.bad_label, sizeof label);
      fail_label(label, on_.C, int64_t(report.bad_label));
    }
    T value = 0;
    if (report.bad_margin < none) {
      gpu_.read(&value, on_.margins + report.bad_margin, sizeof value);
      fail_margin(value, int64_t(report.bad_margin));
    }
    if (report.bad_feature < none)
      fail_feature(row_norm(on_.x, int64_t(report.bad_feature)), int64_t(report.bad_feature));
    if (report.bad_lse < none) {
      double lse = 0;
      gpu_.read(&lse, &on_.rows[report.bad_lse].lse, sizeof lse);
      fail_lse(lse, int64_t(report.bad_lse));
    }
    int64_t center = int64_t(report.bad_center);
    if (on_.classes) {
      int32_t one = 0;
      gpu_.read(&one, on_.classes + center / on_.K, sizeof one);
      center = one * on_.K + center % on_.K;
    }
    fail_center(row_norm(on_.w, center), center, on_.K);
  }

  CudaBackend& gpu_;
  const Stream& stream_;
  DeviceScratch scratch_;
  const Head* again_;
  DeviceHead<T> on_{};
  const HeadPath<T, E>* path_ = nullptr;
  const E* embeddings_ = nullptr;  // [N, depth_]
  E* units_ = nullptr;             // [R, depth_] rows of weight; none where memory is short, and of E = T
  int64_t depth_ = 0;
  bool renews_ = false;
  std::shared_ptr<UnitRows> kept_rows_;
  uint64_t change_ = 0;         // the step's of weight
  int64_t kept_ = 0;            // classes, from 0 on
  E* terms_ = nullptr;          // [N, K·kept_ in steps] theirs
  Bfloat16* masses_ = nullptr;  // SweepTask's, where tiles are left out
  int64_t classes_a_mass_ = 0;
  double left_out_ = 0;  // at most, of a row's probability
  T* slabs_ = nullptr;
  int64_t splits_ = 0;
};

// f(zero, operand) with values of the tensors' type and of the products'.
template <class F>
auto dispatch_precision(Dtype dtype, Precision precision, F&& f) {
  if (precision == Precision::float32) return dispatch_float(dtype, [&](auto zero) { return f(zero, zero); });
  FM_CHECK(type, dtype == Dtype::float32, "expected float32 tensors for precision bfloat16, got ", name_of(dtype));
  return f(float{}, Bfloat16{});
}

}  // namespace fm
