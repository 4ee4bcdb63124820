// Rows that share a key, in their order: who is met first, and who comes next.  n² comparisons, of keys that the threads
// of a warp read together, and no atomics.
#pragma once
#include <cstdint>

namespace fm {

struct Link {
  bool first;
  int64_t next;  // −1 at the end
};

template <class Key>
__device__ Link link_of(const Key* keys, int64_t n, int64_t i) {
  Link link{true, -1};
  for (int64_t j = 0; j < n; j++) {
    if (j == i || keys[j] != keys[i]) continue;
    if (j < i) link.first = false;
    else if (link.next < 0) link.next = j;
  }
  return link;
}

}  // namespace fm
