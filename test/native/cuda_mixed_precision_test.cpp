// bfloat16 activations: each operation of the CUDA library under the host emulation against the same operation on the same
// rounded values in float32, whose result it is to be, rounded once more; parameters and sums stay float32.
#include <array>
#include <sstream>

#include "../../native/common/devices.h"
#include "../../native/common/random.h"
#include "op_checks.h"
#include "shape_text.h"

namespace {

constexpr Dtype kHalf = Dtype::bfloat16, kFull = Dtype::float32;

// Random values that bfloat16 has.
Values halves(int64_t n, double low = -1, double high = 1) {
  Values v = random_values(n, low, high);
  for (double& x : v) x = double(float(Bfloat16(float(x))));
  return v;
}

// `got` is `want`, which was computed in float32: to bfloat16's rounding where it is bfloat16, or was on the way.
void as_float32(const std::string& what, const Tensor& got, const Tensor& want, bool rounded = false) {
  check(want.dtype == kFull && got.shape == want.shape, what + ": the shape");
  const Values g = values(got), w = values(want);
  const double rounding = got.dtype == kHalf || rounded ? 1.0 / 256 : 1e-6;
  double worst = 0, size = 0;
  for (double x : w) size = std::max(size, std::abs(x));
  for (size_t i = 0; i < g.size(); i++)
    worst = std::max(worst, std::isfinite(g[i]) ? std::abs(g[i] - w[i]) - rounding * std::abs(w[i]) : INFINITY);
  check(worst <= 1e-6 * (1 + size), what, worst, 1e-6 * (1 + size));
}
void is_half(const std::string& what, const Tensor& got, const Tensor& want) {
  check(got.dtype == kHalf, what + " is bfloat16");
  as_float32(what, got, want);
}
void is_full(const std::string& what, const Tensor& got, const Tensor& want, bool rounded = false) {
  check(got.dtype == kFull, what + " is float32");
  as_float32(what, got, want, rounded);
}

// On a GPU; it leaves the gradient of a weight in bfloat16.
bool cudnn_computes() {
  for (const CudaLibrary& library : cuda_libraries())
    if (std::string(library.name) == "cuDNN") return library.used;
  return false;
}

// The same values as activations and in float32.
struct Pair {
  Tensor half, full;
  Pair(const Shape& shape, const Values& v) : half(tensor(kHalf, shape, v)), full(tensor(kFull, shape, v)) {}
};

// --- rounding -----------------------------------------------------------------------------------------------------

float float_of(uint32_t bits) { return Bfloat16::float_of(bits); }

void test_rounding() {
  const struct {
    uint32_t from;
    uint16_t to;
    const char* why;
  } cases[] = {
      {0x3f800000, 0x3f80, "one"},
      {0x3f808000, 0x3f80, "a tie, to the even below"},
      {0x3f818000, 0x3f82, "a tie, to the even above"},
      {0x3f808001, 0x3f81, "above a tie"},
      {0x3f817fff, 0x3f81, "below a tie"},
      {0x80000000, 0x8000, "minus zero"},
      {0x00008001, 0x0001, "a denormal"},
      {0x7f800000, 0x7f80, "infinity"},
      {0xff800000, 0xff80, "minus infinity"},
      {0x7f7fffff, 0x7f80, "the largest float"},
      {0x7fffffff, 0x7fc0, "a GPU's NaN, whose bits round to minus zero's"},
      {0xff800001, 0x7fc0, "a NaN with nothing in its upper half"},
  };
  for (Backend* device : {&cpu(), &dev()})
    for (const auto& [from, to, why] : cases) {
      Tensor x = device->empty(kFull, {1});
      const float value = float_of(from);
      device->copy_from_host(x, &value, 4);
      const Tensor y = device->cast(x, kHalf);
      uint16_t bits = 0;
      device->copy_to_host(&bits, y, 2);
      check(bits == to, std::string("cast of ") + why + " on " + device->name(), bits, to);
    }
  // Every value that is not NaN survives the way up and down, in both widths; the CPU flushes denormals.
  std::vector<uint16_t> all;
  for (int bits = 0; bits < 65536; bits++)
    if ((bits & 0x7fff) <= 0x7f80 && ((bits & 0x7f80) || !(bits & 0x7f))) all.push_back(uint16_t(bits));
  for (Backend* device : {&cpu(), &dev()}) {
    Tensor x = device->empty(kHalf, {int64_t(all.size())});
    device->copy_from_host(x, all.data(), x.bytes());
    for (Dtype wide : {kFull, Dtype::float64, kHalf})
      check(same_bits(x, device->cast(device->cast(x, wide), kHalf)),
            std::string("all values by way of ") + name_of(wide) + " on " + device->name());
  }
  const Tensor x = tensor(Dtype::float64, {3}, {1.0 / 3, -2, 0});
  close("cast to float32", dev().cast(x, kFull), {double(1.f / 3), -2, 0}, 0);
  check(dev().cast(tensor(kFull, {0, 3}, {}), kHalf).shape == Shape{0, 3}, "cast of nothing");
  const Tensor filled = dev().empty(kHalf, {5}), here = cpu().empty(kHalf, {5});
  dev().fill(filled, 0.3), cpu().fill(here, 0.3);
  check(same_bits(filled, here) && values(filled)[4] == double(float(Bfloat16(0.3f))), "fill");
}

// --- operations ---------------------------------------------------------------------------------------------------

void test_elementwise(const Shape& shape) {
  const int64_t channels = shape.back(), n = shape.numel();
  Values at = halves(n);
  at[0] = 0;
  const Pair x(shape, at), dy(shape, halves(n)), other(shape, halves(n, 0.25, 2));
  const Tensor slope = tensor(kFull, {channels}, random_values(channels));
  std::ostringstream text;
  text << ' ' << shape;
  const std::string label = text.str();
  is_half("relu" + label, dev().relu_forward(x.half), dev().relu_forward(x.full));
  is_half("relu dx" + label, dev().relu_backward(dy.half, x.half), dev().relu_backward(dy.full, x.full));
  is_half("add" + label, dev().add(x.half, other.half), dev().add(x.full, other.full));
  is_half("multiply" + label, dev().multiply(x.half, other.half), dev().multiply(x.full, other.full));
  is_half("scale" + label, dev().scale(x.half, 0.3), dev().scale(x.full, 0.3));
  is_half("affine" + label, dev().affine(x.half, 0.3, 2), dev().affine(x.full, 0.3, 2));
  is_half("sqrt" + label, dev().sqrt_forward(other.half, 0.5), dev().sqrt_forward(other.full, 0.5));
  is_half("dropout" + label, dev().dropout(x.half, 0.4, 11), dev().dropout(x.full, 0.4, 11));
  const Pair into(shape, at);
  dev().accumulate(into.half, dy.half), dev().accumulate(into.full, dy.full);
  is_half("accumulate" + label, into.half, into.full);
  is_half("prelu" + label, dev().prelu_forward(x.half, slope), dev().prelu_forward(x.full, slope));
  const PreluGradients g = dev().prelu_backward(dy.half, x.half, slope),
                       want = dev().prelu_backward(dy.full, x.full, slope);
  is_half("prelu dx" + label, g.dx, want.dx);
  is_full("prelu d_slope" + label, g.d_slope, want.d_slope);
  const double error = std::abs(dev().sum(x.half) - dev().sum(x.full)) +
                       std::abs(dev().dot(x.half, dy.half) - dev().dot(x.full, dy.full));
  check(error <= 1e-6 * double(n), "sum and dot" + label, error, 1e-6 * double(n));
  check(dev().all_finite(x.half), "allFinite" + label);
  for (double bad : {double(NAN), -double(INFINITY)}) {
    at[generator() % at.size()] = bad;
    check(!dev().all_finite(tensor(kHalf, shape, at)), "allFinite finds one" + label);
  }
  same_for_threads("elementwise" + label, [&] {
    const PreluGradients p = dev().prelu_backward(dy.half, x.half, slope);
    return std::vector<Tensor>{p.dx, p.d_slope, dev().add(x.half, dy.half)};
  });
}

// bent: behind it a PReLU; summed: a shortcut is added.
void test_batch_norm(const Shape& shape, double center, bool bent, bool summed) {
  const int64_t channels = shape.back(), n = shape.numel();
  const Pair x(shape, halves(n, center - 1, center + 1)), dy(shape, halves(n)), shortcut(shape, halves(n));
  const Tensor weight = tensor(kFull, {channels}, random_values(channels, 0.5, 1.5)),
               bias = tensor(kFull, {channels}, random_values(channels));
  OptionalTensor slope;
  if (bent) slope = tensor(kFull, {channels}, random_values(channels));
  const Values old_mean = random_values(channels), old_var = random_values(channels, 0.5, 2);
  std::ostringstream label;
  label << "batchNorm" << (bent ? " prelu " : summed ? " shortcut " : " ") << shape << " about " << center;
  for (bool training : {true, false}) {
    struct Result {
      BatchNormForward out;
      BatchNormGradients gradients;
      Tensor mean, var;
    };
    const auto run = [&](const Tensor& x, const Tensor& dy, const Tensor& shortcut) {
      const OptionalTensor added = summed ? OptionalTensor(shortcut) : OptionalTensor();
      const Tensor mean = tensor(kFull, {channels}, old_mean), var = tensor(kFull, {channels}, old_var);
      const BatchNormForward out = training
                                       ? dev().batch_norm_train(x, weight, bias, mean, var, 0.1, 1e-5, slope, added)
                                       : dev().batch_norm_eval(x, weight, bias, mean, var, 1e-5, slope, added);
      return Result{out, dev().batch_norm_backward(dy, x, weight, bias, out.mean, out.inv_std, training, slope), mean,
                    var};
    };
    const Result got = run(x.half, dy.half, shortcut.half), want = run(x.full, dy.full, shortcut.full);
    const std::string name = label.str() + (training ? " train" : " eval");
    is_half(name + " y", got.out.y, want.out.y);
    is_full(name + " mean", got.out.mean, want.out.mean);
    is_full(name + " inv_std", got.out.inv_std, want.out.inv_std);
    is_full(name + " running mean", got.mean, want.mean);
    is_full(name + " running var", got.var, want.var);
    is_half(name + " dx", got.gradients.dx, want.gradients.dx);
    is_full(name + " d_weight", got.gradients.d_weight, want.gradients.d_weight);
    is_full(name + " d_bias", got.gradients.d_bias, want.gradients.d_bias);
    if (bent) is_full(name + " d_slope", *got.gradients.d_slope, *want.gradients.d_slope);
    same_for_threads(name, [&] {
      const Result r = run(x.half, dy.half, shortcut.half);
      return std::vector<Tensor>{r.out.y, r.out.inv_std, r.gradients.dx, r.gradients.d_weight,
                                 r.gradients.d_slope.value_or(r.gradients.d_bias)};
    });
  }
}

struct Conv {
  Shape x, weight;
  ConvParams p;
};

// The library rounds float32 weights; against it stand weights that are rounded already.
void test_conv(const Conv& c) {
  const Values w = random_values(c.weight.numel());
  Values rounded = w;
  for (double& v : rounded) v = double(float(Bfloat16(float(v))));
  const Tensor weight = tensor(kFull, c.weight, w), same = tensor(kFull, c.weight, rounded);
  const Pair x(c.x, halves(c.x.numel()));
  const Tensor y = dev().conv2d_forward(x.half, weight, c.p), full = dev().conv2d_forward(x.full, same, c.p);
  const Pair dy(full.shape, halves(full.numel()));
  std::ostringstream text;
  text << "conv " << c.x << " by " << c.weight << " stride " << c.p.stride;
  const std::string name = text.str();
  is_half(name, y, full);
  is_half(name + " backward data", dev().conv2d_backward_data(dy.half, weight, c.x, c.p),
          dev().conv2d_backward_data(dy.full, same, c.x, c.p));
  is_full(name + " backward weight", dev().conv2d_backward_weight(dy.half, x.half, c.weight, c.p),
          dev().conv2d_backward_weight(dy.full, x.full, c.weight, c.p), cudnn_computes());
  same_for_threads(name, [&] {
    return std::vector<Tensor>{dev().conv2d_forward(x.half, weight, c.p),
                               dev().conv2d_backward_data(dy.half, weight, c.x, c.p),
                               dev().conv2d_backward_weight(dy.half, x.half, c.weight, c.p)};
  });
}

void test_matrices(int64_t m, int64_t k, int64_t n) {
  for (bool ta : {false, true})
    for (bool tb : {false, true}) {
      const Pair a(ta ? Shape{k, m} : Shape{m, k}, halves(m * k)), b(tb ? Shape{n, k} : Shape{k, n}, halves(k * n));
      std::ostringstream name;
      name << "matmul " << m << 'x' << k << 'x' << n << (ta ? " aᵀ" : "") << (tb ? " bᵀ" : "");
      is_half(name.str(), dev().matmul(a.half, b.half, ta, tb), dev().matmul(a.full, b.full, ta, tb));
    }
  const Pair x({m, k}, halves(m * k));
  const Tensor bias = tensor(kFull, {k}, random_values(k));
  is_half("addBias", dev().add_bias(x.half, bias), dev().add_bias(x.full, bias));
  is_full("sumRows", dev().sum_rows(x.half), dev().sum_rows(x.full));
}

void test_shapes(const Shape& shape) {
  const Pair x(shape, halves(shape.numel())), dy({shape[0], shape[3]}, halves(shape[0] * shape[3]));
  is_half("globalAvgPool", dev().global_avg_pool_forward(x.half), dev().global_avg_pool_forward(x.full));
  is_half("globalAvgPool dx", dev().global_avg_pool_backward(dy.half, shape),
          dev().global_avg_pool_backward(dy.full, shape));
  const Tensor flat = dev().flatten_forward(x.half);
  is_half("flatten", flat, dev().flatten_forward(x.full));
  check(same_bits(dev().flatten_backward(flat, shape), x.half), "flatten backward");
}

void test_empty() {
  const Tensor x = tensor(kHalf, {0, 4, 4, 2}, {}), weight = tensor(kFull, {3, 2, 3, 3}, Values(54, 1));
  const Tensor y = dev().conv2d_forward(x, weight, {1, 1});
  check(y.shape == Shape{0, 4, 4, 3} && y.dtype == kHalf, "conv of no images");
  close("conv of no images: backward weight", dev().conv2d_backward_weight(y, x, weight.shape, {1, 1}), Values(54, 0));
  const Tensor rows = tensor(kHalf, {0, 3}, {}), thin = tensor(kHalf, {3, 0}, {});
  is_half("matmul of no depth", dev().matmul(thin, rows, false, false), tensor(kFull, {3, 3}, Values(9, 0)));
}

// --- messages -----------------------------------------------------------------------------------------------------

template <class F>
void refuses(const std::string& what, const char* part, F&& f) {
  try {
    f();
    check(false, what + " is refused");
  } catch (const Error& error) {
    check(error.kind == ErrorKind::type && std::strstr(error.what(), part),
          what + " says '" + part + "', got '" + error.what() + "'");
  }
}

void test_refusals() {
  constexpr const char* kRemedy =
      "got bfloat16, which only a backbone's layers take, on a CUDA device: cast it to float32";
  const Tensor x = tensor(kHalf, {2, 2, 2, 3}, halves(24)), rows = tensor(kHalf, {2, 3}, halves(6)),
               full = tensor(kFull, {2, 3}, halves(6)), half_slope = tensor(kHalf, {3}, halves(3)),
               weight = tensor(kHalf, {4, 3, 1, 1}, halves(12));
  refuses("softmax", kRemedy, [&] { dev().softmax_forward(rows); });
  refuses("normalize", kRemedy, [&] { dev().normalize_forward(rows); });
  refuses("optimizerStep", kRemedy, [&] { dev().optimizer_step(rows, {rows}, rows, {}); });
  refuses("prelu of a bfloat16 slope", "slope of dtype float32, got bfloat16",
          [&] { dev().prelu_forward(x, half_slope); });
  refuses("conv2d of a bfloat16 weight", "weight of dtype float32, got bfloat16",
          [&] { dev().conv2d_forward(x, weight, {}); });
  refuses("add of two dtypes", "one dtype, got bfloat16 and float32", [&] { dev().add(rows, full); });
  refuses("matmul of two dtypes", "b of dtype bfloat16, got float32", [&] { dev().matmul(rows, full, false, true); });
  refuses("cast to integers", "got int32", [&] { dev().cast(full, Dtype::int32); });

  Backend* const gpu = chosen_device;
  chosen_device = &cpu();
  const Tensor image = tensor(kHalf, {2, 2, 2, 3}, halves(24)), three = tensor(kFull, {3}, random_values(3)),
               kernel = tensor(kFull, {4, 3, 1, 1}, random_values(12)), flat = tensor(kHalf, {2, 3}, halves(6));
  refuses("relu on the CPU", kRemedy, [&] { dev().relu_forward(image); });
  refuses("add on the CPU", kRemedy, [&] { dev().add(image, image); });
  refuses("prelu on the CPU", kRemedy, [&] { dev().prelu_forward(image, three); });
  refuses("conv2d on the CPU", kRemedy, [&] { dev().conv2d_forward(image, kernel, {}); });
  refuses("batchNorm on the CPU", kRemedy, [&] { dev().batch_norm_eval(image, three, three, three, three, 1e-5); });
  refuses("matmul on the CPU", kRemedy, [&] { dev().matmul(flat, flat, false, true); });
  refuses("flatten on the CPU", kRemedy, [&] { dev().flatten_forward(image); });
  chosen_device = gpu;
}

}  // namespace

