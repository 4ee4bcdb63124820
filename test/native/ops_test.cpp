// Every operation of the CPU, and of the CUDA library under the host emulation, against plain loops in double; on the CPU
// every backward against finite differences; and every result against itself on another number or order of threads.
#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "../../native/common/random.h"
#include "../../native/cpu/onednn.h"
#include "op_checks.h"
#include "optimizer_reference.h"
#include "shape_text.h"

namespace {

// --- convolution ------------------------------------------------------------------------------------------------

struct Conv {
  int64_t n, h, w, i, o, kh, kw;
  int stride, padding;
  std::string name() const {
    std::ostringstream s;
    s << "conv " << Shape{n, h, w, i} << " -> " << o << " kernel " << kh << 'x' << kw << " stride " << stride
      << " padding " << padding;
    return s.str();
  }
};

void test_conv(const Conv& c) {
  const int64_t oh = (c.h + 2 * c.padding - c.kh) / c.stride + 1, ow = (c.w + 2 * c.padding - c.kw) / c.stride + 1;
  const Shape x_shape{c.n, c.h, c.w, c.i}, w_shape{c.o, c.i, c.kh, c.kw}, y_shape{c.n, oh, ow, c.o};
  const Values x = random_values(x_shape.numel()), w = random_values(w_shape.numel()),
               dy = random_values(y_shape.numel());
  Values y(dy.size(), 0), dx(x.size(), 0), dw(w.size(), 0);
  for (int64_t n = 0; n < c.n; n++)
    for (int64_t p = 0; p < oh; p++)
      for (int64_t q = 0; q < ow; q++)
        for (int64_t a = 0; a < c.kh; a++)
          for (int64_t b = 0; b < c.kw; b++) {
            const int64_t sy = p * c.stride + a - c.padding, sx = q * c.stride + b - c.padding;
            if (sy < 0 || sy >= c.h || sx < 0 || sx >= c.w) continue;
            for (int64_t o = 0; o < c.o; o++)
              for (int64_t i = 0; i < c.i; i++) {
                const int64_t at_x = ((n * c.h + sy) * c.w + sx) * c.i + i, at_y = ((n * oh + p) * ow + q) * c.o + o;
                const int64_t at_w = ((o * c.i + i) * c.kh + a) * c.kw + b;
                y[at_y] += x[at_x] * w[at_w];
                dx[at_x] += dy[at_y] * w[at_w];
                dw[at_w] += dy[at_y] * x[at_x];
              }
          }
  const ConvParams p{c.stride, c.padding};
  for (bool plugin : {false, true}) {
    if (plugin && (!on_cpu() || !onednn_available())) continue;
    set_onednn_use(plugin ? OnednnUse::always : OnednnUse::never);
    for (Dtype dtype : kFloats) {
      if (plugin && dtype == Dtype::float64) continue;
      const std::string name = c.name() + (plugin ? " oneDNN" : "");
      const Tensor tx = tensor(dtype, x_shape, x), tw = tensor(dtype, w_shape, w), tdy = tensor(dtype, y_shape, dy);
      close(name + " forward", dev().conv2d_forward(tx, tw, p), y);
      close(name + " backward data", dev().conv2d_backward_data(tdy, tw, x_shape, p), dx);
      close(name + " backward weight", dev().conv2d_backward_weight(tdy, tx, w_shape, p), dw, 4e-6);
      const auto all = [&] {
        return std::vector<Tensor>{dev().conv2d_forward(tx, tw, p), dev().conv2d_backward_data(tdy, tw, x_shape, p),
                                   dev().conv2d_backward_weight(tdy, tx, w_shape, p)};
      };
      same_for_threads(name, all);
    }
  }
  set_onednn_use(OnednnUse::where_faster);
  const Tensor tx = tensor(Dtype::float64, x_shape, x), tw = tensor(Dtype::float64, w_shape, w);
  const Tensor tdy = tensor(Dtype::float64, y_shape, dy);
  const auto f = [&] { return inner(tdy, dev().conv2d_forward(tx, tw, p)); };
  differences(c.name() + " dx", tx, dev().conv2d_backward_data(tdy, tw, x_shape, p), f, 6);
  differences(c.name() + " d_weight", tw, dev().conv2d_backward_weight(tdy, tx, w_shape, p), f, 6);
}

// --- matrices ---------------------------------------------------------------------------------------------------

void test_matmul(int64_t m, int64_t k, int64_t n) {
  const Values a = random_values(m * k), b = random_values(k * n);
  Values c(m * n, 0);
  for (int64_t i = 0; i < m; i++)
    for (int64_t l = 0; l < k; l++)
      for (int64_t j = 0; j < n; j++) c[i * n + j] += a[i * k + l] * b[l * n + j];
  const auto transposed = [](const Values& v, int64_t rows, int64_t columns) {
    Values t(v.size());
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < columns; j++) t[j * rows + i] = v[i * columns + j];
    return t;
  };
  for (Dtype dtype : kFloats)
    for (bool ta : {false, true})
      for (bool tb : {false, true}) {
        const Tensor x = ta ? tensor(dtype, {k, m}, transposed(a, m, k)) : tensor(dtype, {m, k}, a);
        const Tensor y = tb ? tensor(dtype, {n, k}, transposed(b, k, n)) : tensor(dtype, {k, n}, b);
        std::ostringstream name;
        name << "matmul " << m << 'x' << k << 'x' << n << (ta ? " aᵀ" : "") << (tb ? " bᵀ" : "");
        close(name.str(), dev().matmul(x, y, ta, tb), c);
        same_for_threads(name.str(), [&] { return std::vector<Tensor>{dev().matmul(x, y, ta, tb)}; });
      }
}

