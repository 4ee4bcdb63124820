// Exact search and pair statistics over embeddings, by tiled matrix products: the whole score matrix never exists.
#pragma once
#include <cstdint>

namespace fm {

// The k gallery rows of largest dot product for each query, best first; of equal scores the lowest index.  1 ≤ k ≤ g.
// A place for which no comparable (non-NaN) score exists has index −1 and score −∞.
void nearest(const float* queries,  // [q, d]
             int64_t q, const float* gallery, /* [g, d] */ int64_t g, int64_t d, int k,
             int32_t* index,  // [q, k]
             float* score);   // [q, k]

// Histograms of the cosine over all unordered pairs i < j in `bins` equal bins over [−1, 1], written over; rounding
// beyond ±1 counts in the last bin.  genuine: pairs of equal labels; impostor: the others.  bins ≤ 2²².
void pair_histograms(const float* embeddings,  // [n, d], unit rows
                     const int32_t* labels,    // [n]
                     int64_t n, int64_t d, int64_t bins, double* genuine, double* impostor);

}  // namespace fm
