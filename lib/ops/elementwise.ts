import { defineOp } from '../autograd.js';
import { native } from '../binding.js';
import { Tensor } from '../tensor.js';

const addOp = defineOp<readonly [Tensor, Tensor], undefined, undefined>({
  name: 'add',
  forward: ([a, b]) => ({ y: native.add(a.handle, b.handle), saved: undefined }),
  backward: (dy) => [dy, dy],
});

/**
 * a + b; a ShapeError unless their shapes are equal.
 *
 * @example
 * const y = add(branch, shortcut);
 */
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

/**
 * a · b element by element; a ShapeError unless their shapes are equal.
 *
 * @example
 * const y = multiply(x, mask);
 */
export function multiply(a: Tensor, b: Tensor): Tensor {
  return multiplyOp([a, b], undefined);
}

const scaleOp = defineOp<readonly [Tensor], { factor: number }, undefined>({
  name: 'scale',
  forward: ([x], { factor }) => ({ y: native.scale(x.handle, factor), saved: undefined }),
  backward: (dy, { attributes: { factor } }) => [native.scale(dy, factor)],
});

/**
 * factor · x, any shape.
 *
 * @example
 * const y = scale(x, 0.5);
 */
export function scale(x: Tensor, factor: number): Tensor {
  return scaleOp([x], { factor });
}

/**
 * x / 127.5 − 1 of uint8 images [N, H, W, C], as float32: what every backbone of the field eats.
 *
 * @example
 * const features = backbone.forward(imageToFloat(tensor(images, [N, 112, 112, 3])));
 */
export function imageToFloat(x: Tensor): Tensor {
  return new Tensor(native.imageToFloat(x.handle), x.device);
}
