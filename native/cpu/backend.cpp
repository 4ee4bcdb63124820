#include "backend.h"

#include <cstring>

#include "allocator.h"

namespace fm {

Tensor CpuBackend::empty(Dtype dtype, const Shape& shape) {
  for (int64_t extent : shape) FM_CHECK(shape, extent >= 0, "expected extents of at least 0, got ", shape);
  Tensor t{dtype, shape, nullptr};
  const size_t bytes = t.bytes();
  t.storage = std::make_shared<Storage>(allocate(bytes), bytes, Device{},
                                        [](void* data, size_t bytes, Device) { release(data, bytes); });
  return t;
}

void CpuBackend::copy_from_host(const Tensor& to, const void* from, size_t bytes) {
  FM_CHECK(shape, bytes == to.bytes(), "expected ", to.bytes(), " bytes for ", to.shape, ", got ", bytes);
  if (bytes > 0) std::memcpy(to.raw(), from, bytes);  // an empty array may have no address
}

void CpuBackend::copy_to_host(void* to, const Tensor& from, size_t bytes) {
  FM_CHECK(shape, bytes == from.bytes(), "expected ", from.bytes(), " bytes for ", from.shape, ", got ", bytes);
  if (bytes > 0) std::memcpy(to, from.raw(), bytes);
}

Backend& cpu_backend() {
  static CpuBackend* backend = new CpuBackend;
  return *backend;
}

}  // namespace fm
