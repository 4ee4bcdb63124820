// What a call throws, for comparing one device's words with another's.
#pragma once
#include <string>

#include "../../native/common/error.h"

namespace fm {

// The kind's number and the message, or "no error".
template <class F>
std::string error_of(F&& f) {
  try {
    f();
    return "no error";
  } catch (const Error& error) {
    return std::to_string(int(error.kind)) + " " + error.what();
  }
}

}  // namespace fm
