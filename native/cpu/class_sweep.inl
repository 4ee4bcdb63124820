// Kernels of class_sweep.h.
//
// A tile's rows are copied, normalised, into scratch whose stride is not a power of two: any norm, any D and the last
// rows then take the same path, and a column of the tile does not fall into two cache sets.
#include "tile_products.inl"

constexpr double kAbsent = -1e30;  // a "cosine" whose exponential is 0

// Rows of a tile.  dX is read and written once a tile, which wants long tiles; dW wants short ones, so that the rows
// of weight and its state are still in the second-level cache when they are updated.
template <class Operand>
static inline int64_t tile_rows(SweepKind kind) {
  if (kPair<Operand> == 2) return kRows * (adds_features(kind) ? 12 : 3);
  return adds_features(kind) ? kRows * (FM_VECTOR_BYTES == 64 ? 6 : 16) : kRows * (FM_VECTOR_BYTES == 64 ? 3 : 8);
}

// Per row, padded to whole vectors.
template <class T>
struct RowVectors {
  T *scale, *shift, *threshold, *factor, *spread;  // read
  T *sums, *counts, *largest;                      // of one tile twice, or kMoments times; of one group
  T* dots;                                         // scratch: [K, lanes]
};

// A class's score e goes to the first of its centers that has its cosine, the others get 0; dots adds up e·cos by center.
template <bool dotted, class T>
FM_INLINE void unpool(T* score, int64_t stride, int64_t K, Vec<T> cos, Vec<T> e, T* dots) {
  const Vec<T> zero = {};
  for (int64_t k = 0; k < K; k++, score += stride, dots += kLanes<T>) {
    const auto chosen = load(score) == cos;
    const Vec<T> given = chosen ? e : zero;
    e = chosen ? zero : e;
    if constexpr (dotted) store(dots, load(dots) + given * cos);
    store(score, given);
  }
}

