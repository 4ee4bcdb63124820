// How many threads a row or an element gets.  It follows from the shape alone, so that the same shape gives the same bits
// on every device.
#pragma once
#include <type_traits>

#include "launch.h"
#include "reduce.cuh"

namespace fm {

constexpr int kRowBlock = 128;
constexpr int64_t kLongRow = 4096;   // from here on a warp alone would sweep a row 128 times or more
constexpr int64_t kManyRows = 4096;  // as many warps keep a device busy; fewer rows are swept by a block each

// go(threads a row as a constant, blocks of kRowBlock threads); not at all where there are no rows.
template <class F>
void for_rows(int64_t rows, int64_t width, F&& go) {
  if (rows == 0) return;
  const bool by_block = width >= kLongRow || (width >= 2 * kRowBlock && rows < kManyRows);
  if (by_block) go(std::integral_constant<int, kRowBlock>{}, unsigned(rows));
  else go(std::integral_constant<int, kWarp>{}, unsigned(blocks_for(rows, kRowBlock / kWarp)));
}

// A thread an element; not at all where there are none.
template <class... P, class... A>
void launch_for_each(const Stream& stream, int64_t count, void (*kernel)(P...), const A&... arguments) {
  constexpr int kBlock = 256;
  if (count > 0) launch(stream, unsigned(blocks_for(count, kBlock)), kBlock, kernel, arguments...);
}

}  // namespace fm
