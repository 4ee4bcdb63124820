// What the stub libraries share.  A stub exports a library's functions, with its numbers and the order of its arguments
// taken from its documentation and not from native/cuda, and computes on the host by naive loops.  Environment variables,
// read at each call, make it fail:
//   FM_STUB_FAILURE   a function that fails, with
//   FM_STUB_STATUS    this status
//   FM_STUB_VERSION   the version that it tells
//   FM_STUB_CUDA      the CUDA that it was built for   (default 13000)
// Libraries that were loaded are listed in the variable FM_STUB_LOADED, in order.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#define FM_STUB extern "C" __attribute__((visibility("default")))

namespace stub {

inline size_t setting(const char* name, size_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

inline std::map<std::string, int>& counts() {
  static std::map<std::string, int> counts;
  return counts;
}

// Counts the call; its status where it shall fail, otherwise 0.
inline int entered(const char* function, int failure) {
  counts()[function]++;
  const char* failing = std::getenv("FM_STUB_FAILURE");
  return failing && !std::strcmp(failing, function) ? int(setting("FM_STUB_STATUS", size_t(failure))) : 0;
}

// float32 as the tensor cores read it: 10 bits of mantissa.
inline float tf32(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x1000) & ~uint32_t(0x1fff);
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline float bfloat16(uint16_t upper) {
  const uint32_t bits = uint32_t(upper) << 16;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
// To the nearest, ties to even.
inline uint16_t to_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t rest = bits & 0xffff, upper = bits >> 16;
  return uint16_t(rest > 0x8000 || (rest == 0x8000 && upper & 1) ? upper + 1 : upper);
}

// Element i of a matrix or an image of either type.
inline float read(const void* from, bool half, size_t i) {
  return half ? bfloat16(static_cast<const uint16_t*>(from)[i]) : static_cast<const float*>(from)[i];
}
inline void write(void* to, bool half, size_t i, float value) {
  if (half) static_cast<uint16_t*>(to)[i] = to_bfloat16(value);
  else static_cast<float*>(to)[i] = value;
}

// What an emulated stream was told before happens now; it begins with the function that does so.
inline void catch_up(void* stream) { (*static_cast<void (**)(void*)>(stream))(stream); }

struct Loaded {
  explicit Loaded(const char* name) {
    const char* before = std::getenv("FM_STUB_LOADED");
    setenv("FM_STUB_LOADED", (std::string(before ? before : "") + name + ' ').c_str(), 1);
  }
};

}  // namespace stub

// How often a function was called, or an algorithm used.
#define FM_STUB_LIBRARY(name)             \
  static const stub::Loaded loaded(name); \
  FM_STUB int fm_stub_count(const char* what) { return stub::counts()[what]; }