void test_rows(int64_t n, int64_t d) {
  Values x = random_values(n * d);
  if (n > 1) std::fill(x.begin(), x.begin() + d, 0.0);  // a row of norm 0
  const Values dy = random_values(n * d), bias = random_values(d);
  Values y(x.size()), norm(n), dx(x.size()), biased(x.size()), sums(d, 0);
  for (int64_t i = 0; i < n; i++) {
    double square = 0, along = 0;
    for (int64_t j = 0; j < d; j++) square += x[i * d + j] * x[i * d + j];
    norm[i] = std::sqrt(square);
    const double length = std::max(norm[i], 1e-12);
    for (int64_t j = 0; j < d; j++) {
      y[i * d + j] = x[i * d + j] / length;
      along += y[i * d + j] * dy[i * d + j];
      biased[i * d + j] = x[i * d + j] + bias[j];
      sums[j] += x[i * d + j];
    }
    for (int64_t j = 0; j < d; j++) dx[i * d + j] = (dy[i * d + j] - y[i * d + j] * along) / length;
  }
  std::ostringstream label;
  label << ' ' << Shape{n, d};
  for (Dtype dtype : kFloats) {
    const Tensor tx = tensor(dtype, {n, d}, x), tdy = tensor(dtype, {n, d}, dy), tb = tensor(dtype, {d}, bias);
    const Normalized unit = dev().normalize_forward(tx);
    close("normalize y" + label.str(), unit.y, y);
    close("normalize norm" + label.str(), unit.norm, norm);
    close("normalize dx" + label.str(), dev().normalize_backward(tdy, unit.y, unit.norm), dx);
    close("addBias" + label.str(), dev().add_bias(tx, tb), biased);
    close("sumRows" + label.str(), dev().sum_rows(tx), sums);
    same_for_threads("rows" + label.str(), [&] {
      const Normalized u = dev().normalize_forward(tx);
      return std::vector<Tensor>{u.y, u.norm, dev().normalize_backward(tdy, u.y, u.norm), dev().add_bias(tx, tb),
                                 dev().sum_rows(tx)};
    });
  }
  const Tensor tx = tensor(Dtype::float64, {n, d}, random_values(n * d, 0.2, 1)),
               tdy = tensor(Dtype::float64, {n, d}, dy);
  const Normalized unit = dev().normalize_forward(tx);
  differences("normalize" + label.str(), tx, dev().normalize_backward(tdy, unit.y, unit.norm),
              [&] { return inner(tdy, dev().normalize_forward(tx).y); });
}

// --- batch norm and activations ---------------------------------------------------------------------------------

enum class Behind { nothing, prelu, shortcut };
constexpr const char* kBehind[] = {"", " prelu", " shortcut"};

