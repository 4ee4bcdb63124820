/** The separate kernels: slopes, where results go, both ways of calling, threads, and the ends of the range. */
import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { setNumThreads } from '../../lib/device.js';
import { ArgumentTypeError } from '../../lib/errors.js';
import * as kernels from '../../lib/kernels/index.js';
import {
  adaface,
  arcface,
  cosface,
  curricularface,
  featureNormScale,
  filteredNegatives,
  type Margin,
  magface,
  mvsoftmax,
  presetOf,
  softmax,
  sphereface,
  sphereface2,
  uniface,
} from '../../lib/margins/index.js';
import * as ops from '../../lib/ops/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { memory, parameter, type Tensor, tensor, tidy, zeros } from '../../lib/tensor.js';
import { arrays, async, bits, everything, labelsOf, sync, tensorsOn } from './everything.js';

const rng = new Random(23);
const draw = (count: number, spread = 1) => Float64Array.from(normalArray(count, spread, rng));
const cosinesOf = (count: number) => Float64Array.from({ length: count }, () => 1.8 * rng.uniform() - 0.9);

/** Central differences of ⟨f(inputs), probe⟩ against backward(). */
function slopes(f: (inputs: Tensor[]) => Tensor, given: [Float64Array, number[]][], h = 1e-6): void {
  const inputs = given.map(([values, shape]) => parameter(tensor(values, shape)));
  const size = tidy(() => f(inputs).size);
  const probe = draw(size);
  const value = () =>
    tidy(() => (f(inputs).toArray() as Float64Array).reduce((s, v, i) => s + v * (probe[i] as number), 0));
  tidy(() => {
    const y = f(inputs);
    backward(y, tensor(probe, y.shape));
  });
  inputs.forEach((x, which) => {
    const ours = x.grad?.toArray() as Float64Array;
    const values = x.toArray() as Float64Array;
    const scale = Math.max(1, ...ours.map(Math.abs));
    values.forEach((v, i) => {
      const at = (delta: number) => {
        const moved = values.slice();
        moved[i] = v + delta;
        x.set(moved);
        return value();
      };
      const numeric = (at(h) - at(-h)) / (2 * h);
      x.set(values);
      expect(Math.abs(numeric - (ours[i] as number)) / scale, `input ${which}, element ${i}`).toBeLessThan(2e-6);
    });
  });
}

describe('slopes', () => {
  const labels = new Int32Array([2, 0, -1, 4]);
  const [N, C] = [4, 5];

  it('cosineLogits', () =>
    slopes(
      ([x, w]) => ops.cosineLogits(x as Tensor, w as Tensor),
      [
        [draw(12), [4, 3]],
        [draw(15, 0.1), [5, 3]],
      ],
    ));
  it('rowNorms', () => slopes(([x]) => ops.rowNorms(x as Tensor), [[draw(12), [4, 3]]]));
  it('subCenterMax', () => slopes(([x]) => ops.subCenterMax(x as Tensor, 3).cosines, [[cosinesOf(24), [2, 12]]]));
  it.each([
    softmax({ scale: 3 }),
    cosface({ scale: 3 }),
    arcface({ scale: 3 }),
    arcface({ scale: 3, negatives: filteredNegatives({ above: 0.3 }) }),
    cosface({ scale: 3, cosineEpsilon: 0.4 }),
    mvsoftmax({ scale: 3 }),
    curricularface({ scale: 3, t: 0.3 }),
    sphereface({ scale: 3, gradient: 'exact' }),
    sphereface2({ scale: 3, gradient: 'exact' }),
    uniface({ scale: 3, bias: -0.5 }),
  ] as Margin[])('marginTransform %o', (margin) =>
    slopes(([x]) => ops.marginTransform(x as Tensor, labels, margin), [[cosinesOf(N * C), [N, C]]]),
  );
  it.each([presetOf('elasticface'), cosface({ scale: 5 })] as Margin[])('marginTransform with margins %o', (margin) =>
    slopes(
      ([x, m]) => ops.marginTransform(x as Tensor, labels, margin, { margins: m as Tensor }),
      [
        [cosinesOf(N * C), [N, C]],
        [new Float64Array([0.2, 0.4, 0.5, 0.3]), [N]],
      ],
    ),
  );
  it.each([
    magface({ scale: 3, overflow: 'none' }),
    magface({ scale: 3, variant: 'am' }),
    arcface({ scale: featureNormScale() }),
  ] as Margin[])('marginTransform with norms %o', (margin) =>
    slopes(
      ([x, n]) => ops.marginTransform(x as Tensor, labels, margin, { norms: n as Tensor }),
      [
        [cosinesOf(N * C), [N, C]],
        [new Float64Array([5, 20, 60, 90]), [N]],
      ],
      1e-5,
    ),
  );
  it('curricularReweight', () =>
    slopes(
      ([x]) => ops.curricularReweight(x as Tensor, labels, { t: 0.4, margin: 0.5 }),
      [[cosinesOf(N * C), [N, C]]],
    ));
  it.each([0, 0.2])('softmaxCrossEntropy, smoothing %s', (labelSmoothing) =>
    slopes(([z]) => ops.softmaxCrossEntropy(z as Tensor, labels, { labelSmoothing }).loss, [[draw(N * C, 4), [N, C]]]),
  );
  it('binaryCrossEntropy', () =>
    slopes(
      ([z]) => ops.binaryCrossEntropy(z as Tensor, labels, { positiveWeight: 2, negativeWeight: 0.3 }).loss,
      [[draw(N * C, 4), [N, C]]],
    ));
  it('normRegularizer', () =>
    slopes(([n]) => ops.normRegularizer(n as Tensor, labels, magface()), [[new Float64Array([5, 20, 60, 90]), [N]]]));

  it('detached is a slope of the scale', () => {
    const c = cosinesOf(N * C);
    const { dCosines } = kernels.marginTransformBackwardSync(
      new Float64Array(N * C).fill(1),
      c,
      labels,
      arcface({ scale: 3, gradient: 'detached' }),
    );
    expect(new Set(dCosines)).toEqual(new Set([3]));
  });
});

