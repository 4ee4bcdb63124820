// What cuDNN and cuBLASLt compute for the CUDA library, and how they fail: under the emulated runtime, with stubs of the
// libraries that compute by naive loops, against the CPU.
#include "cuda_stubs.h"

namespace {

// How often a stub's function was called.
int count(const std::string& path, const char* what) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (!handle) return 0;
  const int calls = reinterpret_cast<int (*)(const char*)>(dlsym(handle, "fm_stub_count"))(what);
  dlclose(handle);
  return calls;
}

void ops_are_chosen() {
  const std::pair<std::string, std::string> cudnn{"FLASHMARGIN_CUDNN_PATH", kCudnn};
  in_process("own", {cudnn, {"FLASHMARGIN_CUDA_OPS", "own"}}, [] {
    return refused("cuDNN", {"FLASHMARGIN_CUDA_OPS=own"}) && refused("cuBLASLt", {"FLASHMARGIN_CUDA_OPS=own"}) &&
           refused("NCCL", {"FLASHMARGIN_NCCL_PATH"});
  });
  in_process("a setting that is none", {cudnn, {"FLASHMARGIN_CUDA_OPS", "cudnn"}},
             [] { return refused("cuDNN", {"expected FLASHMARGIN_CUDA_OPS own or libraries, got cudnn"}); });
}

const Environment kBoth{{"FLASHMARGIN_CUDNN_PATH", kCudnn},
                        {"FLASHMARGIN_CUBLASLT_PATH", kCublaslt},
                        {"FLASHMARGIN_CUDA_OPS", "libraries"}};

Environment with(Environment environment, const Environment& more) {
  for (const auto& one : more) {
    for (size_t i = environment.size(); i-- > 0;)
      if (environment[i].first == one.first) environment.erase(environment.begin() + ptrdiff_t(i));
    environment.push_back(one);
  }
  return environment;
}

Tensor on(Backend& gpu, const Tensor& x) {
  Tensor copy = gpu.empty(x.dtype, x.shape);
  gpu.copy_from_host(copy, x.raw(), x.bytes());
  return copy;
}
Tensor back(Backend& gpu, const Tensor& x) {
  Tensor copy = cpu().empty(x.dtype, x.shape);
  gpu.copy_to_host(copy.raw(), x, x.bytes());
  return copy;
}
Tensor random(const Shape& shape, Dtype dtype = Dtype::float32) {
  return tensor(dtype, shape, random_values(shape.numel()));
}

struct Convolution {
  Shape x, weight;
  ConvParams p;
  const char* why;
};
const Convolution kConvolutions[] = {
    {{2, 7, 7, 5}, {3, 5, 3, 3}, {1, 1}, "the field's kernel"},
    {{3, 9, 6, 4}, {8, 4, 3, 3}, {2, 1}, "a stride, and images that are not square"},
    {{2, 5, 5, 6}, {7, 6, 1, 1}, {1, 0}, "one tap: weights stay as they are"},
    {{1, 8, 8, 3}, {4, 3, 1, 1}, {2, 0}, "one tap and a stride"},
    {{2, 6, 8, 2}, {3, 2, 2, 4}, {1, 2}, "a kernel that is not square, and a wide border"},
    {{1, 3, 3, 1}, {1, 1, 3, 3}, {1, 0}, "one of everything"},
    {{0, 5, 5, 2}, {3, 2, 3, 3}, {1, 1}, "no images"},
};

// How far the three directions are from the CPU's, in the measure of distance().
double convolution_error(Backend& gpu, const Convolution& c, Dtype dtype = Dtype::float32) {
  const Tensor x = random(c.x, dtype), weight = random(c.weight, dtype);
  const Tensor y = cpu().conv2d_forward(x, weight, c.p), dy = random(y.shape, dtype);
  const Tensor gx = on(gpu, x), gw = on(gpu, weight), gdy = on(gpu, dy);
  const auto error = [&](const Tensor& got, const Tensor& want) {
    return got.shape == want.shape ? distance(values(back(gpu, got)), values(want)) : INFINITY;
  };
  return std::max(
      {error(gpu.conv2d_forward(gx, gw, c.p), y),
       error(gpu.conv2d_backward_data(gdy, gw, c.x, c.p), cpu().conv2d_backward_data(dy, weight, c.x, c.p)),
       error(gpu.conv2d_backward_weight(gdy, gx, c.weight, c.p), cpu().conv2d_backward_weight(dy, x, c.weight, c.p))});
}