void test_batch_norm(const Shape& shape, double center, bool training, Behind behind) {
  const int64_t channels = shape.back(), size = shape.numel(), pixels = size / channels;
  const Values x = random_values(size, center - 1, center + 1), drawn = random_values(size);
  const Values weight = random_values(channels, 0.5, 1.5), bias = random_values(channels),
               old_mean = random_values(channels), old_var = random_values(channels, 0.5, 2),
               slope = random_values(channels), added = random_values(size);
  const double epsilon = 1e-5, momentum = 0.1;
  std::ostringstream label;
  label << "batchNorm" << kBehind[int(behind)] << ' ' << shape << " about " << center;
  Values mean(channels, 0), var(channels, 0), new_mean = old_mean, new_var = old_var;
  for (int64_t i = 0; i < size; i++) mean[i % channels] += x[i] / pixels;
  Values left(channels, 0);  // by rounding
  for (int64_t i = 0; i < size; i++) left[i % channels] += (x[i] - mean[i % channels]) / pixels;
  for (int64_t c = 0; c < channels; c++) mean[c] += left[c];
  for (int64_t i = 0; i < size; i++)
    var[i % channels] += (x[i] - mean[i % channels]) * (x[i] - mean[i % channels]) / pixels;
  for (int64_t c = 0; c < channels && training; c++) {
    new_mean[c] = (1 - momentum) * old_mean[c] + momentum * mean[c];
    new_var[c] = (1 - momentum) * old_var[c] + momentum * var[c] * pixels / (pixels - 1);
  }
  if (!training) mean = old_mean, var = old_var;
  Values inv(channels), y(size), d_bias(channels, 0), d_weight(channels, 0), d_slope(channels, 0), dx(size);
  Values dy = drawn, d_norm(size);
  for (int64_t c = 0; c < channels; c++) inv[c] = 1 / std::sqrt(var[c] + epsilon);
  for (int64_t i = 0; i < size; i++) {
    const int64_t c = i % channels;
    const double unit = (x[i] - mean[c]) * inv[c];
    y[i] = unit * weight[c] + bias[c];
    if (behind == Behind::prelu && std::abs(y[i]) < 1e-3) dy[i] = 0;  // rounding decides on which side it is
    const bool bent = behind == Behind::prelu && y[i] <= 0;
    d_norm[i] = bent ? dy[i] * slope[c] : dy[i];
    if (bent) d_slope[c] += dy[i] * y[i], y[i] *= slope[c];
    if (behind == Behind::shortcut) y[i] += added[i];
    d_bias[c] += d_norm[i];
    d_weight[c] += d_norm[i] * unit;
  }
  for (int64_t i = 0; i < size; i++) {
    const int64_t c = i % channels;
    const double unit = (x[i] - mean[c]) * inv[c];
    dx[i] = weight[c] * inv[c] * (training ? d_norm[i] - d_bias[c] / pixels - unit * d_weight[c] / pixels : d_norm[i]);
  }
  const std::string name = label.str() + (training ? " train" : " eval");
  for (Dtype dtype : kFloats) {
    const Tensor tx = tensor(dtype, shape, x), tw = tensor(dtype, {channels}, weight),
                 tb = tensor(dtype, {channels}, bias), tdy = tensor(dtype, shape, dy);
    Tensor m = tensor(dtype, {channels}, old_mean), v = tensor(dtype, {channels}, old_var);
    OptionalTensor ts, to;
    if (behind == Behind::prelu) ts = tensor(dtype, {channels}, slope);
    if (behind == Behind::shortcut) to = tensor(dtype, shape, added);
    const auto run = [&] {
      return training ? dev().batch_norm_train(tx, tw, tb, m, v, momentum, epsilon, ts, to)
                      : dev().batch_norm_eval(tx, tw, tb, m, v, epsilon, ts, to);
    };
    const BatchNormForward out = run();
    // The mean itself rounds to float: y inherits |mean|·2⁻²⁴/σ.
    const double rounding = 3e-6 * (1 + std::abs(center));
    double largest = 0;  // of what d_weight and d_slope inherit of it
    for (int64_t c = 0; c < channels; c++) largest = std::max(largest, std::abs(d_bias[c]) * inv[c]);
    const double inherited = rounding + 0x1p-24 * std::abs(center) * largest;
    close(name + " y", out.y, y, rounding);
    close(name + " mean", out.mean, mean);
    close(name + " inv_std", out.inv_std, inv, 5e-6);
    close(name + " running mean", m, new_mean);
    close(name + " running var", v, new_var);
    const BatchNormGradients g = dev().batch_norm_backward(tdy, tx, tw, tb, out.mean, out.inv_std, training, ts);
    close(name + " dx", g.dx, dx, rounding);
    close(name + " d_weight", g.d_weight, d_weight, inherited);
    close(name + " d_bias", g.d_bias, d_bias);
    check(g.d_slope.has_value() == ts.has_value(), name + " has a d_slope");
    if (g.d_slope) close(name + " d_slope", *g.d_slope, d_slope, inherited);
    same_for_threads(name, [&] {
      m = tensor(dtype, {channels}, old_mean), v = tensor(dtype, {channels}, old_var);
      const BatchNormForward o = run();
      const BatchNormGradients d = dev().batch_norm_backward(tdy, tx, tw, tb, o.mean, o.inv_std, training, ts);
      return std::vector<Tensor>{
          o.y, o.mean, o.inv_std, m, v, d.dx, d.d_weight, d.d_bias, d.d_slope.value_or(d.d_bias)};
    });
  }
  if (center != 0) return;
  const Tensor tx = tensor(Dtype::float64, shape, x), tw = tensor(Dtype::float64, {channels}, weight),
               tb = tensor(Dtype::float64, {channels}, bias), tdy = tensor(Dtype::float64, shape, dy);
  OptionalTensor ts, to;
  if (behind == Behind::prelu) ts = tensor(Dtype::float64, {channels}, slope);
  if (behind == Behind::shortcut) to = tensor(Dtype::float64, shape, added);
  const auto forward = [&] {
    const Tensor m = tensor(Dtype::float64, {channels}, old_mean), v = tensor(Dtype::float64, {channels}, old_var);
    return training ? dev().batch_norm_train(tx, tw, tb, m, v, momentum, epsilon, ts, to)
                    : dev().batch_norm_eval(tx, tw, tb, m, v, epsilon, ts, to);
  };
  const auto f = [&] { return inner(tdy, forward().y); };
  const BatchNormForward out = forward();
  const BatchNormGradients g = dev().batch_norm_backward(tdy, tx, tw, tb, out.mean, out.inv_std, training, ts);
  differences(name + " dx", tx, g.dx, f);
  differences(name + " d_weight", tw, g.d_weight, f, 4);
  differences(name + " d_bias", tb, g.d_bias, f, 4);
  if (ts) differences(name + " d_slope", *ts, *g.d_slope, f, 4);
}
void test_batch_norm(const Shape& shape, double center) {
  for (bool training : {true, false})
    for (Behind behind : {Behind::nothing, Behind::prelu, Behind::shortcut})
      test_batch_norm(shape, center, training, behind);
}

// Statistics are about a value of x somewhere: it is far from the others here, and the mean far from 0.
void test_outliers(int64_t rows) {
  const Values others = random_values(rows);
  const std::vector<std::function<double(int64_t)>> columns = {
      [](int64_t row) { return row % 128 < 8 ? 4.0 : 0.0; },
      [](int64_t row) { return row % 64 ? 1000.0 : 1004.0; },
      [](int64_t row) { return row % 64 ? 0.1f : 1.03136f; },
      [](int64_t row) { return row % 16 ? 3.0 : -1e4; },
      [&](int64_t row) { return row ? others[size_t(row)] : 3e3; },
      [&](int64_t row) { return float(1e5 + others[size_t(row)]); },
      [](int64_t) { return 0.1f; }};
  const int64_t channels = int64_t(columns.size());
  Values x;
  for (int64_t row = 0; row < rows; row++)
    for (const auto& column : columns) x.push_back(column(row));
  const Shape shape{rows, channels};
  for (Dtype dtype : kFloats) {
    const auto filled = [&](double value) { return tensor(dtype, {channels}, Values(size_t(channels), value)); };
    const Tensor mean = filled(0), var = filled(0);
    const BatchNormForward out =
        dev().batch_norm_train(tensor(dtype, shape, x), filled(1), filled(0), mean, var, 1, 1e-5);
    const Values means = values(mean), deviations = values(out.inv_std);
    for (int64_t c = 0; c < channels; c++) {
      double sum = 0, squares = 0;
      for (int64_t row = 0; row < rows; row++) sum += x[size_t(row * channels + c)] - x[size_t(c)];
      const double wanted = x[size_t(c)] + sum / double(rows);
      for (int64_t row = 0; row < rows; row++) squares += std::pow(x[size_t(row * channels + c)] - wanted, 2);
      const double deviation = std::sqrt(squares / double(rows) + 1e-5),
                   eps = dtype == Dtype::float32 ? 0x1p-24 : 0x1p-53;
      // Half of 16²·eps of the variance, in float64 with what all rows' sums and the mean's digits lose besides.
      const double off = std::abs(deviations[size_t(c)] * deviation - 1),
                   bound =
                       (130 + (dtype == Dtype::float64 ? 4 * double(rows) + std::abs(wanted) / deviation : 0)) * eps;
      const std::string name =
          "batchNorm of outliers " + std::to_string(c) + " of " + std::to_string(rows) + ' ' + name_of(dtype);
      check(off <= bound, name + ": inv_std", off, bound);
      const double error = std::abs(means[size_t(c)] - wanted), most = eps * std::abs(wanted) + bound * deviation;
      check(error <= most, name + ": mean", error, most);
    }
  }
}