describe('curricularReweight', () => {
  it('is what its sentence says', () => {
    const c = new Float64Array([0.8, 0.9, 0.1, 0.5, 0.9, 0.2]);
    const [t, margin] = [0.3, 0.5];
    const out = kernels.curricularReweightSync(c, new Int32Array([0, -1]), { t, margin });
    const threshold = Math.cos(Math.acos(0.8) + margin);
    const wanted = c.map((x, i) => (i > 0 && i < 3 && x > threshold ? x * (t + x) : x));
    out.forEach((x, i) => expect(x).toBeCloseTo(wanted[i] as number, 14));
  });
});

const f32 = (count: number, value = 0.5) => new Float32Array(count).fill(value);
const two = new Int32Array([0, 1]);

// --- out ------------------------------------------------------------------------------------------------------------

describe('out', () => {
  const N = 3;
  const C = 4;
  const labels = new Int32Array([1, -1, 3]);

  it('is written and returned', async () => {
    const x = draw(N * C);
    const out = { y: new Float64Array(N * C), norm: new Float64Array(N) };
    const wanted = kernels.normalizeSync(x, { rows: N });
    const got = kernels.normalizeSync(x, { rows: N, out });
    expect(got.y).toBe(out.y);
    expect(got.norm).toBe(out.norm);
    expect(got).toEqual(wanted);
    const y = zeros([N, C], 'float64');
    const { y: same, norm } = await kernels.normalize(tensor(x, [N, C]), { out: { y } });
    expect(same).toBe(y);
    expect(y.toArray()).toEqual(wanted.y);
    expect(norm.toArray()).toEqual(wanted.norm);
  });

  it('may be the argument of its shape', async () => {
    const cosines = cosinesOf(N * C);
    const margin = arcface({ scale: 8 });
    const logits = kernels.marginTransformSync(cosines, labels, margin);
    const dLogits = kernels.softmaxCrossEntropyBackwardSync(logits, labels);
    const { dCosines } = kernels.marginTransformBackwardSync(dLogits, cosines, labels, margin);
    const reweighted = kernels.curricularReweightSync(cosines, labels, { t: 0.2, margin: 0.5 });
    const back = kernels.curricularReweightBackwardSync(dLogits, cosines, labels, { t: 0.2, margin: 0.5 });

    const own = cosines.slice();
    expect(kernels.marginTransformSync(own, labels, margin, { out: own })).toBe(own);
    expect(own).toEqual(logits);
    expect(kernels.softmaxCrossEntropyBackwardSync(own, labels, { out: own })).toEqual(dLogits);
    expect(
      kernels.marginTransformBackwardSync(own, cosines, labels, margin, { out: { dCosines: own } }).dCosines,
    ).toEqual(dCosines);
    const over = cosines.slice();
    expect(
      kernels.marginTransformBackwardSync(dLogits, over, labels, margin, { out: { dCosines: over } }).dCosines,
    ).toEqual(dCosines);
    const again = cosines.slice();
    expect(kernels.curricularReweightSync(again, labels, { t: 0.2, margin: 0.5, out: again })).toEqual(reweighted);
    const d = dLogits.slice();
    expect(kernels.curricularReweightBackwardSync(d, cosines, labels, { t: 0.2, margin: 0.5, out: d })).toEqual(back);

    const x = tensor(cosines, [N, C]);
    expect(await kernels.marginTransform(x, labels, margin, { out: x })).toBe(x);
    expect(x.toArray()).toEqual(logits);

    const rows = draw(N * C);
    const { y, norm } = kernels.normalizeSync(rows, { rows: N });
    expect(kernels.normalizeSync(rows.slice(), { rows: N }).y).toEqual(y);
    const inPlace = rows.slice();
    kernels.normalizeSync(inPlace, { rows: N, out: { y: inPlace } });
    expect(inPlace).toEqual(y);
    const dx = kernels.normalizeBackwardSync(rows, y, norm);
    expect(kernels.normalizeBackwardSync(rows, inPlace, norm, { out: inPlace })).toEqual(dx);

    const w = draw(5 * C);
    const dCos = draw(N * 5);
    const wanted = kernels.cosineLogitsBackwardSync(dCos, rows, w, { rows: N });
    const [a, b] = [rows.slice(), w.slice()];
    expect(kernels.cosineLogitsBackwardSync(dCos, a, b, { rows: N, out: { dFeatures: a, dWeight: b } })).toEqual(
      wanted,
    );
  });

  it('may be nothing else that is read or written', async () => {
    const memoryOf = new Float32Array(64).fill(0.5);
    const x = memoryOf.subarray(0, 12);
    const shifted = memoryOf.subarray(4, 16);
    expect(() => kernels.marginTransformSync(x, labels, arcface(), { out: shifted })).toThrow(
      'marginTransform: expected out apart from cosines, or to be cosines itself, got memory that they share partly',
    );
    await expect(kernels.marginTransform(x, labels, arcface(), { out: shifted })).rejects.toThrow(ArgumentTypeError);
    expect(() => kernels.cosineLogitsSync(x, memoryOf.subarray(20, 36), { rows: 3, out: x })).toThrow(
      'cosineLogits: expected out apart from features, got the same memory',
    );
    const square = f32(9);
    expect(() => kernels.normalizeSync(square, { rows: 3, out: { y: f32(9), norm: square.subarray(0, 3) } })).toThrow(
      /out.norm apart from x/,
    );
    const one = f32(3);
    expect(() => kernels.normalizeSync(f32(3), { rows: 3, out: { y: one, norm: one } })).toThrow(
      /out.norm apart from out.y/,
    );
    const t = zeros([3, 4]);
    expect(() => kernels.subCenterMaxSync(t, 1, { out: { cosines: t.reshape([3, 4]) } })).toThrow(/the same memory/);
  });

  it('and its sibling take any typed array, shared memory too', () => {
    const shared = new Float32Array(new SharedArrayBuffer(48)).fill(0.25);
    const labels2 = new Int32Array([1, -1, 3]);
    expect(kernels.softmaxCrossEntropyBackwardSync(shared, labels2, { out: shared })).toBe(shared);
    expect(shared[4]).toBe(0);
    expect(shared[1]).toBeCloseTo(-0.375, 6);
  });
});

