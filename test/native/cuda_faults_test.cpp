// What fails in the CUDA library under the host emulation: memory that runs out at every allocation of every operation,
// and runtime calls that fail.  An error says so in CUDA's words, nothing is leaked, and where the device survives the
// operation works afterwards.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "../../native/common/devices.h"
#include "../../native/common/methods.h"
#include "../../native/cuda/cuda_check.h"
#include "in_a_process.h"

namespace {

using namespace fm;

int passed = 0, failed = 0;

void check(bool ok, const std::string& what) {
  (ok ? passed : failed)++;
  if (!ok) std::printf("FAILED: %s\n", what.c_str());
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

Backend& gpu() { return backend_of(Device{0}); }

Tensor made(const Shape& shape, int turn = 0) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); i++) values[i] = std::sin(float(i) + float(turn)) * 0.9f;
  Tensor t = gpu().empty(Dtype::float32, shape);
  gpu().copy_from_host(t, values.data(), t.bytes());
  return t;
}
Tensor made_labels(int64_t n, int classes) {
  std::vector<int32_t> labels(static_cast<size_t>(n));
  for (size_t i = 0; i < labels.size(); i++) labels[i] = int32_t(i % size_t(classes));
  Tensor t = gpu().empty(Dtype::int32, {n});
  gpu().copy_from_host(t, labels.data(), t.bytes());
  return t;
}
Tensor room(const Shape& shape, Dtype dtype = Dtype::float32) { return gpu().empty(dtype, shape); }

constexpr int64_t N = 12, C = 40, D = 9;

struct Family {
  const char* name;
  std::function<std::vector<Tensor>()> run;
};

const std::vector<Family>& families() {
  static const std::vector<Family> all{
      {"normalize",
       [] {
         const Normalized unit = gpu().normalize_forward(made({N, D}));
         const Tensor y = room({N, D}), norm = room({N}), dx = room({N, D});
         gpu().normalize_into(made({N, D}), y, norm);
         gpu().normalize_backward_into(made({N, D}, 1), y, norm, std::nullopt, dx);
         return std::vector<Tensor>{unit.y, y, dx, gpu().normalize_backward(made({N, D}, 1), unit.y, unit.norm)};
       }},
      {"cosines",
       [] {
         const Tensor x = made({N, D}), w = made({C, D}, 1), cosines = room({N, C}), dx = room({N, D}),
                      dw = room({C, D});
         gpu().cosine_logits_forward(x, w, cosines);
         gpu().cosine_logits_backward(cosines, x, w, true, dx, dw);
         return std::vector<Tensor>{cosines, dx, dw};
       }},
      {"sub-centers",
       [] {
         const Tensor x = made({N, C}), largest = room({N, C / 4}), centers = room({N, C / 4}, Dtype::int32),
                      dx = room({N, C});
         gpu().sub_center_max_forward(x, 4, largest, centers);
         gpu().sub_center_max_backward(largest, centers, 4, dx);
         return std::vector<Tensor>{largest, centers, dx};
       }},
      {"margin transform",
       [] {
         MarginParams p;
         p.method = Method::arcface;
         const Tensor cosines = made({N, C}), labels = made_labels(N, C), logits = room({N, C}), d = room({N, C}),
                      reweighted = room({N, C});
         gpu().margin_transform_forward(cosines, labels, std::nullopt, std::nullopt, p, logits);
         gpu().margin_transform_backward(logits, cosines, labels, std::nullopt, std::nullopt, p, d, std::nullopt,
                                         std::nullopt);
         gpu().curricular_reweight_forward(cosines, labels, 0.2, 0.5, reweighted);
         gpu().curricular_reweight_backward(logits, cosines, labels, 0.2, 0.5, cosines);
         return std::vector<Tensor>{logits, d, reweighted, cosines};
       }},
      {"cross entropies",
       [] {
         const Tensor z = made({N, C}), labels = made_labels(N, C), loss = room({N}), lse = room({N}), d = room({N, C}),
                      binary = room({N});
         gpu().softmax_cross_entropy_forward(z, labels, 0.1, loss, lse);
         gpu().softmax_cross_entropy_backward(z, labels, 0.1, 1, d);
         gpu().binary_cross_entropy_forward(z, labels, 1, 1, binary);
         gpu().binary_cross_entropy_backward(z, labels, 1, 1, 1, z);
         return std::vector<Tensor>{loss, lse, d, binary, z};
       }},
      {"norm regularizer",
       [] {
         MarginParams p;
         p.method = Method::magface;
         p.norm_penalty = 35;
         const Tensor norms = room({N}), labels = made_labels(N, 5);
         gpu().fill(norms, 20);
         gpu().norm_regularizer_forward(norms, labels, p);
         gpu().norm_regularizer_backward(norms, labels, p, 1, norms);
         return std::vector<Tensor>{norms};
       }},
      {"softmax",
       [] {
         const Tensor y = gpu().softmax_forward(made({N, D})), l = gpu().log_softmax_forward(made({N, D}));
         return std::vector<Tensor>{y, l, gpu().softmax_backward(l, y), gpu().log_softmax_backward(y, l)};
       }},
      {"gather",
       [] {
         const Tensor x = made({N, D}), y = gpu().gather_rows(x, made_labels(C, int(N)));
         gpu().scatter_add_rows(x, made_labels(C, int(N)), y);
         return std::vector<Tensor>{x, y};
       }},
      {"weighted sum",
       [] {
         const WeightedSumGradients g = gpu().weighted_sum_backward(made({N, D}), made({N, 3}), made({N, 3, D}));
         return std::vector<Tensor>{gpu().weighted_sum_forward(made({N, 3}), made({N, 3, D})), g.d_weights, g.dx};
       }},
      {"distances",
       [] {
         const Tensor x = made({N, D}), y = gpu().squared_distances_forward(x);
         return std::vector<Tensor>{y, gpu().squared_distances_backward(y, x)};
       }},
      {"search",
       [] {
         const Neighbours found = gpu().nearest(made({N, D}), made({C, D}, 2), 4);
         return std::vector<Tensor>{found.index, found.score};
       }},
      {"the head",
       [] {
         MarginParams p;
         p.method = Method::arcface;
         const Tensor w = made({C, D}, 3), v = made({C, D}, 4);
         const HeadStep step = gpu().head_step(made({N, D}), w, {v}, made_labels(N, C), {}, p, {}, {});
         return std::vector<Tensor>{w, v, step.d_features, step.lse};
       }},
  };
  return all;
}

