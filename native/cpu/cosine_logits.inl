#include "normalize.inl"

template <class T>
static void add_range(const T* x, int64_t count, double* sum) {
  for (int64_t i = 0; i < count; i++) sum[i] += double(x[i]);
}
