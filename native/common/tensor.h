// A tensor: dtype, shape, device, and storage that several tensors may share.  Always contiguous, row-major.
// Images are [N, H, W, C]: channels last, so that a pixel's channels are one run in memory.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "bfloat16.h"
#include "error.h"

namespace fm {

// bfloat16 is for activations: what a layer computes with it, it computes in float32.
enum class Dtype : int { float32 = 0, float64 = 1, int32 = 2, uint8 = 3, bfloat16 = 4 };

inline size_t size_of(Dtype dtype) {
  constexpr size_t sizes[] = {4, 8, 4, 1, 2};
  return sizes[int(dtype)];
}
inline const char* name_of(Dtype dtype) {
  constexpr const char* names[] = {"float32", "float64", "int32", "uint8", "bfloat16"};
  return names[int(dtype)];
}

template <class T>
struct DtypeOf;
template <>
struct DtypeOf<float> {
  static constexpr Dtype value = Dtype::float32;
};
template <>
struct DtypeOf<double> {
  static constexpr Dtype value = Dtype::float64;
};
template <>
struct DtypeOf<int32_t> {
  static constexpr Dtype value = Dtype::int32;
};
template <>
struct DtypeOf<uint8_t> {
  static constexpr Dtype value = Dtype::uint8;
};
template <>
struct DtypeOf<Bfloat16> {
  static constexpr Dtype value = Dtype::bfloat16;
};

// Of the parameters and the statistics of a layer whose activations have this dtype, and of their gradients.
inline Dtype parameter_dtype(Dtype activations) {
  return activations == Dtype::bfloat16 ? Dtype::float32 : activations;
}

struct Shape;
void append(std::string& to, const Shape& shape);

struct Shape : std::vector<int64_t> {
  using std::vector<int64_t>::vector;
  int64_t numel() const {
    int64_t n = 1;
    for (int64_t extent : *this) {
      if (__builtin_mul_overflow(n, extent, &n)) fail(ErrorKind::shape, "too many elements: ", *this);
    }
    return n;
  }
};
inline void append(std::string& to, const Shape& shape) {
  to += '[';
  for (size_t i = 0; i < shape.size(); i++) append(to, i ? ", " : ""), append(to, shape[i]);
  to += ']';
}

// −1 is the CPU; 0, 1, … are CUDA devices.
struct Device {
  int index = -1;
  bool is_cpu() const { return index < 0; }
  bool operator==(const Device& other) const { return index == other.index; }
};
inline void append(std::string& to, const Device& device) {
  append(to, device.is_cpu() ? "cpu" : "cuda:" + std::to_string(device.index));
}

// What a backend computed of a memory's contents and keeps until they change.  Threads may ask, keep and forget at once; a
// writer says so before it writes.
class Derived {
 public:
  std::shared_ptr<void> value() const {
    std::lock_guard<std::mutex> hold(lock_);
    return value_;
  }
  // The contents change: what was kept until now, and a number of this change.
  std::pair<std::shared_ptr<void>, uint64_t> forget() {
    std::lock_guard<std::mutex> hold(lock_);
    return {std::exchange(value_, nullptr), ++changes_};
  }
  // Of the contents as that change left them: nothing where there was another since.
  void keep(std::shared_ptr<void> value, uint64_t change) {
    std::lock_guard<std::mutex> hold(lock_);
    if (change == changes_) value_ = std::move(value);
  }

 private:
  mutable std::mutex lock_;
  std::shared_ptr<void> value_;
  uint64_t changes_ = 0;
};

struct Storage {
  void* data = nullptr;
  size_t bytes = 0;
  Device device;
  void (*release)(void* data, size_t bytes, Device device) = nullptr;
  Derived derived;
  Storage(void* data, size_t bytes, Device device, void (*release)(void*, size_t, Device))
      : data(data), bytes(bytes), device(device), release(release) {}
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage() {
    if (release) release(data, bytes, device);
  }
};

struct Tensor {
  Dtype dtype = Dtype::float32;
  Shape shape;
  std::shared_ptr<Storage> storage;

  int64_t numel() const { return shape.numel(); }
  size_t bytes() const {
    size_t bytes;
    FM_CHECK(shape, !__builtin_mul_overflow(size_t(numel()), size_of(dtype), &bytes), "too many bytes: ", shape);
    return bytes;
  }
  int64_t dim(size_t axis) const { return shape[axis]; }
  Device device() const { return live().device; }

  template <class T>
  T* data() const {
    FM_CHECK(type, dtype == DtypeOf<T>::value, "expected a tensor of dtype ", name_of(DtypeOf<T>::value), ", got ",
             name_of(dtype));
    return static_cast<T*>(live().data);
  }
  void* raw() const { return live().data; }

 private:
  const Storage& live() const {
    FM_CHECK(disposed, storage != nullptr, "tensor ", shape, " was disposed");
    return *storage;
  }
};

using OptionalTensor = std::optional<Tensor>;

enum class Overlap : int { none = 0, same = 1, partly = 2 };

// Of two tensors' memory.
inline Overlap overlap_of(const Tensor& a, const Tensor& b) {
  const char *x = static_cast<const char*>(a.raw()), *y = static_cast<const char*>(b.raw());
  if (!(a.device() == b.device()) || x + a.bytes() <= y || y + b.bytes() <= x) return Overlap::none;
  return x == y && a.bytes() == b.bytes() ? Overlap::same : Overlap::partly;
}

// Calls f with a value of the C++ type behind a floating dtype: dispatch_float(x.dtype, [&](auto zero) { using T = decltype(zero); … });
template <class F>
auto dispatch_float(Dtype dtype, F&& f) {
  if (dtype == Dtype::float32) return f(float{});
  FM_CHECK(
      type, dtype == Dtype::float64, "expected a tensor of dtype float32 or float64, got ", name_of(dtype),
      dtype == Dtype::bfloat16 ? ", which only a backbone's layers take, on a CUDA device: cast it to float32" : "");
  return f(double{});
}
// The same of an operation that takes bfloat16 too.
template <class F>
auto dispatch_stored(Dtype dtype, F&& f) {
  if (dtype == Dtype::bfloat16) return f(Bfloat16{});
  return dispatch_float(dtype, f);
}

inline void check_rank(const char* what, const Tensor& t, size_t rank) {
  FM_CHECK(shape, t.shape.size() == rank, "expected ", what, " with ", rank, " axes, got ", t.shape);
}
inline void check_shape(const char* what, const Tensor& t, const Shape& shape) {
  FM_CHECK(shape, t.shape == shape, "expected ", what, " ", shape, ", got ", t.shape);
}
inline void check_dtype(const char* what, const Tensor& t, Dtype dtype) {
  FM_CHECK(type, t.dtype == dtype, "expected ", what, " of dtype ", name_of(dtype), ", got ", name_of(t.dtype));
}
// Operands of one operation live on one device.
inline void check_same_device(const Tensor& a, const Tensor& b) {
  FM_CHECK(device, a.device() == b.device(), "expected both tensors on one device, got ", a.device(), " and ",
           b.device());
}

}  // namespace fm
