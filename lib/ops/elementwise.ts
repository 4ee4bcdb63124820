import { defineOp } from '../autograd.js';
import { native } from '../binding.js';
import { Tensor } from '../tensor.js';

const addOp = defineOp<readonly [Tensor, Tensor], undefined, undefined>({
  name: 'add',
  forward: ([a, b]) => ({ y: native.add(a.handle, b.handle), saved: undefined }),
  backward: (dy) => [dy, dy],
});

/** a + b, of equal shapes. */
export function add(a: Tensor, b: Tensor): Tensor {
  return addOp([a, b], undefined);
}

const multiplyOp = defineOp<readonly [Tensor, Tensor], undefined, undefined>({
  name: 'multiply',
  forward: ([a, b]) => ({ y: native.multiply(a.handle, b.handle), saved: undefined }),
  backward: (dy, { inputs: [a, b], needs }) => [
    needs[0] ? native.multiply(dy, b.handle) : undefined,
    needs[1] ? native.multiply(dy, a.handle) : undefined,
  ],
});

/** a · b element by element, of equal shapes. */
export function multiply(a: Tensor, b: Tensor): Tensor {
  return multiplyOp([a, b], undefined);
}

const scaleOp = defineOp<readonly [Tensor], { factor: number }, undefined>({
  name: 'scale',
  forward: ([x], { factor }) => ({ y: native.scale(x.handle, factor), saved: undefined }),
  backward: (dy, { attributes: { factor } }) => [native.scale(dy, factor)],
});

/** factor · x. */
export function scale(x: Tensor, factor: number): Tensor {
  return scaleOp([x], { factor });
}

/** x / 127.5 − 1 of a uint8 image, as float32: what every backbone of the field eats. */
export function imageToFloat(x: Tensor): Tensor {
  return new Tensor(native.imageToFloat(x.handle), x.device);
}
