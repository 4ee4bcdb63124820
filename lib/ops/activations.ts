import { defineOp } from '../autograd.js';
import { native } from '../binding.js';
import { checkOptions, expected } from '../errors.js';
import type { Tensor } from '../tensor.js';

const preluOp = defineOp<readonly [Tensor, Tensor], undefined, undefined>({
  name: 'prelu',
  forward: ([x, slope]) => ({ y: native.preluForward(x.handle, slope.handle), saved: undefined }),
  backward: (dy, { inputs: [x, slope] }) => {
    const { dx, dSlope } = native.preluBackward(dy, x.handle, slope.handle);
    return [dx, dSlope];
  },
});

/**
 * x where x > 0, slope·x elsewhere; slope [C], one a channel (the last axis).
 *
 * @example
 * const y = prelu(x, tensor(new Float32Array(64).fill(0.25), [64])); // x [N, H, W, 64]
 */
export function prelu(x: Tensor, slope: Tensor): Tensor {
  return preluOp([x, slope], undefined);
}

const reluOp = defineOp<readonly [Tensor], undefined, undefined>({
  name: 'relu',
  forward: ([x]) => ({ y: native.reluForward(x.handle), saved: undefined }),
  // relu_backward asks only where its second argument is positive, which x and y answer alike.
  backward: (dy, { inputs: [x] }) => [native.reluBackward(dy, x.handle)],
});

/**
 * max(x, 0), any shape.
 *
 * @example
 * const y = relu(x);
 */
export function relu(x: Tensor): Tensor {
  return reluOp([x], undefined);
}

const dropoutOp = defineOp<readonly [Tensor], { rate: number; seed: number }, undefined>({
  name: 'dropout',
  forward: ([x], { rate, seed }) => ({ y: native.dropout(x.handle, rate, seed), saved: undefined }),
  backward: (dy, { attributes: { rate, seed } }) => [native.dropout(dy, rate, seed)],
});

/**
 * Each element kept with probability 1 − rate and divided by it, any shape; the mask is a function of the seed alone.
 *
 * @example
 * const y = dropout(x, { rate: 0.4, seed: step });
 */
export function dropout(x: Tensor, options: { rate: number; seed: number }): Tensor {
  checkOptions('dropout', options, ['rate', 'seed']);
  const { rate, seed } = options;
  expected(rate >= 0 && rate < 1, 'dropout', 'a rate in [0, 1)', rate);
  expected(Number.isSafeInteger(seed) && seed >= 0, 'dropout', 'seed, an integer of at least 0', seed);
  return dropoutOp([x], { rate, seed });
}
