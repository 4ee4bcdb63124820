#include "library_ops.h"

#include <cstdlib>

namespace fm {
namespace {

enum class Choice { own, libraries, whichever };

Choice read_choice() {
  const char* setting = std::getenv("FLASHMARGIN_CUDA_OPS");
  const std::string text = setting ? setting : "";
  if (text == "own") return Choice::own;
  if (text == "libraries") return Choice::libraries;
  FM_CHECK(range, text.empty(), "expected FLASHMARGIN_CUDA_OPS own or libraries, got ", text);
  return Choice::whichever;
}

Choice choice() {
  static const Choice choice = read_choice();
  return choice;
}

// Of all devices.
struct LeftShapes {
  std::mutex lock;
  int count = 0;
  std::string why;  // the first
};
LeftShapes& left_shapes() {
  static auto* left = new LeftShapes;  // outlives the threads that ask
  return *left;
}

// The library's part of the operations, or nullptr.
template <class Ops>
Ops* part(std::unique_ptr<Ops>& ops, std::mutex& lock, const char* name, FoundLibrary (*found)(), const Stream& stream,
          DeviceAllocator& allocator) {
  const Choice wanted = choice();
  if (wanted == Choice::own) return nullptr;
  std::lock_guard<std::mutex> hold(lock);
  if (ops) return ops.get();
  const FoundLibrary library = found();
  FM_CHECK(device, wanted != Choice::libraries || library.usable(), "FLASHMARGIN_CUDA_OPS=libraries, but there is no ",
           name, ": ", library.reason);
  if (!library.usable()) return nullptr;
  ops = std::make_unique<Ops>(stream, allocator);
  return ops.get();
}

}  // namespace

CudnnConvolutions* LibraryOps::convolutions(Dtype dtype) {
  if (!take(dtype)) return nullptr;
  return part(
      convolutions_, lock_, "cuDNN", [] { return FoundLibrary(libraries().cudnn); }, stream_, allocator_);
}

CublasltProducts* LibraryOps::products(Dtype dtype) {
  if (!take(dtype)) return nullptr;
  return part(
      products_, lock_, "cuBLASLt", [] { return FoundLibrary(libraries().cublaslt); }, stream_, allocator_);
}

std::string library_ops_off() {
  try {
    return choice() == Choice::own ? "FLASHMARGIN_CUDA_OPS=own" : "";
  } catch (const Error& error) {
    return error.what();
  }
}

void note_left_shape(const std::string& why) {
  FM_CHECK(device, choice() != Choice::libraries, why,
           ", or unset FLASHMARGIN_CUDA_OPS for our own kernels to compute it");
  std::lock_guard<std::mutex> hold(left_shapes().lock);
  if (left_shapes().count++ == 0) left_shapes().why = why;
}

std::string take_left_to_own_kernels() {
  std::lock_guard<std::mutex> hold(left_shapes().lock);
  const int count = std::exchange(left_shapes().count, 0);
  if (count == 0) return "";
  return "our own kernels compute " + std::to_string(count) + (count == 1 ? " shape" : " shapes") +
         " of convolutions and products, the first because " + left_shapes().why;
}

// --- settings -------------------------------------------------------------------------------------------------

size_t library_workspace() {
  const char* setting = std::getenv("FLASHMARGIN_CUDA_WORKSPACE");
  if (!setting) return size_t(512) << 20;
  char* end = nullptr;
  const double mebibytes = std::strtod(setting, &end);
  FM_CHECK(range, end != setting && !*end && mebibytes >= 0 && mebibytes <= 1 << 20,
           "expected FLASHMARGIN_CUDA_WORKSPACE in MiB, got ", setting);
  return size_t(mebibytes * (1 << 20));
}

bool library_tf32() {
  const char* setting = std::getenv("FLASHMARGIN_CUDA_TF32");
  const std::string text = setting ? setting : "off";
  FM_CHECK(range, text == "on" || text == "off", "expected FLASHMARGIN_CUDA_TF32 on or off, got ", text);
  return text == "on";
}

bool library_measures() {
  const char* setting = std::getenv("FLASHMARGIN_CUDNN_SEARCH");
  const std::string text = setting ? setting : "heuristic";
  FM_CHECK(range, text == "heuristic" || text == "measure",
           "expected FLASHMARGIN_CUDNN_SEARCH heuristic or measure, got ", text);
  return text == "measure";
}

}  // namespace fm