constexpr double kTolerance = 2e-6;

bool convolutions_agree(Backend& gpu, Dtype dtype = Dtype::float32) {
  bool all = true;
  for (const Convolution& c : kConvolutions) {
    const double error = convolution_error(gpu, c, dtype);
    if (!(error <= kTolerance)) std::printf("%s: error %.3g\n", c.why, error), all = false;
  }
  return all;
}

// The three directions of bfloat16 images against float32 ones of the same values: to the rounding of results, of
// which cuDNN's gradient of weight is one too.
bool half_convolutions_agree(Backend& gpu) {
  bool all = true;
  const auto rounded = [](const Tensor& x) { return cpu().cast(cpu().cast(x, Dtype::bfloat16), Dtype::float32); };
  const auto half = [&](const Tensor& x) { return on(gpu, cpu().cast(x, Dtype::bfloat16)); };
  for (const Convolution& c : kConvolutions) {
    const Tensor x = rounded(random(c.x)), weight = random(c.weight), same = rounded(weight);
    const Tensor y = cpu().conv2d_forward(x, same, c.p), dy = rounded(random(y.shape));
    const auto close_to = [&](const char* direction, const Tensor& got, Dtype dtype, const Tensor& want) {
      const double error = distance(values(back(gpu, got)), values(want));
      const bool ok = got.dtype == dtype && got.shape == want.shape && error <= 1.0 / 256;
      if (!ok) std::printf("%s, %s: %s, error %.3g\n", c.why, direction, name_of(got.dtype), error);
      all = all && ok;
    };
    const Tensor gx = half(x), gdy = half(dy), gw = on(gpu, weight);
    close_to("forward", gpu.conv2d_forward(gx, gw, c.p), Dtype::bfloat16, y);
    close_to("backward data", gpu.conv2d_backward_data(gdy, gw, c.x, c.p), Dtype::bfloat16,
             cpu().conv2d_backward_data(dy, same, c.x, c.p));
    close_to("backward weight", gpu.conv2d_backward_weight(gdy, gx, c.weight, c.p), Dtype::float32,
             cpu().conv2d_backward_weight(dy, x, c.weight, c.p));
  }
  return all;
}

int forwards() { return count(kCudnn, "cudnnConvolutionForward"); }

