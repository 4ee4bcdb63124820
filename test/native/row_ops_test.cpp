// Softmax, gathering, weighted sums, distances and the step of margins by class against plain loops in double, every
// backward against finite differences, and every result against itself on another number of threads.
#include <algorithm>
#include <sstream>

#include "../../native/cpu/class_margins.h"
#include "../../native/cpu/random.h"
#include "op_checks.h"
#include "optimizer_reference.h"
#include "shape_text.h"

namespace {

Tensor int_tensor(const std::vector<int32_t>& v) {
  Tensor t = cpu().empty(Dtype::int32, {int64_t(v.size())});
  std::memcpy(t.raw(), v.data(), v.size() * sizeof(int32_t));
  return t;
}

void test_softmax(int64_t n, int64_t k) {
  const Values x = random_values(n * k, -5, 5), dy = random_values(n * k);
  Values p(x.size()), log_p(x.size());
  for (int64_t r = 0; r < n; r++) {
    double sum = 0;
    for (int64_t i = 0; i < k; i++) sum += std::exp(x[r * k + i]);
    for (int64_t i = 0; i < k; i++) {
      log_p[r * k + i] = x[r * k + i] - std::log(sum);
      p[r * k + i] = std::exp(x[r * k + i]) / sum;
    }
  }
  std::ostringstream label;
  label << ' ' << Shape{n, k};
  for (Dtype dtype : kFloats) {
    const Tensor tx = tensor(dtype, {n, k}, x), tdy = tensor(dtype, {n, k}, dy);
    close("softmax" + label.str(), cpu().softmax_forward(tx), p);
    close("logSoftmax" + label.str(), cpu().log_softmax_forward(tx), log_p);
    same_for_threads("softmax" + label.str(), [&] {
      const Tensor y = cpu().softmax_forward(tx), l = cpu().log_softmax_forward(tx);
      return std::vector<Tensor>{y, l, cpu().softmax_backward(tdy, y), cpu().log_softmax_backward(tdy, l)};
    });
  }
  const Tensor tx = tensor(Dtype::float64, {n, k}, x), tdy = tensor(Dtype::float64, {n, k}, dy);
  differences("softmax" + label.str(), tx, cpu().softmax_backward(tdy, cpu().softmax_forward(tx)),
              [&] { return inner(tdy, cpu().softmax_forward(tx)); });
  differences("logSoftmax" + label.str(), tx, cpu().log_softmax_backward(tdy, cpu().log_softmax_forward(tx)),
              [&] { return inner(tdy, cpu().log_softmax_forward(tx)); });
}

void test_gather(int64_t rows, int64_t n, int64_t d) {
  const Values x = random_values(rows * d), dy = random_values(n * d);
  std::vector<int32_t> index(n);
  for (int32_t& at : index) at = int32_t(generator() % rows);
  Values y(n * d), into = x;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < d; j++) {
      y[i * d + j] = x[index[i] * d + j];
      into[index[i] * d + j] += dy[i * d + j];
    }
  const Tensor at = int_tensor(index);
  std::ostringstream label;
  label << ' ' << Shape{rows, n, d};
  for (Dtype dtype : kFloats) {
    const Tensor tx = tensor(dtype, {rows, d}, x), tdy = tensor(dtype, {n, d}, dy);
    close("gatherRows" + label.str(), cpu().gather_rows(tx, at), y);
    const auto scattered = [&] {
      const Tensor sum = tensor(dtype, {rows, d}, x);
      cpu().scatter_add_rows(sum, at, tdy);
      return sum;
    };
    close("scatterAddRows" + label.str(), scattered(), into, 1e-5);
    same_for_threads("gather" + label.str(), [&] {
      return std::vector<Tensor>{cpu().gather_rows(tx, at), scattered()};
    });
  }
}

