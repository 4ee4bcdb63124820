import { defineOp } from '../autograd.js';
import { native } from '../binding.js';
import type { Tensor } from '../tensor.js';

/** dx_i = 2·Σ_j (dy[i, j] + dy[j, i])·(x_i − x_j) */
const squaredDistancesOp = defineOp<readonly [Tensor], undefined, undefined>({
  name: 'squaredDistances',
  forward: ([x]) => ({ y: native.squaredDistancesForward(x.handle), saved: undefined }),
  backward: (dy, { inputs: [x] }) => [native.squaredDistancesBackward(dy, x.handle)],
});

/**
 * ‖x_i − x_j‖² of all pairs of rows, the small ones as exact as the large: [N, D] → [N, N].
 *
 * @example
 * const d = squaredDistances(tensor(new Float32Array([0, 0, 3, 4]), [2, 2])); // [[0, 25], [25, 0]]
 */
export function squaredDistances(x: Tensor): Tensor {
  return squaredDistancesOp([x], undefined);
}