int main() {
  setenv("FLASHMARGIN_CUDA", FM_EMULATED_CUDA, 0);  // or a library that was named, for a GPU
  chosen_device = &backend_of(Device{0});
  test_rounding();
  for (const Shape& shape : {Shape{2, 3, 5, 3}, Shape{4, 7, 7, 24}, Shape{33, 64}, Shape{2, 40, 41, 16},
                             Shape{9, 9, 9, 70}, Shape{3, 100, 30, 1}, Shape{2, 1, 1, 8}, Shape{5, 3, 3, 256}}) {
    for (double center : {0.0, 3.0})
      for (int behind : {0, 1, 2}) test_batch_norm(shape, center, behind == 1, behind == 2);
    test_elementwise(shape);
  }
  for (const Conv& c : {Conv{{2, 7, 5, 3}, {4, 3, 3, 3}, {1, 1}}, Conv{{1, 9, 8, 1}, {24, 1, 3, 3}, {2, 1}},
                        Conv{{3, 6, 6, 5}, {17, 5, 1, 1}, {2, 0}}, Conv{{2, 6, 7, 16}, {33, 16, 1, 1}, {1, 0}},
                        Conv{{2, 8, 8, 24}, {24, 24, 3, 3}, {2, 1}}, Conv{{1, 12, 7, 3}, {70, 3, 7, 7}, {2, 0}},
                        Conv{{5, 14, 14, 32}, {64, 32, 3, 3}, {2, 1}}, Conv{{2, 13, 12, 7}, {9, 7, 3, 5}, {1, 0}}})
    test_conv(c);
  for (const auto& [m, k, n] : {std::array<int64_t, 3>{1, 1, 1}, {3, 5, 7}, {8, 300, 129}, {57, 33, 16}, {2, 1000, 3}})
    test_matrices(m, k, n);
  for (const Shape& shape : {Shape{2, 3, 5, 3}, Shape{4, 7, 7, 64}, Shape{1, 1, 1, 1}, Shape{3, 17, 2, 35}})
    test_shapes(shape);
  test_empty();
  test_refusals();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
