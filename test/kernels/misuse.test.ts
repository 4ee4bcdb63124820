import { describe, expect, it } from 'vitest';
import { ArgumentRangeError, ArgumentTypeError, DisposedError, NonFiniteError, ShapeError } from '../../lib/errors.js';
import * as kernels from '../../lib/kernels/index.js';
import { adaface, arcface, featureNormScale, magface, softmax } from '../../lib/margins/index.js';
import * as ops from '../../lib/ops/index.js';
import { zeros } from '../../lib/tensor.js';

const f32 = (count: number, value = 0.5) => new Float32Array(count).fill(value);
const two = new Int32Array([0, 1]);

describe('misuse is answered with the operation, what was expected, what came, and where', () => {
  it.each<[string, () => unknown, new (message: string) => Error, RegExp]>([
    [
      'no rows',
      () => kernels.normalizeSync(f32(6)),
      ArgumentRangeError,
      /^normalize: expected rows of x, .*got undefined/,
    ],
    [
      'half a row',
      () => kernels.normalizeSync(f32(7), { rows: 2 }),
      ShapeError,
      /^normalize: expected x of 2 rows, got 7 values/,
    ],
    [
      'integers',
      () => kernels.normalizeSync(two as never, { rows: 2 }),
      ArgumentTypeError,
      /expected x as Float32Array, Float64Array or tensor, got Int32Array of 2/,
    ],
    ['a plain array', () => kernels.normalizeSync([1, 2] as never, { rows: 1 }), ArgumentTypeError, /got \[1, 2\]/],
    ['a vector', () => kernels.normalizeSync(zeros([4])), ShapeError, /expected x \[rows, columns\], got \[4\]/],
    [
      'a small out',
      () => kernels.normalizeSync(f32(6), { rows: 2, out: { y: f32(5) } }),
      ShapeError,
      /expected out.y \[2, 3\], got 5 values/,
    ],
    [
      "another dtype's out",
      () => kernels.normalizeSync(f32(6), { rows: 2, out: { norm: new Float64Array(2) as never } }),
      ArgumentTypeError,
      /expected out.norm of dtype float32, got float64/,
    ],
    [
      'NaN',
      () => kernels.normalizeSync(new Float32Array([1, 2, Number.NaN, 4]), { rows: 2 }),
      NonFiniteError,
      /^normalize: expected finite x, got a row of norm nan at row 1/,
    ],
    [
      'a weight of another D',
      () => kernels.cosineLogitsSync(f32(6), f32(7), { rows: 2 }),
      ShapeError,
      /expected weight \[R, 3\]/,
    ],
    [
      "a weight tensor's shape",
      () => kernels.cosineLogitsSync(f32(6), zeros([2, 6]), { rows: 2 }),
      ShapeError,
      /expected weight \[4, 3\], got \[2, 6\]/,
    ],
    [
      'mixed dtypes',
      () => kernels.cosineLogitsSync(f32(6), new Float64Array(6), { rows: 2 }),
      ArgumentTypeError,
      /expected weight of dtype float32, got float64/,
    ],
    [
      'an infinite weight',
      () => kernels.cosineLogitsSync(f32(6), new Float32Array([1, 1, 1, 1, Infinity, 1]), { rows: 2 }),
      NonFiniteError,
      /expected finite weight, .* at row 1/,
    ],
    [
      'a NaN gradient',
      () => kernels.cosineLogitsBackwardSync(new Float32Array([1, 2, 3, Number.NaN]), f32(6), f32(6), { rows: 2 }),
      NonFiniteError,
      /expected finite dCosines, got nan at row 1, column 1/,
    ],
    [
      'K 0',
      () => kernels.subCenterMaxSync(f32(6), 0, { rows: 1 }),
      ArgumentRangeError,
      /subCenters, an integer in \[1, 1024\], got 0/,
    ],
    [
      'K that does not divide',
      () => kernels.subCenterMaxSync(f32(10), 3, { rows: 2 }),
      ArgumentRangeError,
      /expected cosines \[N, C·3\], got \[2, 5\]/,
    ],
    [
      'centers out of range',
      () => kernels.subCenterMaxBackwardSync(f32(4), new Int32Array([0, 1, 2, 0]), 2, { rows: 2 }),
      ArgumentRangeError,
      /expected centers in \[0, 2\), got 2 at row 1, class 0/,
    ],
    [
      'negative centers',
      () => kernels.subCenterMaxBackwardSync(f32(4), new Int32Array([0, -1, 1, 0]), 2, { rows: 2 }),
      ArgumentRangeError,
      /got -1 at row 0, class 1/,
    ],
    [
      'a label too large',
      () => kernels.marginTransformSync(f32(6), new Int32Array([0, 3]), arcface()),
      ArgumentRangeError,
      /^marginTransform: expected labels in \[0, 3\) or -1, got 3 at row 1/,
    ],
    [
      'labels as floats',
      () => kernels.marginTransformSync(f32(6), f32(2) as never, arcface()),
      ArgumentTypeError,
      /expected labels as Int32Array or tensor, got Float32Array of 2/,
    ],
    [
      'labels as a float tensor',
      () => kernels.marginTransformSync(zeros([2, 3]), zeros([2]), arcface()),
      ArgumentTypeError,
      /expected labels of dtype int32, got float32/,
    ],
    [
      'a cosine above 1',
      () => kernels.marginTransformSync(new Float32Array([0, 0, 0, 1.5]), two, arcface()),
      ArgumentRangeError,
      /expected cosines in \[-1, 1\], got 1.5 at row 1, column 1/,
    ],
    [
      'a cosine that is none',
      () => kernels.marginTransformSync(new Float32Array([0, 0, Number.NaN, 0]), two, arcface()),
      NonFiniteError,
      /expected finite cosines, got nan at row 1, column 0/,
    ],
    [
      'no margin',
      () => kernels.marginTransformSync(f32(4), two, undefined as never),
      ArgumentRangeError,
      /expected a margin such as arcface\(\)/,
    ],
    [
      'no norms',
      () => kernels.marginTransformSync(f32(4), two, magface()),
      ArgumentRangeError,
      /expected norms \[2\], which magface reads, got none/,
    ],
    [
      'no norms for the scale',
      () => kernels.marginTransformSync(f32(4), two, arcface({ scale: featureNormScale() })),
      ArgumentRangeError,
      /a scale by the feature's norm reads, got none/,
    ],
    [
      'norms below 0',
      () => kernels.marginTransformSync(f32(4), two, adaface(), { norms: new Float32Array([1, -1]) }),
      ArgumentRangeError,
      /norms of at least 0, got -1 at row 1/,
    ],
    [
      'too few norms',
      () => kernels.marginTransformSync(f32(4), two, adaface(), { norms: f32(3) }),
      ShapeError,
      /expected norms \[2\], got 3 values/,
    ],
    [
      'margins nobody reads',
      () => kernels.marginTransformSync(f32(4), two, softmax(), { margins: f32(2) }),
      ArgumentRangeError,
      /expected no margins of rows with softmax/,
    ],
    [
      'a margin past pi',
      () => kernels.marginTransformSync(f32(4), two, arcface(), { margins: f32(2, 4) }),
      ArgumentRangeError,
      /expected margins in \[-pi, pi\], got 4 at row 0/,
    ],
    [
      't',
      () => kernels.curricularReweightSync(f32(4), two, { t: 2, margin: 0.5 }),
      ArgumentRangeError,
      /expected t of negatives in \[-1, 1\], got 2/,
    ],
    [
      'too few logits',
      () => kernels.softmaxCrossEntropySync(f32(5), two),
      ShapeError,
      /expected logits of 2 rows, got 5 values/,
    ],
    [
      'an infinite logit',
      () => kernels.softmaxCrossEntropySync(new Float32Array([0, -Infinity]), new Int32Array([0])),
      NonFiniteError,
      /expected finite logits, got -inf at row 0, column 1/,
    ],
    [
      'smoothing of 1',
      () => kernels.softmaxCrossEntropySync(f32(4), two, { labelSmoothing: 1 }),
      ArgumentRangeError,
      /labelSmoothing in \[0, 1\), got 1/,
    ],
    [
      'a NaN dLoss',
      () => kernels.softmaxCrossEntropyBackwardSync(f32(4), two, { dLoss: Number.NaN }),
      ArgumentRangeError,
      /gradient of the loss/,
    ],
    [
      'no labels',
      () => kernels.softmaxCrossEntropySync(f32(4), new Int32Array(0)),
      ArgumentRangeError,
      /rows of logits/,
    ],
    [
      'weights below 0',
      () => kernels.binaryCrossEntropySync(f32(4), two, { negativeWeight: -1 }),
      ArgumentRangeError,
      /weights of at least 0/,
    ],
    [
      'norms that are not',
      () => kernels.normRegularizerSync(new Float32Array([1, Number.NaN]), two, magface()),
      ArgumentRangeError,
      /expected finite norms of at least 0, got nan at row 1/,
    ],
    [
      'an op on a vector',
      () => ops.cosineLogits(zeros([3]), zeros([2, 3])),
      ShapeError,
      /^cosineLogits: expected features with 2 axes, got \[3\]/,
    ],
    [
      'an op without labels',
      () => ops.softmaxCrossEntropy(zeros([2, 3]), undefined as never),
      ArgumentTypeError,
      /expected labels as Int32Array or int32 tensor/,
    ],
  ])('%s', (_, f, Class, message) => {
    expect(f).toThrow(Class);
    expect(f).toThrow(message);
  });

  it('rejects, where it would throw', async () => {
    await expect(kernels.normalize(f32(6))).rejects.toThrow(/expected rows of x/);
    const big = f32(200_000);
    big[150_000] = Number.NaN;
    await expect(kernels.softmaxCrossEntropy(big, new Int32Array(20))).rejects.toThrow(
      /^softmaxCrossEntropy: expected finite logits, got nan at row 15, column 0/,
    );
    await expect(kernels.softmaxCrossEntropy(big, new Int32Array(20))).rejects.toThrow(NonFiniteError);
    const gone = zeros([20, 10_000]);
    gone.dispose();
    await expect(kernels.softmaxCrossEntropy(gone, new Int32Array(20))).rejects.toThrow(DisposedError);
  });

  it('names the first bad row, whichever thread meets it', () => {
    const x = f32(64 * 4096);
    for (const row of [60, 13, 40]) x[row * 4096 + 5] = Number.NaN;
    for (let i = 0; i < 20; i++) {
      expect(() => kernels.softmaxCrossEntropySync(x, new Int32Array(64))).toThrow(/row 13, column 5/);
    }
  });
});