void convolutions() {
  const int with_images = int(std::size(kConvolutions)) - 1;
  in_process("cuDNN's convolutions agree with the CPU's", kBoth, [&] {
    Backend& gpu = backend_of(Device{0});
    return convolutions_agree(gpu) && forwards() == with_images &&
           count(kCudnn, "cudnnConvolutionBackwardData") == with_images &&
           count(kCudnn, "cudnnConvolutionBackwardFilter") == with_images &&
           count(kCudnn, "algorithm 4") == 3 * with_images;
  });
  in_process("on another device", kBoth, [] { return convolutions_agree(backend_of(Device{1})) && forwards() > 0; });
  in_process("an algorithm is chosen once a shape", kBoth, [] {
    Backend& gpu = backend_of(Device{0});
    for (int i = 0; i < 3; i++)
      for (const Convolution& c : {kConvolutions[0], kConvolutions[1]})
        if (!(convolution_error(gpu, c) <= kTolerance)) return false;
    return forwards() == 6 && count(kCudnn, "cudnnGetConvolutionForwardAlgorithm_v7") == 2 &&
           count(kCudnn, "cudnnGetConvolutionBackwardDataAlgorithm_v7") == 2 &&
           count(kCudnn, "cudnnGetConvolutionBackwardFilterAlgorithm_v7") == 2 && count(kCudnn, "cudnnCreate") == 1;
  });
  in_process("memory is given back", kBoth, [] {
    Backend& gpu = backend_of(Device{0});
    return convolution_error(gpu, kConvolutions[0]) <= kTolerance && cuda_memory(0).used == 0 &&
           cuda_memory(0).peak > 5000;
  });
  in_process("no workspace", with(kBoth, {{"FLASHMARGIN_CUDA_WORKSPACE", "0"}}), [] {
    return convolution_error(backend_of(Device{0}), kConvolutions[0]) <= kTolerance &&
           count(kCudnn, "algorithm 5") == 3 && count(kCudnn, "algorithm 4") == 0;
  });
  in_process("fma is fma, of an algorithm that is suggested for tensor cores",
             with(kBoth, {{"FM_STUB_TENSOR_OP", "5"}, {"FLASHMARGIN_CUDA_WORKSPACE", "0"}}), [] {
               return convolution_error(backend_of(Device{0}), kConvolutions[0]) <= kTolerance &&
                      count(kCudnn, "algorithm 5") == 3;
             });
  in_process("what is suggested for fma comes first", with(kBoth, {{"FM_STUB_TENSOR_OP", "4"}}), [] {
    return convolution_error(backend_of(Device{0}), kConvolutions[0]) <= kTolerance &&
           count(kCudnn, "algorithm 5") == 3;
  });
  in_process("measured", with(kBoth, {{"FLASHMARGIN_CUDNN_SEARCH", "measure"}, {"FLASHMARGIN_CUDA_WORKSPACE", "1"}}),
             [] {
               Backend& gpu = backend_of(Device{0});
               return convolutions_agree(gpu) && convolutions_agree(gpu) && count(kCudnn, "algorithm 4") == 0 &&
                      count(kCudnn, "cudnnFindConvolutionForwardAlgorithmEx") == int(std::size(kConvolutions)) - 1 &&
                      count(kCudnn, "cudnnGetConvolutionForwardAlgorithm_v7") == 0;
             });
  in_process("TF32 where it is asked for", with(kBoth, {{"FLASHMARGIN_CUDA_TF32", "on"}}), [] {
    const double error = convolution_error(backend_of(Device{0}), kConvolutions[0]);
    return count(kCudnn, "algorithm 3") == 3 && error > 1e-5 && error < 1e-2;
  });
  in_process("float64 is ours", kBoth,
             [] { return convolutions_agree(backend_of(Device{0}), Dtype::float64) && forwards() == 0; });
  in_process("bfloat16 is cuDNN's", kBoth, [&] {
    return half_convolutions_agree(backend_of(Device{0})) && count(kCudnn, "of bfloat16") == 3 * with_images &&
           count(kCudnn, "algorithm 4") == 3 * with_images;
  });
  in_process("bfloat16, measured", with(kBoth, {{"FLASHMARGIN_CUDNN_SEARCH", "measure"}}),
             [] { return half_convolutions_agree(backend_of(Device{0})) && count(kCudnn, "algorithm 5") > 0; });
  in_process("of one shape, each precision has an algorithm", kBoth, [&] {
    Backend& gpu = backend_of(Device{0});
    for (int i = 0; i < 2; i++)
      if (!half_convolutions_agree(gpu) || !convolutions_agree(gpu)) return false;
    return count(kCudnn, "of bfloat16") == 2 * 3 * with_images && forwards() == 2 * 2 * with_images &&
           count(kCudnn, "cudnnGetConvolutionForwardAlgorithm_v7") == 2 * with_images;
  });
  in_process("bfloat16 is ours below compute capability 8.0", with(kBoth, {{"FM_EMULATED_CAPABILITY", "75"}}),
             [] { return half_convolutions_agree(backend_of(Device{0})) && forwards() == 0; });
  in_process("bfloat16 is ours where own is asked for", with(kBoth, {{"FLASHMARGIN_CUDA_OPS", "own"}}),
             [] { return half_convolutions_agree(backend_of(Device{0})) && forwards() == 0; });
  in_process("own is ours", with(kBoth, {{"FLASHMARGIN_CUDA_OPS", "own"}}),
             [] { return convolutions_agree(backend_of(Device{0})) && forwards() == 0; });
  in_process("without a choice a library that is there computes", with(kBoth, {{"FLASHMARGIN_CUDA_OPS", ""}}),
             [] { return convolutions_agree(backend_of(Device{0})) && forwards() > 0; });
  in_process("without a choice ours compute where there is none", {{"FLASHMARGIN_CUDNN_PATH", "/nowhere"}},
             [] { return convolutions_agree(backend_of(Device{0})) && forwards() == 0; });
}