void test_weighted_sum(int64_t n, int64_t k, int64_t d) {
  const Values w = random_values(n * k), x = random_values(n * k * d), dy = random_values(n * d);
  Values y(n * d, 0);
  for (int64_t r = 0; r < n; r++)
    for (int64_t i = 0; i < k; i++)
      for (int64_t j = 0; j < d; j++) y[r * d + j] += w[r * k + i] * x[(r * k + i) * d + j];
  std::ostringstream label;
  label << "weightedSum " << Shape{n, k, d};
  for (Dtype dtype : kFloats) {
    const Tensor tw = tensor(dtype, {n, k}, w), tx = tensor(dtype, {n, k, d}, x), tdy = tensor(dtype, {n, d}, dy);
    close(label.str(), cpu().weighted_sum_forward(tw, tx), y);
    same_for_threads(label.str(), [&] {
      const WeightedSumGradients g = cpu().weighted_sum_backward(tdy, tw, tx);
      return std::vector<Tensor>{cpu().weighted_sum_forward(tw, tx), g.d_weights, g.dx};
    });
  }
  const Tensor tw = tensor(Dtype::float64, {n, k}, w), tx = tensor(Dtype::float64, {n, k, d}, x),
               tdy = tensor(Dtype::float64, {n, d}, dy);
  const WeightedSumGradients g = cpu().weighted_sum_backward(tdy, tw, tx);
  const auto f = [&] { return inner(tdy, cpu().weighted_sum_forward(tw, tx)); };
  differences(label.str() + " d_weights", tw, g.d_weights, f);
  differences(label.str() + " dx", tx, g.dx, f);
}

void test_distances(int64_t n, int64_t d) {
  const Values x = random_values(n * d), dy = random_values(n * n);
  Values y(n * n, 0);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      for (int64_t k = 0; k < d; k++) y[i * n + j] += (x[i * d + k] - x[j * d + k]) * (x[i * d + k] - x[j * d + k]);
  std::ostringstream label;
  label << "squaredDistances " << Shape{n, d};
  for (Dtype dtype : kFloats) {
    const Tensor tx = tensor(dtype, {n, d}, x), tdy = tensor(dtype, {n, n}, dy);
    close(label.str(), cpu().squared_distances_forward(tx), y);
    same_for_threads(label.str(), [&] {
      return std::vector<Tensor>{cpu().squared_distances_forward(tx), cpu().squared_distances_backward(tdy, tx)};
    });
  }
  const Tensor tx = tensor(Dtype::float64, {n, d}, x), tdy = tensor(Dtype::float64, {n, n}, dy);
  differences(label.str(), tx, cpu().squared_distances_backward(tdy, tx),
              [&] { return inner(tdy, cpu().squared_distances_forward(tx)); });
}

template <class F>
void refuses(const std::string& what, const std::string& message, F&& f) {
  try {
    f();
  } catch (const Error& error) {
    check(std::string(error.what()).find(message) != std::string::npos, what + " says '" + error.what() + "'");
    return;
  }
  check(false, what + " is refused");
}

void test_class_margins(int64_t classes, int64_t n) {
  const OptimizerParams sgd{0.3, 0.9, 0};
  const double common = -0.2;
  const Values before = random_values(classes, -0.2, 1.2), velocity = random_values(classes), g = random_values(n);
  std::vector<int32_t> labels(n);
  for (int32_t& label : labels) label = int32_t(generator() % (classes + 1)) - 1;
  Values v = velocity, margins = before;
  for (double& each : v) each = sgd.momentum * each + common;
  for (int64_t i = 0; i < n; i++)
    if (labels[i] >= 0) v[labels[i]] += g[i];
  for (int64_t j = 0; j < classes; j++)
    margins[j] = std::clamp(std::clamp(before[j], 0.0, 1.0) - sgd.lr * v[j], 0.0, 1.0);
  const auto stepped = [&](const std::vector<int32_t>& of_rows) {
    const std::vector<Tensor> state{tensor(Dtype::float32, {classes}, before),
                                    tensor(Dtype::float32, {classes}, velocity)};
    class_margins_step(state[0], {state[1]}, int_tensor(of_rows), tensor(Dtype::float32, {n}, g), common, sgd);
    return state;
  };
  const std::vector<Tensor> state = stepped(labels);
  close("classMargins", state[0], margins);
  close("classMargins velocity", state[1], v);
  same_for_threads("classMargins", [&] { return stepped(labels); });
}

