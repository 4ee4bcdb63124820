// What the tests of the Hopper path's steps share: a device, and tensors on it from plain values.
#pragma once
#include "../../native/common/devices.h"
#include "margin_cases.h"

namespace fm {

inline Backend& gpu() { return backend_of(Device{0}); }

template <class T = float>
Tensor on_gpu(const Shape& shape, const Matrix& values) {
  std::vector<T> cast(values.begin(), values.end());
  Tensor t = gpu().empty(DtypeOf<T>::value, shape);
  gpu().copy_from_host(t, cast.data(), t.bytes());
  return t;
}
inline Matrix from_gpu(const Tensor& t) {
  std::vector<float> values(size_t(t.numel()));
  gpu().copy_to_host(values.data(), t, t.bytes());
  return Matrix(values.begin(), values.end());
}

}  // namespace fm