// None that cuDNN suggests may be used: ours compute, and go on to when it suggests others.
void shapes_are_left_to_ours() {
  const auto left = [](const std::string& what, const Environment& by, const std::string& why,
                       const std::function<bool(Backend&)>& agree) {
    in_process(what, with(with(kBoth, {{"FLASHMARGIN_CUDA_OPS", ""}}), by), [&] {
      Backend& gpu = backend_of(Device{0});
      const std::string before = take_cuda_left_to_own_kernels();
      const bool right = agree(gpu) && forwards() == 0;
      const int asked = count(kCudnn, "cudnnGetConvolutionForwardAlgorithm_v7");
      for (const auto& setting : by) unsetenv(setting.first.c_str());
      return right && agree(gpu) && forwards() == 0 && cuda_memory(0).used == 0 &&
             count(kCudnn, "cudnnGetConvolutionForwardAlgorithm_v7") == asked && before.empty() &&
             says(take_cuda_left_to_own_kernels(),
                  {"our own kernels compute 18 shapes of convolutions and products, the first because cuDNN 9", why});
    });
  };
  const auto full = [](Backend& gpu) { return convolutions_agree(gpu); };
  left("no algorithm", {{"FM_STUB_SUGGESTIONS", "4"}},
       "no deterministic algorithm for the convolution of float32 x [2, 7, 7, 5]", full);
  left("no suggestion", {{"FM_STUB_SUGGESTIONS", "0"}}, "raise FLASHMARGIN_CUDA_WORKSPACE (MiB)", full);
  left("no algorithm within the workspace", {{"FM_STUB_SUGGESTIONS", "5"}, {"FLASHMARGIN_CUDA_WORKSPACE", "0"}},
       "within 0 MiB", full);
  left("no algorithm for bfloat16", {{"FM_STUB_SUGGESTIONS", "4"}}, "of bfloat16 x [2, 7, 7, 5]",
       half_convolutions_agree);
  in_process("a heuristic that knows none",
             with(kBoth, {{"FLASHMARGIN_CUDA_OPS", ""},
                          {"FM_STUB_FAILURE", "cudnnGetConvolutionForwardAlgorithm_v7"},
                          {"FM_STUB_STATUS", "3001"}}),
             [] {
               return convolutions_agree(backend_of(Device{0})) && forwards() == 0 &&
                      count(kCudnn, "cudnnConvolutionBackwardData") > 0;
             });
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
    return "no error";
  } catch (const Error& error) {
    return error.kind == ErrorKind::device || error.kind == ErrorKind::range
               ? error.what()
               : std::string("another kind: ") + error.what();
  }
}
std::string convolution_said() {
  return error_of([] { convolution_error(backend_of(Device{0}), kConvolutions[0]); });
}

