// The elementwise parts of a head that holds the [N, C] logits, as well vectorised as ours.  D and C in whole vectors.

// to = rows / ‖row‖
static void normalize_rows(const float* w, float* to, float* inverse, int64_t begin, int64_t end, int64_t D) {
  constexpr int L = kLanes<float>;
  for (int64_t j = begin; j < end; j++) {
    Vec<float> square = {};
    for (int64_t k = 0; k < D; k += L) square = square + load(w + j * D + k) * load(w + j * D + k);
    inverse[j] = 1 / std::sqrt(sum_lanes<float>(square));
    for (int64_t k = 0; k < D; k += L) store(to + j * D + k, load(w + j * D + k) * splat(inverse[j]));
  }
}

// Cosines of a row to dL/dcos, in place; returns the loss.
static double softmax_row(float* row, int64_t C, int64_t label, float scale, float phi, float slope, float weight) {
  constexpr int L = kLanes<float>;
  row[label] = phi;
  Vec<float> total = {};
  for (int64_t j = 0; j < C; j += L) {
    const Vec<float> e = exp(load(row + j) * splat(scale));
    total = total + e;
    store(row + j, e);
  }
  const float sum = sum_lanes<float>(total), prob = row[label] / sum, factor = scale * weight / sum;
  for (int64_t j = 0; j < C; j += L) store(row + j, load(row + j) * splat(factor));
  row[label] = scale * weight * (prob - 1) * slope;
  return -std::log(double(prob));
}

// Tangent projection and SGD.
static void update_rows(float* w, float* m, const float* g, const float* unit, const float* inverse, int64_t begin,
                        int64_t end, int64_t D, float lr, float momentum, float decay) {
  constexpr int L = kLanes<float>;
  for (int64_t j = begin; j < end; j++) {
    const int64_t at = j * D;
    Vec<float> dot = {};
    for (int64_t k = 0; k < D; k += L) dot = dot + load(g + at + k) * load(unit + at + k);
    const float along = sum_lanes<float>(dot);
    for (int64_t k = 0; k < D; k += L) {
      const Vec<float> old = load(w + at + k);
      const Vec<float> d =
          (load(g + at + k) - splat(along) * load(unit + at + k)) * splat(inverse[j]) + splat(decay) * old;
      const Vec<float> v = splat(momentum) * load(m + at + k) + d;
      store(m + at + k, v);
      store(w + at + k, old - splat(lr) * v);
    }
  }
}
