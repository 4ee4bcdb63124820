// The kernels of native/cuda/hopper as they are written, on the host: under models of the copy engine, the barriers, the
// matrix descriptors and the warpgroup's products (emulation/hopper.h), against float64, over odd shapes and random orders
// of everything that the hardware orders by itself.  Mistakes that are planted in the models must be found.
#include <cuda_runtime.h>

#include "../../native/common/methods.h"
#include "../../native/cuda/head_rows.cuh"
#include "../../native/cuda/hopper/launch.h"

#include <cstdio>
#include <cstring>
#include <random>
#include <sstream>

#include "optimizer_reference.h"

namespace {

using namespace fm;
using hopper::BfloatChunk;

int passed = 0, failed = 0;

template <class... Parts>
void expect(bool ok, const Parts&... parts) {
  ok ? passed++ : failed++;
  if (ok) return;
  std::ostringstream message;
  (message << ... << parts);
  if (failed < 60) std::printf("FAILED: %s\n", message.str().c_str());
}

template <class T>
struct Aligned {  // as cudaMalloc has it; NaN, so that what a kernel forgets to write shows
  T* data;
  size_t n;
  explicit Aligned(int64_t n) : data(nullptr), n(size_t(n)) {
    void* memory = nullptr;
    FM_CUDA(cudaMalloc(&memory, this->n * sizeof(T) + 512));
    data = static_cast<T*>(memory);
  }
  ~Aligned() { cudaFree(data); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  T& operator[](int64_t i) { return data[i]; }
  void fill(T value) { std::fill(data, data + n, value); }
};

constexpr int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

struct Case {
  int64_t N, classes, K, D, groups = 2, first_class = 0, splits = 3;
  Negatives negatives = Negatives::plain;
  Method method = Method::arcface;
  double cosine_epsilon = 0, smoothing = 0, scale = 16, shift = 0;
  Gradient gradient = Gradient::exact;
  bool ties = false;

  std::string name() const {
    std::ostringstream out;
    out << "N " << N << " classes " << classes << " K " << K << " D " << D << " groups " << groups << " from "
        << first_class << " method " << name_of(method) << " negatives " << int(negatives) << " epsilon "
        << cosine_epsilon;
    return out.str();
  }
};

// A chunk of a head, filled at random, and what the kernels leave of it.
struct Problem {
  Case of;
  MarginParams p;
  int64_t N, K, D, classes, C, depth, columns, stride, row_tiles;
  Aligned<Bfloat16> rows, centers, scores;
  Aligned<float> embeddings, weight, velocity, squares, d_weight, inverse, row_values, dots, slabs, group_largest;
  Aligned<double> group_sums, group_counts;
  Aligned<int32_t> labels, first, next;
  Aligned<HeadReport> report;
  Aligned<OptimizerStep<float>> numbers;
  Aligned<HeadNumbers<float>> head_numbers;
  std::vector<double> cos;  // [N, classes, K]
  DeviceHead<float> head{};
  BfloatChunk chunk{};
  SweepTask<float> task;
  Stream stream{0};