void failures_of_cudnn() {
  in_process("a call that fails, then one that does not", kBoth, [] {
    setenv("FM_STUB_FAILURE", "cudnnConvolutionForward", 1);
    const std::string text = convolution_said();
    unsetenv("FM_STUB_FAILURE");
    return says(text, {"CUDNN_STATUS_EXECUTION_FAILED in cudnnConvolutionForward", "cuDNN 9.10.2 at " + kCudnn,
                       "FLASHMARGIN_CUDA_OPS=own"}) &&
           convolutions_agree(backend_of(Device{0}));
  });
  for (const char* call : {"cudnnCreate", "cudnnGetConvolutionForwardAlgorithm_v7", "cudnnConvolutionBackwardData",
                           "cudnnConvolutionBackwardFilter"})
    in_process(call, with(kBoth, {{"FM_STUB_FAILURE", call}}), [call] {
      return says(convolution_said(), {"CUDNN_STATUS_", std::string(" in ") + call + ", "});
    });
  in_process("measuring fails",
             with(kBoth, {{"FM_STUB_FAILURE", "cudnnFindConvolutionForwardAlgorithmEx"},
                          {"FLASHMARGIN_CUDNN_SEARCH", "measure"}}),
             [] { return says(convolution_said(), {" in cudnnFindConvolutionForwardAlgorithmEx"}); });
  in_process(
      "parts of another version", with(kBoth, {{"FM_STUB_FAILURE", "cudnnCreate"}, {"FM_STUB_STATUS", "1002"}}), [] {
        return says(convolution_said(),
                    {"CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH", "a folder that holds all libraries of one cuDNN"});
      });
  in_process("no algorithm that may be used", with(kBoth, {{"FM_STUB_SUGGESTIONS", "4"}}), [] {
    return says(convolution_said(), {"no deterministic algorithm for the convolution of float32 x [2, 7, 7, 5], weight "
                                     "[3, 5, 3, 3], stride 1, padding 1 within 512 MiB",
                                     "raise FLASHMARGIN_CUDA_WORKSPACE", "or unset FLASHMARGIN_CUDA_OPS"});
  });
  in_process("cuDNN is asked for and missing", with(kBoth, {{"FLASHMARGIN_CUDNN_PATH", "/nowhere"}}), [] {
    return says(convolution_said(),
                {"FLASHMARGIN_CUDA_OPS=libraries, but there is no cuDNN: FLASHMARGIN_CUDNN_PATH names /nowhere"});
  });
  for (const auto& [name, value] : Environment{{"FLASHMARGIN_CUDA_OPS", "mine"},
                                               {"FLASHMARGIN_CUDA_TF32", "yes"},
                                               {"FLASHMARGIN_CUDNN_SEARCH", "best"},
                                               {"FLASHMARGIN_CUDA_WORKSPACE", "-1"}})
    in_process(name + "=" + value, with(kBoth, {{name, value}}), [&name = name, &value = value] {
      return says(convolution_said(), {"expected " + name + " ", ", got " + value});
    });
}

struct Product {
  int64_t M, N, K;
};

double product_error(Backend& gpu, const Product& p, Dtype dtype = Dtype::float32) {
  double worst = 0;
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      const Tensor a = random(ta ? Shape{p.K, p.M} : Shape{p.M, p.K}, dtype),
                   b = random(tb ? Shape{p.N, p.K} : Shape{p.K, p.N}, dtype);
      const Tensor got = gpu.matmul(on(gpu, a), on(gpu, b), ta, tb), want = cpu().matmul(a, b, ta, tb);
      worst = std::max(worst, got.shape == want.shape ? distance(values(back(gpu, got)), values(want)) : INFINITY);
    }
  return worst;
}

double half_product_error(Backend& gpu, const Product& p) {
  double worst = 0;
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      const Tensor a = cpu().cast(random(ta ? Shape{p.K, p.M} : Shape{p.M, p.K}), Dtype::bfloat16),
                   b = cpu().cast(random(tb ? Shape{p.N, p.K} : Shape{p.K, p.N}), Dtype::bfloat16);
      const Tensor got = back(gpu, gpu.matmul(on(gpu, a), on(gpu, b), ta, tb)),
                   want = cpu().matmul(cpu().cast(a, Dtype::float32), cpu().cast(b, Dtype::float32), ta, tb);
      worst = std::max(worst, got.dtype == Dtype::bfloat16 ? distance(values(got), values(want)) : INFINITY);
    }
  return worst;
}

int products_done() { return count(kCublaslt, "cublasLtMatmul"); }

