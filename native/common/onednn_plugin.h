/* The C interface of the oneDNN plug-in, libflashmargin_onednn.so.  Images are [N, H, W, C], weights [O, I, KH, KW],
   float32.  A plan is for one kind and shape; it is made once, kept, and may run on several threads at the same time,
   each run on its own thread alone. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define FM_ONEDNN_ABI 2

struct fm_onednn_shape {
  int64_t images, height, width, inputs;
  int64_t outputs, kernel_height, kernel_width;
  int64_t out_height, out_width;
  int64_t stride, padding;
};

enum fm_onednn_kind { fm_onednn_forward = 0, fm_onednn_backward_data = 1, fm_onednn_backward_weight = 2 };

struct fm_onednn_plan {
  size_t weight_bytes;  /* of the weight in the layout that the plan works on, the "inner" one */
  size_t scratch_bytes; /* that each run needs */
  const char* implementation;
};

struct fm_onednn {
  int abi;
  const char* version; /* "oneDNN 2.6.3" */
  /* NULL where oneDNN has no kernel generated for this processor. */
  const struct fm_onednn_plan* (*plan)(enum fm_onednn_kind kind, const struct fm_onednn_shape* shape);
  /* Forward and backward data: [O, I, KH, KW] to the inner layout; backward weight: the inner layout to [O, I, KH, KW]. */
  int (*reorder)(const struct fm_onednn_plan* plan, const float* from, float* to, int threads);
  /* forward: x, inner weight → y.  backward data: dy, inner weight → dx.  backward weight: dy, x → inner d_weight. */
  int (*run)(const struct fm_onednn_plan* plan, const float* a, const float* b, float* to, void* scratch);
};
/* plan's pointer is NULL, reorder and run return 0, on failure.

   The one symbol of the library: const struct fm_onednn* fm_onednn_plugin(void) */
