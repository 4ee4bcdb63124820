/** Finite differences in float64, through the binding, for every operation of the tape. */
import { describe, it } from 'vitest';
import { arcface, combined, cosface, curricularface, mvsoftmax, softmax, sphereface } from '../../lib/margins/index.js';
import * as ops from '../../lib/ops/index.js';
import { ones, type Tensor, zeros } from '../../lib/tensor.js';
import { check, draw } from '../differences.js';

describe('gradients', () => {
  it('matmul', () => check(([a, b]) => ops.matmul(a as Tensor, b as Tensor), [draw([3, 5]), draw([5, 4])]));
  it('linear', () =>
    check(([x, w, b]) => ops.linear(x as Tensor, w as Tensor, b as Tensor), [draw([3, 5]), draw([4, 5]), draw([4])]));
  it('add and multiply, one input used twice', () =>
    check(([a, b]) => ops.add(ops.multiply(a as Tensor, b as Tensor), a as Tensor), [draw([2, 3]), draw([2, 3])]));
  it('scale', () => check(([x]) => ops.scale(x as Tensor, -1.5), [draw([2, 3])]));
  it('normalize', () => check(([x]) => ops.normalize(x as Tensor), [draw([3, 5])]));
  it('prelu', () => check(([x, s]) => ops.prelu(x as Tensor, s as Tensor), [draw([2, 3, 3, 5]), draw([5])]));
  it('relu', () => check(([x]) => ops.relu(x as Tensor), [draw([4, 5])]));
  it('affine', () => check(([x]) => ops.affine(x as Tensor, { factor: -1.5, offset: 0.25 }), [draw([2, 3])]));
  it('sqrt', () => check(([x]) => ops.sqrt(ops.multiply(x as Tensor, x as Tensor), { epsilon: 0.5 }), [draw([2, 3])]));
  it('dot, of two and of one', () => {
    check(([a, b]) => ops.dot(a as Tensor, b as Tensor), [draw([2, 3]), draw([2, 3])]);
    check(([a]) => ops.dot(a as Tensor, a as Tensor), [draw([2, 3])]);
  });
  it('softmax and logSoftmax', () => {
    check(([x]) => ops.softmax(x as Tensor), [draw([4, 5], 2)]);
    check(([x]) => ops.logSoftmax(x as Tensor), [draw([4, 5], 2)]);
  });
  it('gatherRows, a row named twice and one never', () =>
    check(([x]) => ops.gatherRows(x as Tensor, new Int32Array([2, 0, 2])), [draw([4, 5])]));
  it('weightedSum', () =>
    check(([w, x]) => ops.weightedSum(w as Tensor, x as Tensor), [draw([3, 4]), draw([3, 4, 5])]));
  it('squaredDistances', () => check(([x]) => ops.squaredDistances(x as Tensor), [draw([6, 5])]));
  it('dropout', () => check(([x]) => ops.dropout(x as Tensor, { rate: 0.4, seed: 3 }), [draw([4, 5])]));
  it('globalAvgPool', () => check(([x]) => ops.globalAvgPool(x as Tensor), [draw([2, 3, 2, 5])]));
  it('flatten', () => check(([x]) => ops.flatten(x as Tensor), [draw([2, 3, 2, 5])]));
  it('reshape', () => check(([x]) => ops.scale((x as Tensor).reshape([6]), 2), [draw([2, 3])]));

  it.each([
    { kernel: 3, stride: 1, padding: 1 },
    { kernel: 3, stride: 2, padding: 1 },
    { kernel: 1, stride: 2, padding: 0 },
    { kernel: 5, stride: 2, padding: 2 },
    { kernel: 2, stride: 1, padding: 0 },
  ])('conv2d %o', ({ kernel, stride, padding }) =>
    check(
      ([x, w]) => ops.conv2d(x as Tensor, w as Tensor, { stride, padding }),
      [draw([2, 6, 5, 3]), draw([4, 3, kernel, kernel], 0.3)],
    ),
  );

  const behind = ['nothing', 'slope', 'shortcut'] as const;
  it.each(behind.flatMap((name) => [true, false].map((training) => [name, training] as const)))(
    'batchNorm and %s behind it, training %s',
    (name, training) => {
      // The running statistics move with every forward, which no output depends on while training.
      const state = {
        runningMean: zeros([5], 'float64'),
        runningVar: ones([5], 'float64'),
        training,
        momentum: 0.1,
        epsilon: 1e-5,
      };
      const shapes = { nothing: [], slope: [[5]], shortcut: [[3, 2, 2, 5]] }[name];
      check(
        ([x, w, b, last]) => ops.batchNorm(x as Tensor, w as Tensor, b as Tensor, state, last && { [name]: last }),
        [draw([3, 2, 2, 5]), draw([5]), draw([5]), ...shapes.map((shape) => draw(shape))],
        1e-5,
      );
    },
  );

  const labels = new Int32Array([2, 0, -1, 2, 6]);
  it.each([
    softmax({ scale: 10 }),
    cosface({ scale: 20 }),
    arcface({ scale: 20, overflow: 'hard' }),
    arcface({ scale: 20, overflow: 'none' }),
    arcface({ scale: 20, overflow: 'easy' }),
    arcface({ scale: 20, overflow: 'clamp' }),
    combined({ scale: 20, m1: 1.2 }),
    combined({ scale: 20, m1: 0.9, overflow: 'clamp' }),
    sphereface({ scale: 10, gradient: 'exact' }),
    sphereface({ scale: 10, margin: 4, lambda: 5, gradient: 'exact' }),
  ])('marginSoftmax %o', (margin) =>
    check(
      ([x, w]) => ops.marginSoftmax(x as Tensor, w as Tensor, labels, margin).loss,
      [draw([5, 6]), draw([7, 6])],
      1e-5,
    ),
  );

  // The thresholds of hard negatives are constant in the gradient, and so are differences that do not cross them.
  it.each([
    mvsoftmax({ scale: 10 }),
    mvsoftmax({ scale: 10, variant: 'arc', hard: 'fixed', overflow: 'none' }),
    curricularface({ scale: 10, t: 0.4 }),
  ])('marginSoftmax %o', (margin) =>
    check(
      ([x, w]) => ops.marginSoftmax(x as Tensor, w as Tensor, labels, margin).loss,
      [draw([5, 6]), draw([7, 6])],
      1e-5,
    ),
  );
});
