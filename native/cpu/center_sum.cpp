#include "center_sum.h"

#include "class_sweep.h"
#include "parallel.h"
#define FM_KERNELS "center_sum.inl"
#include "for_each_isa.h"

namespace fm {

template <class T>
std::vector<double> sum_of_unit_rows(const T* w, int64_t rows, int64_t D, const ClassRows& places) {
  constexpr int64_t kChunk = 1024;
  const int64_t chunks = (rows + kChunk - 1) / kChunk;
  std::vector<T> parts(chunks * D);
  parallel_for(chunks, [&](int64_t chunk) {
    const int64_t first = chunk * kChunk;
    FM_KERNEL(add_unit_rows<T>)(w, first, std::min(first + kChunk, rows), D, places, parts.data() + chunk * D);
  });
  std::vector<double> sum(D);
  for (int64_t chunk = 0; chunk < chunks; chunk++)
    for (int64_t k = 0; k < D; k++) sum[k] += parts[chunk * D + k];
  return sum;
}
template std::vector<double> sum_of_unit_rows(const float*, int64_t, int64_t, const ClassRows&);
template std::vector<double> sum_of_unit_rows(const double*, int64_t, int64_t, const ClassRows&);

}  // namespace fm
