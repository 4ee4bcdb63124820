// The separate kernels, the operations on rows and the search of the CUDA library, under the host emulation as a device
// beside the CPU: agreement with it in float64 on odd shapes, every method and axis; extremes, results in the place of
// arguments, the order of threads; and errors in the CPU's words.
#include <cstdlib>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <sstream>

#include "../../native/common/devices.h"
#include "error_of.h"
#include "margin_cases.h"
#include "shape_text.h"

namespace {

using namespace fm;
using Values = std::vector<double>;
using Ints = std::vector<int32_t>;

Backend& cpu() { return cpu_backend(); }
Backend& gpu() { return backend_of(Device{0}); }

std::mt19937_64 generator(11);
// Exact in float32.
Values random_values(int64_t n, double low = -1, double high = 1) {
  std::uniform_real_distribution<double> draw(low, high);
  Values v(static_cast<size_t>(n));
  for (double& x : v) x = double(float(draw(generator)));
  return v;
}
Ints random_labels(int64_t N, int64_t C) {
  Ints labels;
  for (int64_t i = 0; i < N; i++) labels.push_back(i % 5 == 3 ? -1 : int32_t(generator() % uint64_t(C)));
  return labels;
}

// A device and a precision; tensors there, from numbers and back.
struct On {
  Backend& device;
  Dtype dtype;

