import { defineOp } from '../autograd.js';
import { native } from '../binding.js';
import { expected } from '../errors.js';
import { type Tensor, tensor, zeros } from '../tensor.js';
import { checkTensors } from './headArguments.js';

/** dx = Σ of dy's rows where they came from, in their order. */
const gatherRowsOp = defineOp<readonly [Tensor], { index: Int32Array }, undefined>({
  name: 'gatherRows',
  forward: ([x], { index }) => {
    const at = tensor(index, [index.length], x.device);
    try {
      return { y: native.gatherRows(x.handle, at.handle), saved: undefined };
    } finally {
      at.dispose();
    }
  },
  backward: (dy, { inputs: [x], attributes: { index } }) => {
    const at = tensor(index, [index.length], x.device);
    const dx = zeros(x.shape, x.dtype, x.device);
    try {
      native.scatterAddRows(dx.handle, at.handle, dy);
      return [native.reshape(dx.handle, x.shape)];
    } finally {
      at.dispose();
      dx.dispose();
    }
  },
});

function checkIndex(operation: string, index: unknown): void {
  expected(index instanceof Int32Array, operation, 'index as Int32Array', index);
}

/**
 * The rows of x [R, D] at index [N], each in [0, R), as often as they are named: [N, D].
 *
 * @example
 * const y = gatherRows(tensor(new Float32Array([1, 2, 3]), [3, 1]), new Int32Array([2, 0])); // [[3], [1]]
 */
export function gatherRows(x: Tensor, index: Int32Array): Tensor {
  checkIndex('gatherRows', index);
  return gatherRowsOp([x], { index: Int32Array.from(index) });
}

/**
 * into[index[i]] += x[i], in place and in the order of i; no gradient flows.  into [R, D], index [N], x [N, D].
 *
 * @example
 * scatterAddRows(centers, new Int32Array([0, 0]), tensor(new Float32Array([1, 2]), [2, 1])); // centers[0] += 3
 */
export function scatterAddRows(into: Tensor, index: Int32Array, x: Tensor): void {
  checkTensors('scatterAddRows', { into, x });
  checkIndex('scatterAddRows', index);
  const at = tensor(index, [index.length], into.device);
  try {
    native.scatterAddRows(into.handle, at.handle, x.handle);
  } finally {
    at.dispose();
  }
}
