import { defineOp } from '../autograd.js';
import { native } from '../binding.js';
import type { Tensor } from '../tensor.js';

const globalAvgPoolOp = defineOp<readonly [Tensor], undefined, undefined>({
  name: 'globalAvgPool',
  forward: ([x]) => ({ y: native.globalAvgPoolForward(x.handle), saved: undefined }),
  backward: (dy, { inputs: [x] }) => [native.globalAvgPoolBackward(dy, x.shape)],
});

/**
 * The mean over the image: [N, H, W, C] → [N, C].
 *
 * @example
 * const y = globalAvgPool(x);
 */
export function globalAvgPool(x: Tensor): Tensor {
  return globalAvgPoolOp([x], undefined);
}

const flattenOp = defineOp<readonly [Tensor], undefined, undefined>({
  name: 'flatten',
  forward: ([x]) => ({ y: native.flattenForward(x.handle), saved: undefined }),
  backward: (dy, { inputs: [x] }) => [native.flattenBackward(dy, x.shape)],
});

/**
 * [N, H, W, C] → [N, C·H·W] in channel-major order, the order in which the field stores the weights that follow.
 *
 * @example
 * const y = linear(flatten(x), weight, bias);
 */
export function flatten(x: Tensor): Tensor {
  return flattenOp([x], undefined);
}