// Cosines become what the products need.  `next` is the first target at or after the tile.
template <class Config>
static __attribute__((noinline)) void tile_epilogue(const ClassSweep<typename Config::Real>& s,
                                                    const SweepLayout<typename Config::Real>& layout,
                                                    const Tile<typename Config::Real>& tile,
                                                    const RowVectors<typename Config::Real>& rows,
                                                    const typename Config::Negative& negative, const Target*& next) {
  using T = typename Config::Real;
  constexpr int L = kLanes<T>;
  constexpr SweepKind kind = Config::kind;
  constexpr bool sums = kind == SweepKind::sums || kind == SweepKind::sums_and_features || kind == SweepKind::gradients;
  constexpr bool ranks = ranks_target(kind), gradients = multiplies_gradient(kind);
  constexpr bool plain = Config::Negative::plain, binary = Config::Negative::binary;
  constexpr bool sloped = Config::extras || !plain;
  const Vec<T> limit = splat(s.cosine_limit), outside = splat(s.slope_outside), absent = splat(T(kAbsent));
  const Target* const end = s.targets + s.target_count;
  const int64_t K = Config::extras ? s.K : 1, stride = layout.score_stride;

  for (int64_t j = 0; j < tile.count; j += K) {
    T* const score = tile.scores + j * stride;
    for (; next < end && next->center < tile.first + j + K; ++next) {
      T* const of_row = score + next->row;
      T best = *of_row;
      for (int64_t k = 1; k < K; k++) best = std::max(best, of_row[k * stride]);
      if (ranks) s.seen_target_cos[next->row] = best;
      for (int64_t k = 0; k < K; k++) of_row[k * stride] = T(kAbsent);
    }
    Vec<T> dot0 = {}, dot1 = {};
    if (gradients && K > 1) std::fill_n(rows.dots, K * L, T(0));
    for (int64_t i = 0; i < layout.n; i += L) {
      Vec<T> cos = load(score + i);
      if constexpr (Config::extras) {
        for (int64_t k = 1; k < K; k++) cos = max<T>(cos, load(score + k * stride + i));
      }
      if (ranks) store(rows.largest + i, max<T>(load(rows.largest + i), cos));
      Vec<T> phi = cos, slope = splat(T(1));
      if constexpr (Config::extras) {
        phi = min<T>(max<T>(cos, -limit), limit);
        slope = phi == cos ? slope : outside;
      }
      if constexpr (kind == SweepKind::maximum) {
        const Vec<T> more = phi > load(rows.threshold + i) ? splat(T(1)) : splat(T(0));
        store(rows.counts + i, load(rows.counts + i) + (cos == absent ? splat(T(0)) : more));
      }
      if constexpr (!plain) {
        const auto margined = negative.negative(phi, load(rows.threshold + i));
        phi = margined.value;
        slope = slope * margined.slope;
      }
      if constexpr (sloped) {
        phi = cos == absent ? cos : phi;
        slope = cos == absent ? splat(T(0)) : slope;  // a power of kAbsent may not be finite
      }

      if constexpr (kind == SweepKind::maximum) store(rows.largest + i, max<T>(load(rows.largest + i), phi));
      else if constexpr (kind == SweepKind::logits) store(score + i, load(rows.scale + i) * phi - load(rows.shift + i));
      else {
        const Vec<T> z = load(rows.scale + i) * phi - load(rows.shift + i);
        Vec<T> e;
        if constexpr (binary && sums) {
          // One reciprocal for 1/(1 + small) and 1/(2 + small): it is the slowest of all that is done here.
          const Vec<T> small = exp(z < splat(T(0)) ? z : -z), plus_one = small + splat(T(1)),
                       plus_two = small + splat(T(2)), both = reciprocal<T>(plus_one * plus_two),
                       inverse = plus_two * both;
          e = z < splat(T(0)) ? small * inverse : inverse;
          store(rows.sums + i, load(rows.sums + i) + max<T>(z, splat(T(0))) + log1p(small, plus_one * both));
          store(rows.counts + i, load(rows.counts + i) + e);
        } else if constexpr (binary) {
          e = reciprocal<T>(exp(-z) + splat(T(1)));
        } else {
          e = exp(z);
          if constexpr (sums) store(rows.sums + i, load(rows.sums + i) + e);
        }
        if constexpr (sloped) e = e * slope;
        if constexpr (gradients) {
          e = e * load(rows.factor + i);
          if constexpr (Config::extras) e = cos == absent ? splat(T(0)) : e - load(rows.spread + i);
          if (K == 1) (i / L % 2 ? dot1 : dot0) += e * cos;
        }
        if constexpr (kind != SweepKind::sums) {
          if (K == 1) store(score + i, e);
          else unpool<gradients>(score + i, stride, K, cos, e, rows.dots);
        }
      }
    }
    if constexpr (kind == SweepKind::logits)
      for (int64_t i = 0; i < s.N; i++) s.logits[i * (s.R / K) + (tile.first + j) / K] = score[i];
    if constexpr (gradients) {
      if (K == 1) tile.dots[j] = sum_lanes<T>(dot0 + dot1);
      for (int64_t k = 0; K > 1 && k < K; k++) tile.dots[j + k] = sum_lanes<T>(load(rows.dots + k * L));
    }
  }
  if constexpr (gradients)
    for (int64_t j = tile.count; j < tile.padded; j++) {
      std::memset(tile.scores + j * stride, 0, stride * sizeof(T));
      tile.dots[j] = 0;
    }
}

// dL/dcos of a tile's targets, once their columns are wanted.
template <class T>
static void place_targets(const ClassSweep<T>& s, const SweepLayout<T>& layout, const Tile<T>& tile,
                          const Target* first, const Target* end) {
  for (const Target* t = first; t < end; ++t) {
    const int64_t j = t->center - tile.first;
    tile.scores[j * layout.score_stride + t->row] = s.target_gradient[t->row];
    tile.dots[j] += s.target_gradient[t->row] * s.target_cos[t->row];
  }
}

