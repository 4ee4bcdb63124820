import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { native } from '../../lib/binding.js';
import { MarginHead } from '../../lib/heads/index.js';
import {
  arcface,
  combined,
  cosface,
  curricularface,
  type Margin,
  mvsoftmax,
  softmax,
  sphereface,
} from '../../lib/margins/index.js';
import { marginSoftmax } from '../../lib/ops/index.js';
import { Sgd } from '../../lib/optim/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { memory, parameter, tensor, tidy } from '../../lib/tensor.js';

const features = (n: number, d: number, seed = 5) => normalArray(n * d, 1, new Random(seed));
const labels = (n: number, c: number, seed = 6) => {
  const rng = new Random(seed);
  return Int32Array.from({ length: n }, () => Math.floor(rng.uniform() * (c + 1)) - 1);
};
const worst = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((m, v, i) => Math.max(m, Math.abs(v - (b[i] as number))), 0);

describe('MarginHead.step', () => {
  it.each([
    { N: 1, C: 1, D: 8, why: 'one class: the loss is 0' },
    { N: 3, C: 1009, D: 17, why: 'prime sizes: every tile has a ragged edge' },
    { N: 33, C: 130, D: 64, why: 'one row and a few classes past a tile' },
  ])('is forward, backward and update in one: $why', ({ N, C, D }) => {
    const margin = arcface({ scale: 30 });
    const head = new MarginHead({ numClasses: C, embeddingSize: D, margin, weightDecay: 1e-3 });
    const [x, y] = [features(N, D), labels(N, C)];
    const W = parameter(tensor(head.weight.toArray(), [C, D]));
    const X = parameter(tensor(x, [N, D]));
    const sgd = new Sgd([['W', W]], { momentum: 0.9, weightDecay: 1e-3 });
    for (let step = 0; step < 3; step++) {
      const result = head.stepSync(x, y, { lr: 0.3 });
      tidy(() => {
        const { loss, accuracy } = marginSoftmax(X, W, y, margin);
        backward(loss);
        expect(result.loss).toBeCloseTo(loss.item(), 4);
        expect(result.accuracy).toBe(accuracy);
      });
      expect(worst(result.gradEmbeddings, X.grad?.toArray() as Float32Array)).toBeLessThan(1e-5);
      sgd.step(0.3);
      X.grad?.dispose();
      X.grad = undefined;
      const updated = head.weight.toArray() as Float32Array;
      expect(worst(updated, W.toArray()) / Math.max(...updated.map(Math.abs))).toBeLessThan(1e-5);
    }
    if (C === 1) expect(head.stepSync(x, new Int32Array(N), { lr: 0 }).loss).toBeCloseTo(0, 6);
  });

  it('gives the same bits for any number of threads', () => {
    const threads = native.status().threads;
    const run = (n: number) => {
      native.setNumThreads(n);
      const head = new MarginHead({ numClasses: 3001, embeddingSize: 48 });
      const { gradEmbeddings, loss } = head.stepSync(features(70, 48), labels(70, 3001), { lr: 0.1 });
      return { gradEmbeddings, loss, weight: head.weight.toArray() };
    };
    const one = run(1);
    for (const n of [2, 3, 5]) expect(run(n)).toEqual(one);
    native.setNumThreads(threads);
  });

  it('is asynchronous, in the order of the calls, and the same as stepSync', async () => {
    const [a, b] = [0, 1].map(() => new MarginHead({ numClasses: 500, embeddingSize: 32 })) as [MarginHead, MarginHead];
    const [x, y] = [features(16, 32), labels(16, 500)];
    const pending = [0.1, 0.2, 0.3].map((lr) => a.step(x, y, { lr }));
    for (const [i, lr] of [0.1, 0.2, 0.3].entries()) expect(b.stepSync(x, y, { lr })).toEqual(await pending[i]);
    expect(a.weight.toArray()).toEqual(b.weight.toArray());
  });

  it.each([
    ['without a state', { margin: softmax() }],
    ['with one', { margin: curricularface() }],
    ['that samples', { sampleRate: 0.5 }],
  ])('refuses stepSync while another thread reads or writes the weights: of a head %s', async (_, options) => {
    const head = new MarginHead({ numClasses: 50, embeddingSize: 8, onAdvice: () => {}, ...options });
    const twin = new MarginHead({ numClasses: 50, embeddingSize: 8, onAdvice: () => {}, ...options });
    const [x, y, lr] = [features(4, 8), labels(4, 50), { lr: 0.1 }];
    const refused = (count: number) =>
      expect(() => head.stepSync(x, y, lr)).toThrow(
        `MarginHead.stepSync: expected no step() or inspect() under way, got ${count}\n  fix: await each first`,
      );
    const steps = [head.step(x, y, lr), head.step(x, y, lr)];
    refused(2);
    await Promise.all(steps);
    const look = head.inspect(x, y);
    refused(1);
    await look;
    const failed = head.step(x, new Int32Array(4).fill(50), lr);
    refused(1);
    await expect(failed).rejects.toThrow('got 50 at row 0');
    for (const _ of steps) twin.stepSync(x, y, lr);
    expect(head.stepSync(x, y, lr)).toEqual(twin.stepSync(x, y, lr));
  });

  it('does nothing to the gradient when every row is without a target, and decays all the same', () => {
    const head = new MarginHead({ numClasses: 20, embeddingSize: 8, momentum: 0, weightDecay: 0.5 });
    const before = head.weight.toArray() as Float32Array;
    const { loss, labelled, gradEmbeddings } = head.stepSync(features(4, 8), new Int32Array(4).fill(-1), { lr: 0.1 });
    expect([loss, labelled]).toEqual([0, 0]);
    expect(gradEmbeddings.every((g) => g === 0)).toBe(true);
    expect(
      worst(
        head.weight.toArray(),
        before.map((w) => w * 0.95),
      ),
    ).toBeLessThan(1e-7);
  });

  it.each([mvsoftmax({ scale: 64 }), curricularface({ t: 0.4 })])(
    'gives the same bits for any number of threads with hard negatives: $method',
    (margin) => {
      const threads = native.status().threads;
      const run = (n: number) => {
        native.setNumThreads(n);
        const head = new MarginHead({ numClasses: 1500, embeddingSize: 24, margin });
        const { gradEmbeddings, loss } = head.stepSync(features(40, 24), labels(40, 1500), { lr: 0.1 });
        return { gradEmbeddings, loss, weight: head.weight.toArray(), t: head.t?.item() };
      };
      const one = run(1);
      for (const n of [2, 3]) expect(run(n)).toEqual(one);
      native.setNumThreads(threads);
    },
  );

  const head = new MarginHead({ numClasses: 10, embeddingSize: 4 });
  it.each([
    [
      'a label out of range',
      () => head.stepSync(features(2, 4), new Int32Array([3, 10]), { lr: 1 }),
      /labels in \[0, 10\) or -1, got 10 at row 1/,
    ],
    ['a NaN', () => head.stepSync(new Float32Array([1, 2, Number.NaN, 4]), new Int32Array([3]), { lr: 1 }), /row 0/],
    [
      'half a row',
      () => head.stepSync(new Float32Array(6), new Int32Array(1), { lr: 1 }),
      /features \[N, 4\], got 6 values/,
    ],
    [
      'too few labels',
      () => head.stepSync(new Float32Array(8), new Int32Array(1), { lr: 1 }),
      /expected 2 labels .* got 1/,
    ],
    ['labels of another kind', () => head.stepSync(new Float32Array(4), [1] as never, { lr: 1 }), /Int32Array/],
    ['no lr', () => head.stepSync(new Float32Array(4), new Int32Array(1), {} as never), /finite lr/],
    [
      'a misspelt option',
      () => head.stepSync(features(2, 4), new Int32Array(2), { lr: 1, weigthDecay: 1 } as never),
      /options lr, momentum, weightDecay, got 'weigthDecay'/,
    ],
    [
      'a momentum past 1',
      () => head.stepSync(features(2, 4), new Int32Array(2), { lr: 1, momentum: 5 }),
      /momentum in \[0, 1\), got 5/,
    ],
    [
      'a margin by name',
      () => new MarginHead({ numClasses: 2, embeddingSize: 4, margin: 'arcface' as never }),
      /a margin such as arcface\(\)/,
    ],
    [
      'a margin that is text',
      () => new MarginHead({ numClasses: 2, embeddingSize: 4, margin: { ...arcface(), margin: '0.5' } as never }),
      /margin\.margin, a number, got '0\.5'/,
    ],
    [
      'a seed that is none',
      () => new MarginHead({ numClasses: 2, embeddingSize: 4, seed: Number.NaN }),
      /seed, an integer/,
    ],
    [
      'a negative weightDecay',
      () => new MarginHead({ numClasses: 2, embeddingSize: 4, weightDecay: -1 }),
      /weightDecay of at least 0/,
    ],
    [
      'no classes',
      () => new MarginHead({ numClasses: 0, embeddingSize: 4 }),
      /numClasses, an integer of at least 1, got 0/,
    ],
  ])('refuses %s and changes nothing', (_, f, message) => {
    const before = head.weight.toArray();
    const tensors = memory().tensors;
    expect(f).toThrow(message);
    expect(head.weight.toArray()).toEqual(before);
    expect(memory().tensors).toBe(tensors);
  });

  it('rejects for the same reasons', async () => {
    await expect(head.step(features(2, 4), new Int32Array([3, 10]), { lr: 1 })).rejects.toThrow(/got 10 at row 1/);
  });
});

