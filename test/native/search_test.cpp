// Exact search and pair histograms against plain loops, on scores that float holds exactly.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "../../native/common/error.h"
#include "../../native/cpu/parallel.h"
#include "../../native/cpu/search.h"

using namespace fm;

namespace {

int passed = 0, failed = 0;
std::mt19937_64 generator(7);

void check(bool ok, const std::string& what) {
  (ok ? passed : failed)++;
  if (!ok) std::printf("FAILED %s\n", what.c_str());
}

void test_nearest(int64_t q, int64_t g, int64_t d, int k) {
  std::vector<float> queries(q * d), gallery(g * d), score(q * k);
  for (float& v : queries) v = float(int(generator() % 7) - 3);  // small integers: scores are exact and often equal
  for (float& v : gallery) v = float(int(generator() % 7) - 3);
  std::vector<int32_t> index(q * k);
  nearest(queries.data(), q, gallery.data(), g, d, k, index.data(), score.data());
  bool right = true;
  for (int64_t i = 0; i < q; i++) {
    std::vector<std::pair<float, int32_t>> all(g);
    for (int64_t j = 0; j < g; j++) {
      float sum = 0;
      for (int64_t l = 0; l < d; l++) sum += queries[i * d + l] * gallery[j * d + l];
      all[j] = {-sum, int32_t(j)};
    }
    std::partial_sort(all.begin(), all.begin() + k, all.end());
    for (int r = 0; r < k; r++) right = right && index[i * k + r] == all[r].second && score[i * k + r] == -all[r].first;
  }
  check(right, "nearest, k " + std::to_string(k));
}

void test_pairs(int64_t n, int64_t d, int64_t bins) {
  std::vector<float> x(n * d);
  std::vector<int32_t> labels(n);
  for (int64_t i = 0; i < n; i++) {
    labels[i] = int32_t(generator() % 5);
    for (int64_t j = 0; j < d; j++) x[i * d + j] = 0;
    x[i * d + generator() % d] = generator() % 2 ? 1.f : -1.f;  // cosines −1, 0 and 1 exactly
  }
  std::vector<double> genuine(bins), impostor(bins), want_genuine(bins, 0), want_impostor(bins, 0);
  pair_histograms(x.data(), labels.data(), n, d, bins, genuine.data(), impostor.data());
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = i + 1; j < n; j++) {
      double cos = 0;
      for (int64_t l = 0; l < d; l++) cos += x[i * d + l] * x[j * d + l];
      const int64_t bin = std::min(bins - 1, int64_t((cos + 1) / 2 * bins));
      (labels[i] == labels[j] ? want_genuine : want_impostor)[bin]++;
    }
  check(genuine == want_genuine && impostor == want_impostor, "pairHistograms, " + std::to_string(n) + " rows");
}

void test_not_a_number() {
  const float queries[] = {1, 0}, gallery[] = {std::numeric_limits<float>::quiet_NaN(), 1, 0.5f, 0, 0.75f, 0};
  int32_t index[3];
  float score[3];
  nearest(queries, 1, gallery, 3, 2, 3, index, score);
  check(index[0] == 2 && index[1] == 1 && index[2] == -1, "a NaN score is no neighbour");
}

void test_refusals() {
  const float x[4] = {};
  int32_t index[3];
  float score[3];
  for (int k : {0, 3}) {
    std::string message;
    try {
      nearest(x, 1, x, 2, 2, k, index, score);
    } catch (const Error& error) {
      message = error.what();
    }
    check(message.find("expected k in [1, 2]") != std::string::npos,
          "nearest refuses k = " + std::to_string(k) + ": '" + message + "'");
  }
}

}  // namespace

int main() {
  for (int threads : {1, 3}) {
    set_num_threads(threads);
    for (int k : {1, 3, 10}) {
      test_nearest(5, 40, 9, k);
      test_nearest(300, 9001, 8, k);
    }
    test_pairs(2, 4, 10);
    test_pairs(259, 6, 1000);
    test_pairs(1200, 16, 1 << 22);
  }
  test_not_a_number();
  test_refusals();
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
