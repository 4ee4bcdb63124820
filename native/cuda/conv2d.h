// The plain convolutions, all pointers on the device: what a faster library falls back to.
#pragma once
#include "../common/conv_shape.h"
#include "backend.h"

namespace fm {

template <class T>
void plain_conv2d_forward(CudaBackend& on, const ConvShape& s, const T* x, const T* weight, T* y);
template <class T>
void plain_conv2d_backward_data(CudaBackend& on, const ConvShape& s, const T* dy, const T* weight, T* dx);
template <class T>
void plain_conv2d_backward_weight(CudaBackend& on, const ConvShape& s, const T* dy, const T* x, T* d_weight);

}  // namespace fm
