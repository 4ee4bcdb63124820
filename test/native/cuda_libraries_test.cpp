// How the CUDA library finds cuDNN, cuBLASLt and NCCL, and what it refuses: under the emulated runtime, with stubs of the
// libraries.
#include <sys/stat.h>

#include <fstream>

#include "cuda_stubs.h"

namespace {

int skipped = 0;

// A folder of folders and links, removed at the end.
class Tree {
 public:
  Tree() {
    char name[] = "/tmp/flashmargin-libraries-XXXXXX";
    if (!mkdtemp(name)) fail(ErrorKind::io, "test: no temporary folder");
    root_ = name;
  }
  ~Tree() {
    if (std::system(("rm -r '" + root_ + "'").c_str()) != 0) std::printf("left %s behind\n", root_.c_str());
  }
  std::string at(const std::string& path) const { return root_ + '/' + path; }
  // root/path → file; the folders between are made.
  std::string link(const std::string& path, const std::string& file) {
    for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1))
      mkdir(at(path.substr(0, slash)).c_str(), 0700);
    check(symlink(file.c_str(), at(path).c_str()) == 0, "a link at " + path);
    return at(path);
  }

 private:
  std::string root_;
};

void a_path_is_obeyed() {
  Tree tree;
  const std::string text = tree.at("libcudnn.so.9");
  std::ofstream(text) << "not a library";
  tree.link("home/lib64/libcudnn.so.9", kCudnn);
  in_process("a file", {{"FLASHMARGIN_CUDNN_PATH", kCudnn}}, [] { return used_from("cuDNN", kCudnn, "9.10.2"); });
  in_process("a folder", {{"FLASHMARGIN_CUBLASLT_PATH", kStubs + "/cublas"}},
             [] { return used_from("cuBLASLt", kCublaslt, "13.0.1"); });
  in_process("NCCL", {{"FLASHMARGIN_NCCL_PATH", kStubs + "/nccl"}},
             [] { return used_from("NCCL", kStubs + "/nccl/libnccl.so.2", "2.27.3"); });
  in_process("a path that is not there", {{"FLASHMARGIN_CUDNN_PATH", "/nowhere/libcudnn.so.9"}}, [] {
    return refused("cuDNN", {"FLASHMARGIN_CUDNN_PATH names /nowhere/libcudnn.so.9, which cannot be read"});
  });
  in_process("a folder without it", {{"FLASHMARGIN_CUBLASLT_PATH", kStubs + "/cudnn"}},
             [] { return refused("cuBLASLt", {"which has no libcublasLt.so.13 or libcublasLt.so.12"}); });
  in_process("a file that is no library", {{"FLASHMARGIN_CUDNN_PATH", text}}, [&] {
    return refused("cuDNN", {"but opening " + text + " failed: ", "file too short"});
  });
  in_process("a chosen library that does not fit is not replaced by another",
             {{"FLASHMARGIN_CUDNN_PATH", kStubs + "/incomplete"}, {"CUDA_HOME", tree.at("home")}},
             [] { return refused("cuDNN", {"has no function cudnnGetErrorString"}); });
}

void versions_are_checked() {
  const auto cudnn = [](const char* what, const Environment& more, std::initializer_list<std::string> parts) {
    Environment all = more;
    all.emplace_back("FLASHMARGIN_CUDNN_PATH", kCudnn);
    in_process(what, all, [&] { return refused("cuDNN", parts) && library("cuDNN").version == std::string(); });
  };
  cudnn("cuDNN 8", {{"FM_STUB_VERSION", "8907"}}, {kCudnn + " has version 8.9.7, expected 9"});
  cudnn("cuDNN 10", {{"FM_STUB_VERSION", "100102"}}, {"has version 10.1.2, expected 9"});
  cudnn("cuDNN for CUDA 11", {{"FM_STUB_CUDA", "11080"}}, {"is for CUDA 11, expected 12 or 13"});
  cudnn("cuDNN for a newer driver", {{"FM_EMULATED_DRIVER", "12040"}},
        {"is for CUDA 13, and the driver knows CUDA 12.4: install a newer driver"});
  in_process("cuDNN for the CUDA before", {{"FLASHMARGIN_CUDNN_PATH", kCudnn}, {"FM_STUB_CUDA", "12090"}},
             [] { return used_from("cuDNN", kCudnn, "9.10.2"); });
  in_process("cuBLASLt 11", {{"FLASHMARGIN_CUBLASLT_PATH", kCublaslt}, {"FM_STUB_VERSION", "111102"}},
             [] { return refused("cuBLASLt", {"has version 11.11.2, expected 12 or 13"}); });
  in_process("NCCL 3", {{"FLASHMARGIN_NCCL_PATH", kStubs + "/nccl"}, {"FM_STUB_VERSION", "30000"}},
             [] { return refused("NCCL", {"has version 3.0.0, expected 2"}); });
  in_process("an early NCCL", {{"FLASHMARGIN_NCCL_PATH", kStubs + "/nccl"}, {"FM_STUB_VERSION", "2804"}},
             [] { return used_from("NCCL", kStubs + "/nccl/libnccl.so.2", "2.8.4"); });
  in_process("an NCCL that fails", {{"FLASHMARGIN_NCCL_PATH", kStubs + "/nccl"}, {"FM_STUB_FAILURE", "ncclGetVersion"}},
             [] { return refused("NCCL", {"ncclGetVersion failed"}); });
}

