// The normalise kernels' own source under the host emulation, against a plain float64 twin.
#include "cuda_emulation.h"

#include "../../native/cuda/normalize.cuh"

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>

namespace {

using cuda_emulation::emulate;

int passed = 0, failed = 0;

void check(bool ok, const std::string& what) {
  (ok ? passed : failed)++;
  if (!ok) std::printf("FAILED: %s\n", what.c_str());
}

constexpr int kBlock = 128;
constexpr double kCanary = -12345.5;
constexpr int kGuard = 64;  // elements after each result that must stay as they were

template <class T>
struct Rows {
  int64_t N, D;
  std::vector<T> values;
};

template <class T>
Rows<T> random_rows(int64_t N, int64_t D, uint64_t seed, double magnitude = 1) {
  Rows<T> rows{N, D, std::vector<T>(size_t(N * D))};
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  for (T& value : rows.values) value = T(normal(random) * magnitude);
  return rows;
}

template <class T>
struct Result {
  std::vector<T> y, norm, dx;
  bool guarded = true;
};

template <class T, int kRowThreads>
Result<T> run_kernels(const Rows<T>& x, const std::vector<T>& dy, uint64_t seed) {
  Result<T> out;
  const size_t elements = x.values.size(), rows = size_t(x.N);
  out.y.assign(elements + kGuard, T(kCanary));
  out.dx.assign(elements + kGuard, T(kCanary));
  out.norm.assign(rows + kGuard, T(kCanary));
  const int64_t rows_a_block = kBlock / kRowThreads;
  const unsigned blocks = unsigned((x.N + rows_a_block - 1) / rows_a_block);
  emulate({blocks}, {kBlock}, seed, [&] {
    fm::normalize_forward_kernel<T, kRowThreads>(x.values.data(), out.y.data(), out.norm.data(), x.N, x.D, nullptr);
  });
  emulate({blocks}, {kBlock}, seed + 1, [&] {
    fm::normalize_backward_kernel<T, kRowThreads>(dy.data(), out.y.data(), out.norm.data(), out.dx.data(), x.N, x.D);
  });
  for (auto* buffer : {&out.y, &out.dx, &out.norm}) {
    for (size_t i = buffer->size() - kGuard; i < buffer->size(); i++) out.guarded &= (*buffer)[i] == T(kCanary);
    buffer->resize(buffer->size() - kGuard);
  }
  return out;
}

// The plain twin, from the formula: long double has range and digits to spare for both types.
template <class T>
Result<double> plain(const Rows<T>& x, const std::vector<T>& dy) {
  Result<double> out;
  for (int64_t n = 0; n < x.N; n++) {
    const T* row = &x.values[size_t(n * x.D)];
    const T* slope = &dy[size_t(n * x.D)];
    long double squares = 0;
    for (int64_t d = 0; d < x.D; d++) squares += (long double)row[d] * row[d];
    const long double norm = sqrtl(squares), scale = std::max(norm, 1e-12L);
    long double dot = 0;
    for (int64_t d = 0; d < x.D; d++) dot += row[d] / scale * slope[d];
    out.norm.push_back(double(norm));
    for (int64_t d = 0; d < x.D; d++) out.y.push_back(double(row[d] / scale));
    for (int64_t d = 0; d < x.D; d++) out.dx.push_back(double((slope[d] - row[d] / scale * dot) / scale));
  }
  return out;
}

// Largest error, relative to the largest value of its row.
template <class T>
double error_of(const std::vector<T>& got, const std::vector<double>& want, int64_t rows) {
  double worst = 0;
  const size_t width = got.size() / size_t(rows);
  for (size_t n = 0; n < size_t(rows); n++) {
    double largest = std::numeric_limits<double>::min(), error = 0;
    for (size_t d = n * width; d < (n + 1) * width; d++) {
      largest = std::max(largest, std::abs(want[d]));
      const double difference = std::abs(double(got[d]) - want[d]);
      error = std::max(error, difference == difference ? difference : std::numeric_limits<double>::infinity());
    }
    worst = std::max(worst, error / largest);
  }
  return worst;
}

template <class T, int kRowThreads>
void agrees(const Rows<T>& x, const std::string& why) {
  const std::vector<T> dy = random_rows<T>(x.N, x.D, 99).values;
  const Result<double> want = plain(x, dy);
  const Result<T> got = run_kernels<T, kRowThreads>(x, dy, 7);
  // One rounding an element, and a sum of D/kRowThreads terms a thread.
  const double tolerance = std::numeric_limits<T>::epsilon() * (8 + double(x.D) / kRowThreads);
  const std::string name = why + " [" + std::to_string(x.N) + ", " + std::to_string(x.D) + "] " +
                           (sizeof(T) == 4 ? "float32, " : "float64, ") + std::to_string(kRowThreads) +
                           " threads a row";
  const double y = error_of(got.y, want.y, x.N), norm = error_of(got.norm, want.norm, x.N),
               dx = error_of(got.dx, want.dx, x.N);
  check(y <= tolerance && norm <= tolerance, name + ": y " + std::to_string(y) + ", norm " + std::to_string(norm));
  check(dx <= 8 * tolerance, name + ": dx " + std::to_string(dx));
  check(got.guarded, name + ": wrote past its end");

  const Result<T> again = run_kernels<T, kRowThreads>(x, dy, 31337);
  check(got.y == again.y && got.norm == again.norm && got.dx == again.dx, name + ": depends on the order of threads");
}

template <class T>
void agrees_in_both_ways(const Rows<T>& x, const std::string& why) {
  agrees<T, 32>(x, why);
  agrees<T, 128>(x, why);
}

struct Case {
  int64_t N, D;
  const char* why;
};
constexpr Case kCases[] = {
    {1, 2, "the fewest elements"},
    {3, 17, "less than a warp"},
    {4, 32, "exactly a warp"},
    {5, 33, "one more than a warp; a ragged last block"},
    {2, 127, "one less than a block"},
    {7, 512, "the field's size"},
    {3, 1009, "a prime"},
    {1, 4097, "longer than kLongRow"},
};

template <class T>
void ordinary_rows() {
  for (const Case& c : kCases) agrees_in_both_ways(random_rows<T>(c.N, c.D, 1), c.why);
}

// Squares overflow or vanish, norms do not.
void extreme_rows() {
  agrees_in_both_ways(random_rows<float>(2, 65, 2, 1e30), "squares overflow");
  agrees_in_both_ways(random_rows<double>(2, 65, 2, 1e200), "squares overflow");
  agrees_in_both_ways(random_rows<float>(2, 65, 3, 1e-11), "squares lose bits");
  agrees_in_both_ways(random_rows<float>(2, 65, 4, 1e-30), "squares vanish, and the norm is below 1e-12");
  agrees_in_both_ways(random_rows<double>(2, 65, 4, 1e-200), "squares vanish, and the norm is below 1e-12");
  agrees_in_both_ways(Rows<float>{2, 3, {0, 0, 0, 3, 0, 4}}, "a row of zeros");
}

void norms_beyond_float() {
  for (int64_t D : {2, 300}) {
    Rows<float> x{1, D, std::vector<float>(size_t(D), 3e38f)};
    const auto got = run_kernels<float, 32>(x, std::vector<float>(size_t(D), 1.0f), 5);
    check(std::isinf(got.norm[0]), "a norm beyond float");
    check(std::fabs(got.y[0] * std::sqrt(double(D)) - 1) < 1e-6 && got.y[0] == got.y[size_t(D) - 1],
          "has a unit row all the same");
  }
}

void bad_rows_stay_bad() {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const Rows<float> x{3, 2, {nan, 1, infinity, 1, 3, 4}};
  const auto got = run_kernels<float, 32>(x, std::vector<float>(6, 1.0f), 5);
  check(std::isnan(got.norm[0]) && std::isnan(got.y[0]) && std::isnan(got.y[1]), "a NaN makes its row NaN");
  check(std::isinf(got.norm[1]) && std::isnan(got.y[2]), "an infinity gives an infinite norm");
  check(got.norm[2] == 5 && got.y[4] == 0.6f, "and leaves the other rows alone");
}

// --- the emulation itself: what it is there to find, it finds ----------------------------------------------------

void racing_kernel(int* out) {
  __shared__ int slot[kBlock];
  slot[threadIdx.x] = -1;
  __syncthreads();
  slot[threadIdx.x] = int(threadIdx.x);
  out[threadIdx.x] = slot[(threadIdx.x + 1) % kBlock];  // no barrier between the write and the read
}

void diverging_kernel() {
  if (threadIdx.x == 0) __shfl_xor_sync(0xffffffffu, 1, 1);
}

void the_emulation_finds_planted_bugs() {
  std::vector<int> first(kBlock), second(kBlock);
  emulate({1}, {kBlock}, 1, [&] { racing_kernel(first.data()); });
  emulate({1}, {kBlock}, 2, [&] { racing_kernel(second.data()); });
  check(first != second, "a missing barrier shows in the result");
  bool caught = false;
  try {
    emulate({1}, {kBlock}, 1, [] { diverging_kernel(); });
  } catch (const std::logic_error&) {
    caught = true;
  }
  check(caught, "a shuffle that lanes miss is an error");
}

}  // namespace

int main() {
  try {
    ordinary_rows<float>();
    ordinary_rows<double>();
    extreme_rows();
    norms_beyond_float();
    bad_rows_stay_bad();
    the_emulation_finds_planted_bugs();
  } catch (const std::exception& error) {
    check(false, error.what());
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