  Tensor floats(const Shape& shape, const Values& values) const {
    if (dtype == Dtype::float64) return made(shape, values);
    return made(shape, std::vector<float>(values.begin(), values.end()));
  }
  template <class T>
  Tensor made(const Shape& shape, const std::vector<T>& values) const {
    const Tensor t = device.empty(DtypeOf<T>::value, shape);
    if (t.numel() != int64_t(values.size())) fail(ErrorKind::shape, "test: ", values.size(), " values for ", shape);
    if (!values.empty()) device.copy_from_host(t, values.data(), t.bytes());
    return t;
  }
  Tensor room(const Shape& shape) const { return device.empty(dtype, shape); }
};

template <class T>
std::vector<T> elements(const Tensor& t) {
  std::vector<T> values(static_cast<size_t>(t.numel()));
  if (!values.empty()) backend_of(t.device()).copy_to_host(values.data(), t, t.bytes());
  return values;
}
struct Array {
  int64_t width;  // of a row
  Values values;
};
Array read(const Tensor& t) {
  const auto all = [&](auto values) {
    return Array{t.shape.size() > 1 ? t.shape.back() : t.numel(), Values(values.begin(), values.end())};
  };
  switch (t.dtype) {
    case Dtype::float32: return all(elements<float>(t));
    case Dtype::float64: return all(elements<double>(t));
    case Dtype::int32: return all(elements<int32_t>(t));
    case Dtype::bfloat16: return all(elements<uint16_t>(t));
    default: return all(elements<uint8_t>(t));
  }
}
Array read(double value) { return {1, {value}}; }

using Output = std::vector<Array>;
using Op = std::function<Output(const On&)>;

// Largest difference of an element, over the largest of its row, or over `least` if that is more.
double difference(const Array& got, const Array& wanted, double least) {
  if (got.values.size() != wanted.values.size()) return INFINITY;
  double worst = 0;
  for (size_t begin = 0; begin < wanted.values.size(); begin += size_t(wanted.width)) {
    double size = least, error = 0;
    for (size_t i = begin; i < begin + size_t(wanted.width); i++) {
      if (got.values[i] == wanted.values[i]) continue;  // also infinities
      if (!std::isfinite(got.values[i]) || !std::isfinite(wanted.values[i])) return INFINITY;
      error = std::max(error, std::fabs(got.values[i] - wanted.values[i]));
    }
    for (size_t i = begin; i < begin + size_t(wanted.width); i++)
      if (std::isfinite(wanted.values[i])) size = std::max(size, std::fabs(wanted.values[i]));
    worst = std::max(worst, error / size);
  }
  return worst;
}
bool same(const Output& a, const Output& b) {
  bool same = a.size() == b.size();
  for (size_t i = 0; same && i < a.size(); i++)
    same = a[i].values.size() == b[i].values.size() &&
           std::equal(a[i].values.begin(), a[i].values.end(), b[i].values.begin(),
                      [](double x, double y) { return !std::memcmp(&x, &y, sizeof x); });
  return same;
}

struct Judged {
  double in_float = 3e-6, in_double = 1e-12;
  double least = 1e-2;         // of a row, for a relative error
  bool own_precision = false;  // the CPU in the same precision, where results end at the edge of its range
};

void agree(const std::string& what, const Op& op, const Judged& judged = {}) {
  for (Dtype dtype : {Dtype::float32, Dtype::float64}) {
    const std::string name = what + ' ' + name_of(dtype);
    try {
      setenv("FM_EMULATED_SEED", "1", 1);
      const Output got = op({gpu(), dtype});
      setenv("FM_EMULATED_SEED", "77777", 1);
      expect(same(got, op({gpu(), dtype})), name, ": the order of threads changes nothing");
      const Output wanted = op({cpu(), judged.own_precision ? dtype : Dtype::float64});
      expect(got.size() == wanted.size(), name, ": as many results");
      for (size_t i = 0; i < std::min(got.size(), wanted.size()); i++) {
        const double error = difference(got[i], wanted[i], judged.least);
        const double allowed = dtype == Dtype::float32 ? judged.in_float : judged.in_double;
        expect(error <= allowed, name, ": result ", i, " is off by ", error, ", at most ", allowed);
      }
    } catch (const std::exception& error) {
      expect(false, name, ": ", error.what());
    }
  }
}

std::string of(const std::string& what, const Shape& shape) {
  std::ostringstream text;
  text << what << ' ' << shape;
  return text.str();
}

// Rows by classes: one element, less than a warp, more, a warp's turn and one more, a block a row, a long row.
const Shape kMatrices[] = {{1, 1}, {1, 2}, {3, 17}, {5, 33}, {7, 129}, {130, 4}, {3, 300}, {2, 9001}};

// --- normalize -------------------------------------------------------------------------------------------------------

void test_normalize() {
  for (const Shape& shape : kMatrices) {
    const int64_t N = shape[0], D = shape[1];
    const Values x = random_values(N * D), dy = random_values(N * D), d_norm = random_values(N);
    for (bool over : {false, true})
      agree(of(over ? "normalize over x" : "normalize", shape), [&](const On& on) -> Output {
        const Tensor from = on.floats(shape, x), y = over ? from : on.room(shape), norm = on.room({N});
        on.device.normalize_into(from, y, norm);
        return {read(y), read(norm)};
      });
    Values y, norm;
    {
      const On on{cpu(), Dtype::float64};
      const Tensor unit = on.room(shape), lengths = on.room({N});
      on.device.normalize_into(on.floats(shape, x), unit, lengths);
      y = read(unit).values, norm = read(lengths).values;
    }
    for (int which : {1, 2, 3})
      for (int over : {0, 1, 2})
        if (over < 2 || which & 1)
          agree(of("normalize's gradient " + std::to_string(which) + std::to_string(over), shape),
                [&](const On& on) -> Output {
                  OptionalTensor g, radial;
                  if (which & 1) g = on.floats(shape, dy);
                  if (which & 2) radial = on.floats({N}, d_norm);
                  const Tensor unit = on.floats(shape, y), dx = over == 2 ? *g : over ? unit : on.room(shape);
                  on.device.normalize_backward_into(g, unit, on.floats({N}, norm), radial, dx);
                  return {read(dx)};
                });
  }
  // Rows of 1e±20 (float64: 1e±150), of zeros, below 1e-12, at the edge of the range.
  for (int extreme = 0; extreme < 5; extreme++)
    agree("normalize of extremes " + std::to_string(extreme),
          [&](const On& on) -> Output {
            const bool single = on.dtype == Dtype::float32;
            const double sizes[] = {single ? 1e20 : 1e150, single ? 1e-20 : 1e-150, 0, 3e-13,
                                    (single ? double(std::numeric_limits<float>::max()) : 1e300) / 40};
            generator.seed(5);
            Values x = random_values(3 * 33);
            for (int64_t d = 0; d < 33; d++) x[33 + d] *= sizes[extreme];
            const Tensor from = on.floats({3, 33}, x), y = on.room({3, 33}), norm = on.room({3}), dx = on.room({3, 33});
            on.device.normalize_into(from, y, norm);
            on.device.normalize_backward_into(on.floats({3, 33}, random_values(99)), y, norm,
                                              on.floats({3}, random_values(3)), dx);
            return {read(y), read(norm), read(dx)};
          },
          {.least = 1e-30, .own_precision = true});
  agree("normalize's gradient beyond the range",
        [&](const On& on) -> Output {
          const double large = on.dtype == Dtype::float32 ? 1e30 : 1e290;
          const Tensor dx = on.room({2, 3});
          on.device.normalize_backward_into(on.floats({2, 3}, {large, -large, 0, 1, 1, 1}),
                                            on.floats({2, 3}, {0, 0, 1, 0, 0, 1}), on.floats({2}, {1e-11, 1e-13}),
                                            on.floats({2}, {-large, 4}), dx);
          return {read(dx)};
        },
        {.own_precision = true});
}

// --- cosines -----------------------------------------------------------------------------------------------------------

void test_cosines() {
  const int64_t shapes[][3] = {{1, 1, 1}, {1, 1, 5}, {3, 5, 2}, {5, 67, 130}, {65, 20, 33}, {2, 200, 9}, {9, 1, 70}};
  for (const auto& [N, R, D] : shapes) {
    const Values x = random_values(N * D, -3, 3), w = random_values(R * D), d = random_values(N * R);
    const std::string name = of("", {N, R, D});
    agree("cosines" + name, [&](const On& on) -> Output {
      const Tensor cosines = on.room({N, R});
      on.device.cosine_logits_forward(on.floats({N, D}, x), on.floats({R, D}, w), cosines);
      return {read(cosines)};
    });
    for (bool project : {true, false})
      for (int which : {1, 2, 3})
        for (bool over : {false, true})
          agree("cosines' gradients " + std::to_string(which) + (project ? "" : " unprojected") +
                    (over ? " over" : "") + name,
                [&](const On& on) -> Output {
                  const Tensor features = on.floats({N, D}, x), weight = on.floats({R, D}, w);
                  OptionalTensor dx, dw;
                  if (which & 1) dx = over ? features : on.room({N, D});
                  if (which & 2) dw = over ? weight : on.room({R, D});
                  on.device.cosine_logits_backward(on.floats({N, R}, d), features, weight, project, dx, dw);
                  Output out;
                  if (dx) out.push_back(read(*dx));
                  if (dw) out.push_back(read(*dw));
                  return out;
                },
                {.in_float = 1e-5, .least = 1});
  }
  agree("cosines of extremes",
        [&](const On& on) -> Output {
          const bool single = on.dtype == Dtype::float32;
          const double large = single ? 1e20 : 1e150, largest = single ? 1e30 : 1e300;  // the CPU flushes denormals
          generator.seed(3);
          Values x = random_values(6 * 9, 0.5, 1), w = random_values(7 * 9, 0.5, 1);
          for (int64_t d = 0; d < 9; d++) {
            x[d] *= large, x[9 + d] /= large, x[18 + d] = 0, x[27 + d] *= largest;
            w[d] *= large, w[9 + d] /= large, w[18 + d] = 0, w[27 + d] *= largest, w[36 + d] = x[36 + d];
            w[45 + d] = -2 * x[36 + d];
          }
          const Tensor features = on.floats({6, 9}, x), weight = on.floats({7, 9}, w), cosines = on.room({6, 7}),
                       dx = on.room({6, 9}), dw = on.room({7, 9});
          on.device.cosine_logits_forward(features, weight, cosines);
          on.device.cosine_logits_backward(on.floats({6, 7}, random_values(42)), features, weight, true, dx, dw);
          Output out{read(cosines), read(dx), read(dw)};
          // A row 1e150 long has gradients of 1e-150: in units of its own.
          for (size_t which : {size_t(1), size_t(2)})
            for (size_t row = 0; row < out[which].values.size() / 9; row++)
              for (size_t d = 0; d < 9; d++) {
                const Values& from = which == 1 ? x : w;
                double square = 0;
                for (size_t k = 0; k < 9; k++) square += std::pow(from[row * 9 + k] / 1e30, 2);
                out[which].values[row * 9 + d] *= std::max(std::sqrt(square) * 1e30, 1e-12);
              }
          return out;
        },
        {.in_float = 1e-5, .least = 1, .own_precision = true});
  agree("cosines' gradients beyond the range",
        [&](const On& on) -> Output {
          const double large = on.dtype == Dtype::float32 ? 1e30 : 1e290;
          const Tensor dx = on.room({2, 2}), dw = on.room({2, 2});
          on.device.cosine_logits_backward(on.floats({2, 2}, {large, -large, large / 4, large / 2}),
                                           on.floats({2, 2}, {1e-11, 0, 0, 1e-11}),
                                           on.floats({2, 2}, {1e-11, 1e-11, 1e-11, -1e-11}), true, dx, dw);
          return {read(dx), read(dw)};
        },
        {.own_precision = true});
}

void test_sub_centers() {
  for (const auto& [N, C, K] :
       {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1}, {3, 5, 1}, {4, 7, 2}, {2, 50, 3}, {5, 3, 130}, {2, 1500, 4}}) {
    Values cosines = random_values(N * C * K);
    for (double& c : cosines) c = std::round(c * 4) / 4;  // equal ones
    const Values d = random_values(N * C);
    agree(of("sub-centers", {N, C, K}), [&](const On& on) -> Output {
      const Tensor from = on.floats({N, C * K}, cosines), largest = K == 1 ? from : on.room({N, C}),
                   centers = on.device.empty(Dtype::int32, {N, C}), gradients = on.floats({N, C}, d),
                   back = K == 1 ? gradients : on.room({N, C * K});
      on.device.sub_center_max_forward(from, K, largest, centers);
      on.device.sub_center_max_backward(gradients, centers, K, back);
      return {read(largest), read(centers), read(back)};
    });
  }
}