// Σ e^(s·cos)·cosᵏ over a tile, k ascending, to rows.sums.
template <class Config>
static __attribute__((noinline)) void tile_moments(const ClassSweep<typename Config::Real>& s,
                                                   const SweepLayout<typename Config::Real>& layout,
                                                   const Tile<typename Config::Real>& tile,
                                                   const RowVectors<typename Config::Real>& rows, const Target*& next) {
  using T = typename Config::Real;
  const int64_t stride = layout.score_stride;
  for (; next < s.targets + s.target_count && next->center < tile.first + tile.count; ++next) {
    const int64_t j = (next->center - tile.first) / s.K * s.K;
    for (int64_t k = j; k < j + s.K; k++) tile.scores[k * stride + next->row] = T(kAbsent);
  }
  for (int64_t i = 0; i < layout.n; i += kLanes<T>) {
    const Vec<T> scale = load(rows.scale + i);
    Vec<T> sums[kMoments] = {};
    for (int64_t j = 0; j < tile.count; j += s.K) {
      const T* const score = tile.scores + j * stride + i;
      Vec<T> cos = load(score);
      for (int64_t k = 1; k < s.K; k++) cos = max<T>(cos, load(score + k * stride));
      Vec<T> term = exp(scale * cos);  // 0 of what is absent
#pragma GCC unroll 16
      for (int k = 0; k < kMoments; k++) {
        sums[k] = sums[k] + term;
        term = term * cos;
      }
    }
    for (int k = 0; k < kMoments; k++) store(rows.sums + k * layout.n + i, sums[k]);
  }
}

// Rows of a tile, whole classes of K and no more than wanted: the number that fills whole micro-kernels best.
static inline int64_t whole_classes(int64_t wanted, int64_t K) {
  int64_t found = K;
  for (int64_t n = K; n <= wanted; n += K)
    if (n * round_up(found, kRows) >= found * round_up(n, kRows)) found = n;
  return found;
}

template <class T>
static void fill_rows(T* to, const T* from, int64_t n, int64_t padded, T missing) {
  for (int64_t i = 0; i < padded; i++) to[i] = from && i < n ? from[i] : missing;
}

// tile_epilogue or tile_moments of a Config, the negatives' type erased: one indirect call a tile, and class_sweep is
// compiled once a kind, not once a kind of negatives as well.
template <class T>
using Epilogue = void (*)(const ClassSweep<T>& s, const SweepLayout<T>& layout, const Tile<T>& tile,
                          const RowVectors<T>& rows, const void* negative, const Target*& next);

template <class Config>
static void epilogue_of(const ClassSweep<typename Config::Real>& s, const SweepLayout<typename Config::Real>& layout,
                        const Tile<typename Config::Real>& tile, const RowVectors<typename Config::Real>& rows,
                        const void* negative, const Target*& next) {
  if constexpr (Config::kind == SweepKind::moments) tile_moments<Config>(s, layout, tile, rows, next);
  else tile_epilogue<Config>(s, layout, tile, rows, *static_cast<const typename Config::Negative*>(negative), next);
}

