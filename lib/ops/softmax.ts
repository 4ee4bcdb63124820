import { defineOp } from '../autograd.js';
import { type Handle, native } from '../binding.js';
import { Tensor } from '../tensor.js';

/** An operation on rows whose backward needs its result alone. */
const rowOp = (name: string, forward: (x: Handle) => Handle, backward: (dy: Handle, y: Handle) => Handle) =>
  defineOp<readonly [Tensor], undefined, { y: Tensor }>({
    name,
    forward: ([x]) => {
      const y = forward(x.handle);
      // A second handle on y's memory: the first belongs to the result, which its owner may dispose.
      return { y, saved: { y: new Tensor(native.reshape(y, x.shape), x.device) } };
    },
    backward: (dy, { saved: { y } }) => [backward(dy, y.handle)],
  });

/** dx = p·(dy − ⟨dy, p⟩) */
const softmaxOp = rowOp(
  'softmax',
  (x) => native.softmaxForward(x),
  (dy, y) => native.softmaxBackward(dy, y),
);

/**
 * exp(x) / Σ exp(x) over rows: [N, K] → [N, K].
 *
 * @example
 * const p = softmax(tensor(new Float32Array([0, Math.log(3)]), [1, 2])); // [[0.25, 0.75]]
 */
export function softmax(x: Tensor): Tensor {
  return softmaxOp([x], undefined);
}

/** dx = dy − exp(y)·Σ dy */
const logSoftmaxOp = rowOp(
  'logSoftmax',
  (x) => native.logSoftmaxForward(x),
  (dy, y) => native.logSoftmaxBackward(dy, y),
);

/**
 * log softmax over rows, finite also where softmax itself is 0: [N, K] → [N, K].
 *
 * @example
 * const crossEntropy = dot(logSoftmax(x), scale(oneHot, -1 / N));
 */
export function logSoftmax(x: Tensor): Tensor {
  return logSoftmaxOp([x], undefined);
}