  explicit Problem(const Case& of, unsigned seed)
      : of(of),
        N(of.N),
        K(of.K),
        D(of.D),
        classes(of.classes),
        C(of.first_class + of.classes + 5),
        depth(rounded_up(D, kDepthStep)),
        columns(classes * K),
        stride(K * rounded_up(classes, kScoreStep)),
        row_tiles((N + 63) / 64),
        rows(N * depth),
        centers(columns * depth),
        scores(N * stride),
        embeddings(N * D),
        weight(C * K * D),
        velocity(C * K * D),
        squares(C * K * D),
        d_weight(C * K * D),
        inverse(C * K),
        row_values(9 * N),
        dots(row_tiles * columns),
        slabs(of.splits * N * D),
        group_largest(of.groups * N),
        group_sums(of.groups * N),
        group_counts(of.groups * N),
        labels(N),
        first(C * K),
        next(N),
        report(1),
        numbers(1),
        head_numbers(1) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> uniform(0, 1);
    p.method = of.method;
    p.negatives = of.negatives;
    p.t = 0.3, p.filter_above = 0.2, p.scale = of.scale, p.power = 2, p.margin = 0.3;
    p.gradient = of.gradient;
    head.N = N, head.C = C, head.K = K, head.D = D, head.R = C * K;
    head.w = weight.data, head.labels = labels.data, head.binary = is_binary(p.method);
    head.plan.method = p.method, head.plan.negatives = p.negatives;
    head_numbers[0] = HeadNumbers<float>(p), head.numbers = head_numbers.data;
    head.report = report.data;
    constexpr unsigned long long none = HeadReport::kNone;
    report[0] = HeadReport{none, none, none, none, none, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    head.embeddings = embeddings.data, head.first = first.data, head.next = next.data, head.inverse = inverse.data;
    float** const fields[] = {&head.scale,      &head.shift,   &head.threshold,
                              &head.factor,     &head.spread,  &head.target_gradient,
                              &head.target_cos, &head.largest, &head.seen_target_cos};
    for (int field = 0; field < 9; field++) *fields[field] = row_values.data + field * N;
    head.groups = of.groups, head.group_sums = group_sums.data, head.group_counts = group_counts.data;
    head.group_largest = group_largest.data;
    group_sums.fill(0), group_counts.fill(0), group_largest.fill(float(kAbsent)), slabs.fill(0);

    first.fill(-1), next.fill(-1);
    for (int64_t i = 0; i < N; i++) {
      // Rows without a target, rows that share one, targets of other chunks.
      labels[i] = i % 7 == 3 ? -1 : i % 7 == 5 ? labels[i - 1] : int32_t(random() % unsigned(C));
      head.scale[i] = float(of.scale) * (1 + 0.1f * uniform(random));
      head.shift[i] = float(of.shift);
      head.threshold[i] = i % 5 == 4 ? 2 : uniform(random) - 0.5f;
      head.factor[i] = i % 7 == 3 ? 0 : uniform(random) * float(std::exp(-of.scale * 0.3));
      head.spread[i] = float(of.smoothing) * uniform(random);
      head.target_gradient[i] = -uniform(random);
      head.target_cos[i] = uniform(random);
    }
    // As chains_kernel: the first row of a center, and from each the next.
    for (int64_t i = N - 1; i >= 0; i--) {
      if (labels[i] < 0) continue;
      int32_t& before = first[labels[i] * K + labels[i] % K];
      next[i] = before, before = int32_t(i);
    }
    for (int64_t j = 0; j < C * K * D; j++) weight[j] = normal(random), velocity[j] = normal(random);
    for (int64_t j = 0; j < C * K * D; j++) squares[j] = std::fabs(weight[j]) + 0.1f;
    for (int64_t j = 0; j < C * K; j++) {
      float square = 0;
      for (int64_t d = 0; d < D; d++) square += weight[j * D + d] * weight[j * D + d];
      inverse[j] = 1 / std::sqrt(square);
    }
    inverse[(of.first_class + classes / 2) * K] = 1 / float(kTiny);  // a center without direction
    for (int64_t j = 0; j < columns; j++)
      for (int64_t d = 0; d < depth; d++) {
        // The second center of some classes is the first: its cosine is met twice.
        const int64_t from = of.ties && j % K == 1 && j / K % 3 == 0 ? j - 1 : j, at = of.first_class * K + from;
        centers[j * depth + d] = Bfloat16(d < D ? weight[at * D + d] : 0);
        if (d + 1 == depth) normalise(&centers[j * depth]);
      }
    for (int64_t i = 0; i < N; i++) {
      for (int64_t d = 0; d < depth; d++) rows[i * depth + d] = Bfloat16(d < D ? normal(random) : 0);
      normalise(&rows[i * depth]);
      for (int64_t d = 0; d < D; d++) embeddings[i * D + d] = float(rows[i * depth + d]);
    }
    chunk = {of.first_class, of.first_class + classes,
             columns,        depth,
             rows.data,      centers.data,
             nullptr,        stride,
             scores.data,    dots.data,
             nullptr};
    task.totals = true;
    task.cosine_limit = of.cosine_epsilon > 0 ? float(1 - of.cosine_epsilon) : 2;
    task.slope_outside = of.gradient == Gradient::detached ? 1 : 0;
    cos.resize(size_t(N * columns));
    for (int64_t i = 0; i < N; i++)
      for (int64_t j = 0; j < columns; j++) {
        double sum = 0;
        for (int64_t d = 0; d < D; d++)
          sum += double(float(rows[i * depth + d])) * double(float(centers[j * depth + d]));
        cos[size_t(i * columns + j)] = sum;
      }
  }
  void normalise(Bfloat16* row) const {
    double square = 0;
    for (int64_t d = 0; d < depth; d++) square += double(float(row[d])) * double(float(row[d]));
    for (int64_t d = 0; d < depth; d++) row[d] = Bfloat16(float(float(row[d]) / std::sqrt(square)));
  }