// --- both ways of calling, and threads --------------------------------------------------------------------------------

describe('both ways of calling', () => {
  it.each([
    [3, 5, 4, 2],
    [37, 4099, 24, 3],
  ])('are the same to the bit, on arrays and on tensors: N %i, C %i, D %i, K %i', async (N, C, D, K) => {
    const wanted = bits(await everything(sync, N, C, D, K, arrays));
    expect(bits(await everything(async, N, C, D, K, arrays))).toEqual(wanted);
    expect(bits(await everything(async, N, C, D, K, tensorsOn()))).toEqual(wanted);
    expect(bits(await everything(sync, N, C, D, K, tensorsOn()))).toEqual(wanted);
  });

  it('and any number of threads', async () => {
    setNumThreads(1);
    const wanted = bits(await everything(sync, 37, 4099, 24, 3, arrays));
    for (const threads of [2, 7]) {
      setNumThreads(threads);
      expect(bits(await everything(sync, 37, 4099, 24, 3, arrays))).toEqual(wanted);
    }
    setNumThreads(2);
  });

  it('lets the event loop turn meanwhile', async () => {
    const [N, C] = [64, 40_000];
    const logits = new Float32Array(N * C).fill(0.5);
    let turns = 0;
    let done = false;
    const count = () => {
      turns++;
      if (!done) setImmediate(count);
    };
    setImmediate(count);
    await kernels.softmaxCrossEntropyBackward(logits, labelsOf(N, C), { out: logits });
    done = true;
    // 10 MB there and back in parts of 1 MiB.
    expect(turns).toBeGreaterThan(15);
  });

  it('keeps what it needs when tensors are disposed meanwhile, and leaves none behind', async () => {
    const before = memory().tensors;
    const logits = tensor(new Float32Array(64 * 4000).fill(0.5), [64, 4000]);
    const pending = kernels.softmaxCrossEntropyBackward(logits, labelsOf(64, 4000));
    logits.dispose();
    const d = await pending;
    expect(d.toArray()[1]).toBeGreaterThan(0);
    d.dispose();
    expect(memory().tensors).toBe(before);
    // At once or not, results outlive a scope that was open at the call.
    const small = tidy(() => kernels.softmaxCrossEntropyBackward(zeros([2, 3]), two));
    const result = await small;
    expect(result.disposed).toBe(false);
    result.dispose();
  });
});

