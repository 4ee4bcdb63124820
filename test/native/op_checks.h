// What the tests of operations share: a device, tensors from plain values, closeness, orders of threads and finite
// differences.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "../../native/common/backend.h"
#include "../../native/cpu/parallel.h"

using namespace fm;

namespace {

int passed = 0, failed = 0;

void check(bool ok, const std::string& what, double error = 0, double tolerance = 0) {
  (ok ? passed : failed)++;
  if (!ok) std::printf("FAILED %s: error %.3g, tolerance %.3g\n", what.c_str(), error, tolerance);
}

using Values = std::vector<double>;
std::mt19937_64 generator(7);

inline Values random_values(int64_t n, double low = -1, double high = 1) {
  std::uniform_real_distribution<double> draw(low, high);
  Values v(n);
  for (double& x : v) x = double(float(draw(generator)));  // exact in both precisions
  return v;
}
inline Backend& cpu() { return cpu_backend(); }
// Where tensors are made and operations run.
Backend* chosen_device = &cpu_backend();
Backend& dev() { return *chosen_device; }
[[maybe_unused]] bool on_cpu() { return chosen_device == &cpu_backend(); }

template <class T>
Tensor tensor_of(const Shape& shape, const std::vector<T>& v) {
  Tensor t = dev().empty(DtypeOf<T>::value, shape);
  if (int64_t(v.size()) != t.numel()) fail(ErrorKind::shape, "test: ", v.size(), " values for ", shape);
  dev().copy_from_host(t, v.data(), t.bytes());
  return t;
}
template <class T>
std::vector<T> elements(const Tensor& t) {
  std::vector<T> v(size_t(t.numel()));
  if (t.dtype != DtypeOf<T>::value) fail(ErrorKind::type, "test: a tensor of ", name_of(t.dtype));
  backend_of(t.device()).copy_to_host(v.data(), t, t.bytes());
  return v;
}
inline Tensor tensor(Dtype dtype, const Shape& shape, const Values& v) {
  if (dtype == Dtype::float64) return tensor_of<double>(shape, v);
  if (dtype == Dtype::bfloat16) {
    std::vector<Bfloat16> rounded;
    for (double x : v) rounded.emplace_back(float(x));
    return tensor_of<Bfloat16>(shape, rounded);
  }
  return tensor_of<float>(shape, std::vector<float>(v.begin(), v.end()));
}
inline Values values(const Tensor& t) {
  if (t.dtype == Dtype::float64) return elements<double>(t);
  if (t.dtype == Dtype::bfloat16) {
    Values wide;
    for (Bfloat16 x : elements<Bfloat16>(t)) wide.push_back(double(float(x)));
    return wide;
  }
  const std::vector<float> v = elements<float>(t);
  return Values(v.begin(), v.end());
}
inline std::vector<char> bits_of(const Tensor& t) {
  std::vector<char> bits(t.bytes());
  backend_of(t.device()).copy_to_host(bits.data(), t, t.bytes());
  return bits;
}
inline bool same_bits(const Tensor& a, const Tensor& b) { return bits_of(a) == bits_of(b); }

// max |got − want| / (1 + max |want|)
inline double distance(const Values& got, const Values& want) {
  if (got.size() != want.size()) return INFINITY;
  double error = 0, size = 0;
  for (size_t i = 0; i < got.size(); i++) {
    if (!std::isfinite(got[i])) return INFINITY;
    error = std::max(error, std::abs(got[i] - want[i]));
    size = std::max(size, std::abs(want[i]));
  }
  return error / (1 + size);
}
inline void close(const std::string& what, const Tensor& got, const Values& want, double float_tolerance = 2e-6) {
  const double tolerance = got.dtype == Dtype::float32 ? float_tolerance : 1e-12, error = distance(values(got), want);
  check(error <= tolerance, what + ' ' + name_of(got.dtype), error, tolerance);
}

// All tensors of results have the same bits, computed with 1 and with 3 threads; of an emulated GPU, with two orders of
// its threads.
inline void same_for_threads(const std::string& what, const std::function<std::vector<Tensor>()>& run) {
  const int threads = num_threads();
  const auto ordered = [&](int order) {
    set_num_threads(order);
    setenv("FM_EMULATED_SEED", std::to_string(order * 1000003).c_str(), 1);
    return run();
  };
  const auto one = ordered(1), three = ordered(3);
  set_num_threads(threads);
  bool same = one.size() == three.size();
  for (size_t i = 0; same && i < one.size(); i++) same = same_bits(one[i], three[i]);
  check(same, what + ": the threads' number and order change nothing");
}

// d of ⟨weights, f(x)⟩ by central differences, at `count` places of x, against `gradient`.
inline void differences(const std::string& what, const Tensor& x, const Tensor& gradient,
                        const std::function<double()>& f, int count = 12) {
  if (!x.device().is_cpu()) return;  // there the plain loops are the judge: x is not at hand
  double* data = x.data<double>();
  const Values g = values(gradient);
  double error = 0, size = 1;
  for (double v : g) size = std::max(size, std::abs(v));
  for (int i = 0; i < count; i++) {
    const size_t at = generator() % g.size();
    const double saved = data[at], h = 1e-5;
    data[at] = saved + h;
    const double up = f();
    data[at] = saved - h;
    const double down = f();
    data[at] = saved;
    error = std::max(error, std::abs((up - down) / (2 * h) - g[at]));
  }
  check(error <= 1e-7 * size, what + " against finite differences", error, 1e-7 * size);
}
inline double inner(const Tensor& a, const Tensor& b) {
  const Values x = values(a), y = values(b);
  double sum = 0;
  for (size_t i = 0; i < x.size(); i++) sum += x[i] * y[i];
  return sum;
}

constexpr Dtype kFloats[] = {Dtype::float32, Dtype::float64};

}  // namespace