template <class T, class Operand, SweepKind kind>
static __attribute__((noinline)) void sweep_tiles(ClassSweep<T>& s, Epilogue<T> epilogue, const void* negative) {
  constexpr bool pairs = kPair<Operand> == 2;
  constexpr bool features = adds_features(kind), weights = multiplies_gradient(kind), updates = updates_weight(kind);
  constexpr bool per_row = kind != SweepKind::update && kind != SweepKind::logits;
  constexpr int kSums = kind == SweepKind::moments ? kMoments : 2;  // a row: otherwise sums and counts

  const SweepLayout<T> layout(s);
  const int64_t most = whole_classes(std::min(tile_rows<Operand>(kind), s.R), s.K), most_padded = round_up(most, kRows);
  const int64_t tiles = (s.R + most - 1) / most;
  // A group costs [N, D] of partial dX, or its sums: as many as 8 MiB hold, but enough of them to occupy a few threads.
  const int64_t group_bytes =
      s.N * (features ? layout.row_stride * int64_t(sizeof(T)) : kSums * int64_t(sizeof(double)));
  const int64_t affordable = (int64_t(8) << 20) / group_bytes;
  const int64_t groups = std::min(std::clamp<int64_t>(affordable, 8, 64), std::max<int64_t>(1, tiles / 4));

  const Scratch<Operand> by_axis(layout.n * steps<Operand>(s.D));
  pack_by_axis(s, by_axis.data());
  const Scratch<Operand> by_row(weights ? layout.d * steps<Operand>(s.N) : 0);
  if (weights) pack_by_row(s, by_row.data());

  const Scratch<T> shared(5 * layout.n);
  T* const scale = shared.data();
  T* const shift = scale + layout.n;
  T* const threshold = shift + layout.n;
  T* const factor = threshold + layout.n;
  T* const spread = factor + layout.n;
  fill_rows<T>(scale, s.scale, s.N, layout.n, 0);
  fill_rows<T>(shift, s.shift, s.N, layout.n, 0);
  fill_rows<T>(threshold, s.threshold, s.N, layout.n, 0);
  fill_rows<T>(factor, s.factor, s.N, layout.n, 0);
  fill_rows<T>(spread, s.spread, s.N, layout.n, 0);

  const Scratch<T> group_features(features ? groups * s.N * layout.row_stride : 0);
  const Scratch<double> group_sums(per_row ? kSums * groups * s.N : 0);
  const Scratch<T> group_largest(per_row ? groups * layout.n : 0);
  std::vector<int64_t> group_bad(groups, -1);

  // Scratch belongs to a worker and not to a thread, so that its amount is known here.
  const int64_t workers = std::min<int64_t>(num_threads(), groups);
  const int64_t row_size = most_padded * layout.template row_operands<Operand>(),
                across_size = pairs && features ? most_padded / 2 * layout.d : 0,
                pairs_size = pairs ? most_padded * layout.template score_operands<Operand>() : 0;
  const int64_t tile_size = most_padded * (layout.score_stride + 2) + kSums * layout.n + s.K * kLanes<T>,
                operands_size = row_size + across_size + pairs_size;
  const int64_t worker_size = round_up(tile_size * sizeof(T) + operands_size * sizeof(Operand), 64) + 64;
  const Scratch<char> worker_scratch(workers * worker_size);
  std::atomic<int64_t> next_group{0};

  parallel_for(workers, [&](int64_t worker) {
    Tile<T> tile;
    TileOperands<Operand> operands;
    operands.rows = reinterpret_cast<Operand*>(worker_scratch.data() + worker * worker_size);
    tile.scores = reinterpret_cast<T*>(operands.rows + operands_size);
    if constexpr (pairs) {
      operands.across = features ? operands.rows + row_size : nullptr;
      operands.scores = operands.rows + row_size + across_size;
    } else {
      operands.across = operands.rows;
      operands.scores = tile.scores;
    }
    tile.inverse = tile.scores + most_padded * layout.score_stride;
    tile.dots = tile.inverse + most_padded;
    T* const tile_sums = tile.dots + most_padded;
    T* const tile_counts = tile_sums + layout.n;
    for (int64_t group; (group = next_group.fetch_add(1)) < groups;) {
      const int64_t first = tiles * group / groups, last = tiles * (group + 1) / groups;
      const int64_t end = std::min(s.R, last * most);
      T* const sum = group_features.data() + (features ? group * s.N * layout.row_stride : 0);
      double* const sums = group_sums.data() + (per_row ? kSums * group * s.N : 0);
      T* const largest = group_largest.data() + (per_row ? group * layout.n : 0);
      if (features) std::memset(sum, 0, s.N * layout.row_stride * sizeof(T));
      if (per_row) {
        std::fill_n(sums, kSums * s.N, 0.0);
        std::fill_n(largest, layout.n, T(kAbsent));
      }
      const RowVectors<T> rows{
          scale, shift, threshold, factor, spread, tile_sums, tile_counts, largest, tile_sums + kSums * layout.n};
      const Target* next = std::lower_bound(s.targets, s.targets + s.target_count, first * most,
                                            [](const Target& t, int64_t row) { return t.center < row; });
      for (tile.first = first * most; tile.first < end; tile.first += most) {
        tile.count = std::min(most, end - tile.first);
        tile.padded = round_up(tile.count, kRows);
        const bool known = updates && tile.first + tile.count <= s.kept_rows;
        const int64_t ahead = std::min(end, tile.first + most), ahead_end = std::min(end, ahead + most);
        const auto rows_ahead = [&](const T* of, int64_t from, int64_t to) {
          const auto* const base = reinterpret_cast<const char*>(of);
          const int64_t row_bytes = s.D * int64_t(sizeof(T));
          if (s.classes) return Ahead{nullptr, nullptr, base, s.places(), from, to, row_bytes};
          return Ahead{base + from * row_bytes, base + to * row_bytes};
        };
        if (!known || features) {
          const int64_t bad = load_tile(s, layout, tile, operands);
          if (bad >= 0 && group_bad[group] < 0) group_bad[group] = bad;
        }
        if (known) restore_cosines(s, layout, tile);
        else
          tile_cosines<Operand>(s, layout, tile, operands.rows, by_axis.data(), rows_ahead(s.weight, ahead, ahead_end),
                                updates ? rows_ahead(s.states[0], tile.first, tile.first + tile.count) : Ahead{});
        if constexpr (kind == SweepKind::sums_and_features || kind == SweepKind::moments) keep_cosines(s, layout, tile);
        const Target* const first_target = next;
        if constexpr (kind != SweepKind::moments) std::fill_n(tile_sums, 2 * layout.n, T(0));
        epilogue(s, layout, tile, rows, negative, next);
        if constexpr (per_row)
          for (int k = 0; k < kSums; k++)
            for (int64_t i = 0; i < s.N; i++) sums[k * s.N + i] += tile_sums[k * layout.n + i];
        const auto round_scores = [&] {
          if constexpr (std::is_same_v<Operand, float>)
            if (s.rounds_operands) round_to_bfloat16(tile.scores, tile.padded * layout.score_stride);
        };
        if constexpr (features) {
          round_scores();
          pair_across(layout, tile, operands);
          add_features(s, layout, tile, operands, sum);
        }
        if constexpr (weights) {
          if constexpr (updates) place_targets(s, layout, tile, first_target, next);
          round_scores();
          pair_along(layout, tile, operands);
          // Where there were no cosines to compute meanwhile, the next tile is fetched here.
          const auto apply = [&](const auto& update) {
            weight_gradient(s, layout, tile, operands.scores, by_row.data(), update,
                            known ? rows_ahead(s.weight, ahead, ahead_end) : Ahead{},
                            known ? rows_ahead(s.states[0], ahead, ahead_end) : Ahead{});
          };
          if constexpr (updates) s.optimizer.with(apply);
          else apply(NoUpdate{});
        }
      }
    }
  });

  for (int64_t group = groups - 1; group >= 0; group--)
    if (group_bad[group] >= 0) s.bad_row = group_bad[group];
  if constexpr (per_row)
    for (int64_t i = 0; i < s.N; i++) {
      double total[kSums] = {};
      s.largest[i] = T(kAbsent);
      for (int64_t group = 0; group < groups; group++) {
        for (int k = 0; k < kSums; k++) total[k] += group_sums[(kSums * group + k) * s.N + i];
        s.largest[i] = std::max(s.largest[i], group_largest[group * layout.n + i]);
      }
      if constexpr (kind == SweepKind::moments) std::copy_n(total, kSums, s.moments + i * kSums);
      else if constexpr (kind != SweepKind::step) s.sums[i] = total[0], s.counts[i] = total[1];
    }
  if constexpr (features)
    parallel_for(s.N, [&](int64_t i) {
      T* to = s.d_features + i * s.D;
      for (int64_t k = 0; k < s.D; k += kLanes<T>) {
        Vec<T> total = {};
        for (int64_t group = 0; group < groups; group++)
          total = total + load(group_features.data() + (group * s.N + i) * layout.row_stride + k);
        store_part(to + k, total, int(std::min<int64_t>(kLanes<T>, s.D - k)));
      }
    });
}

template <class Config>
static void class_sweep(ClassSweep<typename Config::Real>& s, const typename Config::Negative& negative) {
  sweep_tiles<typename Config::Real, typename Config::Operand, Config::kind>(s, epilogue_of<Config>, &negative);
}