  // --- the reference, of the papers' formulas
  struct Term {
    double phi, slope, term, sum, count;
  };
  Term term_of(int64_t i, double c) const {
    const auto& values = row_values.data;
    const double scale = values[i], shift = values[N + i], threshold = values[2 * N + i];
    const double limit = task.cosine_limit;
    double phi = std::min(std::max(c, -limit), limit), slope = phi == c ? 1 : double(task.slope_outside);
    if (head.binary) {
      const double half = (phi + 1) / 2;
      if (of.method == Method::sphereface2) {
        slope *= of.gradient == Gradient::detached ? 1 : 2 * half;
        phi = 2 * half * half - 1 + p.margin;
      }
      const double z = scale * phi - shift, e = 1 / (1 + std::exp(-z));
      return {phi, slope, e, std::log1p(std::exp(-std::fabs(z))) + std::max(z, 0.0), e};
    }
    if (phi > threshold) switch (of.negatives) {
        case Negatives::mv_adaptive: phi = (1 + p.t) * phi + p.t, slope *= 1 + p.t; break;
        case Negatives::mv_fixed: phi += p.t; break;
        case Negatives::curricular: slope *= p.t + 2 * phi, phi *= p.t + phi; break;
        case Negatives::filter: phi = 0, slope = 0; break;
        case Negatives::plain: break;
      }
    const double e = std::exp(scale * phi - shift);
    return {phi, slope, e, e, 0};
  }
  int best(int64_t i, int64_t c) const {
    int at = 0;
    for (int k = 1; k < K; k++)
      if (cos[size_t(i * columns + c * K + k)] > cos[size_t(i * columns + c * K + at)]) at = k;
    return at;
  }

  void run_totals() {
    BfloatChunk without = chunk;
    without.scores = nullptr;
    kHopperPath.sweep(stream, head, without, task, false);
  }
  void run_scores() {
    SweepTask<float> without = task;
    without.totals = false;
    kHopperPath.sweep(stream, head, chunk, without, false);
  }
  void run_terms() {
    SweepTask<float> both = task;
    both.terms = true;
    kHopperPath.sweep(stream, head, chunk, both, false);
  }
  void run_features() { kHopperPath.features_product(stream, head, chunk, slabs.data, of.splits); }
  // optimizer: none for the gradient itself.
  WeightTask<float> weights(const OptimizerParams* optimizer, bool project) {
    WeightTask<float> t{};
    t.project = project;
    if (!optimizer) return t.d_weight = d_weight.data, t;
    t.weight = weight.data, t.states[0] = velocity.data, t.states[1] = squares.data;
    numbers[0] = OptimizerStep<float>(*optimizer);
    t.optimizer = optimizer->type, t.numbers = numbers.data;
    return t;
  }