// --- the ends of the range ----------------------------------------------------------------------------------------------

const finite = (...all: ArrayLike<number>[]) =>
  all.forEach((values) => expect(Array.from(values).every(Number.isFinite), Array.from(values).join()).toBe(true));

describe.each([
  ['float32', Float32Array, 3e38],
  ['float64', Float64Array, 1.7e308],
] as const)('extremes of %s', (_, Array_, huge) => {
  const of = (...values: number[]) => new Array_(values) as Float64Array;

  it.each([1e30, huge])('softmaxCrossEntropy with logits ±%d', (top) => {
    const logits = of(top, -top, 0, top, top, -top, -top, -top, top);
    const labels = new Int32Array([0, 1, 2]);
    const { loss, rowLoss, lse } = kernels.softmaxCrossEntropySync(logits, labels, { labelSmoothing: 0.1 });
    const d = kernels.softmaxCrossEntropyBackwardSync(logits, labels);
    finite([loss], rowLoss, lse, d);
    [0, 0, 0, 1 / 6, -1 / 6, 0, 0, 0, 0].forEach((wanted, i) => expect(d[i]).toBeCloseTo(wanted, 6));
    expect(lse[1]).toBe(of(top)[0]);
    expect(kernels.softmaxCrossEntropySync(of(top, top), new Int32Array([1])).loss).toBeCloseTo(Math.LN2, 6);
  });

  it('softmaxCrossEntropy of a learned row keeps its digits', () => {
    const logits = of(0, 60, 1);
    const { loss } = kernels.softmaxCrossEntropySync(logits, new Int32Array([1]));
    const wanted = Math.exp(-60) + Math.exp(-59);
    expect(loss / wanted).toBeCloseTo(1, 5);
    const d = kernels.softmaxCrossEntropyBackwardSync(logits, new Int32Array([1]));
    expect((d[1] as number) / -wanted).toBeCloseTo(1, 5);
  });

  it('one class', () => {
    const { loss, rowLoss, lse } = kernels.softmaxCrossEntropySync(of(3, -5), new Int32Array([0, -1]));
    expect([loss, ...rowLoss, ...lse]).toEqual([0, 0, 0, 3, -5]);
    expect([...kernels.softmaxCrossEntropyBackwardSync(of(3, -5), new Int32Array([0, -1]))].map(Math.abs)).toEqual([
      0, 0,
    ]);
    const cosines = of(0.5, -0.5);
    finite(kernels.marginTransformSync(cosines, new Int32Array([0, 0]), arcface()));
    finite(kernels.curricularReweightSync(cosines, new Int32Array([0, 0]), { t: 0, margin: 0.5 }));
    expect([...kernels.subCenterMaxSync(cosines, 1, { rows: 2 }).cosines]).toEqual([0.5, -0.5]);
  });

  it('every label −1', () => {
    const none = new Int32Array([-1, -1]);
    const z = of(1, 2, 3, 4, 5, 6);
    const { loss, rowLoss, lse } = kernels.softmaxCrossEntropySync(z, none);
    expect([loss, ...rowLoss]).toEqual([0, 0, 0]);
    expect(lse[0]).toBeCloseTo(Math.log(Math.exp(1) + Math.exp(2) + Math.exp(3)), 5);
    expect([...kernels.softmaxCrossEntropyBackwardSync(z, none, { labelSmoothing: 0.2 })]).toEqual(Array(6).fill(0));
    expect(kernels.binaryCrossEntropySync(z, none).loss).toBe(0);
    expect([...kernels.binaryCrossEntropyBackwardSync(z, none)]).toEqual(Array(6).fill(0));
    const c = of(0.1, 0.9, -0.5, 1, -1, 0);
    expect([...kernels.marginTransformSync(c, none, curricularface({ scale: 1, t: 0.5 }))]).toEqual([...c]);
    expect([...kernels.curricularReweightSync(c, none, { t: 0.5, margin: 0.5 })]).toEqual([...c]);
    expect(kernels.normRegularizerSync(of(1, 2), none, magface())).toBe(0);
  });

  it('cosines of ±1, and past them by rounding', () => {
    const c = of(1, -1, 1.0000001, -1, 1, -1.0000001, -1, 1, 1);
    const labels = new Int32Array([0, 1, 0]);
    const norms = of(0, 1e30, 50);
    for (const margin of [
      arcface(),
      arcface({ overflow: 'none' }),
      sphereface({ gradient: 'exact' }),
      sphereface2({ gradient: 'exact' }),
      uniface(),
      mvsoftmax({ variant: 'arc' }),
      curricularface({ t: 1 }),
      magface(),
      adaface(),
      arcface({ scale: featureNormScale() }),
    ] as Margin[]) {
      const logits = kernels.marginTransformSync(c, labels, margin, { norms });
      const { dCosines, dNorms, dScale, dBias } = kernels.marginTransformBackwardSync(
        of(...Array(9).fill(1e30)),
        c,
        labels,
        margin,
        { norms },
      );
      finite(logits, dCosines, dNorms as Float64Array, [dScale, dBias]);
    }
  });

  it('rows of any finite length', () => {
    const small = huge === 3e38 ? 1e-40 : 1e-310;
    const x = of(3 * small, 4 * small, 0, 0, huge / 2, huge / 4, 3e-25, 4e-25);
    const { y, norm } = kernels.normalizeSync(x, { rows: 4 });
    finite(y, norm);
    expect(y[4]).toBeCloseTo(2 / Math.sqrt(5), 6);
    expect((norm[3] as number) / 5e-25).toBeCloseTo(1, 5);
    const cosines = kernels.cosineLogitsSync(x, of(huge / 2, 0, 1e-11, 0), { rows: 4 });
    finite(cosines);
    expect(cosines[4]).toBeCloseTo(2 / Math.sqrt(5), 6);
    const { dFeatures, dWeight } = kernels.cosineLogitsBackwardSync(
      of(...Array(8).fill(1e30)),
      x,
      of(huge / 2, 0, 1e-11, 0),
      { rows: 4 },
    );
    finite(dFeatures, dWeight);
    expect([...dFeatures.slice(0, 4)]).toEqual([0, 0, 0, 0]); // shorter than 1e-12: no direction
    finite(kernels.normalizeBackwardSync(of(...Array(8).fill(1e30)), y, norm));
  });

  it('ties of centers go to the first', () => {
    const { cosines, centers } = kernels.subCenterMaxSync(of(0.5, 0.5, 0.5, -0, 0, -1), 3, { rows: 1 });
    expect([...cosines].map((x) => x + 0)).toEqual([0.5, 0]);
    expect([...(centers as Int32Array)]).toEqual([0, 0]);
    expect([...kernels.subCenterMaxBackwardSync(of(2, 3), centers, 3, { rows: 1 })]).toEqual([2, 0, 0, 3, 0, 0]);
  });

  it('binaryCrossEntropy with logits ±1e30', () => {
    const logits = of(1e30, -1e30, 0, -1e30, 1e30, 1e30);
    const labels = new Int32Array([0, 0]);
    const { loss, rowLoss } = kernels.binaryCrossEntropySync(logits, labels);
    finite([loss], rowLoss, kernels.binaryCrossEntropyBackwardSync(logits, labels));
    expect((rowLoss[0] as number) / Math.LN2).toBeCloseTo(1, 5);
  });
});
