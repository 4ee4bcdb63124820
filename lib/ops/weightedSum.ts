import { defineOp } from '../autograd.js';
import { native } from '../binding.js';
import type { Tensor } from '../tensor.js';

/** dWeights[n, k] = ⟨dy[n], x[n, k]⟩, dx[n, k] = weights[n, k]·dy[n] */
const weightedSumOp = defineOp<readonly [Tensor, Tensor], undefined, undefined>({
  name: 'weightedSum',
  forward: ([weights, x]) => ({ y: native.weightedSumForward(weights.handle, x.handle), saved: undefined }),
  backward: (dy, { inputs: [weights, x] }) => {
    const { dWeights, dx } = native.weightedSumBackward(dy, weights.handle, x.handle);
    return [dWeights, dx];
  },
});

/**
 * y[n] = Σ_k weights[n, k]·x[n, k]: weights [N, K], x [N, K, D] → [N, D].
 *
 * @example
 * const mixed = weightedSum(softmax(scores), vectors); // scores [N, K], vectors [N, K, D]
 */
export function weightedSum(weights: Tensor, x: Tensor): Tensor {
  return weightedSumOp([weights, x], undefined);
}