void test_adamw_margins(int64_t classes, int64_t n) {
  const OptimizerParams p{0.3, 0, 0, Optimizer::adamw, 0.8, 0.95, 1e-3, 3};
  const double common = -0.2;
  const Values margins = random_values(classes, -0.2, 1.2), m = random_values(classes),
               v = random_values(classes, 0.01, 1), g = random_values(n);
  std::vector<int32_t> labels(n);
  for (int32_t& label : labels) label = int32_t(generator() % (classes + 1)) - 1;
  Values gradient(classes, common), clamped = margins;
  for (int64_t i = 0; i < n; i++)
    if (labels[i] >= 0) gradient[labels[i]] += g[i];
  for (double& each : clamped) each = std::clamp(each, 0.0, 1.0);
  Stepped after = stepped(p, clamped, {m, v}, gradient);
  for (double& each : after.weight) each = std::clamp(each, 0.0, 1.0);
  OptimizerParams decaying = p;
  decaying.weight_decay = 0.5;  // is the weights' alone
  const auto run = [&] {
    const OptimizerState state{tensor(Dtype::float32, {classes}, margins), tensor(Dtype::float32, {classes}, m),
                               tensor(Dtype::float32, {classes}, v)};
    class_margins_step(state[0], {state[1], state[2]}, int_tensor(labels), tensor(Dtype::float32, {n}, g), common,
                       decaying);
    return state;
  };
  const OptimizerState state = run();
  close("classMargins of AdamW", state[0], after.weight);
  close("classMargins expAvg", state[1], after.states[0]);
  close("classMargins expAvgSq", state[2], after.states[1]);
  same_for_threads("classMargins of AdamW", run);
}

void test_draws() {
  const auto drawn = [](int64_t count) {
    const Tensor x = cpu().empty(Dtype::float32, {count});
    Xoshiro128 xoshiro{{1, 2, 3, 4}};
    draw_normal(x.data<float>(), count, 0.5, xoshiro);
    return x;
  };
  const int64_t size = 300001;
  const Tensor all = drawn(size);
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < size; i++) sum += all.data<float>()[i], squares += std::pow(all.data<float>()[i], 2);
  check(std::abs(sum / size) < 0.004 && std::abs(squares / size - 0.25) < 0.003, "draws of N(0, 0.5²)");
  for (int64_t count : {0, 1, 2, 131071, 131072, 131073})
    check(std::memcmp(drawn(count).raw(), all.raw(), size_t(count) * 4) == 0, "fewer draws are the first ones");
  same_for_threads("draws", [&] { return std::vector<Tensor>{drawn(size)}; });
}

void test_refusals() {
  const Tensor x = tensor(Dtype::float32, {2, 3}, Values(6, 1));
  refuses("an index past the end", "index in [0, 2), got 2 at 1", [&] { cpu().gather_rows(x, int_tensor({0, 2})); });
  refuses("float indices", "int32", [&] { cpu().gather_rows(x, tensor(Dtype::float32, {1}, {0})); });
  refuses("rows of another width", "[1, 3]", [&] {
    cpu().scatter_add_rows(x, int_tensor({0}), tensor(Dtype::float32, {1, 4}, Values(4, 1)));
  });
  refuses("terms that do not fit", "expected x [2, 3, D]", [&] {
    cpu().weighted_sum_forward(x, tensor(Dtype::float32, {2, 2, 1}, Values(4, 1)));
  });
  const Tensor two = tensor(Dtype::float32, {2}, {1, 1});
  refuses("a label past the last class", "labels in [0, 2) or -1, got 2 at row 1", [&] {
    class_margins_step(two, {two}, int_tensor({-1, 2}), two, 0, {});
  });
  refuses("a gradient too few", "labels [1]", [&] {
    class_margins_step(two, {two}, int_tensor({0, 1}), tensor(Dtype::float32, {1}, {1}), 0, {});
  });
}

}  // namespace

int main() {
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {5, 3}, {17, 33}, {1500, 4}}) test_softmax(n, k);
  test_gather(1, 1, 1);
  test_gather(7, 40, 19);
  test_gather(30, 500, 130);
  for (const auto& [n, k, d] : {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1}, {5, 4, 19}, {130, 3, 64}})
    test_weighted_sum(n, k, d);
  for (const auto& [n, d] : {std::pair<int64_t, int64_t>{1, 1}, {7, 19}, {13, 64}, {70, 257}}) test_distances(n, d);
  for (const auto& [classes, n] : {std::pair<int64_t, int64_t>{1, 1}, {17, 40}, {40000, 300}})
    test_class_margins(classes, n), test_adamw_margins(classes, n);
  test_draws();
  test_refusals();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
