#include "class_sample.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "../common/check.h"
#include "../common/head_checks.h"
#include "allocator.h"
#include "backend.h"
#include "parallel.h"

namespace fm {
namespace {

constexpr int64_t kGrain = 16384;

struct Drawn {
  uint32_t draw;
  int32_t of;
  bool operator<(const Drawn& other) const { return draw != other.draw ? draw > other.draw : of < other.of; }
};

// Of a range of classes.
struct Found {
  std::vector<int32_t> taken;  // ascending: those whose draw is above the band or in it, and the labels'
  std::vector<Drawn> in_band;  // ascending by class
  int64_t others = 0;          // of `taken`, neither in the band nor the labels'
};

std::vector<int32_t> classes_of(const int32_t* label, int64_t N, int64_t C) {
  std::vector<int32_t> classes;
  for (int64_t i = 0; i < N; i++) {
    if (label[i] < -1 || label[i] >= C) fail_label(label[i], C, i);
    if (label[i] >= 0) classes.push_back(label[i]);
  }
  std::sort(classes.begin(), classes.end());
  classes.erase(std::unique(classes.begin(), classes.end()), classes.end());
  return classes;
}

// `fixed` and `open` others of C, ascending.  Which draw is the last to be taken is known before, but for a narrow band:
// one look at each class finds those above it, and those in it, of which the rest is chosen.
std::vector<int32_t> choose(const std::vector<int32_t>& fixed, int64_t C, int64_t open, int64_t seed, int64_t step) {
  const double others = double(C) - double(fixed.size()), share = double(open) / others;
  const double deviation = std::sqrt(share * (1 - share) / others);
  std::vector<Found> found((C + kGrain - 1) / kGrain);
  for (double width = 8 * deviation + 16 / others;; width *= 16) {
    const auto draw_of = [](double share) { return uint64_t(std::ldexp(std::clamp(share, 0.0, 1.0), 32)); };
    const uint64_t above = draw_of(1 - share + width), from = draw_of(1 - share - width);
    parallel_for(int64_t(found.size()), [&](int64_t chunk) {
      Found& here = found[size_t(chunk)];
      here.taken.clear();
      here.in_band.clear();
      here.others = 0;
      const int64_t first = chunk * kGrain, end = std::min(first + kGrain, C);
      auto next = std::lower_bound(fixed.begin(), fixed.end(), first);
      for (int64_t j = first; j < end; j++) {
        if (next != fixed.end() && *next == j) {
          here.taken.push_back(int32_t(j));
          ++next;
          continue;
        }
        const uint32_t draw = class_draw(seed, step, j);
        if (draw < from) continue;
        here.taken.push_back(int32_t(j));
        if (draw < above) here.in_band.push_back({draw, int32_t(j)});
        else here.others++;
      }
    });
    int64_t sure = 0;
    std::vector<Drawn> band;
    for (const Found& here : found) {
      sure += here.others;
      band.insert(band.end(), here.in_band.begin(), here.in_band.end());
    }
    const int64_t rest = open - sure;
    if (rest < 0 || rest > int64_t(band.size())) continue;
    std::sort(band.begin(), band.end());
    std::vector<int32_t> left_out;
    for (size_t k = size_t(rest); k < band.size(); k++) left_out.push_back(band[k].of);
    std::sort(left_out.begin(), left_out.end());
    std::vector<int32_t> classes;
    classes.reserve(fixed.size() + size_t(open));
    for (const Found& here : found)
      std::set_difference(here.taken.begin(), here.taken.end(),
                          std::lower_bound(left_out.begin(), left_out.end(), here.taken.empty() ? 0 : here.taken[0]),
                          left_out.end(), std::back_inserter(classes));
    return classes;
  }
}

}  // namespace

ClassSample sample_classes(const Tensor& labels, int64_t C, int64_t count, int64_t seed, int64_t step) {
  check_rank("labels", labels, 1);
  check_dtype("labels", labels, Dtype::int32);
  FM_CHECK(type, labels.device().is_cpu(), "expected labels on cpu");
  FM_CHECK(range, C >= 1 && C <= INT32_MAX, "expected 1 to ", INT32_MAX, " classes, got ", C);
  FM_CHECK(range, count >= 1 && count <= C, "expected a count in [1, ", C, "], got ", count);
  const int64_t N = labels.numel();
  const int32_t* const label = labels.data<int32_t>();
  std::vector<int32_t> classes = classes_of(label, N, C);
  const int64_t open = count - int64_t(classes.size());
  if (open > 0) classes = choose(classes, C, open, seed, step);
  const ClassSample sample{cpu_backend().empty(Dtype::int32, {int64_t(classes.size())}),
                           cpu_backend().empty(Dtype::int32, {N})};
  std::copy(classes.begin(), classes.end(), sample.classes.data<int32_t>());
  for (int64_t i = 0; i < N; i++)
    sample.labels.data<int32_t>()[i] =
        label[i] < 0 ? -1 : int32_t(std::lower_bound(classes.begin(), classes.end(), label[i]) - classes.begin());
  return sample;
}

}  // namespace fm