void test_activations(const Shape& shape) {
  const int64_t channels = shape.back(), size = shape.numel();
  Values x = random_values(size);
  const Values dy = random_values(size), slope = random_values(channels), other = random_values(size);
  x[0] = 0;
  Values prelu(size), dx(size), d_slope(channels, 0), relu(size), d_relu(size), plus(size), times(size), half(size),
      reached(size);
  double total = 0;
  for (int64_t i = 0; i < size; i++) {
    const double a = slope[i % channels];
    prelu[i] = x[i] > 0 ? x[i] : a * x[i];
    dx[i] = x[i] > 0 ? dy[i] : a * dy[i];
    if (!(x[i] > 0)) d_slope[i % channels] += dy[i] * x[i];
    relu[i] = std::max(x[i], 0.0);
    d_relu[i] = x[i] > 0 ? dy[i] : 0;
    plus[i] = x[i] + other[i], times[i] = x[i] * other[i], half[i] = 0.3 * x[i];
    total += x[i];
  }
  std::ostringstream text;
  text << ' ' << shape;
  const std::string label = text.str();
  for (Dtype dtype : kFloats) {
    const Tensor tx = tensor(dtype, shape, x), tdy = tensor(dtype, shape, dy), ts = tensor(dtype, {channels}, slope),
                 to = tensor(dtype, shape, other);
    close("prelu" + label, dev().prelu_forward(tx, ts), prelu);
    const PreluGradients g = dev().prelu_backward(tdy, tx, ts);
    close("prelu dx" + label, g.dx, dx);
    close("prelu d_slope" + label, g.d_slope, d_slope);
    const Tensor tr = dev().relu_forward(tx);
    close("relu" + label, tr, relu);
    close("relu dx" + label, dev().relu_backward(tdy, tr), d_relu);
    close("add" + label, dev().add(tx, to), plus);
    close("multiply" + label, dev().multiply(tx, to), times);
    close("scale" + label, dev().scale(tx, 0.3), half);
    const Tensor into = tensor(dtype, shape, x);
    dev().accumulate(into, to);
    close("accumulate" + label, into, plus);
    check(std::abs(dev().sum(tx) - total) <= (dtype == Dtype::float32 ? 1e-6 * size : 1e-10), "sum" + label,
          dev().sum(tx) - total);
    dev().fill(into, 2.5);
    close("fill" + label, into, Values(size, 2.5));
    const double sum = dev().sum(tx);
    same_for_threads("activations" + label, [&] {
      const PreluGradients p = dev().prelu_backward(tdy, tx, ts);
      check(dev().sum(tx) == sum, "sum" + label + ": threads agree");
      return std::vector<Tensor>{p.dx, p.d_slope, dev().dropout(tx, 0.4, 11), dev().relu_forward(tx)};
    });
    // Dropout keeps exactly the elements that the counter says, and is linear, so its own backward.
    const Tensor dropped = dev().dropout(tx, 0.4, 11);
    Values masked(size);
    for (int64_t i = 0; i < size; i++) masked[i] = random_uniform(11, i) >= 0.4 ? x[i] / 0.6 : 0;
    close("dropout" + label, dropped, masked);
    close("dropout 0" + label, dev().dropout(tx, 0, 3), x);
    check(dev().all_finite(tx), "allFinite" + label);
    for (double bad : {double(NAN), double(INFINITY), -double(INFINITY)}) {
      Values spoiled = x;
      spoiled[generator() % size] = bad;
      check(!dev().all_finite(tensor(dtype, shape, spoiled)), "allFinite finds one" + label);
    }
    Values spoiled = x;
    spoiled[size / 2] = NAN;
    check(std::isnan(values(dev().relu_forward(tensor(dtype, shape, spoiled)))[size / 2]), "relu keeps NaN" + label);
  }
  Values away = x;  // from the kink
  for (double& v : away) v += v < 0 ? -0.01 : 0.01;
  const Tensor tx = tensor(Dtype::float64, shape, away), ts = tensor(Dtype::float64, {channels}, slope),
               tdy = tensor(Dtype::float64, shape, dy);
  const auto f = [&] { return inner(tdy, dev().prelu_forward(tx, ts)); };
  const PreluGradients g = dev().prelu_backward(tdy, tx, ts);
  differences("prelu dx" + label, tx, g.dx, f);
  differences("prelu d_slope" + label, ts, g.d_slope, f);
  differences("relu dx" + label, tx, dev().relu_backward(tdy, dev().relu_forward(tx)),
              [&] { return inner(tdy, dev().relu_forward(tx)); });
  differences("dropout" + label, tx, dev().dropout(tdy, 0.3, 5), [&] { return inner(tdy, dev().dropout(tx, 0.3, 5)); });
}

