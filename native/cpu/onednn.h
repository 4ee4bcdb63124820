// Float32 convolutions by oneDNN, through the plug-in library libflashmargin_onednn.so that is opened at first use:
// beside the addon, or FLASHMARGIN_ONEDNN=PATH; FLASHMARGIN_ONEDNN=off does without.
#pragma once

namespace fm {

struct ConvShape;

// "oneDNN 2.6.3", or why there is none.
const char* onednn_status();
bool onednn_available();

// False when the convolution is left to the kernels of conv2d.inl: no plug-in, or they are as fast at this shape.
bool onednn_forward(const ConvShape& s, const float* x, const float* weight, float* y);
bool onednn_backward_data(const ConvShape& s, const float* dy, const float* weight, float* dx);
bool onednn_backward_weight(const ConvShape& s, const float* dy, const float* x, float* d_weight);

// Which convolutions the plug-in gets, for comparisons; default: those that it is faster at.
enum class OnednnUse { never, where_faster, always };
void set_onednn_use(OnednnUse use);

}  // namespace fm