// --- margins -----------------------------------------------------------------------------------------------------------

// Some cosines are ±1, or a rounding beyond.
Values random_cosines(int64_t N, int64_t C, const Ints& labels) {
  Values cosines = random_values(N * C, -0.99, 0.99);
  const double ends[] = {1, -1, double(1.00001f), 0};
  for (int64_t i = 0; i < N; i++) {
    if (labels[size_t(i)] >= 0 && i % 2) cosines[size_t(i * C + labels[size_t(i)])] = ends[i / 2 % 4];
    if (C > 2 && i % 3 == 0) cosines[size_t(i * C + (labels[size_t(i)] + 1) % C)] = ends[i % 3];
  }
  return cosines;
}

void test_transform(const Case& c, int64_t N, int64_t C) {
  const Ints labels = random_labels(N, C);
  const Values cosines = random_cosines(N, C, labels), d = random_values(N * C), norms = random_values(N, 2, 60),
               margins = random_values(N, 0.1, 0.6);
  const bool reads_norm = quality_of(c.p.method) == Quality::norm || c.p.scale_by_norm;
  for (int over : {0, 1, 2})
    agree(of("transform " + c.name + " over " + std::to_string(over), {N, C}),
          [&](const On& on) -> Output {
            OptionalTensor of_margins, of_norms, d_margins, d_norms;
            if (c.row_margins) of_margins = on.floats({N}, margins), d_margins = over ? *of_margins : on.room({N});
            if (reads_norm) of_norms = on.floats({N}, norms);
            const Tensor from = on.floats({N, C}, cosines), own = on.floats({N, C}, cosines),
                         gradients = on.floats({N, C}, d), label = on.made({N}, labels);
            const Tensor logits = over ? own : on.room({N, C});
            on.device.margin_transform_forward(own, label, of_margins, of_norms, c.p, logits);
            const Tensor to = over == 2 ? gradients : over ? from : on.room({N, C});
            if (reads_norm) d_norms = over ? *of_norms : on.room({N});
            const MarginTransformSums sums = on.device.margin_transform_backward(gradients, from, label, of_margins,
                                                                                 of_norms, c.p, to, d_margins, d_norms);
            Output out{read(logits), read(to), read(sums.d_scale), read(sums.d_bias)};
            if (d_margins) out.push_back(read(*d_margins));
            if (d_norms) out.push_back(read(*d_norms));
            return out;
          },
          {.in_float = 2e-6, .least = c.p.scale, .own_precision = true});
}