void test_shapes(const Shape& shape) {
  const int64_t n = shape[0], pixels = shape[1] * shape[2], channels = shape[3], size = shape.numel();
  const Values x = random_values(size), dy = random_values(n * channels);
  Values mean(n * channels, 0), spread(size), flat(size);
  for (int64_t i = 0; i < size; i++) {
    const int64_t image = i / (pixels * channels), p = i / channels % pixels, c = i % channels;
    mean[image * channels + c] += x[i] / pixels;
    spread[i] = dy[image * channels + c] / pixels;
    flat[(image * channels + c) * pixels + p] = x[i];
  }
  std::ostringstream label;
  label << ' ' << shape;
  for (Dtype dtype : kFloats) {
    const Tensor tx = tensor(dtype, shape, x), tf = dev().flatten_forward(tx);
    close("globalAvgPool" + label.str(), dev().global_avg_pool_forward(tx), mean);
    close("globalAvgPool dx" + label.str(), dev().global_avg_pool_backward(tensor(dtype, {n, channels}, dy), shape),
          spread);
    close("flatten" + label.str(), tf, flat, 0);
    check(same_bits(dev().flatten_backward(tf, shape), tx), "flatten backward" + label.str());
  }
}

void test_sgd(int64_t size) {
  const OptimizerParams p{0.1, 0.9, 5e-4};
  const Values w = random_values(size), v = random_values(size), g = random_values(size);
  Values new_w(size), new_v(size);
  for (int64_t i = 0; i < size; i++) {
    new_v[i] = p.momentum * v[i] + g[i] + p.weight_decay * w[i];
    new_w[i] = w[i] - p.lr * new_v[i];
  }
  for (Dtype dtype : kFloats) {
    const Tensor tw = tensor(dtype, {size}, w), tv = tensor(dtype, {size}, v);
    dev().optimizer_step(tw, {tv}, tensor(dtype, {size}, g), p);
    close("optimizerStep w", tw, new_w);
    close("optimizerStep v", tv, new_v);
  }
}

void test_adamw(int64_t size) {
  for (const double step : {1., 2., 1e6}) {
    const OptimizerParams p{0.1, 0, 0.05, Optimizer::adamw, 0.9, 0.999, 1e-6, step};
    const Values w = random_values(size), m = random_values(size), v = random_values(size, 0.01, 1),
                 g = random_values(size);
    const Stepped after = stepped(p, w, {m, v}, g);
    for (Dtype dtype : kFloats) {
      const Tensor tw = tensor(dtype, {size}, w), tm = tensor(dtype, {size}, m), tv = tensor(dtype, {size}, v);
      dev().optimizer_step(tw, {tm, tv}, tensor(dtype, {size}, g), p);
      close("adamw w", tw, after.weight);
      close("adamw m", tm, after.states[0]);
      close("adamw v", tv, after.states[1]);
    }
  }
}

void test_elements(int64_t n) {
  const Values x = random_values(n, 0.1, 2), dy = random_values(n);
  Values line(n), root(n), d_root(n);
  double product = 0, size = 0;
  for (int64_t i = 0; i < n; i++) {
    line[i] = -1.5 * x[i] + 0.25;
    root[i] = std::sqrt(x[i] + 0.5);
    d_root[i] = dy[i] / (2 * root[i]);
    product += x[i] * dy[i];
    size += std::abs(x[i] * dy[i]);
  }
  std::ostringstream label;
  label << ' ' << Shape{n};
  for (Dtype dtype : kFloats) {
    const Tensor tx = tensor(dtype, {n}, x), tdy = tensor(dtype, {n}, dy);
    close("affine" + label.str(), dev().affine(tx, -1.5, 0.25), line);
    close("sqrt" + label.str(), dev().sqrt_forward(tx, 0.5), root);
    close("sqrt dx" + label.str(), dev().sqrt_backward(tdy, tensor(dtype, {n}, root)), d_root);
    const double tolerance = (dtype == Dtype::float32 ? 1e-6 : 1e-14) * size;
    const double error = std::abs(dev().dot(tx, tdy) - product);
    check(error <= tolerance, "dot" + label.str(), error, tolerance);
  }
}

void test_integers() {
  std::vector<uint8_t> bytes(256);
  for (int i = 0; i < 256; i++) bytes[i] = uint8_t(i);
  const Tensor image = tensor_of<uint8_t>({256}, bytes);
  Values want(256);
  for (int i = 0; i < 256; i++) want[i] = i / 127.5 - 1;
  close("imageToFloat", dev().image_to_float(image), want, 1e-7);
  const Tensor labels = dev().empty(Dtype::int32, {1001});
  dev().fill(labels, -1);
  check(elements<int32_t>(labels) == std::vector<int32_t>(1001, -1), "fill int32");
  double mean = 0, square = 0;
  const int draws = 200000;
  for (int i = 0; i < draws; i++) {
    const double u = random_uniform(42, i);
    mean += u / draws, square += u * u / draws;
  }
  check(std::abs(mean - 0.5) < 0.003 && std::abs(square - 1 / 3.0) < 0.003, "random_uniform is uniform", mean - 0.5,
        0.003);
}

// --- messages ---------------------------------------------------------------------------------------------------

template <class F>
void refuses(const std::string& what, ErrorKind kind, const char* part, F&& f) {
  try {
    f();
    check(false, what + " is refused");
  } catch (const Error& error) {
    check(error.kind == kind && std::strstr(error.what(), part),
          what + " says '" + part + "', got '" + error.what() + "'");
  }
}