std::vector<char> bytes_of(const std::vector<Tensor>& tensors) {
  std::vector<char> all;
  for (const Tensor& t : tensors) {
    std::vector<char> own(t.bytes());
    gpu().copy_to_host(own.data(), t, own.size());
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

// A process each: a device's memory, once taken, stays in the library's cache.
void alone(const std::string& what, const std::function<bool()>& claim) { check(in_a_process(what, claim), what); }

template <class F>
std::string error_of(F&& f) {
  try {
    f();
    return "";
  } catch (const Error& error) {
    return error.kind == ErrorKind::device ? error.what() : std::string("another kind: ") + error.what();
  }
}

// The device has 512 bytes more at each try, the grain of its allocator, until the operation has what it needs: so each
// of its allocations is the first to fail once.
void memory_runs_out(const Family& family) {
  alone(std::string(family.name) + ": memory runs out at any allocation", [&] {
    const std::vector<char> wanted = bytes_of(family.run());
    const uint64_t peak = cuda_memory(0).peak;
    int failures = 0;
    for (size_t memory = 0;; memory += 512) {
      setenv("FM_EMULATED_MEMORY", "0", 1);
      error_of([] { room({1 << 20}); });  // gives back what is kept for reuse
      setenv("FM_EMULATED_MEMORY", std::to_string(memory).c_str(), 1);
      std::vector<char> got;
      const std::string error = error_of([&] { got = bytes_of(family.run()); });
      if (cuda_memory(0).used != 0) {
        std::printf("%s leaks %llu bytes\n", family.name, (unsigned long long)cuda_memory(0).used);
        return false;
      }
      if (error.empty()) {
        const bool right = got == wanted && failures > 2 && cuda_memory(0).peak == peak;
        if (!right) std::printf("%s after %d failures: %d\n", family.name, failures, int(got == wanted));
        return right;
      }
      failures++;
      if (!has(error, "cudaErrorMemoryAllocation allocating") || !has(error, "lower batchSize")) {
        std::printf("%s says: %s\n", family.name, error.c_str());
        return false;
      }
    }
  });
}

void calls_fail(const Family& family) {
  for (const char* call : {"cudaLaunchKernelEx", "cudaMemcpyAsync", "cudaMemsetAsync", "cudaEventRecord"})
    alone(std::string(family.name) + ": " + call + " fails", [&] {
      const std::vector<char> wanted = bytes_of(family.run());
      setenv("FM_EMULATED_FAILURE", call, 1);
      const std::string error = error_of([&] { bytes_of(family.run()); });
      unsetenv("FM_EMULATED_FAILURE");
      // Not every operation sets memory.
      const bool said = error.empty()
                            ? call == std::string("cudaMemsetAsync")
                            : has(error, "cudaErrorIllegalAddress (an illegal memory access was encountered) in ") &&
                                  has(error, call) && has(error, "restart the process");
      if (!said) std::printf("%s, %s says: %s\n", family.name, call, error.c_str());
      // The emulation forgives what a GPU would not: what the library holds itself is whole.
      return said && cuda_memory(0).used == 0 && bytes_of(family.run()) == wanted;
    });
}

void lost_contexts_are_said() {
  for (const cudaError_t error : {cudaErrorECCUncorrectable, cudaErrorIllegalAddress, cudaErrorLaunchTimeout,
                                  cudaErrorHardwareStackError, cudaErrorIllegalInstruction, cudaErrorMisalignedAddress,
                                  cudaErrorInvalidAddressSpace, cudaErrorInvalidPc, cudaErrorLaunchFailure}) {
    const std::string remedy = remedy_for(error);
    check(has(remedy, "the device's context is lost") && has(remedy, "restart the process"),
          "error " + std::to_string(int(error)) + " loses the context");
  }
}

}  // namespace

int main() {
  setenv("FLASHMARGIN_CUDA", FM_EMULATED_CUDA, 1);
  setenv("FLASHMARGIN_CUDA_SCRATCH", "0.001", 1);
  lost_contexts_are_said();
  for (const Family& family : families()) {
    memory_runs_out(family);
    calls_fail(family);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
