// What the head's test programs share: expectations, tensors, and a main() that runs once an instruction set that the
// machine has.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "../../native/common/methods.h"
#include "../../native/cpu/allocator.h"
#include "../../native/cpu/backend.h"
#include "../../native/cpu/isa.h"
#include "../../native/cpu/parallel.h"
#include "shape_text.h"

namespace fm {

using Matrix = std::vector<double>;

inline int passed = 0, failed = 0;

template <class... Parts>
void expect(bool ok, const Parts&... parts) {
  ok ? passed++ : failed++;
  if (ok) return;
  std::ostringstream message;
  (message << ... << parts);
  std::printf("FAILED (%s): %s\n", name_of(isa()), message.str().c_str());
}

template <class F>
void throws(ErrorKind kind, const std::string& message, F&& f) {
  try {
    f();
    expect(false, "expected the error: ", message);
  } catch (const Error& error) {
    expect(error.kind == kind && error.what() == message, "expected '", message, "', got '", error.what(), "'");
  }
}

template <class T>
Tensor tensor_of(const Shape& shape, const Matrix& values) {
  Tensor t = cpu_empty<T>(shape);
  for (size_t i = 0; i < values.size(); i++) t.data<T>()[i] = T(values[i]);
  return t;
}
inline Tensor labels_of(const std::vector<int>& labels) {
  Tensor t = cpu_backend().empty(Dtype::int32, {int64_t(labels.size())});
  for (size_t i = 0; i < labels.size(); i++) t.data<int32_t>()[i] = labels[i];
  return t;
}
template <class T = float>
Matrix values_of(const Tensor& t) {
  return Matrix(t.data<T>(), t.data<T>() + t.numel());
}

// --- once an instruction set -------------------------------------------------------------------------------------------

// tests() once an instruction set up to `last`, each in a process of its own, and once() on the best of them.
template <class F, class G>
int on_every_isa(const char* program, F&& tests, G&& once, Isa last = Isa::avx512) {
  set_num_threads(1);  // waking others takes longer than problems of this size
  if (std::getenv("FLASHMARGIN_ISA")) {
    tests();
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
  }
  once();
  const Isa best = isa();
  for (Isa each : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512bf16}) {
    if (int(each) > int(last)) break;
    if (int(each) > int(best)) {
      std::printf("skipped: this processor has no %s\n", name_of(each));
      continue;
    }
    setenv("FLASHMARGIN_ISA", name_of(each), 1);
    FILE* child = popen((std::string("'") + program + "'").c_str(), "r");
    char line[1024];
    int good = 0, bad = 0;
    bool counted = false;
    while (child && std::fgets(line, sizeof line, child)) {
      if (std::sscanf(line, "%d passed, %d failed", &good, &bad) == 2) counted = true;
      else std::fputs(line, stdout);
    }
    const bool clean = child && pclose(child) == 0;
    expect(counted && (clean || bad > 0), "the run on ", name_of(each), " came to its end");
    passed += good;
    failed += bad;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}

}  // namespace fm
