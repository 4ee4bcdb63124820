import { defineOp } from '../autograd.js';
import { type ConvParams, native } from '../binding.js';
import { checkNumbers, checkOptions } from '../errors.js';
import type { Tensor } from '../tensor.js';

const conv2dOp = defineOp<readonly [Tensor, Tensor], ConvParams, undefined>({
  name: 'conv2d',
  forward: ([x, weight], p) => ({ y: native.conv2dForward(x.handle, weight.handle, p), saved: undefined }),
  backward: (dy, { inputs: [x, weight], attributes: p, needs }) => [
    needs[0] ? native.conv2dBackwardData(dy, weight.handle, x.shape, p) : undefined,
    needs[1] ? native.conv2dBackwardWeight(dy, x.handle, weight.shape, p) : undefined,
  ],
});

/**
 * A 2-D convolution without bias: x [N, H, W, I], weight [O, I, KH, KW] as the field stores it → [N, OH, OW, O],
 * with OH = ⌊(H + 2·padding − KH) / stride⌋ + 1.  Of bfloat16 x the weight, float32, is rounded for the product.
 *
 * @example
 * const y = conv2d(images, weight, { stride: 2, padding: 1 });
 */
export function conv2d(x: Tensor, weight: Tensor, options: Partial<ConvParams> = {}): Tensor {
  checkOptions('conv2d', options, ['stride', 'padding']);
  const { stride = 1, padding = 0 } = options;
  checkNumbers('conv2d', { stride, padding });
  return conv2dOp([x, weight], { stride, padding });
}
