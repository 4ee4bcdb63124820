// Steps that leave out tiles of dL/dcos (HeadOptions::gradient_filter), on an emulated device of compute capability 9.0:
// which tiles, what a row loses by it, and that what is left is computed as without.
#include "hopper_head_test.h"
#include "optimizer_reference.h"

namespace {

using namespace fm;

constexpr int kBlock = 256;  // of rows, and of classes

// Every 256 classes lie around an axis of their own.  The rows of block b lean on classes of the axes b and b + `apart`;
// some have no target, and lie on the last axis.
Problem clusters(int64_t N, int64_t C, int64_t K, int64_t D, int apart, unsigned seed, double spread = 0.35) {
  Problem q{N, C, K, D, Matrix(size_t(N * D)), Matrix(size_t(C * K * D)), std::vector<int>(size_t(N)), {}};
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, float(spread / std::sqrt(double(D))));
  const auto draw = [&](double* row, int64_t axis) {
    for (int64_t d = 0; d < D; d++) row[d] = float(normal(random)) + (d == axis);
  };
  for (int64_t j = 0; j < C * K; j++) draw(&q.w[size_t(j * D)], j / K / kBlock);
  for (int64_t i = 0; i < N; i++) {
    const int64_t axis = i / kBlock + (i % 2) * apart, first = axis * kBlock;
    q.labels[size_t(i)] =
        i % 9 == 4 ? -1 : int(first + int64_t(random() % 4096) % std::min<int64_t>(kBlock, C - first));
    draw(&q.x[size_t(i * D)], i % 9 == 4 ? (C - 1) / kBlock : axis);
    for (int64_t d = 0; q.labels[size_t(i)] >= 0 && d < D; d++)
      q.x[size_t(i * D + d)] = float(2 * (q.x[size_t(i * D + d)] + q.w[size_t(q.labels[size_t(i)] * K * D + d)]));
  }
  return q;
}

struct Stepped {
  Matrix dx, lse, loss, w, v;
  double filtered;
};

struct Way {
  double filter = 0;
  double keep_bytes = 0;
  Optimizer type = Optimizer::sgd;
  int steps = 1;
  const char* path = "hopper";
  OptimizerParams optimizer{0.3, 0.7, 0.01};
};

Stepped step(const Problem& q, const MarginParams& p, const Way& way) {
  setenv("FLASHMARGIN_CUDA_HEAD", way.path, 1);
  const Shape rows{q.C * q.K, q.D};
  const Tensor w = on_gpu(rows, q.w), labels = on_gpu<int32_t>({q.N}, Matrix(q.labels.begin(), q.labels.end()));
  OptimizerState state{on_gpu(rows, Matrix(q.w.size(), 0.02))};
  if (way.type == Optimizer::adamw) state.push_back(on_gpu(rows, Matrix(q.w.size(), 0.01)));
  HeadOptions options;
  options.precision = Precision::bfloat16;
  options.keep_bytes = way.keep_bytes;
  options.gradient_filter = way.filter;
  OptimizerParams optimizer = way.type == Optimizer::adamw ? kAdamWCase : way.optimizer;
  Stepped out;
  for (int turn = 0; turn < way.steps; turn++) {
    // Another batch each time: other tiles.
    Matrix x = q.x;
    for (int64_t i = 0; i < q.N; i++)
      for (int64_t d = 0; d < q.D; d++) x[size_t(i * q.D + d)] += turn * 0.01 * std::sin(double(i + 3 * d + turn));
    optimizer.step = 1 + turn;
    const HeadStep made = gpu().head_step(on_gpu({q.N, q.D}, x), w, state, labels, {}, p, optimizer, options);
    out = {from_gpu(made.d_features), from_gpu(made.lse), {made.loss}, {}, {}, made.filtered};
  }
  out.w = from_gpu(w), out.v = from_gpu(state.back());
  return out;
}

// Nothing that could be told apart is left out.
void agrees(const std::string& name, const Problem& q, const MarginParams& p, Way way, double filtered) {
  try {
    const Stepped whole = step(q, p, {0, way.keep_bytes, way.type, way.steps}), got = step(q, p, way);
    expect(whole.filtered == 0, name, ": without a filter ", whole.filtered, " is left out");
    expect(std::fabs(got.filtered - filtered) < 1e-12, name, ": expected ", filtered, " to be left out, got ",
           got.filtered);
    const auto near = [&](const char* what, const Matrix& a, const Matrix& b, double room) {
      const double off = distance(a, b, 1e-6);
      expect(off < room, name, ": ", what, " is off by ", off);
    };
    near("loss", got.loss, whole.loss, 1e-5), near("lse", got.lse, whole.lse, 1e-5);
    near("dx", got.dx, whole.dx, 1e-3), near("w", got.w, whole.w, 1e-4), near("state", got.v, whole.v, 1e-3);
  } catch (const std::exception& error) {
    expect(false, name, ": ", error.what());
  }
}

