import { defineOp } from '../autograd.js';
import { type Handle, native } from '../binding.js';
import { checkOptions, named, ShapeError } from '../errors.js';
import type { Tensor } from '../tensor.js';
import { cast } from './elementwise.js';
import { checkTensors } from './headArguments.js';

const matmulOp = defineOp<readonly [Tensor, Tensor], { transposeB: boolean }, undefined>({
  name: 'matmul',
  forward: ([a, b], { transposeB }) => ({ y: native.matmul(a.handle, b.handle, false, transposeB), saved: undefined }),
  backward: (dy, { inputs: [a, b], attributes: { transposeB }, needs }) => [
    needs[0] ? native.matmul(dy, b.handle, false, !transposeB) : undefined,
    needs[1]
      ? transposeB
        ? native.matmul(dy, a.handle, true, false)
        : native.matmul(a.handle, dy, true, false)
      : undefined,
  ],
});

/**
 * The matrix product a·b, or a·bᵀ: [N, K] × [K, M] → [N, M].
 *
 * @example
 * const y = matmul(tensor(new Float32Array([1, 2]), [1, 2]), tensor(new Float32Array([3, 4]), [2, 1])); // [[11]]
 */
export function matmul(a: Tensor, b: Tensor, options: { transposeB?: boolean } = {}): Tensor {
  checkOptions('matmul', options, ['transposeB']);
  const { transposeB = false } = options;
  return matmulOp([a, b], { transposeB });
}

const addBias = defineOp<readonly [Tensor, Tensor], undefined, undefined>({
  name: 'addBias',
  forward: ([x, bias]) => ({ y: native.addBias(x.handle, bias.handle), saved: undefined }),
  backward: (dy, { needs }): readonly (Handle | undefined)[] => [dy, needs[1] ? native.sumRows(dy) : undefined],
});

/**
 * x·Wᵀ + b with the weight as the field stores it: x [N, I], weight [O, I], bias [O] → [N, O].  Of bfloat16 x the
 * weight, float32, is rounded for the product.
 *
 * @example
 * const y = linear(x, weight, bias);
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  checkTensors('linear', { x, weight, ...(bias === undefined ? {} : { bias }) });
  if (weight.shape.length !== 2) {
    throw new ShapeError(`linear: expected weight [O, I], got [${weight.shape.join(', ')}]`, { code: 'ERR_FM_SHAPE' });
  }
  if (x.shape.length !== 2 || x.shape[1] !== weight.shape[1]) {
    throw new ShapeError(`linear: expected input [*, ${weight.shape[1]}], got [${x.shape.join(', ')}]`, {
      code: 'ERR_FM_SHAPE',
    });
  }
  return named('linear', () => {
    const y = matmul(x, x.dtype === 'bfloat16' ? cast(weight, 'bfloat16') : weight, { transposeB: true });
    return bias ? addBias([y, bias], undefined) : y;
  });
}