void products() {
  in_process("cuBLASLt's products agree with the CPU's", kBoth, [] {
    Backend& gpu = backend_of(Device{0});
    for (const Product& p : {Product{3, 5, 7}, {1, 1, 1}, {16, 1, 33}, {1, 40, 3}, {37, 29, 64}})
      if (const double error = product_error(gpu, p); !(error <= kTolerance)) {
        std::printf("[%d, %d, %d]: error %.3g\n", int(p.M), int(p.N), int(p.K), error);
        return false;
      }
    return products_done() == 20 && count(kCublaslt, "with workspace") == 20 && cuda_memory(0).used == 0;
  });
  in_process("nothing to multiply, and nothing to sum", kBoth, [] {
    Backend& gpu = backend_of(Device{0});
    for (const Product& p : {Product{0, 5, 7}, {3, 0, 7}, {3, 5, 0}})
      if (product_error(gpu, p) != 0) return false;
    return products_done() == 0;
  });
  in_process("an algorithm is chosen once a shape", kBoth, [] {
    Backend& gpu = backend_of(Device{0});
    for (int i = 0; i < 3; i++) product_error(gpu, {3, 5, 7});
    return products_done() == 12 && count(kCublaslt, "cublasLtMatmulAlgoGetHeuristic") == 4;
  });
  in_process("no workspace", with(kBoth, {{"FLASHMARGIN_CUDA_WORKSPACE", "0"}}), [] {
    return product_error(backend_of(Device{0}), {3, 5, 7}) <= kTolerance && count(kCublaslt, "without workspace") == 4;
  });
  in_process("TF32 where it is asked for", with(kBoth, {{"FLASHMARGIN_CUDA_TF32", "on"}}), [] {
    const double error = product_error(backend_of(Device{0}), {9, 9, 50});
    return error > 1e-5 && error < 1e-2;
  });
  in_process("float64 is ours", kBoth, [] {
    return product_error(backend_of(Device{0}), {3, 5, 7}, Dtype::float64) <= kTolerance && products_done() == 0;
  });
  in_process("bfloat16 is cuBLASLt's from compute capability 8.0 on", kBoth, [] {
    return half_product_error(backend_of(Device{0}), {3, 5, 7}) <= 1.0 / 256 && count(kCublaslt, "of bfloat16") == 4;
  });
  in_process("bfloat16 is ours below", with(kBoth, {{"FM_EMULATED_CAPABILITY", "75"}}), [] {
    return half_product_error(backend_of(Device{0}), {3, 5, 7}) <= 1.0 / 256 && products_done() == 0;
  });
  in_process("own is ours", with(kBoth, {{"FLASHMARGIN_CUDA_OPS", "own"}}), [] {
    return product_error(backend_of(Device{0}), {3, 5, 7}) <= kTolerance && products_done() == 0;
  });
  const auto said = [] { return error_of([] { product_error(backend_of(Device{0}), {3, 5, 7}); }); };
  for (const char* call : {"cublasLtCreate", "cublasLtMatmulAlgoGetHeuristic", "cublasLtMatmul"})
    in_process(call, with(kBoth, {{"FM_STUB_FAILURE", call}, {"FM_STUB_STATUS", "13"}}), [&] {
      return says(said(), {"CUBLAS_STATUS_", std::string(" in ") + call + ", cuBLASLt 13.0.1 at " + kCublaslt,
                           "FLASHMARGIN_CUDA_OPS=own"});
    });
  in_process("no algorithm", with(kBoth, {{"FM_STUB_SUGGESTIONS", "0"}}),
             [&] { return says(said(), {"no algorithm for a product of float32 [3, 7] and [7, 5] within 32 MiB"}); });
  for (const Environment& none :
       {Environment{{"FM_STUB_SUGGESTIONS", "0"}},
        Environment{{"FM_STUB_FAILURE", "cublasLtMatmulAlgoGetHeuristic"}, {"FM_STUB_STATUS", "15"}}})
    in_process("products without an algorithm are ours", with(with(kBoth, {{"FLASHMARGIN_CUDA_OPS", ""}}), none), [&] {
      for (int i = 0; i < 2; i++)
        if (product_error(backend_of(Device{0}), {3, 5, 7}) > kTolerance) return false;
      return products_done() == 0 && count(kCublaslt, "cublasLtMatmulAlgoGetHeuristic") == 4 &&
             says(take_cuda_left_to_own_kernels(),
                  {"our own kernels compute 4 shapes of convolutions and products, the first "
                   "because cuBLASLt 13.0.1 has no algorithm for a product of float32"});
    });
  in_process("cuBLASLt is asked for and missing", with(kBoth, {{"FLASHMARGIN_CUBLASLT_PATH", "/nowhere"}}),
             [&] { return says(said(), {"but there is no cuBLASLt: FLASHMARGIN_CUBLASLT_PATH names /nowhere"}); });
}

}  // namespace

int main() {
  ops_are_chosen();
  convolutions();
  shapes_are_left_to_ours();
  failures_of_cudnn();
  products();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
