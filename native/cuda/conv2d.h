// The plain convolutions, all pointers on the device: what a faster library falls back to.  Images are S; weights, which
// are rounded to S on their way, and their gradients are T.
#pragma once
#include "../common/conv_shape.h"
#include "backend.h"

namespace fm {

template <class S, class T = Computed<S>>
void plain_conv2d_forward(CudaBackend& on, const ConvShape& s, const S* x, const T* weight, S* y);
template <class S, class T = Computed<S>>
void plain_conv2d_backward_data(CudaBackend& on, const ConvShape& s, const S* dy, const T* weight, S* dx);
template <class S, class T = Computed<S>>
void plain_conv2d_backward_weight(CudaBackend& on, const ConvShape& s, const S* dy, const S* x, T* d_weight);

}  // namespace fm
