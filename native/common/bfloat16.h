// The upper half of a float, rounded to the nearest, ties to even.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "host_device.h"

namespace fm {

struct Bfloat16 {
  uint16_t bits;

  Bfloat16() = default;
  // NaN stays NaN, whatever is in its lower half.
  FM_HD explicit Bfloat16(float value) {
    uint32_t whole;
    std::memcpy(&whole, &value, sizeof whole);
    bits = value == value ? uint16_t((whole + 0x7fff + (whole >> 16 & 1)) >> 16) : uint16_t(0x7fc0);
  }
  FM_HD explicit operator float() const { return float_of(uint32_t(bits) << 16); }

  // The smallest that is no smaller, of a value that is not negative.
  FM_HD static Bfloat16 above(float value) {
    uint32_t whole;
    std::memcpy(&whole, &value, sizeof whole);
    Bfloat16 up;
    up.bits = value == value ? uint16_t((whole + 0xffff) >> 16) : uint16_t(0x7fc0);
    return up;
  }

  FM_HD static float float_of(uint32_t whole) {
    float value;
    std::memcpy(&value, &whole, sizeof value);
    return value;
  }
};

// Of two in a word.
FM_HD float first_of(uint32_t pair) { return Bfloat16::float_of(pair << 16); }
FM_HD float second_of(uint32_t pair) { return Bfloat16::float_of(pair & 0xffff0000u); }

// What elements that are stored as S are computed in.
template <class S>
using Computed = std::conditional_t<std::is_same_v<S, Bfloat16>, float, S>;

// A stored element as another type's.
template <class To, class From>
FM_HD To element_as(From x) {
  if constexpr (std::is_same_v<To, From>) return x;
  else return To(Computed<To>(Computed<From>(x)));
}

}  // namespace fm