void test_transforms() {
  for (const Case& c : every_case(64)) test_transform(c, 11, 7);
  int turn = 0;
  for (const Case& c : conventions(512))
    if (turn++ % 7 == 0)
      for (const Shape& shape : {Shape{1, 1}, {5, 33}, {2, 300}, {2, 9001}}) test_transform(c, shape[0], shape[1]);
  for (const Shape& shape : kMatrices) {
    const int64_t N = shape[0], C = shape[1];
    const Ints labels = random_labels(N, C);
    const Values cosines = random_cosines(N, C, labels), d = random_values(N * C);
    for (double t : {-1.0, 0.0, 0.3, 1.0})
      for (int over : {0, 1, 2})
        agree(of("reweighting", shape),
              [&](const On& on) -> Output {
                const Tensor from = on.floats(shape, cosines), own = on.floats(shape, cosines),
                             gradients = on.floats(shape, d), label = on.made({N}, labels),
                             y = over ? own : on.room(shape),
                             back = over == 2 ? gradients
                                    : over    ? from
                                              : on.room(shape);
                on.device.curricular_reweight_forward(own, label, t, 0.5, y);
                on.device.curricular_reweight_backward(gradients, from, label, t, 0.5, back);
                return {read(y), read(back)};
              },
              {.own_precision = true});
  }
}

// --- losses ------------------------------------------------------------------------------------------------------------

void test_cross_entropies() {
  for (const Shape& shape : kMatrices) {
    const int64_t N = shape[0], C = shape[1];
    for (int kind = 0; kind < 6; kind++) {
      // all without a target; ordinary; learned; hopeless; scale 512; the ends of the range
      const Ints labels = kind == 0 ? Ints(size_t(N), -1) : random_labels(N, C);
      Values logits = random_values(N * C, kind == 4 ? -512 : -8, kind == 4 ? 512 : 8);
      for (int64_t i = 0; i < N; i++) {
        const size_t at = size_t(i * C + std::max(labels[size_t(i)], 0));
        if (kind == 2) logits[at] = 40;
        if (kind == 3) logits[at] = -200;
        if (kind == 5) logits[at] = i % 2 ? 1e30 : -1e30, logits[size_t(i * C)] = i % 3 ? 1e30 : 0;
      }
      const std::string name = of(" kind " + std::to_string(kind), shape);
      const Judged judged{.in_float = 5e-6, .in_double = 1e-11, .least = 1e-30, .own_precision = kind == 5};
      for (double smoothing : {0.0, 0.1})
        for (bool over : {false, true})
          agree(
              "cross entropy" + name,
              [&](const On& on) -> Output {
                const Tensor z = on.floats(shape, logits), label = on.made({N}, labels), loss = on.room({N}),
                             lse = on.room({N}), dz = over ? z : on.room(shape);
                const double mean = on.device.softmax_cross_entropy_forward(z, label, smoothing, loss, lse);
                on.device.softmax_cross_entropy_backward(z, label, smoothing, -2.5, dz);
                return {read(mean), read(loss), read(lse), read(dz)};
              },
              judged);
      for (bool over : {false, true})
        agree(
            "binary entropy" + name,
            [&](const On& on) -> Output {
              const Tensor z = on.floats(shape, logits), label = on.made({N}, labels), loss = on.room({N}),
                           dz = over ? z : on.room(shape);
              const double mean = on.device.binary_cross_entropy_forward(z, label, 2, 0.3, loss);
              on.device.binary_cross_entropy_backward(z, label, 2, 0.3, 1.5, dz);
              return {read(mean), read(loss), read(dz)};
            },
            judged);
    }
  }
}