bool system_has(const char* name) {
  void* handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (handle) dlclose(handle);
  return handle != nullptr;
}

// The order of the places that follow the chosen path.
void places_have_an_order() {
  if (system_has("libcudnn.so.9") || system_has("libcublasLt.so.13") || system_has("libcublasLt.so.12")) {
    std::printf("skipped, the loader has a cuDNN or cuBLASLt: the order of places\n");
    skipped++;
    return;
  }
  Tree tree;
  const std::string wheel = "env/lib/python3.11/site-packages/nvidia/";
  const std::string in_home = tree.link("home/lib64/libcudnn.so.9", kCudnn);
  const std::string in_conda = tree.link("conda/lib/libcudnn.so.9", kCudnn);
  const std::string in_wheel = tree.link(wheel + "cudnn/lib/libcudnn.so.9", kCudnn);
  tree.link(wheel + "cudnn/lib/libcudnn_ops.so.9", kStubs + "/cudnn/libcudnn_ops.so.9");
  const std::string cublaslt = tree.link(wheel + "cublas/lib/libcublasLt.so.13", kCublaslt);
  tree.link(wheel + "cuda_nvrtc/lib/libnvrtc.so.13", kStubs + "/cublas/libnvrtc.so.13");
  tree.link("damaged/lib64/libcudnn.so.9", kStubs + "/incomplete/libcudnn.so.9");
  const std::string environment = tree.at("env"), site = tree.at("env/lib/python3.11/site-packages");

  in_process("nowhere", {{"CUDA_HOME", "/nowhere"}}, [] {
    return refused("cuDNN", {"no libcudnn.so.9 in the loader's folders, /nowhere/lib64, /nowhere/lib; ",
                             "set FLASHMARGIN_CUDNN_PATH to its file or folder"}) &&
           refused("cuBLASLt", {"no libcublasLt.so.13 or libcublasLt.so.12 in the loader's folders"}) &&
           refused("NCCL", {"FLASHMARGIN_NCCL_PATH"});
  });
  in_process("the toolkit before the wheels", {{"CUDA_HOME", tree.at("home")}, {"VIRTUAL_ENV", environment}},
             [&] { return used_from("cuDNN", in_home, "9.10.2"); });
  in_process("CUDA_PATH, then conda", {{"CUDA_PATH", tree.at("home")}, {"CONDA_PREFIX", tree.at("conda")}},
             [&] { return used_from("cuDNN", in_home, "9.10.2"); });
  in_process("conda", {{"CONDA_PREFIX", tree.at("conda")}}, [&] { return used_from("cuDNN", in_conda, "9.10.2"); });
  for (const Environment& where :
       {Environment{{"VIRTUAL_ENV", environment}}, Environment{{"FLASHMARGIN_PYTHON_SITE", site}}})
    in_process("a wheel by " + where[0].first, where, [&] {
      return used_from("cuDNN", in_wheel, "9.10.2") && used_from("cuBLASLt", cublaslt, "13.0.1") &&
             says(std::getenv("FM_STUB_LOADED"), {"cublasLt nvrtc cudnn cudnn_ops "});
    });
  in_process("a wheel by its path brings its neighbours along",
             {{"FLASHMARGIN_CUDNN_PATH", site + "/nvidia/cudnn/lib/"}}, [&] {
               return used_from("cuDNN", in_wheel, "9.10.2") &&
                      says(std::getenv("FM_STUB_LOADED"), {"cublasLt nvrtc cudnn cudnn_ops "});
             });
  in_process("a damaged one is passed over", {{"CUDA_HOME", tree.at("damaged")}, {"VIRTUAL_ENV", environment}},
             [&] { return used_from("cuDNN", in_wheel, "9.10.2"); });
  in_process("a damaged one alone is the reason", {{"CUDA_HOME", tree.at("damaged")}}, [&] {
    return refused("cuDNN", {tree.at("damaged/lib64/libcudnn.so.9") + " has no function cudnnGetErrorString; set"});
  });
  in_process("one that is loaded before the toolkit's", {{"CUDA_HOME", tree.at("home")}},
             [&] { return dlopen(kCudnn.c_str(), RTLD_NOW | RTLD_LOCAL) && used_from("cuDNN", kCudnn, "9.10.2"); });

  // The loader reads LD_LIBRARY_PATH when a program begins.
  const std::string arguments = "LD_LIBRARY_PATH='" + kStubs + "/cudnn' FLASHMARGIN_CUDA_OPS= CUDA_HOME='" +
                                tree.at("home") + "' VIRTUAL_ENV='" + environment +
                                "' FLASHMARGIN_CUDA='" FM_EMULATED_CUDA "' '";
  char self[4096] = "";
  if (readlink("/proc/self/exe", self, sizeof self - 1) > 0)
    check(std::system((arguments + self + "' --from-the-loader").c_str()) == 0, "the loader's before the toolkit's");
}

}  // namespace

int main(int arguments, char** values) {
  if (arguments > 1 && values[1] == std::string("--from-the-loader"))
    return used_from("cuDNN", kCudnn, "9.10.2") ? 0 : 1;
  a_path_is_obeyed();
  versions_are_checked();
  places_have_an_order();
  std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed ? 1 : 0;
}