  // Largest error over what is wanted, as a share.
  double totals_error(bool maximum) {
    double worst = 0;
    for (int64_t i = 0; i < N; i++) {
      double sum = 0, count = 0, largest = kAbsent, seen = kAbsent;
      for (int64_t c = 0; c < classes; c++) {
        const double at = cos[size_t(i * columns + c * K + best(i, c))];
        if (of.first_class + c == labels[i]) {
          seen = at;
          continue;
        }
        const Term term = term_of(i, at);
        sum += term.sum, count += head.binary ? term.count : 0;
        largest = std::max(largest, maximum ? term.phi : at);
      }
      double got_sum = 0, got_count = 0, got_largest = kAbsent;
      for (int64_t g = 0; g < of.groups; g++) {
        got_sum += group_sums[g * N + i], got_count += group_counts[g * N + i];
        got_largest = std::max(got_largest, double(group_largest[g * N + i]));
      }
      if (!maximum) {
        worst = std::max(worst, std::fabs(got_sum - sum) / std::max(sum, 1e-30));
        worst = std::max(worst, std::fabs(got_count - count) / std::max(count, 1e-30));
        if (seen > kAbsent) worst = std::max(worst, std::fabs(head.seen_target_cos[i] - seen));
      }
      worst = std::max(worst, std::fabs(got_largest - largest) / std::max(1.0, std::fabs(largest)));
      if (!(got_sum == got_sum && got_count == got_count)) return INFINITY;
    }
    return worst;
  }
  // Of each score, over its own size and a small share of its row's largest.  terms: as they are without their row's factor.
  double scores_error(bool terms) {
    double worst = 0;
    std::vector<double> wanted_dots(size_t(row_tiles * columns)), size(size_t(row_tiles * columns), 1e-30);
    for (int64_t i = 0; i < N; i++)
      for (int64_t c = 0; c < classes; c++) {
        const int at = best(i, c);
        for (int k = 0; k < K; k++) {
          const double cosine = cos[size_t(i * columns + c * K + at)];
          const bool mine = k == at && of.first_class + c != labels[i];
          const Term term = term_of(i, cosine);
          const double factor = terms ? 1 : head.factor[i];
          const double wanted = mine ? term.term * term.slope * factor - (terms ? 0 : head.spread[i]) : 0;
          const double got = float(scores[i * stride + k * (stride / K) + c]);
          const double room = std::fabs(wanted) + term.term * std::fabs(term.slope) * factor + 1e-30;
          worst = std::max(worst, mine ? std::fabs(got - wanted) / room : got == 0 ? 0 : INFINITY);
          if (!(got == got)) return INFINITY;
          const size_t dot = size_t(i / 64 * columns + c * K + k);
          wanted_dots[dot] += wanted * cosine, size[dot] += std::fabs(wanted) + (mine ? std::fabs(head.spread[i]) : 0);
        }
      }
    for (size_t at = 0; at < wanted_dots.size() && !terms; at++) {
      const double error = std::fabs(dots[int64_t(at)] - wanted_dots[at]) / size[at];
      worst = std::max(worst, error == error ? error : INFINITY);
    }
    return worst;
  }
  double features_error() {
    double worst = 0;
    for (int64_t i = 0; i < N; i++)
      for (int64_t d = 0; d < D; d++) {
        double wanted = 0, size = 1e-30, got = 0;
        for (int64_t j = 0; j < columns; j++) {
          const double term =
              double(float(scores[i * stride + j % K * (stride / K) + j / K])) * double(float(centers[j * depth + d]));
          wanted += term, size += std::fabs(term);
        }
        for (int64_t s = 0; s < of.splits; s++) got += slabs[(s * N + i) * D + d];
        worst = std::max(worst, std::fabs(got - wanted) / size);
        if (!(got == got)) return INFINITY;
      }
    return worst;
  }
  bool whole_rows() const { return kHopperPath.whole_rows(D); }
  // A step that renews its unit rows leaves those, bit by bit, that are made of its rows of weight later.
  bool renews() {
    Aligned<Bfloat16> units(C * K * depth);
    std::memcpy(units.data + of.first_class * K * depth, centers.data, centers.n * sizeof(Bfloat16));
    chunk.units = centers.data;
    kHopperPath.weights_product(stream, head, chunk, weights(&kSgdCase, true));
    chunk.units = nullptr;
    const std::vector<float> renewed(inverse.data, inverse.data + inverse.n);
    launch(stream, unsigned(blocks_for(C * K * kWeightThreads, kRowThreads)), kRowThreads,
           weight_rows_kernel<float, Bfloat16>, head, units.data, depth);
    const int64_t first = of.first_class * K;
    return report[0].unusual == 0 &&
           std::memcmp(units.data + first * depth, centers.data, centers.n * sizeof(Bfloat16)) == 0 &&
           std::memcmp(inverse.data + first, renewed.data() + first, size_t(columns) * sizeof(float)) == 0;
  }
  double weights_error(const OptimizerParams* optimizer, bool project) {
    const bool update = optimizer != nullptr;
    const auto values = [](const Aligned<float>& of) { return std::vector<double>(of.data, of.data + of.n); };
    const std::vector<double> w = values(weight), before[] = {values(velocity), values(squares)},
                              lengths = values(inverse);
    kHopperPath.weights_product(stream, head, chunk, weights(optimizer, project));
    double worst = 0;
    for (int64_t r = 0; r < C * K; r++) {
      const int64_t j = r - of.first_class * K;
      const bool in_chunk = j >= 0 && j < columns;
      double dot = 0;
      std::vector<double> dw(size_t(D), 0), size(size_t(D), 1e-30);
      if (in_chunk) {
        const auto add = [&](double g, double cosine, const auto& e) {
          if (!whole_rows()) dot += g * cosine;
          for (int64_t d = 0; d < D; d++) dw[size_t(d)] += g * e(d), size[size_t(d)] += std::fabs(g * e(d));
        };
        for (int64_t t = 0; t < row_tiles && !whole_rows(); t++) dot += double(dots[t * columns + j]);
        for (int64_t i = 0; i < N; i++) {
          add(double(float(scores[i * stride + j % K * (stride / K) + j / K])), 0,
              [&](int64_t d) { return double(float(rows[i * depth + d])); });
          if (update && labels[i] >= 0 && labels[i] * K + labels[i] % K == r)
            add(head.target_gradient[i], head.target_cos[i], [&](int64_t d) { return double(embeddings[i * D + d]); });
        }
      }
      const double length = has_direction(float(lengths[size_t(r)])) ? lengths[size_t(r)] : 0;
      double along_size = 0;
      if (whole_rows())
        for (int64_t d = 0; d < D; d++) {
          const double unit = w[size_t(r * D + d)] * length;
          dot += dw[size_t(d)] * unit, along_size += size[size_t(d)] * std::fabs(unit) * length;
        }
      const double across = project || length == 0 ? length : 1, along = project ? dot * length : 0;
      for (int64_t d = 0; d < D; d++) {
        const size_t at = size_t(r * D + d);
        const double gradient = across * (dw[size_t(d)] - along * w[at]);
        const double room =
            std::fabs(across) * (size[size_t(d)] + (std::fabs(along) + (project ? along_size : 0)) * std::fabs(w[at]));
        if (!update) {
          if (in_chunk) worst = std::max(worst, std::fabs(d_weight[int64_t(at)] - gradient) / (room + 1e-30));
          else if (d_weight[int64_t(at)] == d_weight[int64_t(at)]) return INFINITY;  // written where it should not be
          continue;
        }
        Stepped want{{w[at]}, {{before[0][at]}, {before[1][at]}}};
        if (in_chunk) want = stepped(*optimizer, want.weight, want.states, {gradient});
        const double scale = std::fabs(before[0][at]) + std::fabs(w[at]) + room;
        worst = std::max(worst, std::fabs(velocity[int64_t(at)] - want.states[0][0]) / scale);
        worst =
            std::max(worst, std::fabs(squares[int64_t(at)] - want.states[1][0]) / (scale * (1 + std::fabs(gradient))));
        worst = std::max(worst, std::fabs(weight[int64_t(at)] - want.weight[0]) / scale);
        if (!(worst == worst)) return INFINITY;
      }
    }
    return worst;
  }
};

// Rounding of the scores to bfloat16, and of float32 elsewhere: cosines of D terms, then an exponent of the scale.
constexpr double kBfloat = 1.0 / 256;
double float_room(const Case& of) { return 3e-6 * (1 + of.scale); }

void whole(const Case& of, unsigned seed) {
  try {
    Problem q(of, seed);
    q.run_totals();
    const double totals = q.totals_error(false);
    expect(totals < float_room(of), of.name(), ": totals off by ", totals);
    q.run_scores();
    const double scores = q.scores_error(false);
    expect(scores < kBfloat + float_room(of), of.name(), ": scores off by ", scores);
    q.run_features();
    const double features = q.features_error();
    expect(features < 2e-6, of.name(), ": dX off by ", features);
    for (bool project : {true, false}) {
      const double weights = q.weights_error(nullptr, project);
      expect(weights < 2e-6, of.name(), ": dW off by ", weights);
    }
    const double step = q.weights_error(seed % 4 < 2 ? &kSgdCase : &kAdamWCase, seed % 2 == 0);
    expect(step < 2e-6, of.name(), ": the step is off by ", step);
    if (q.whole_rows()) {
      expect(q.renews(), of.name(), ": other unit rows than its rows of weight have");
      Problem kept(of, seed);
      kept.run_terms();
      const double sums = kept.totals_error(false), terms = kept.scores_error(true);
      expect(sums < float_room(of), of.name(), ": totals beside terms off by ", sums);
      expect(terms < kBfloat + float_room(of), of.name(), ": terms off by ", terms);
    }
    expect(!q.report[0].given_up(), of.name(), ": something gave up");
    if (q.head.binary) return;
    Problem again(of, seed);
    again.task.totals = false, again.task.maximum = true;
    again.run_totals();
    const double maximum = again.totals_error(true);
    expect(maximum < 1e-6, of.name(), ": the largest phi is off by ", maximum);
  } catch (const std::exception& error) {
    expect(false, of.name(), ": ", error.what());
  }
}

const Case kCases[] = {
    {1, 1, 1, 8},          // less than anything
    {5, 300, 1, 64},       // a few rows
    {130, 259, 1, 72, 3},  // ragged everywhere, more groups than a cluster has tiles
    {300, 700, 1, 136, 2, 3},
    {70, 130, 2, 64, 2, 1},
    {65, 67, 3, 40, 2, 2},
    {129, 129, 4, 64, 1},
    {66, 97, 8, 72, 4, 7},
    {64, 40, 1, 512, 1},   // the deepest rows that a block keeps
    {40, 300, 1, 520, 2},  // and deeper
    {40, 70, 2, 576, 3, 2},
    {257, 40, 1, 320, 2},  // a second axis tile, a second row cluster
    {3, 17500, 1, 8, 2},   // more tiles than clusters: a block has several, one after the other
};

void every_kind() {
  unsigned seed = 1;
  for (const Case& of : kCases) whole(of, seed++);
  for (Negatives rule : {Negatives::mv_adaptive, Negatives::mv_fixed, Negatives::curricular, Negatives::filter})
    for (int64_t K : {1, 3}) {
      Case of{70, 150, K, 24, 2, 4};
      of.negatives = rule;
      whole(of, seed++);
      of.cosine_epsilon = 0.7;
      of.gradient = K == 1 ? Gradient::detached : Gradient::exact;
      whole(of, seed++);
    }
  for (Method method : {Method::sphereface2, Method::uniface})
    for (int64_t K : {1, 2, 8}) {
      Case of{70, 150, K, 24, 2, 4};
      of.method = method;
      of.shift = 3;
      whole(of, seed++);
      of.cosine_epsilon = 0.7;
      of.gradient = Gradient::detached;
      whole(of, seed++);
    }
  Case of{70, 150, 1, 24, 2, 4};
  of.cosine_epsilon = 0.8;  // plain, but clipped
  whole(of, seed++);
  of.cosine_epsilon = 0;
  of.smoothing = 1e-4;
  whole(of, seed++);
  of = {70, 90, 4, 24, 2};
  of.ties = true;
  whole(of, seed++);
  of = {70, 90, 1, 24, 2};
  of.scale = 64, of.shift = 20;
  whole(of, seed++);
}

// What everything leaves, bit by bit, whatever the order of threads, copies and products.
std::vector<float> bits(const Case& of, unsigned order) {
  setenv("FM_EMULATED_SEED", std::to_string(order).c_str(), 1);
  Problem q(of, 11);
  q.run_totals(), q.run_scores(), q.run_features();
  if (q.whole_rows()) q.chunk.units = q.centers.data;
  kHopperPath.weights_product(q.stream, q.head, q.chunk, q.weights(&kSgdCase, true));
  q.chunk.units = nullptr;
  q.run_terms();
  unsetenv("FM_EMULATED_SEED");
  std::vector<float> all(q.slabs.data, q.slabs.data + q.slabs.n);
  all.insert(all.end(), q.weight.data, q.weight.data + q.weight.n);
  all.insert(all.end(), q.velocity.data, q.velocity.data + q.velocity.n);
  for (size_t i = 0; i < q.group_sums.n; i++) all.push_back(float(q.group_sums[int64_t(i)]));
  for (int64_t i = 0; i < q.N * q.K; i++)
    for (int64_t c = 0; c < q.classes; c++) all.push_back(float(q.scores[i * (q.stride / q.K) + c]));
  return all;
}
void any_order() {
  for (const Case& of :
       {Case{140, 700, 1, 64, 2}, Case{70, 100, 3, 200, 1}, Case{40, 300, 1, 320, 2}, Case{40, 300, 1, 520, 2}}) {
    const std::vector<float> first = bits(of, 1);
    for (unsigned order : {2u, 3u, 4u, 5u})
      expect(bits(of, order) == first, of.name(), ": other bits in another order");
  }
}

// A mistake must show: as an error of the models, or in the numbers.
void planted(const char* mistake, bool (*shows)(Problem&)) {
  cuda_emulation::mistake = mistake;
  int seen = 0;
  for (unsigned seed = 1; seed <= 60 && seen == 0; seed++) {
    setenv("FM_EMULATED_SEED", std::to_string(100 * seed).c_str(), 1);
    Problem q({140, 900, 1, 200, 1}, seed);
    try {
      seen += shows(q);
    } catch (const std::logic_error&) {
      seen++;
    }
  }
  unsetenv("FM_EMULATED_SEED");
  cuda_emulation::mistake.clear();
  expect(seen > 0, "a planted mistake (", mistake, ") shows");
}
bool totals_are_off(Problem& q) {
  q.run_totals();
  return !(q.totals_error(false) < 1e-3);
}
bool scores_are_off(Problem& q) {
  q.run_scores();
  return !(q.scores_error(false) < 1e-2);
}
bool products_are_off(Problem& q) {
  const std::string planted = cuda_emulation::mistake;
  cuda_emulation::mistake.clear();
  q.run_scores();
  cuda_emulation::mistake = planted;
  q.run_features();
  return !(q.features_error() < 1e-3) || !(q.weights_error(&kSgdCase, true) < 1e-3);
}
void mistakes() {
  for (const char* mistake : {"wait", "early", "bytes", "transposed", "arrivals", "cluster"}) {
    planted(mistake, totals_are_off);
    planted(mistake, scores_are_off);
    planted(mistake, products_are_off);
  }
  for (const char* mistake : {"fence", "swizzle", "read"}) planted(mistake, scores_are_off);
}

// The swizzle as NVIDIA documents it: 16-byte piece p of 128-byte row r is at piece p ^ (r mod 8); of 64-byte rows,
// p ^ (r/2 mod 4).
void swizzle() {
  cuda_emulation::TensorMap map{};
  for (uint32_t row = 0; row < 16; row++)
    for (uint32_t piece = 0; piece < 8; piece++) {
      map.swizzle = 128;
      expect(cuda_emulation::Cluster::turned(map, 2048 + row * 128 + piece * 16) ==
                 2048 + row * 128 + (piece ^ row % 8) * 16,
             "a 128-byte row");
      map.swizzle = 64;
      if (piece < 4)
        expect(cuda_emulation::Cluster::turned(map, 2048 + row * 64 + piece * 16) ==
                   2048 + row * 64 + (piece ^ row / 2 % 4) * 16,
               "a 64-byte row");
    }
}

// An update is not taken where something was refused.
void refusal() {
  Problem q({70, 90, 1, 24, 2}, 5);
  q.run_scores();
  const std::vector<float> before(q.weight.data, q.weight.data + q.weight.n);
  q.report[0].bad_label = 3;
  kHopperPath.weights_product(q.stream, q.head, q.chunk, q.weights(&kSgdCase, true));
  expect(std::equal(before.begin(), before.end(), q.weight.data), "a refused step leaves weight alone");
}

// Of a box whose bytes are never counted, every kernel ends and says so; what follows it ends as soon, and no update is
// taken from what it left.
void gives_up() {
  const auto stuck = [](const char* what, const Case& of, bool in_step, const auto& run) {
    for (unsigned order : {1u, 2u, 3u}) {
      setenv("FM_EMULATED_SEED", std::to_string(order).c_str(), 1);
      Problem q(of, 5);
      cuda_emulation::mistake = "lost";
      run(q);
      cuda_emulation::mistake.clear();
      expect(q.report[0].given_up() && bool(q.report[0].half_stepped) == in_step, what, " of a lost box are disowned");
      q.run_totals(), q.run_scores(), q.run_features();
      if (in_step) continue;
      const std::vector<float> before(q.weight.data, q.weight.data + q.weight.n);
      kHopperPath.weights_product(q.stream, q.head, q.chunk, q.weights(&kSgdCase, true));
      expect(std::equal(before.begin(), before.end(), q.weight.data), what, " of a lost box leave weight alone");
    }
  };
  const Case of{140, 900, 1, 200, 1}, deep{40, 300, 1, 520, 2};
  stuck("totals", of, false, [](Problem& q) { q.run_totals(); });
  stuck("totals of deep rows", deep, false, [](Problem& q) { q.run_totals(); });
  stuck("scores", of, false, [](Problem& q) { q.run_scores(); });
  stuck("features", of, false, [](Problem& q) { q.scores.fill(Bfloat16(0.f)), q.run_features(); });
  stuck("weights", of, true, [](Problem& q) {
    q.scores.fill(Bfloat16(0.f)), q.dots.fill(0);
    kHopperPath.weights_product(q.stream, q.head, q.chunk, q.weights(&kSgdCase, true));
  });
  unsetenv("FM_EMULATED_SEED");
}

void suits() {
  const auto why_not = [](int capability, int64_t K, int64_t D) {
    return kHopperPath.why_not({capability, 128, 1000, K, D});
  };
  expect(why_not(90, 1, 512).empty() && why_not(90, 8, 2048).empty() && why_not(90, 3, 8).empty(), "what suits");
  expect(!why_not(80, 1, 512).empty() && !why_not(100, 1, 512).empty(), "other capabilities do not suit");
  expect(why_not(90, 5, 512).find("got 5") != std::string::npos, "five centers do not suit");
  expect(why_not(90, 1, 30).find("got 30") != std::string::npos, "rows of 30 do not suit");
}

}  // namespace

int main() {
  cuda_emulation::late = false;
  try {
    swizzle();
    suits();
    every_kind();
    any_order();
    refusal();
    gives_up();
    mistakes();
  } catch (const std::exception& error) {
    expect(false, error.what());
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