// What has no elements is no work, and no error.
void test_empty() {
  const Tensor x = dev().empty(Dtype::float32, {0, 4, 4, 2}), dy = dev().empty(Dtype::float32, {0, 4, 4, 3});
  const Tensor weight = tensor(Dtype::float32, {3, 2, 3, 3}, Values(54, 1));
  check(dev().conv2d_forward(x, weight, {1, 1}).shape == Shape{0, 4, 4, 3}, "conv of no images");
  check(dev().conv2d_backward_data(dy, weight, x.shape, {1, 1}).numel() == 0, "conv of no images: backward data");
  close("conv of no images: backward weight", dev().conv2d_backward_weight(dy, x, weight.shape, {1, 1}), Values(54, 0));

  const Tensor rows = tensor(Dtype::float32, {0, 3}, {}), thin = tensor(Dtype::float32, {3, 0}, {}),
               three = tensor(Dtype::float32, {3}, {1, 2, 3}), two = tensor(Dtype::float32, {2}, {1, 2});
  check(dev().matmul(rows, thin, false, false).shape == Shape{0, 0}, "matmul of no rows");
  close("matmul of no depth", dev().matmul(thin, rows, false, false), Values(9, 0));
  close("sumRows of no rows", dev().sum_rows(rows), Values(3, 0));
  check(dev().sum_rows(thin).numel() == 0, "sumRows of no columns");
  check(dev().add_bias(rows, three).shape == Shape{0, 3}, "addBias of no rows");
  check(dev().sum(rows) == 0 && dev().dot(rows, rows) == 0 && dev().all_finite(rows), "sums of nothing");
  for (const Tensor& y :
       {dev().relu_forward(rows), dev().relu_backward(rows, rows), dev().add(rows, rows), dev().multiply(rows, rows),
        dev().scale(rows, 2), dev().affine(rows, 2, 1), dev().sqrt_forward(rows, 1), dev().sqrt_backward(rows, rows),
        dev().dropout(rows, 0.5, 1), dev().prelu_forward(rows, three)})
    check(y.shape == Shape{0, 3}, "an operation on no rows");
  const PreluGradients prelu = dev().prelu_backward(rows, rows, three);
  close("prelu of no rows: d_slope", prelu.d_slope, Values(3, 0));
  const BatchNormForward norm = dev().batch_norm_eval(rows, three, three, three, three, 0);
  close("batchNorm of no rows: mean", norm.mean, {1, 2, 3});
  const BatchNormGradients g = dev().batch_norm_backward(rows, rows, three, three, three, three, true, three);
  close("batchNorm of no rows: d_weight", g.d_weight, Values(3, 0));
  close("batchNorm of no rows: d_bias", g.d_bias, Values(3, 0));
  close("batchNorm of no rows: d_slope", *g.d_slope, Values(3, 0));
  check(dev().global_avg_pool_forward(x).shape == Shape{0, 2} && dev().flatten_forward(x).shape == Shape{0, 32} &&
            dev().global_avg_pool_backward(tensor(Dtype::float32, {0, 2}, {}), x.shape).shape == x.shape &&
            dev().flatten_backward(tensor(Dtype::float32, {0, 32}, {}), x.shape).shape == x.shape,
        "shapes of no images");
  dev().accumulate(rows, rows);
  dev().optimizer_step(rows, {rows}, rows, {});
}

// An operand may be given twice, and accumulate's into may be its x.
void test_aliases() {
  for (Dtype dtype : kFloats) {
    const Values x = random_values(1000), twice = [&] {
      Values v = x;
      for (double& each : v) each *= 2;
      return v;
    }();
    const Tensor tx = tensor(dtype, {1000}, x);
    close("x + x", dev().add(tx, tx), twice);
    dev().accumulate(tx, tx);
    close("x += x", tx, twice);
    const Tensor square = tensor(dtype, {20, 20}, random_values(400));
    close("x·xᵀ of one tensor", dev().matmul(square, square, false, true),
          values(dev().matmul(square, tensor(dtype, {20, 20}, values(square)), false, true)));
  }
}

// Equal values, and such as are far from 0: what is left of the variance is rounding.
void test_flat_channels() {
  for (Dtype dtype : kFloats)
    for (double value : {0.1, 1000.1}) {
      const Tensor x = tensor(dtype, {500, 3}, Values(1500, value)), one = tensor(dtype, {3}, Values(3, 1)),
                   zero = tensor(dtype, {3}, Values(3, 0)), mean = tensor(dtype, {3}, Values(3, 0)),
                   var = tensor(dtype, {3}, Values(3, 1));
      const BatchNormForward out = dev().batch_norm_train(x, one, zero, mean, var, 1, 1e-5);
      // What rounding may leave of the mean, times the largest inv_std there is.
      const double rounding = value * (dtype == Dtype::float32 ? 2.4e-7 : 4.4e-16),
                   error = distance(values(out.y), Values(1500, 0));
      check(error <= 317 * rounding, "batchNorm of equal values", error, 317 * rounding);
      check(values(var)[1] >= 0, "a variance of at least 0");
    }
}

void test_refusals() {
  const Tensor a = tensor(Dtype::float32, {2, 3}, Values(6, 1)), b = tensor(Dtype::float64, {2, 3}, Values(6, 1)),
               c = tensor(Dtype::float32, {3, 2}, Values(6, 1)),
               image = tensor(Dtype::float32, {1, 2, 2, 3}, Values(12, 1));
  refuses("add of two dtypes", ErrorKind::type, "one dtype", [&] { dev().add(a, b); });
  refuses("add of two shapes", ErrorKind::shape, "[2, 3]", [&] { dev().add(a, c); });
  refuses("matmul", ErrorKind::shape, "inner extents", [&] { dev().matmul(a, a, false, false); });
  refuses("conv2d channels", ErrorKind::shape, "3 input channels", [&] {
    dev().conv2d_forward(image, tensor(Dtype::float32, {1, 2, 1, 1}, {1, 1}), {});
  });
  refuses("conv2d stride", ErrorKind::range, "stride", [&] {
    dev().conv2d_forward(image, tensor(Dtype::float32, {1, 3, 1, 1}, {1, 1, 1}), {0, 0});
  });
  refuses("conv2d kernel", ErrorKind::shape, "fits", [&] {
    dev().conv2d_forward(image, tensor(Dtype::float32, {1, 3, 5, 5}, Values(75, 1)), {1, 1});
  });
  refuses("dropout rate", ErrorKind::range, "[0, 1)", [&] { dev().dropout(a, 1, 0); });
  refuses("prelu slope", ErrorKind::shape, "slope [3]", [&] {
    dev().prelu_forward(a, tensor(Dtype::float32, {2}, {1, 1}));
  });
  const Tensor three = tensor(Dtype::float32, {3}, {1, 1, 1}), two = tensor(Dtype::float32, {2}, {1, 1});
  const auto norm = [&](const OptionalTensor& slope, const OptionalTensor& shortcut) {
    return [&] { dev().batch_norm_eval(a, three, three, three, three, 0, slope, shortcut); };
  };
  refuses("batchNorm slope", ErrorKind::shape, "slope [3], got [2]", norm(two, {}));
  refuses("batchNorm shortcut", ErrorKind::shape, "shortcut [2, 3] as x, got [3]", norm({}, three));
  refuses("batchNorm slope and shortcut", ErrorKind::range, "got both", norm(three, a));
  refuses("batchNorm backward slope", ErrorKind::shape, "slope [3], got [2]",
          [&] { dev().batch_norm_backward(a, a, three, three, three, three, true, two); });
  const Tensor index = tensor_of<int32_t>({1}, {0});
  refuses("integers", ErrorKind::type, "float32 or float64", [&] { dev().affine(index, 1, 0); });
  refuses("imageToFloat", ErrorKind::type, "uint8", [&] { dev().image_to_float(a); });
  Tensor gone = a;
  gone.storage = nullptr;
  refuses("a disposed tensor", ErrorKind::disposed, "disposed", [&] { dev().relu_forward(gone); });
}

