// The upper half of a float, rounded to the nearest, ties to even.
#pragma once
#include <cstdint>
#include <cstring>

#include "../common/host_device.h"

namespace fm {

struct Bfloat16 {
  uint16_t bits;

  Bfloat16() = default;
  FM_HD explicit Bfloat16(float value) {
    uint32_t whole;
    std::memcpy(&whole, &value, sizeof whole);
    bits = uint16_t((whole + 0x7fff + (whole >> 16 & 1)) >> 16);
  }
  FM_HD explicit operator float() const {
    const uint32_t whole = uint32_t(bits) << 16;
    float value;
    std::memcpy(&value, &whole, sizeof value);
    return value;
  }
};

}  // namespace fm