void test_regularizer() {
  for (Method method : kMethods)
    for (int64_t N : {1, 3, 300}) {
      const Values norms = random_values(N, 0, 60);
      const Ints labels = random_labels(N, 1 << 20);
      const MarginParams p = params(method);
      agree(std::string("regularizer of ") + name_of(method), [&](const On& on) -> Output {
        const Tensor x = on.floats({N}, norms), label = on.made({N}, labels);
        const double value = on.device.norm_regularizer_forward(x, label, p);
        on.device.norm_regularizer_backward(x, label, p, -3, x);
        return {read(value), read(x)};
      });
    }
}

// --- rows --------------------------------------------------------------------------------------------------------------

void test_rows() {
  for (const Shape& shape : {Shape{0, 3}, {1, 1}, {5, 3}, {17, 33}, {1500, 4}, {2, 4100}}) {
    const Values x = random_values(shape.numel(), -50, 50), dy = random_values(shape.numel());
    agree(of("softmax", shape), [&](const On& on) -> Output {
      const Tensor from = on.floats(shape, x), g = on.floats(shape, dy), y = on.device.softmax_forward(from),
                   l = on.device.log_softmax_forward(from);
      return {read(y), read(l), read(on.device.softmax_backward(g, y)), read(on.device.log_softmax_backward(g, l))};
    });
  }
  for (const auto& [rows, n, d] :
       {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1}, {7, 40, 19}, {3, 0, 4}, {30, 500, 3}, {2, 9, 4099}}) {
    const Values x = random_values(rows * d), dy = random_values(n * d);
    Ints index(static_cast<size_t>(n));
    for (int32_t& at : index) at = int32_t(generator() % uint64_t(rows));
    const auto both = [&](const On& on) -> Output {
      const Tensor from = on.floats({rows, d}, x), at = on.made({n}, index);
      Output out{read(on.device.gather_rows(from, at))};
      on.device.scatter_add_rows(from, at, on.floats({n, d}, dy));
      out.push_back(read(from));
      return out;
    };
    agree(of("gather", {rows, n, d}), both, {.in_float = 0, .in_double = 0, .own_precision = true});
    for (Dtype dtype : {Dtype::int32, Dtype::uint8, Dtype::bfloat16}) {
      std::vector<Array> got;
      for (Backend* device : {&cpu(), &gpu()}) {
        const Tensor from = device->empty(dtype, {rows, d});
        std::vector<char> bytes(from.bytes());
        std::iota(bytes.begin(), bytes.end(), 3);
        device->copy_from_host(from, bytes.data(), from.bytes());
        got.push_back(read(device->gather_rows(from, On{*device, dtype}.made({n}, index))));
      }
      expect(got[0].values == got[1].values, of("gather of other types", {rows, n, d}));
    }
  }
  for (const auto& [n, k, d] :
       {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1}, {5, 4, 19}, {130, 3, 64}, {2, 2, 5000}, {0, 2, 3}}) {
    const Values w = random_values(n * k), x = random_values(n * k * d), dy = random_values(n * d);
    agree(of("weighted sum", {n, k, d}), [&](const On& on) -> Output {
      const Tensor weights = on.floats({n, k}, w), terms = on.floats({n, k, d}, x);
      const WeightedSumGradients g = on.device.weighted_sum_backward(on.floats({n, d}, dy), weights, terms);
      return {read(on.device.weighted_sum_forward(weights, terms)), read(g.d_weights), read(g.dx)};
    });
  }
  for (const auto& [n, d] : {std::pair<int64_t, int64_t>{0, 3}, {1, 1}, {7, 19}, {16, 64}, {40, 257}}) {
    const Values x = random_values(n * d), dy = random_values(n * n);
    agree(of("distances", {n, d}), [&](const On& on) -> Output {
      const Tensor from = on.floats({n, d}, x), y = on.device.squared_distances_forward(from);
      const Values all = read(y).values;
      bool symmetric = true;
      for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++)
          symmetric = symmetric && all[i * n + j] == all[j * n + i] && (i != j || all[i * n + j] == 0);
      expect(symmetric, of("distances are symmetric, and 0 to oneself", {n, d}));
      return {read(y), read(on.device.squared_distances_backward(on.floats({n, n}, dy), from))};
    });
  }
}

