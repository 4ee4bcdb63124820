import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { DisposedError, ShapeError } from '../../lib/errors.js';
import { arcface } from '../../lib/margins/index.js';
import * as ops from '../../lib/ops/index.js';
import { tensor, zeros } from '../../lib/tensor.js';

const x = zeros([4, 8]);
const W = zeros([10, 8]);

describe('misuse is answered with what was expected and what came', () => {
  it.each([
    ['a foreign shape', () => tensor(new Float32Array(5), [2, 3]), /expected 6 elements for shape \[2, 3\], got 5/],
    ['a shape of more elements than there are', () => zeros([2 ** 62]), /too many|bytes/],
    ['a shape whose product overflows', () => zeros([2 ** 32, 2 ** 32]), /too many elements/],
    ['an empty array for a huge shape', () => tensor(new Float32Array(0), [2 ** 32, 2 ** 32]), /too many elements/],
    ['half an element', () => zeros([1.5]), /expected an integer, got 1.5/],
    ['NaN elements', () => zeros([Number.NaN]), /expected an integer, got nan/],
    ['fewer than no elements', () => zeros([4]).reshape([-2, -2]), /extents of at least 0, got \[-2, -2\]/],
    [
      'half a stride',
      () => ops.conv2d(zeros([1, 4, 4, 3]), zeros([8, 3, 3, 3]), { stride: 1.5 }),
      /conv2d: stride: expected an integer/,
    ],
    [
      'endless padding',
      () => ops.conv2d(zeros([1, 4, 4, 3]), zeros([8, 3, 3, 3]), { padding: 2e9 }),
      /padding in \[0, 1024\]/,
    ],
    ['matmul', () => ops.matmul(x, W), /matmul.*expected/],
    ['linear', () => ops.linear(x, zeros([3, 7])), /linear: expected input \[\*, 7\], got \[4, 8\]/],
    [
      'gatherRows',
      () => ops.gatherRows(x, new Int32Array([0, 4])),
      /gatherRows: expected index in \[0, 4\), got 4 at 1/,
    ],
    ['gatherRows, a row before the first', () => ops.gatherRows(x, new Int32Array([-1])), /\[0, 4\), got -1 at 0/],
    [
      'scatterAddRows',
      () => ops.scatterAddRows(zeros([3, 8]), new Int32Array([0]), x),
      /expected x \[1, 8\], got \[4, 8\]/,
    ],
    [
      'scatterAddRows of its own rows',
      () => ops.scatterAddRows(x, new Int32Array([0, 1, 2, 3]), x),
      /expected x in other memory than into/,
    ],
    ['weightedSum', () => ops.weightedSum(x, zeros([4, 7, 2])), /expected x \[4, 8, D\] as weights, got \[4, 7, 2\]/],
    ['softmax', () => ops.softmax(zeros([2, 3, 4])), /x with 2 axes, got \[2, 3, 4\]/],
    ['softmax of nothing', () => ops.softmax(zeros([2, 0])), /rows of at least one element/],
    ['squaredDistances', () => ops.squaredDistances(zeros([4])), /x with 2 axes/],
    ['dot', () => ops.dot(x, W), /dot: .*\[4, 8\].*\[10, 8\]/],
    ['add', () => ops.add(x, W), /add: .*\[4, 8\].*\[10, 8\]/],
    ['conv2d', () => ops.conv2d(x, W), /conv2d.*axes|conv2d.*\[/],
    ['conv2d channels', () => ops.conv2d(zeros([1, 4, 4, 3]), zeros([8, 4, 3, 3])), /conv2d/],
    [
      'marginSoftmax shapes',
      () => ops.marginSoftmax(x, zeros([10, 9]), new Int32Array(4), arcface()),
      /expected weight \[C, 8\]/,
    ],
    [
      'marginSoftmax labels',
      () =>
        ops.marginSoftmax(tensor(new Float32Array(32).fill(1), [4, 8]), W, new Int32Array([0, 1, 90001, 2]), arcface()),
      /labels in \[0, 10\) or -1, got 90001 at row 2/,
    ],
    ['marginSoftmax too few labels', () => ops.marginSoftmax(x, W, new Int32Array(3), arcface()), /labels/],
    [
      'marginSoftmax dtype',
      () => ops.marginSoftmax(x, W, tensor(new Float32Array(4), [4]), arcface()),
      /labels as Int32Array or int32 tensor, got a float32 tensor/,
    ],
    ['a foreign device', () => zeros([1], 'float32', 'tpu'), /'cpu', 'cuda' or 'cuda:<index>', got 'tpu'/],
    ['backward of a matrix', () => backward(x), /dy for a tensor of more than one element/],
    ['dtype mix', () => ops.add(x, zeros([4, 8], 'float64')), /add/],
  ])('%s', (_, f, message) => {
    expect(f).toThrow(message);
  });

  it('a disposed tensor', () => {
    const gone = zeros([2, 3]);
    gone.dispose();
    gone.dispose();
    expect(() => ops.relu(gone)).toThrow(DisposedError);
    expect(() => ops.relu(gone)).toThrow('tensor [2, 3] was disposed');
  });

  it('has classes', () => {
    expect(() => ops.linear(x, zeros([3, 7]))).toThrow(ShapeError);
  });

  it('a handle of something else', () => {
    expect(() => ops.relu({ handle: {}, requiresGrad: false } as never)).toThrow(
      /^relu: expected tensors, got \{handle: …/,
    );
  });
});
