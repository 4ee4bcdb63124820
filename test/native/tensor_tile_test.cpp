// A tile's product on the emulated tensor cores against a product in double, for each way the operands may lie; and that the
// emulation sees it when a barrier or the wait for a copy is missing.
#include "cuda_emulation.h"

#include "../../native/cuda/ptx.cuh"

// The tile's barriers and waits, which a test may leave out.
struct {
  bool barriers = false, waits = false;
} missing;
inline void planted_syncthreads() {
  if (!missing.barriers) __syncthreads();
}
template <int groups>
void planted_wait() {
  if (!missing.waits) fm::cp_async_wait<groups>();
}
#define __syncthreads planted_syncthreads
#define cp_async_wait planted_wait
#include "../../native/cuda/tensor_tile.cuh"
#undef __syncthreads
#undef cp_async_wait

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>

namespace {

using namespace fm;

int passed = 0, failed = 0;

void check(bool ok, const std::string& what) {
  (ok ? passed : failed)++;
  if (!ok) std::printf("FAILED: %s\n", what.c_str());
}

// [rows, depth] or, across, [depth, rows], in rows of whole multiples of 8 with NaN after their end.
struct Matrix {
  int rows, depth, stride;
  bool across;
  std::vector<Bfloat16> memory;
  const Bfloat16* x;

  Matrix(int rows, int depth, bool across, unsigned seed)
      : rows(rows), depth(depth), stride(((across ? rows : depth) + 7) / 8 * 8 + 8), across(across) {
    const int lines = across ? depth : rows;
    memory.assign(size_t(lines * stride + 8), Bfloat16(NAN));
    x = reinterpret_cast<Bfloat16*>((reinterpret_cast<uintptr_t>(memory.data()) + 15) / 16 * 16);
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int line = 0; line < lines; line++)
      for (int i = 0; i < (across ? rows : depth); i++)
        const_cast<Bfloat16*>(x)[line * stride + i] = Bfloat16(normal(random));
  }
  Matrix(const Matrix&) = delete;
  double at(int row, int k) const { return float(across ? x[k * stride + row] : x[row * stride + k]); }
};

template <class A, class B>
void product_kernel(const A& a, const B& b, int begin, int end, float* out) {
  alignas(16) __shared__ Bfloat16 staging[TensorTile::kStaging];
  TensorSums sums;
  clear_tensor_tile(sums);
  begin_tensor_tile(staging, a, b, begin, end);
  finish_tensor_tile(staging, a, b, begin, end, sums);
  const TensorPlace place;
  for (int m = 0; m < 2; m++)
    for (int j = 0; j < 8; j++)
      for (int e = 0; e < 4; e++) out[place.row(m, e) * TensorTile::kColumns + place.column(j, e)] = sums[m][j][e];
}

std::vector<float> product(const Matrix& a, const Matrix& b, int begin, int end, uint64_t seed) {
  std::vector<float> out(128 * 128, NAN);
  const auto rows = [](const Matrix& m) {
    return TensorRows(m.x, m.stride, [&](int row) { return row < m.rows ? row : -1; });
  };
  const auto columns = [](const Matrix& m) { return TensorColumns(m.x, m.stride, m.rows); };
  cuda_emulation::emulate({1}, {TensorTile::kThreads}, seed, [&] {
    if (a.across && b.across) product_kernel(columns(a), columns(b), begin, end, out.data());
    else if (b.across) product_kernel(rows(a), columns(b), begin, end, out.data());
    else if (a.across) product_kernel(columns(a), rows(b), begin, end, out.data());
    else product_kernel(rows(a), rows(b), begin, end, out.data());
  });
  return out;
}

bool right(const std::vector<float>& got, const Matrix& a, const Matrix& b, int begin, int end) {
  double worst = 0;
  for (int row = 0; row < 128; row++)
    for (int column = 0; column < 128; column++) {
      double sum = 0;
      for (int k = begin; k < end && row < a.rows && column < b.rows; k++) sum += a.at(row, k) * b.at(column, k);
      const double apart = std::fabs(got[size_t(row * 128 + column)] - sum);
      worst = apart <= worst ? worst : apart;  // NaN counts
    }
  return worst < 1e-4;
}

void products() {
  const struct {
    int rows, columns, begin, end;
  } cases[] = {{128, 128, 0, 32}, {128, 128, 0, 160}, {127, 1, 0, 72}, {1, 128, 0, 8},
               {33, 65, 32, 97},  {70, 9, 0, 1},      {5, 5, 64, 64}};
  for (const auto& c : cases)
    for (bool a_across : {false, true})
      for (bool b_across : {false, true}) {
        const Matrix a(c.rows, 168, a_across, 1), b(c.columns, 168, b_across, 2);
        for (uint64_t seed : {1, 2})
          check(right(product(a, b, c.begin, c.end, seed), a, b, c.begin, c.end),
                std::to_string(c.rows) + " × " + std::to_string(c.columns) + " over [" + std::to_string(c.begin) +
                    ", " + std::to_string(c.end) + ")" + (a_across ? ", left across" : "") +
                    (b_across ? ", right across" : ""));
      }
}

// Over some orders of threads the product without it is wrong.
void what_is_missing_shows() {
  const Matrix a(128, 168, false, 1), b(128, 168, false, 2);
  for (bool* plant : {&missing.barriers, &missing.waits}) {
    *plant = true;
    int wrong = 0;
    for (uint64_t seed = 1; seed <= 5; seed++) wrong += !right(product(a, b, 0, 160, seed), a, b, 0, 160);
    check(wrong > 0, std::string("a missing ") + (plant == &missing.waits ? "wait" : "barrier") + " goes unseen");
    *plant = false;
  }
}

void rounding() {
  for (const auto& [value, bits] : {std::pair(1.0f, 0x3f80),
                                    {1.00390625f, 0x3f80},
                                    {1.01171875f, 0x3f82},
                                    {-0.0f, 0x8000},
                                    {3.4e38f, 0x7f80},
                                    {1e-40f, 0x0001}})
    check(Bfloat16(value).bits == bits, "rounds " + std::to_string(value));
  const uint32_t pair = round_pair(1.5f, -2.0f);
  check(first_of(pair) == 1.5f && second_of(pair) == -2.0f, "a pair");
}

}  // namespace

int main() {
  products();
  what_is_missing_shows();
  rounding();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
