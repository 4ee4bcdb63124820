// A head that holds its [N, C] logits, made as well as it can be: OpenBLAS's sgemm for the three products, vectorised
// softmax, tangent projection fused with SGD.  Rows of W and of the logits are padded to whole vectors.
#pragma once
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../../native/common/methods.h"
#include "../../native/cpu/allocator.h"
#include "../../native/cpu/backend.h"
#include "../../native/cpu/parallel.h"
#define FM_KERNELS "../../bench/native/materialized_head.inl"
#include "../../native/cpu/for_each_isa.h"

namespace bench {

using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);

// Null, with the reason on stderr, where OpenBLAS is not installed.
inline Sgemm load_sgemm(int threads) {
  setenv("OPENBLAS_NUM_THREADS", std::to_string(threads).c_str(), 1);
  void* library = dlopen("libopenblas.so.0", RTLD_NOW);
  if (!library) return std::fprintf(stderr, "%s\n", dlerror()), nullptr;
  return reinterpret_cast<Sgemm>(dlsym(library, "cblas_sgemm"));
}

inline int64_t whole_vectors(int64_t n) { return (n + 15) / 16 * 16; }

struct MaterializedHead {
  int N, D, C;
  int Dp, Cp;  // D and C in whole vectors
  Sgemm sgemm;
  fm::Tensor w, velocity;                                                // [C, Dp], zero in the padding
  fm::Tensor unit, gradient, logits, inverse, embeddings, d_embeddings;  // kept between steps

  // Without `trains` there are the products alone, and no memory for more.
  MaterializedHead(int N, int D, int C, Sgemm sgemm, bool trains)
      : N(N), D(D), C(C), Dp(int(whole_vectors(D))), Cp(int(whole_vectors(C))), sgemm(sgemm) {
    w = zeros({C, Dp});
    if (trains) velocity = zeros({C, Dp});
  }

  static fm::Tensor zeros(const fm::Shape& shape) {
    fm::Tensor out = fm::cpu_empty<float>(shape);
    std::memset(out.raw(), 0, out.bytes());
    return out;
  }

  void allocate() {
    if (unit.storage) return;
    unit = velocity.storage ? zeros({C, Dp}) : w;
    gradient = zeros({C, Dp});
    logits = zeros({N, Cp});
    inverse = zeros({C});
    d_embeddings = zeros({N, D});
  }

  void cosines() {
    sgemm(kRowMajor, kPlain, kTransposed, N, C, D, 1, embeddings.data<float>(), D, unit.data<float>(), Dp, 0,
          logits.data<float>(), Cp);
  }
  void both_gradients() {
    const float* l = logits.data<float>();
    sgemm(kRowMajor, kPlain, kPlain, N, D, C, 1, l, Cp, unit.data<float>(), Dp, 0, d_embeddings.data<float>(), D);
    sgemm(kRowMajor, kTransposed, kPlain, C, D, N, 1, l, Cp, embeddings.data<float>(), D, 0, gradient.data<float>(),
          Dp);
  }

  // The three products of any head, and nothing else.
  void gemm3(const fm::Tensor& x) {
    allocate();
    if (!embeddings.storage) embeddings = fm::cpu_backend().normalize_forward(x).y;
    cosines();
    both_gradients();
  }

  // ArcFace's whole step.
  double step(const fm::Tensor& x, const fm::Tensor& labels, const fm::MarginParams& margin,
              const fm::OptimizerParams& sgd) {
    allocate();
    const auto normalized = fm::cpu_backend().normalize_forward(x);
    embeddings = normalized.y;
    const auto normalize_rows = FM_KERNEL(normalize_rows);
    fm::parallel_ranges(C, 512, [&](int64_t begin, int64_t end) {
      normalize_rows(w.data<float>(), unit.data<float>(), inverse.data<float>(), begin, end, Dp);
    });
    cosines();
    const double cos_m = std::cos(margin.margin), sin_m = std::sin(margin.margin);
    const auto softmax_row = FM_KERNEL(softmax_row);
    std::vector<double> losses(N);
    fm::parallel_for(N, [&](int64_t i) {
      float* row = logits.data<float>() + i * Cp;
      std::fill(row + C, row + Cp, -4.f);  // exp(scale·−4) is 0 in float32
      const int label = labels.data<int32_t>()[i];
      const double c = row[label], sine = std::sqrt((1 - c) * (1 + c));
      losses[i] = softmax_row(row, Cp, label, float(margin.scale), float(c * cos_m - sine * sin_m),
                              float(cos_m + c / sine * sin_m), 1.f / N);
    });
    both_gradients();
    d_features = fm::cpu_backend().normalize_backward(d_embeddings, embeddings, normalized.norm);
    const auto update_rows = FM_KERNEL(update_rows);
    fm::parallel_ranges(C, 512, [&](int64_t begin, int64_t end) {
      update_rows(w.data<float>(), velocity.data<float>(), gradient.data<float>(), unit.data<float>(),
                  inverse.data<float>(), begin, end, Dp, float(sgd.lr), float(sgd.momentum), float(sgd.weight_decay));
    });
    double loss = 0;
    for (double value : losses) loss += value / N;
    return loss;
  }

  fm::Tensor d_features;  // [N, D] of the last step

 private:
  static constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;
};

}  // namespace bench
