// What the tests of the libraries that native/cuda opens share: stubs of these libraries, and a process a case.
#pragma once
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "../../native/common/devices.h"
#include "op_checks.h"

namespace {

const std::string kStubs = FM_STUBS;
const std::string kCudnn = kStubs + "/cudnn/libcudnn.so.9", kCublaslt = kStubs + "/cublas/libcublasLt.so.13";

using Environment = std::vector<std::pair<std::string, std::string>>;

// Libraries are looked for once a process, so each case has a process of its own, and nothing of ours in its environment
// but what it names.
inline void in_process(const std::string& what, const Environment& environment, const std::function<bool()>& claim) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    for (const char* name : {"FLASHMARGIN_CUDNN_PATH", "FLASHMARGIN_CUBLASLT_PATH", "FLASHMARGIN_NCCL_PATH",
                             "FLASHMARGIN_PYTHON_SITE", "FLASHMARGIN_CUDA_TF32", "FLASHMARGIN_CUDNN_SEARCH",
                             "FLASHMARGIN_CUDA_WORKSPACE", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"})
      unsetenv(name);
    setenv("FLASHMARGIN_CUDA", FM_EMULATED_CUDA, 1);
    setenv("FLASHMARGIN_CUDA_OPS", "", 1);  // whatever is found, which the emulated runtime leaves to those who ask
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    failed = 0;
    bool ok = false;
    try {
      ok = claim();
    } catch (const std::exception& error) {
      std::printf("it threw: %s\n", error.what());
    }
    std::fflush(stdout);
    _exit(ok && failed == 0 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  check(WIFEXITED(status) && WEXITSTATUS(status) == 0, what);
}

inline CudaLibrary library(const std::string& name) {
  for (const CudaLibrary& one : cuda_libraries())
    if (name == one.name) return one;
  fail(ErrorKind::device, "test: no library is called ", name);
}

inline bool says(const std::string& text, std::initializer_list<std::string> parts) {
  bool all = true;
  for (const std::string& part : parts) all = all && text.find(part) != std::string::npos;
  if (!all) std::printf("it said: %s\n", text.c_str());
  return all;
}
inline bool refused(const std::string& name, std::initializer_list<std::string> parts) {
  return !library(name).used && says(library(name).detail, parts);
}
inline bool used_from(const std::string& name, const std::string& path, const std::string& version) {
  const CudaLibrary one = library(name);
  const bool ok = one.used && path == one.path && version == one.version;
  if (!ok)
    std::printf("%s: %s '%s' '%s' %s\n", one.name, one.used ? "used" : "not used", one.path, one.version, one.detail);
  return ok;
}

}  // namespace