// What is kept of contents goes with them, whichever of two writers comes first.
void test_derived() {
  Derived derived;
  const auto kept = std::make_shared<int>(1);
  const auto [before, change] = derived.forget();
  check(before == nullptr && derived.value() == nullptr, "nothing is kept at first");
  derived.keep(kept, change);
  check(derived.value() == kept, "what a change left is kept");
  const auto [taken, next] = derived.forget();
  check(taken == kept && derived.value() == nullptr, "a change takes it");
  derived.forget();
  derived.keep(kept, next);
  check(derived.value() == nullptr, "nothing is kept of contents that changed since");
  std::thread other([&] {
    for (int i = 0; i < 20000; i++) derived.forget();
  });
  for (int i = 0; i < 20000; i++) derived.keep(kept, derived.forget().second);
  other.join();
  const bool held = derived.value() != nullptr;
  check(kept.use_count() == 2 + held, "two threads lose nothing");  // kept, taken
}

void test_device() {
  for (const Conv& c :
       {Conv{2, 7, 5, 3, 4, 3, 3, 1, 1}, Conv{1, 9, 8, 1, 24, 3, 3, 2, 1}, Conv{3, 6, 6, 5, 17, 1, 1, 2, 0},
        Conv{2, 6, 7, 16, 33, 1, 1, 1, 0}, Conv{1, 11, 10, 2, 48, 5, 5, 2, 1}, Conv{2, 8, 8, 24, 24, 3, 3, 2, 1},
        Conv{2, 8, 9, 24, 48, 3, 3, 1, 1}, Conv{1, 12, 7, 3, 70, 7, 7, 2, 0}, Conv{4, 4, 4, 70, 96, 3, 3, 1, 1},
        Conv{1, 5, 5, 1, 1, 5, 5, 1, 0}, Conv{2, 13, 12, 7, 9, 3, 5, 1, 0}, Conv{1, 7, 7, 4, 80, 7, 7, 1, 1},
        Conv{5, 14, 14, 32, 64, 3, 3, 2, 1}, Conv{1, 3, 3, 2, 3, 1, 1, 3, 1}, Conv{2, 6, 6, 66, 128, 3, 3, 1, 1},
        Conv{17, 5, 5, 8, 40, 3, 3, 1, 1}})
    test_conv(c);
  for (const auto& [m, k, n] : {std::array<int64_t, 3>{1, 1, 1},
                                {3, 5, 7},
                                {8, 300, 129},
                                {130, 17, 33},
                                {15, 512, 70},
                                {57, 33, 16},
                                {200, 600, 100},
                                {2, 1000, 3}})
    test_matmul(m, k, n);
  for (const auto& [n, d] : {std::array<int64_t, 2>{1, 1}, {5, 3}, {17, 512}, {300, 129}, {2000, 24}}) test_rows(n, d);
  for (const Shape& shape : {Shape{2, 3, 5, 3}, Shape{4, 7, 7, 24}, Shape{33, 64}, Shape{2, 40, 41, 16},
                             Shape{9, 9, 9, 70}, Shape{3, 100, 30, 1}}) {
    for (double center : {0.0, 30.0}) test_batch_norm(shape, center);
    test_activations(shape);
  }
  for (int64_t rows : {16, 200, 60000}) test_outliers(rows);
  for (const Shape& shape : {Shape{2, 3, 5, 3}, Shape{4, 7, 7, 64}, Shape{1, 1, 1, 1}, Shape{3, 17, 2, 35}})
    test_shapes(shape);
  for (int64_t size : {1, 17, 40000}) test_sgd(size), test_adamw(size);
  for (int64_t n : {1, 19, 70000}) test_elements(n);
  test_integers();
  test_empty();
  test_aliases();
  test_flat_channels();
  test_refusals();
}

// --- a GPU, under the host emulation ------------------------------------------------------------------------------

int64_t draw(int64_t low, int64_t high) { return low + int64_t(generator() % uint64_t(high - low + 1)); }

void test_random_shapes() {
  for (int i = 0; i < 16; i++) {
    const int64_t kh = draw(1, 5), kw = draw(1, 5);
    const int stride = int(draw(1, 3)), padding = int(draw(0, 2));
    test_conv({draw(1, 4), draw(kh, 12), draw(kw, 12), draw(1, 40), draw(1, 80), kh, kw, stride, padding});
    test_matmul(draw(1, 150), draw(1, 500), draw(1, 150));
  }
  for (int i = 0; i < 12; i++) {
    const Shape shape{draw(1, 4), draw(1, 20), draw(2, 20), draw(1, 90)};
    test_batch_norm(shape, double(draw(-3, 3)));
    test_activations(shape);
    test_shapes(shape);
    test_rows(draw(1, 300), draw(1, 300));
    test_elements(draw(1, 40000));
    test_sgd(draw(1, 3000));
    test_adamw(draw(1, 3000));
  }
}