// A row loses at most its share, and so does a row of weight.
void bound() {
  const int64_t N = 264, C = 522, D = 24;
  const double scale = 8, filter = 0.05;
  const Problem q = clusters(N, C, 1, D, 1, 5);
  for (Method method : {Method::arcface, Method::cosface}) {
    const MarginParams p = params(method, scale, 0.2);
    const OptimizerParams plain{1, 0, 0};  // w moves by dW
    const Way whole{0, 0, Optimizer::sgd, 1, "hopper", plain}, some{filter, 0, Optimizer::sgd, 1, "hopper", plain};
    const Stepped a = step(q, p, whole), b = step(q, p, some);
    expect(b.filtered > 0.1 && b.filtered < 1, "of tiles with a part of the sum ", b.filtered, " are left out");
    const double labelled = double(std::count_if(q.labels.begin(), q.labels.end(), [](int y) { return y >= 0; }));
    const auto apart = [&](const Matrix& x, const Matrix& y, int64_t row) {
      double sum = 0;
      for (int64_t d = 0; d < D; d++) sum += std::pow(x[size_t(row * D + d)] - y[size_t(row * D + d)], 2);
      return std::sqrt(sum);
    };
    const auto norm = [&](const Matrix& x, int64_t row) { return apart(x, Matrix(x.size()), row); };
    double most_of_x = 0, most_of_w = 0;
    for (int64_t i = 0; i < N; i++)
      most_of_x = std::max(most_of_x, apart(a.dx, b.dx, i) * norm(q.x, i) * labelled / (filter * scale));
    for (int64_t j = 0; j < C; j++)
      most_of_w = std::max(most_of_w, apart(a.w, b.w, j) * norm(q.w, j) / (filter * scale * kBlock / double(C)));
    expect(most_of_x > 1e-4 && most_of_x <= 1, "a row of dX loses ", most_of_x, " of what it may");
    expect(most_of_w > 1e-4 && most_of_w <= 1, "a row of dW loses ", most_of_w, " of what it may");
  }
}

// What cannot leave tiles out, doesn't.
void without() {
  const Problem q = clusters(40, 300, 1, 24, 1, 6);
  MarginParams p = params(Method::arcface, 64);
  for (const char* path : {"plain", "tensor"}) {
    const Way way{1e-4, 0, Optimizer::sgd, 1, path}, none{0, 0, Optimizer::sgd, 1, path};
    const Stepped got = step(q, p, way);
    expect(got.filtered == 0 && got.w == step(q, p, none).w, "the path '", path, "' leaves nothing out");
  }
  p.label_smoothing = 0.1;
  expect(step(q, p, {1e-4}).filtered == 0, "with label smoothing nothing is left out");
}

}  // namespace

int main() {
  setenv("FLASHMARGIN_CUDA", FM_EMULATED_CUDA, 0);  // or a library that was named, for a GPU
  setenv("FM_EMULATED_CAPABILITY", "90", 1);
  setenv("FLASHMARGIN_CUDA_SCRATCH", "0.4", 1);  // MiB: chunks of one block or two
  const MarginParams p = params(Method::arcface, 64);
  constexpr double filter = 1e-6, kAll = 1e9;
  // Three blocks of rows, the last not whole, on two of six blocks of classes each.
  const double kept = 520.0 * kBlock * 2;  // the terms of the first 256 classes
  agrees("some kept, replayed", clusters(520, 1290, 1, 24, 3, 1), p, {filter, kept, Optimizer::adamw, 3}, 2 / 3.0);
  // Two blocks of rows, on a block of classes each.
  const Problem q = clusters(264, 300, 1, 24, 0, 2);
  agrees("computed again", q, p, {filter}, 1 / 2.0);
  agrees("all kept", q, p, {filter, kAll}, 1 / 2.0);
  agrees("nothing to leave out", q, params(Method::arcface, 4), {1e-30}, 0);
  MarginParams many = p;
  for (int K : {2, 3, 8}) {
    many.sub_centers = K;
    agrees(std::to_string(K) + " centers", clusters(264, 300, K, 24, 0, unsigned(K)), many, {filter, kept / 2},
           1 / 2.0);
  }
  for (Negatives negatives : {Negatives::curricular, Negatives::mv_adaptive}) {
    MarginParams hard = p;
    hard.negatives = negatives, hard.t = 0.3;
    agrees("negatives " + std::to_string(int(negatives)), q, hard, {filter}, 1 / 2.0);
  }
  MarginParams binary = params(Method::sphereface2, 64, 0.2);
  binary.bias = -64, binary.power = 1;
  agrees("sphereface2", q, binary, {filter}, 1 / 2.0);
  agrees("a scale that needs a shift", q, params(Method::cosface, 128), {filter}, 1 / 2.0);
  agrees("rows of both warpgroups", clusters(20, 300, 1, 304, 0, 3), p, {filter}, 1 / 2.0);
  agrees("rows longer than a tile", clusters(20, 300, 1, 520, 0, 4), p, {filter}, 1 / 2.0);
  // Each row at its own class and far from all others: no tile is there, and weight still decays.
  Problem far = clusters(8, 300, 1, 64, 1, 7, 3);
  for (int64_t i = 0; i < far.N; i++) {
    far.labels[size_t(i)] = int(i * 31);
    std::copy_n(&far.w[size_t(i * 31 * far.D)], far.D, &far.x[size_t(i * far.D)]);
  }
  agrees("nothing left", far, params(Method::cosface, 64, 0.1), {1e-3}, 1);
  try {
    bound();
    without();
  } catch (const std::exception& error) {
    expect(false, error.what());
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