// --- search ------------------------------------------------------------------------------------------------------------

// Small integers: scores are exact and often equal.
void test_nearest() {
  const auto compare = [](const std::string& what, const Shape& queries, const std::vector<float>& q,
                          const Shape& gallery, const std::vector<float>& g, int64_t k) {
    Output found[2];
    int at = 0;
    for (Backend* device : {&cpu(), &gpu()}) {
      const On on{*device, Dtype::float32};
      const Neighbours n = device->nearest(on.made(queries, q), on.made(gallery, g), k);
      found[at++] = {read(n.index), read(n.score)};
    }
    expect(same(found[0], found[1]), what);
  };
  for (const auto& [q, g, d, k] : {std::tuple<int64_t, int64_t, int64_t, int64_t>{1, 1, 1, 1},
                                   {5, 40, 9, 1},
                                   {5, 40, 9, 10},
                                   {5, 40, 9, 40},
                                   {3, 131, 2, 100},
                                   {70, 5000, 8, 3},
                                   {0, 3, 2, 2},
                                   {1030, 20, 3, 5}}) {
    std::vector<float> queries(static_cast<size_t>(q * d)), gallery(static_cast<size_t>(g * d));
    for (auto* values : {&queries, &gallery})
      for (float& v : *values) v = float(int(generator() % 7) - 3);
    for (const char* seed : {"1", "99"}) {
      setenv("FM_EMULATED_SEED", seed, 1);
      compare(of("nearest " + std::to_string(k), {q, g, d}), {q, d}, queries, {g, d}, gallery, k);
    }
  }
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  compare("a NaN score is no neighbour", {2, 2}, {1, 0, 0, 1}, {3, 2}, {nan, 1, 0.5f, 0, 0.75f, 0}, 3);
  compare("nor is −∞; +∞ is one", {1, 1}, {1}, {4, 1}, {-infinity, 2, infinity, 2}, 4);
}

// --- errors ------------------------------------------------------------------------------------------------------------

