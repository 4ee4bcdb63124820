/* The plug-in's C interface.  Images are [N, H, W, C], weights [O, I, KH, KW], float32. */
#pragma once
#include <stdint.h>

#define FM_ONEDNN_ABI 1

struct fm_onednn_shape {
  int64_t images, height, width, inputs;
  int64_t outputs, kernel_height, kernel_width;
  int64_t out_height, out_width;
  int64_t stride, padding;
};

enum fm_onednn_kind { fm_onednn_forward = 0, fm_onednn_backward_data = 1, fm_onednn_backward_weight = 2 };

struct fm_onednn {
  int abi;
  const char* version; /* "oneDNN 2.6.3" */
  /* forward: a = x, b = weight, to = y.  backward_data: dy, weight, dx.  backward_weight: dy, x, d_weight.
     0: done.  Otherwise nothing is known about `to`, and *reason says why. */
  int (*convolve)(enum fm_onednn_kind kind, const struct fm_onednn_shape* shape, int threads, const float* a, const float* b,
                  float* to, const char** reason);
  /* The name of the implementation that convolve would use, or "". */
  const char* (*implementation)(enum fm_onednn_kind kind, const struct fm_onednn_shape* shape, int threads);
};

/* The one symbol of the library: const struct fm_onednn* fm_onednn_plugin(void) */
