// Shapes in the names of cases.
#pragma once
#include <ostream>
#include <string>

#include "../../native/common/tensor.h"

namespace fm {

inline std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  std::string text;
  append(text, shape);
  return out << text;
}

}  // namespace fm
