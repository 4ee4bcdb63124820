// Errors that the binding turns into JavaScript classes.  A message says what was expected and what came;
// the binding puts the operation's name in front.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace fm {

enum class ErrorKind { type, range, shape, device, disposed, io, non_finite };

struct Error : std::runtime_error {
  ErrorKind kind;
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind(kind) {}
};

template <class... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw Error(kind, message.str());
}

}  // namespace fm

// FM_CHECK(kind, condition, message parts…) throws fm::Error when the condition is false.
#define FM_CHECK(kind, condition, ...)                                \
  do {                                                                \
    if (!(condition)) ::fm::fail(::fm::ErrorKind::kind, __VA_ARGS__); \
  } while (0)