void test_errors() {
  const auto refused = [](const std::string& part, const std::function<void(const On&)>& call) {
    for (Dtype dtype : {Dtype::float32, Dtype::float64}) {
      const std::string wanted = error_of([&] { call({cpu(), dtype}); }), got = error_of([&] { call({gpu(), dtype}); });
      expect(got == wanted && got.find(part) != std::string::npos, "'", got, "', the CPU's '", wanted, "', in it '",
             part, "'");
    }
  };
  const double inf = INFINITY;
  const Ints labels{0, -1, 2};
  const MarginParams arc = params(Method::arcface);
  const auto bad = [](Values v, size_t at, double x) {
    v[at] = x;
    return v;
  };
  const Values twelve = random_values(12, 0.1, 0.9), three{1, 2, 3};

  for (double x : {double(NAN), inf, -inf})
    for (size_t at : {size_t(5), size_t(11)}) {
      const Values values = bad(twelve, at, x);
      refused("got a row of norm", [&](const On& on) {
        const Tensor from = on.floats({3, 4}, values);
        on.device.normalize_into(from, from, on.room({3}));
      });
      refused("expected finite y, got", [&](const On& on) {
        on.device.normalize_backward_into(std::nullopt, on.floats({3, 4}, values), on.floats({3}, three), std::nullopt,
                                          on.room({3, 4}));
      });
      refused("expected finite features, got a row of norm", [&](const On& on) {
        on.device.cosine_logits_forward(on.floats({3, 4}, values), on.floats({3, 4}, twelve), on.room({3, 3}));
      });
      refused("expected finite weight, got a row of norm", [&](const On& on) {
        const Tensor w = on.floats({3, 4}, values);
        on.device.cosine_logits_backward(on.floats({3, 3}, Values(9, 1)), on.floats({3, 4}, twelve), w, true,
                                         std::nullopt, on.room({3, 4}));
      });
      refused("expected finite dCosines, got", [&](const On& on) {
        on.device.cosine_logits_backward(on.floats({3, 4}, values), on.floats({3, 2}, Values(6, 1)),
                                         on.floats({4, 2}, Values(8, 1)), true, on.room({3, 2}), std::nullopt);
      });
      refused("expected finite cosines, got", [&](const On& on) {
        on.device.sub_center_max_forward(on.floats({3, 4}, values), 2, on.room({3, 2}),
                                         on.device.empty(Dtype::int32, {3, 2}));
      });
      refused("expected finite dCosines, got", [&](const On& on) {
        on.device.sub_center_max_backward(on.floats({3, 4}, values), on.made({3, 4}, Ints(12, 0)), 2, on.room({3, 8}));
      });
      refused("expected finite cosines, got", [&](const On& on) {
        const Tensor from = on.floats({3, 4}, values);
        on.device.margin_transform_forward(from, on.made({3}, labels), std::nullopt, std::nullopt, arc, from);
      });
      refused("expected finite dLogits, got", [&](const On& on) {
        const Tensor d = on.floats({3, 4}, values);
        on.device.margin_transform_backward(d, on.floats({3, 4}, twelve), on.made({3}, labels), std::nullopt,
                                            std::nullopt, arc, d, std::nullopt, std::nullopt);
      });
      refused("expected finite cosines, got", [&](const On& on) {
        on.device.curricular_reweight_forward(on.floats({3, 4}, values), on.made({3}, labels), 0.1, 0.5,
                                              on.room({3, 4}));
      });
      refused("expected finite dReweighted, got", [&](const On& on) {
        on.device.curricular_reweight_backward(on.floats({3, 4}, values), on.floats({3, 4}, twelve),
                                               on.made({3}, labels), 0.1, 0.5, on.room({3, 4}));
      });
      refused("expected finite logits, got", [&](const On& on) {
        on.device.softmax_cross_entropy_forward(on.floats({3, 4}, values), on.made({3}, labels), 0, on.room({3}),
                                                on.room({3}));
      });
      refused("expected finite logits, got", [&](const On& on) {
        const Tensor z = on.floats({3, 4}, values);
        on.device.softmax_cross_entropy_backward(z, on.made({3}, labels), 0, 1, z);
      });
      refused("expected finite logits, got", [&](const On& on) {
        const Tensor z = on.floats({3, 4}, values);
        on.device.binary_cross_entropy_forward(z, on.made({3}, labels), 1, 1, on.room({3}));
      });
    }

  // The lowest row speaks, and of several arguments the first.
  refused("got 5 at row 1, column 2", [&](const On& on) {
    on.device.margin_transform_forward(on.floats({3, 4}, bad(bad(twelve, 6, 5), 9, NAN)), on.made({3}, labels),
                                       std::nullopt, std::nullopt, arc, on.room({3, 4}));
  });
  refused("expected y in [-1, 1], got 2 at row 2, column 3", [&](const On& on) {
    on.device.normalize_backward_into(on.floats({3, 4}, bad(twelve, 0, inf)), on.floats({3, 4}, bad(twelve, 11, 2)),
                                      on.floats({3}, three), std::nullopt, on.room({3, 4}));
  });
  refused("expected finite norm, got inf at row 1, column 0", [&](const On& on) {
    on.device.normalize_backward_into(std::nullopt, on.floats({3, 4}, twelve), on.floats({3}, bad(three, 1, inf)),
                                      on.floats({3}, bad(three, 0, NAN)), on.room({3, 4}));
  });
  refused("dNorm of at most 1e30", [&](const On& on) {
    on.device.normalize_backward_into(std::nullopt, on.floats({3, 4}, twelve), on.floats({3}, three),
                                      on.floats({3}, bad(three, 2, on.dtype == Dtype::float32 ? 3e30 : 3e290)),
                                      on.room({3, 4}));
  });
  refused("logits of at most 1e30", [&](const On& on) {
    const Tensor z = on.floats({3, 4}, bad(twelve, 8, on.dtype == Dtype::float32 ? -3e30 : -3e290));
    on.device.binary_cross_entropy_backward(z, on.made({3}, labels), 1, 1, 1, z);
  });
  refused("got a row of norm inf at row 1", [&](const On& on) {
    const double largest = on.dtype == Dtype::float32 ? 3e38 : 1.7e308;
    on.device.normalize_into(on.floats({2, 2}, {1, 1, largest, largest}), on.room({2, 2}), on.room({2}));
  });
  for (const Ints& some : {Ints{0, 4, 2}, Ints{1, 1, -2}, Ints{-2, 9, 9}}) {
    refused("expected labels in [0, 4) or -1, got", [&](const On& on) {
      const Tensor c = on.floats({3, 4}, twelve);
      on.device.margin_transform_forward(c, on.made({3}, some), std::nullopt, std::nullopt, arc, c);
    });
    refused("expected labels in [0, 4) or -1, got", [&](const On& on) {
      on.device.curricular_reweight_forward(on.floats({3, 4}, twelve), on.made({3}, some), 0, 0.5, on.room({3, 4}));
    });
    refused("expected labels in [0, 4) or -1, got", [&](const On& on) {
      const Tensor z = on.floats({3, 4}, twelve);
      on.device.softmax_cross_entropy_backward(z, on.made({3}, some), 0, 1, z);
    });
    refused("expected labels in [0, 4) or -1, got", [&](const On& on) {
      on.device.binary_cross_entropy_forward(on.floats({3, 4}, twelve), on.made({3}, some), 1, 1, on.room({3}));
    });
  }
  refused("got -2 at row 1", [&](const On& on) {
    on.device.norm_regularizer_forward(on.floats({3}, three), on.made({3}, Ints{0, -2, 1}), params(Method::magface));
  });
  refused("expected finite norms of at least 0, got -2 at row 1", [&](const On& on) {
    const Tensor norms = on.floats({3}, {1, -2, NAN});
    on.device.norm_regularizer_backward(norms, on.made({3}, labels), params(Method::magface), 1, norms);
  });
  refused("expected finite norms of at least 0, got inf at row 2", [&](const On& on) {
    on.device.margin_transform_forward(on.floats({3, 4}, twelve), on.made({3}, labels), std::nullopt,
                                       on.floats({3}, {1, 2, INFINITY}), params(Method::magface), on.room({3, 4}));
  });
  refused("expected margins in [-pi, pi], got 4 at row 1", [&](const On& on) {
    const Tensor margins = on.floats({3}, {1, 4, 2}), c = on.floats({3, 4}, twelve);
    on.device.margin_transform_backward(c, on.floats({3, 4}, twelve), on.made({3}, labels), margins, std::nullopt, arc,
                                        c, margins, std::nullopt);
  });
  refused("expected centers in [0, 2), got 2 at row 1, class 3", [&](const On& on) {
    Ints centers(12, 1);
    centers[7] = 2, centers[8] = -1;
    on.device.sub_center_max_backward(on.floats({3, 4}, twelve), on.made({3, 4}, centers), 2, on.room({3, 8}));
  });
  for (const Ints& some : {Ints{0, 3, 7}, Ints{2, -1, 0}}) {
    refused("expected index in [0, 3), got", [&](const On& on) {
      on.device.gather_rows(on.floats({3, 4}, twelve), on.made({3}, some));
    });
    refused("expected index in [0, 3), got", [&](const On& on) {
      const Tensor into = on.floats({3, 4}, twelve);
      const std::string error = error_of([&] {
        on.device.scatter_add_rows(into, on.made({3}, some), on.floats({3, 4}, Values(12, 1)));
      });
      expect(read(into).values == read(on.floats({3, 4}, twelve)).values, "a refused index changes nothing");
      on.device.scatter_add_rows(into, on.made({3}, some), on.floats({3, 4}, Values(12, 1)));
    });
  }

  // Shapes, before anything runs.
  refused("expected out [3, 4]", [&](const On& on) {
    const Tensor z = on.floats({3, 4}, twelve);
    on.device.softmax_cross_entropy_backward(z, on.made({3}, labels), 0, 1, on.room({4, 3}));
  });
  refused("expected weight [R, 4]", [&](const On& on) {
    on.device.cosine_logits_forward(on.floats({3, 4}, twelve), on.floats({4, 3}, twelve), on.room({3, 4}));
  });
  refused("expected subCenters in [1, 1024]", [&](const On& on) {
    on.device.sub_center_max_forward(on.floats({3, 4}, twelve), 0, on.room({3, 4}),
                                     on.device.empty(Dtype::int32, {3, 4}));
  });
  refused("expected k in [1, 2]", [&](const On& on) {
    const On in_float{on.device, Dtype::float32};
    on.device.nearest(in_float.floats({1, 2}, {1, 2}), in_float.floats({2, 2}, {1, 2, 3, 4}), 3);
  });
  refused("expected queries of dtype float32", [&](const On& on) {
    const On in_double{on.device, Dtype::float64};
    on.device.nearest(in_double.floats({1, 2}, {1, 2}), in_double.floats({1, 2}, {1, 2}), 1);
  });
  const Tensor here = On{cpu(), Dtype::float32}.floats({3, 4}, twelve);
  const std::string where = error_of([&] { gpu().softmax_forward(here); });
  expect(where.find("expected x on cuda:0, got cpu") != std::string::npos, "a tensor elsewhere: ", where);
}

}  // namespace

int main() {
  setenv("FLASHMARGIN_CUDA", FM_EMULATED_CUDA, 0);  // or a library that was named, for a GPU
  setenv("FLASHMARGIN_CUDA_SCRATCH", "0.01", 1);    // MiB: several chunks of weight and gallery
  const auto run = [](const char* name, void (*test)()) {
    const int before = failed;
    try {
      test();
      expect(cuda_memory(0).used == 0, name, ": all memory was given back");
    } catch (const std::exception& error) {
      expect(false, name, ": ", error.what());
    }
    std::printf("%s: %s\n", name, failed == before ? "ok" : "FAILED");
  };
  run("normalize", test_normalize);
  run("cosines", test_cosines);
  run("sub-centers", test_sub_centers);
  run("transforms", test_transforms);
  run("cross entropies", test_cross_entropies);
  run("regularizer", test_regularizer);
  run("rows", test_rows);
  run("nearest", test_nearest);
  run("errors", test_errors);
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