// Masks are a function of seed and place: the devices agree on every bit.
void test_same_masks() {
  Backend* const gpu = chosen_device;
  for (Dtype dtype : kFloats)
    for (double seed : {0.0, -1.0, 9007199254740992.0})
      for (double rate : {0.0, 0.1, 0.999999}) {
        const Values x = random_values(4097);
        const Tensor there = dev().dropout(tensor(dtype, {4097}, x), rate, seed);
        chosen_device = &cpu();
        const Tensor here = dev().dropout(tensor(dtype, {4097}, x), rate, seed);
        chosen_device = gpu;
        check(same_bits(here, there), "dropout's mask is the CPU's");
      }
}

void test_other_devices() {
  const Values ones(12, 1);
  const Tensor here = tensor(Dtype::float32, {2, 6}, ones), six = tensor(Dtype::float32, {6}, Values(6, 1)),
               image = tensor(Dtype::float32, {1, 2, 2, 3}, ones), weight = tensor(Dtype::float32, {4, 3, 1, 1}, ones);
  Backend* const gpu = chosen_device;
  chosen_device = &cpu();
  const Tensor there = tensor(Dtype::float32, {2, 6}, ones), six_there = tensor(Dtype::float32, {6}, Values(6, 1)),
               image_there = tensor(Dtype::float32, {1, 2, 2, 3}, ones),
               weight_there = tensor(Dtype::float32, {4, 3, 1, 1}, ones), bytes = tensor_of<uint8_t>({2}, {1, 2});
  chosen_device = gpu;
  const auto elsewhere = [&](const char* what, auto&& f) {
    refuses(std::string(what) + " of the CPU's tensor", ErrorKind::device, "on cuda:0, got cpu", f);
  };
  const auto mixed = [&](const char* what, auto&& f) {
    refuses(std::string(what) + " of two devices", ErrorKind::device, "on one device", f);
  };
  const Shape shape{1, 2, 2, 3};
  elsewhere("relu", [&] { dev().relu_forward(there); });
  elsewhere("relu backward", [&] { dev().relu_backward(there, there); });
  elsewhere("add", [&] { dev().add(there, there); });
  elsewhere("multiply", [&] { dev().multiply(there, there); });
  elsewhere("accumulate", [&] { dev().accumulate(there, there); });
  elsewhere("scale", [&] { dev().scale(there, 2); });
  elsewhere("affine", [&] { dev().affine(there, 2, 1); });
  elsewhere("sqrt", [&] { dev().sqrt_forward(there, 0); });
  elsewhere("sqrt backward", [&] { dev().sqrt_backward(there, there); });
  elsewhere("dropout", [&] { dev().dropout(there, 0.5, 0); });
  elsewhere("imageToFloat", [&] { dev().image_to_float(bytes); });
  elsewhere("prelu", [&] { dev().prelu_forward(there, six_there); });
  elsewhere("prelu backward", [&] { dev().prelu_backward(there, there, six_there); });
  elsewhere("addBias", [&] { dev().add_bias(there, six_there); });
  elsewhere("sumRows", [&] { dev().sum_rows(there); });
  elsewhere("sum", [&] { dev().sum(there); });
  elsewhere("dot", [&] { dev().dot(there, there); });
  elsewhere("allFinite", [&] { dev().all_finite(there); });
  elsewhere("matmul", [&] { dev().matmul(there, there, false, true); });
  elsewhere("conv2d", [&] { dev().conv2d_forward(image_there, weight_there, {}); });
  elsewhere("conv2d backward data", [&] { dev().conv2d_backward_data(image_there, weight_there, {1, 2, 2, 3}, {}); });
  elsewhere("globalAvgPool", [&] { dev().global_avg_pool_forward(image_there); });
  elsewhere("globalAvgPool backward", [&] { dev().global_avg_pool_backward(there, {2, 1, 1, 6}); });
  elsewhere("flatten", [&] { dev().flatten_forward(image_there); });
  elsewhere("flatten backward", [&] { dev().flatten_backward(there, {2, 1, 1, 6}); });
  elsewhere("optimizerStep", [&] { dev().optimizer_step(there, {there}, there, {}); });
  elsewhere("batchNorm", [&] { dev().batch_norm_train(there, six_there, six_there, six_there, six_there, 0.1, 1e-5); });
  mixed("add", [&] { dev().add(here, there); });
  mixed("accumulate", [&] { dev().accumulate(here, there); });
  mixed("matmul", [&] { dev().matmul(here, there, false, true); });
  mixed("conv2d", [&] { dev().conv2d_forward(image, weight_there, {}); });
  mixed("prelu", [&] { dev().prelu_forward(here, six_there); });
  mixed("batchNorm", [&] { dev().batch_norm_eval(here, six, six, six_there, six, 0); });
  mixed("optimizerStep", [&] { dev().optimizer_step(here, {here}, there, {}); });
  refuses("rows too wide for a tile", ErrorKind::shape, "rows of at most 16777215", [&] {
    dev().matmul(tensor(Dtype::float32, {0, 16777216}, {}), tensor(Dtype::float32, {0, 16777216}, {}), false, true);
  });
}

}  // namespace

int main() {
  std::printf("%s\n", onednn_status());
  test_derived();
  test_device();
  setenv("FLASHMARGIN_CUDA", FM_EMULATED_CUDA, 0);  // or a library that was named, for a GPU
  chosen_device = &backend_of(Device{0});
  test_device();
  test_random_shapes();
  test_same_masks();
  test_other_devices();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