describe('properties of the loss', () => {
  const size = fc.record({
    N: fc.integer({ min: 1, max: 20 }),
    C: fc.integer({ min: 1, max: 200 }),
    D: fc.integer({ min: 1, max: 40 }),
    seed: fc.nat(1000),
  });
  const run = (
    x: Float32Array | Float64Array,
    w: Float32Array | Float64Array,
    y: Int32Array,
    [N, C, D]: readonly [number, number, number],
    margin: Margin = arcface({ scale: 16 }),
  ) =>
    tidy(() => {
      const X = parameter(tensor(Float64Array.from(x), [N, D]));
      const W = parameter(tensor(Float64Array.from(w), [C, D]));
      const { loss } = marginSoftmax(X, W, y, margin);
      backward(loss);
      const out = { loss: loss.item(), dX: X.grad?.toArray() as Float64Array, dW: W.grad?.toArray() as Float64Array };
      for (const p of [X, W]) {
        p.grad?.dispose();
        p.dispose();
      }
      return out;
    });

  it('permuting the classes permutes dW', () => {
    fc.assert(
      fc.property(size, ({ N, C, D, seed }) => {
        const [x, w, y] = [features(N, D, seed), features(C, D, seed + 1), labels(N, C, seed)];
        const shift = seed % C;
        const moved = (row: number) => (row + shift) % C;
        const w2 = new Float32Array(C * D);
        for (let c = 0; c < C; c++) w2.set(w.subarray(c * D, (c + 1) * D), moved(c) * D);
        const a = run(x, w, y, [N, C, D]);
        const b = run(
          x,
          w2,
          y.map((label) => (label < 0 ? label : moved(label))),
          [N, C, D],
        );
        expect(b.loss).toBeCloseTo(a.loss, 9);
        for (let c = 0; c < C; c++) {
          expect(
            worst(b.dW.subarray(moved(c) * D, (moved(c) + 1) * D), a.dW.subarray(c * D, (c + 1) * D)),
          ).toBeLessThan(1e-9);
        }
      }),
      { numRuns: 25 },
    );
  });

  it('splitting the batch adds losses and gradients', () => {
    fc.assert(
      fc.property(size, ({ N, C, D, seed }) => {
        const [x, w, y] = [features(2 * N, D, seed), features(C, D, seed + 1), labels(2 * N, C, seed)];
        const counted = (part: Int32Array) => part.filter((label) => label >= 0).length;
        const [first, second] = [y.slice(0, N), y.slice(N)];
        const whole = run(x, w, y, [2 * N, C, D]);
        const a = run(x.slice(0, N * D), w, first, [N, C, D]);
        const b = run(x.slice(N * D), w, second, [N, C, D]);
        const total = Math.max(1, counted(y));
        const mean = (u: number, v: number) => (u * counted(first) + v * counted(second)) / total;
        expect(whole.loss).toBeCloseTo(mean(a.loss, b.loss), 8);
        expect(
          worst(
            whole.dW,
            a.dW.map((v, i) => mean(v, b.dW[i] as number)),
          ),
        ).toBeLessThan(1e-9);
      }),
      { numRuns: 25 },
    );
  });

  it('a margin of 0 is plain softmax, and feature norms do not matter', () => {
    fc.assert(
      fc.property(size, ({ N, C, D, seed }) => {
        const [x, w, y] = [features(N, D, seed), features(C, D, seed + 1), labels(N, C, seed)];
        const plain = run(x, w, y, [N, C, D], softmax({ scale: 16 }));
        expect(run(x, w, y, [N, C, D], cosface({ scale: 16, margin: 0 })).loss).toBeCloseTo(plain.loss, 9);
        expect(run(x, w, y, [N, C, D], arcface({ scale: 16, margin: 0, overflow: 'none' })).loss).toBeCloseTo(
          plain.loss,
          7,
        );
        expect(
          run(
            Float64Array.from(x, (v) => v * 1e3),
            w,
            y,
            [N, C, D],
            softmax({ scale: 16 }),
          ).loss,
        ).toBeCloseTo(plain.loss, 9);
      }),
      { numRuns: 25 },
    );
  });

  it('no finite input gives a value that is not finite', () => {
    const D = 4;
    const unit = [1, 0, 0, 0];
    const rows = [
      unit,
      unit.map((v) => -v),
      [0, 0, 0, 0],
      unit.map((v) => v * 1e-20),
      unit.map((v) => v * 1e18),
      [1e-20, 1e18, 0, 1],
    ];
    const W = [unit, unit.map((v) => -v), [0, 0, 0, 0], [0, 1e18, 0, 0], [1e-20, 0, 0, 0]];
    for (const margin of [
      softmax(),
      cosface(),
      arcface(),
      arcface({ overflow: 'none' }),
      arcface({ overflow: 'easy' }),
      arcface({ overflow: 'clamp' }),
      arcface({ gradient: 'detached' }),
      combined(),
      combined({ m1: 1.35, overflow: 'clamp' }),
      sphereface({ margin: 4, gradient: 'exact' }),
      mvsoftmax({ t: 1 }),
      mvsoftmax({ variant: 'arc', overflow: 'none' }),
      curricularface({ t: 1 }),
    ] as Margin[]) {
      for (const scale of [1, 64, 512]) {
        const y = Int32Array.from(rows, (_, i) => (i === 0 ? 0 : (i % 6) - 1));
        const head = new MarginHead({ numClasses: W.length, embeddingSize: D, margin: { ...margin, scale } });
        head.weight.set(Float32Array.from(W.flat()));
        const { loss, gradEmbeddings } = head.stepSync(Float32Array.from(rows.flat()), y, { lr: 0.1 });
        expect(Number.isFinite(loss), `${margin.method} ${scale} loss`).toBe(true);
        expect(gradEmbeddings.every(Number.isFinite), `${JSON.stringify(margin)} ${scale} ${gradEmbeddings}`).toBe(
          true,
        );
        expect((head.weight.toArray() as Float32Array).every(Number.isFinite), `${margin.method} ${scale} W`).toBe(
          true,
        );
        head.dispose();
      }
    }
  });
});
