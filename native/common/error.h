// Errors that the binding turns into JavaScript classes.  A message says what was expected and what came;
// the binding puts the operation's name in front.
#pragma once
#include <cstdio>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace fm {

enum class ErrorKind { type, range, shape, device, disposed, io, non_finite };

struct Error : std::runtime_error {
  ErrorKind kind;
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind(kind) {}
};

// The parts of a message; an own type has its append beside it.  Streams would cost every kernel's file half a second.
inline void append(std::string& to, const char* text) { to += text; }
inline void append(std::string& to, const std::string& text) { to += text; }
inline void append(std::string& to, double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", number);
  to += text;
}
template <class Integer, std::enable_if_t<std::is_integral_v<Integer>, int> = 0>
void append(std::string& to, Integer number) {
  to += std::to_string(number);
}

template <class... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  std::string message;
  (append(message, parts), ...);
  throw Error(kind, message);
}

}  // namespace fm

// FM_CHECK(kind, condition, message parts…) throws fm::Error when the condition is false.
#define FM_CHECK(kind, condition, ...)                                \
  do {                                                                \
    if (!(condition)) ::fm::fail(::fm::ErrorKind::kind, __VA_ARGS__); \
  } while (0)
