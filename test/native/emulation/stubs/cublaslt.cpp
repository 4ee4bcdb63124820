// cuBLASLt's products of float32 and of bfloat16 matrices that lie column by column.
#include <algorithm>
#include <vector>

#include "stub.h"

FM_STUB_LIBRARY("cublasLt")

namespace {

enum { success = 0, not_initialized = 1, invalid_value = 7, execution_failed = 13, not_supported = 15 };
enum { float32 = 0, bfloat16 = 14, compute_float32 = 68, compute_tf32 = 77 };
enum { transpose_a = 3, transpose_b = 4, max_workspace_bytes = 1, reduction_scheme_mask = 3, inplace = 1 };

struct Product {
  int compute, scale;
  int32_t transposed_a = 0, transposed_b = 0;
};
struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t leading;
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t reductions = 7;
};
struct Algorithm {
  uint64_t data[8];
};
struct Result {
  Algorithm algorithm;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
struct Handle {};

constexpr uint64_t kMagic = 0x4d41474943;
constexpr size_t kWorkspace = 4096;

bool fits(const Layout& l, int type, uint64_t rows, uint64_t columns) {
  return l.type == type && l.rows == rows && l.columns == columns && l.leading >= int64_t(rows);
}

bool set(void* to, size_t to_size, const void* from, size_t size) {
  if (size != to_size) return false;
  std::memcpy(to, from, size);
  return true;
}

}  // namespace

FM_STUB size_t cublasLtGetVersion() { return stub::setting("FM_STUB_VERSION", 130001); }
FM_STUB size_t cublasLtGetCudartVersion() { return stub::setting("FM_STUB_CUDA", 13000); }
FM_STUB const char* cublasLtGetStatusName(int status) {
  switch (status) {
    case success: return "CUBLAS_STATUS_SUCCESS";
    case not_initialized: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case invalid_value: return "CUBLAS_STATUS_INVALID_VALUE";
    case execution_failed: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case not_supported: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
}
FM_STUB int cublasLtCreate(Handle** handle) {
  if (const int failure = stub::entered(__func__, not_initialized)) return failure;
  *handle = new Handle;
  return success;
}
FM_STUB int cublasLtDestroy(Handle* handle) {
  delete handle;
  return success;
}
FM_STUB int cublasLtMatmulDescCreate(Product** product, int compute, int scale) {
  *product = new Product{compute, scale};
  return success;
}
FM_STUB int cublasLtMatmulDescDestroy(Product* product) {
  delete product;
  return success;
}
FM_STUB int cublasLtMatmulDescSetAttribute(Product* product, int attribute, const void* value, size_t size) {
  if (attribute == transpose_a)
    return set(&product->transposed_a, sizeof product->transposed_a, value, size) ? success : invalid_value;
  if (attribute == transpose_b)
    return set(&product->transposed_b, sizeof product->transposed_b, value, size) ? success : invalid_value;
  return not_supported;
}
FM_STUB int cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  *layout = new Layout{type, rows, columns, leading};
  return success;
}
FM_STUB int cublasLtMatrixLayoutDestroy(Layout* layout) {
  delete layout;
  return success;
}
FM_STUB int cublasLtMatmulPreferenceCreate(Preference** preference) {
  *preference = new Preference;
  return success;
}
FM_STUB int cublasLtMatmulPreferenceDestroy(Preference* preference) {
  delete preference;
  return success;
}
FM_STUB int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value,
                                                 size_t size) {
  if (attribute == max_workspace_bytes)
    return set(&preference->workspace, sizeof preference->workspace, value, size) ? success : invalid_value;
  if (attribute == reduction_scheme_mask)
    return set(&preference->reductions, sizeof preference->reductions, value, size) ? success : invalid_value;
  return not_supported;
}

FM_STUB int cublasLtMatmulAlgoGetHeuristic(Handle*, Product*, Layout*, Layout*, Layout*, Layout*,
                                           Preference* preference, int requested, Result* to, int* returned) {
  if (const int failure = stub::entered(__func__, not_supported)) return failure;
  if (requested < 1) return invalid_value;
  *returned = int(stub::setting("FM_STUB_SUGGESTIONS", 1));
  *to = Result{};
  to->algorithm.data[0] = kMagic;
  to->algorithm.data[1] = preference->reductions;
  to->algorithm.data[7] = ~kMagic;
  to->workspace = preference->workspace >= kWorkspace ? kWorkspace : 0;
  return success;
}

FM_STUB int cublasLtMatmul(Handle*, Product* product, const void* alpha, const void* a, Layout* ad, const void* b,
                           Layout* bd, const void* beta, const void* c, Layout* cd, void* d, Layout* dd,
                           const Algorithm* algorithm, void* workspace, size_t bytes, void* stream) {
  if (const int failure = stub::entered(__func__, execution_failed)) return failure;
  if (!stream || algorithm->data[0] != kMagic || algorithm->data[7] != ~kMagic) return invalid_value;
  stub::catch_up(stream);
  if (algorithm->data[1] & inplace) return execution_failed;  // the order of its sums is nobody's promise
  if (product->scale != float32 || (product->compute != compute_float32 && product->compute != compute_tf32))
    return not_supported;
  const bool ta = product->transposed_a, tb = product->transposed_b;
  const uint64_t m = dd->rows, n = dd->columns, k = ta ? ad->rows : ad->columns;
  const int type = ad->type;
  const bool half = type == bfloat16;
  if ((type != float32 && !half) || (half && product->compute != compute_float32)) return not_supported;
  if (!fits(*ad, type, ta ? k : m, ta ? m : k) || !fits(*bd, type, tb ? n : k, tb ? k : n) || !fits(*cd, type, m, n) ||
      !fits(*dd, type, m, n))
    return invalid_value;
  if (bytes > 0) {
    if (!workspace) return invalid_value;
    std::memset(workspace, 0xff, bytes);
  }
  stub::counts()[bytes > 0 ? "with workspace" : "without workspace"]++;
  if (half) stub::counts()["of bfloat16"]++;
  const bool rounds = product->compute == compute_tf32;
  const auto read = [&](const void* from, const Layout& l, bool transposed, uint64_t row, uint64_t column) {
    if (transposed) std::swap(row, column);
    const float value = stub::read(from, half, column * uint64_t(l.leading) + row);
    return double(rounds ? stub::tf32(value) : value);
  };
  const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  for (uint64_t j = 0; j < n; j++)
    for (uint64_t i = 0; i < m; i++) {
      double sum = 0;
      for (uint64_t p = 0; p < k; p++) sum += read(a, *ad, ta, i, p) * read(b, *bd, tb, p, j);
      const double before = keep == 0 ? 0 : double(keep) * stub::read(c, half, j * uint64_t(cd->leading) + i);
      stub::write(d, half, j * uint64_t(dd->leading) + i, float(scale * sum + before));
    }
  return success;
}
