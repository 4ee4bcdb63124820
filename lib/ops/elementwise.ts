import { defineOp } from '../autograd.js';
import { type Dtype, native } from '../binding.js';
import { deviceIndex } from '../device.js';
import { checkNumbers, checkOptions, expected, named } from '../errors.js';
import { checkTensor, Tensor } from '../tensor.js';

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
  expected(typeof factor === 'number', 'scale', 'a factor, a number', factor);
  return scaleOp([x], { factor });
}

/**
 * a − b; a ShapeError unless their shapes are equal.
 *
 * @example
 * const difference = subtract(features, gatherRows(centers, labels));
 */
export function subtract(a: Tensor, b: Tensor): Tensor {
  return named('subtract', () => add(a, scale(b, -1)));
}

const affineOp = defineOp<readonly [Tensor], { factor: number; offset: number }, undefined>({
  name: 'affine',
  forward: ([x], { factor, offset }) => ({ y: native.affine(x.handle, factor, offset), saved: undefined }),
  backward: (dy, { attributes: { factor } }) => [native.scale(dy, factor)],
});

/**
 * factor · x + offset, any shape.
 *
 * @example
 * const distance = affine(cosines, { factor: -2, offset: 2 }); // of unit rows, squared
 */
export function affine(x: Tensor, options: { factor?: number; offset?: number }): Tensor {
  checkOptions('affine', options, ['factor', 'offset']);
  const { factor = 1, offset = 0 } = options;
  checkNumbers('affine', { factor, offset });
  return affineOp([x], { factor, offset });
}

/** dx = dy / (2·y); 0 where dy is 0. */
const sqrtOp = defineOp<readonly [Tensor], { epsilon: number }, { y: Tensor }>({
  name: 'sqrt',
  forward: ([x], { epsilon }) => {
    const y = native.sqrtForward(x.handle, epsilon);
    // A second handle on y's memory: the first belongs to the result, which its owner may dispose.
    return { y, saved: { y: new Tensor(native.reshape(y, x.shape), x.device) } };
  },
  backward: (dy, { saved: { y } }) => [native.sqrtBackward(dy, y.handle)],
});

/**
 * √(x + epsilon), any shape.
 *
 * @example
 * const distance = sqrt(squaredDistances(rows), { epsilon: 1e-9 });
 */
export function sqrt(x: Tensor, options: { epsilon?: number } = {}): Tensor {
  checkOptions('sqrt', options, ['epsilon']);
  const { epsilon = 0 } = options;
  checkNumbers('sqrt', { epsilon });
  return sqrtOp([x], { epsilon });
}

const floating = ['float32', 'float64', 'bfloat16'] as const satisfies readonly Dtype[];

const castOp = defineOp<readonly [Tensor], { dtype: Dtype }, undefined>({
  name: 'cast',
  forward: ([x], { dtype }) => ({ y: native.cast(x.handle, dtype), saved: undefined }),
  backward: (dy, { inputs: [x] }) => [native.cast(dy, x.dtype)],
});

/**
 * x in another precision, rounded to the nearest; its gradient comes back in x's own.  x itself where it has that dtype.
 *
 * @example
 * const features = cast(layers.forward(cast(images, 'bfloat16')), 'float32'); // on a CUDA device
 */
export function cast(x: Tensor, dtype: (typeof floating)[number]): Tensor {
  checkTensor('cast', 'x', x);
  expected(floating.includes(dtype), 'cast', `a dtype of ${floating.join(', ')}`, dtype);
  if (x.dtype !== dtype) return castOp([x], { dtype });
  named('cast', () => x.handle); // throws of one that was disposed
  return x;
}

const dotOp = defineOp<readonly [Tensor, Tensor], undefined, undefined>({
  name: 'dot',
  forward: ([a, b]) => {
    const value = native.dot(a.handle, b.handle);
    const data = a.dtype === 'float64' ? new Float64Array([value]) : new Float32Array([value]);
    return { y: native.fromArray(data, [1], deviceIndex(a.device)), saved: undefined };
  },
  backward: (dy, { inputs: [a, b], needs }) => {
    const factor = native.sum(dy);
    return [
      needs[0] ? native.scale(b.handle, factor) : undefined,
      needs[1] ? native.scale(a.handle, factor) : undefined,
    ];
  },
});

/**
 * Σ a·b over all elements, a tensor of one; a ShapeError unless their shapes are equal.
 *
 * @example
 * const mean = dot(rowLoss, tensor(new Float32Array(N).fill(1 / N), [N]));
 */
export function dot(a: Tensor, b: Tensor): Tensor {
  return dotOp([a, b], undefined);
}

/**
 * x / 127.5 − 1 of uint8 images [N, H, W, C], as float32: what every backbone of the field eats.
 *
 * @example
 * const features = backbone.forward(imageToFloat(tensor(images, [N, 112, 112, 3])));
 */
export function imageToFloat(x: Tensor): Tensor {
  checkTensor('imageToFloat', 'x', x);
  return new Tensor(native.imageToFloat(x.handle), x.device);
}
