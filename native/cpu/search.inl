#include "gemm.inl"

// Puts scores[count] of gallery rows first, first + 1, … into the descending list index[k], best[k].
static void offer_scores(const float* scores, int64_t count, int64_t first, int k, int32_t* index, float* best) {
  const auto insert = [&](float score, int64_t at) {
    int place = k - 1;
    for (; place > 0 && score > best[place - 1]; place--) {
      best[place] = best[place - 1];
      index[place] = index[place - 1];
    }
    best[place] = score;
    index[place] = int32_t(at);
  };
  int64_t j = 0;
  for (; j + 16 <= count; j += 16) {
    float top = scores[j];
    for (int i = 1; i < 16; i++) top = scores[j + i] > top ? scores[j + i] : top;
    // A NaN is never taken by a comparison; only as the first score could it hide the others.
    if (top == top && !(top > best[k - 1])) continue;
    for (int i = 0; i < 16; i++)
      if (scores[j + i] > best[k - 1]) insert(scores[j + i], first + j + i);
  }
  for (; j < count; j++)
    if (scores[j] > best[k - 1]) insert(scores[j], first + j);
}

// Counts one row's scores: labels[j] == label → genuine.
static void count_scores(const float* scores, int64_t count, int32_t label, const int32_t* labels, int64_t bins,
                         uint32_t* genuine, uint32_t* impostor) {
  const float half = 0.5f * float(bins), last = float(bins - 1);
  int32_t place[64];
  for (int64_t j = 0; j < count; j += 64) {
    const int64_t size = std::min<int64_t>(64, count - j);
    for (int64_t i = 0; i < size; i++) {
      const float at = scores[j + i] * half + half;
      const float low = at > 0.f ? at : 0.f;
      place[i] = int32_t(low < last ? low : last);
    }
    for (int64_t i = 0; i < size; i++) (labels[j + i] == label ? genuine : impostor)[place[i]]++;
  }
}
