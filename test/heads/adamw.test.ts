/** A head with AdamW: its step is marginSoftmax's gradients and AdamW's formula, for the weights and what is learned beside them. */
import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { NonFiniteError } from '../../lib/errors.js';
import { MarginHead } from '../../lib/heads/index.js';
import {
  adaptiveface,
  arcface,
  curricularface,
  learnedScale,
  type Margin,
  sphereface2,
  subcenter,
} from '../../lib/margins/index.js';
import { marginSoftmax } from '../../lib/ops/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { parameter, tensor, tidy } from '../../lib/tensor.js';
import { adamwStep, moments } from '../optim/reference.js';

const [N, C, D] = [24, 130, 16];
const features = (seed = 5) => normalArray(N * D, 4, new Random(seed));
const labels = (seed = 6) => {
  const rng = new Random(seed);
  return Int32Array.from({ length: N }, (_, i) => (i % 7 === 3 ? -1 : Math.floor(rng.uniform() * C)));
};
const headOf = (margin: Margin, options: object = {}) =>
  new MarginHead({
    numClasses: C,
    embeddingSize: D,
    margin,
    optimizer: 'adamw',
    seed: 3,
    onAdvice: () => {},
    ...options,
  });
const apart = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((worst, x, i) => Math.max(worst, Math.abs(x - (b[i] as number))), 0);
const allOf = (head: MarginHead) => Object.fromEntries(head.namedTensors().map(([name, x]) => [name, x.toArray()]));
const options = { betas: [0.8, 0.95] as const, eps: 1e-4, weightDecay: 0.05 };

describe("a head with optimizer 'adamw'", () => {
  it.each<[string, Margin]>([
    ['one center a class', arcface({ scale: 16 })],
    ['three centers a class', subcenter({ scale: 16 })],
    ['a gradient along the rows too', arcface({ scale: 16, projectWeightGradient: false })],
  ])('is the gradient of the loss and a step of AdamW, with %s', (_, margin) => {
    const head = headOf(margin, options);
    const rows = C * (margin.subCenters ?? 1);
    const wanted = moments(head.weight.toArray());
    for (let step = 1; step <= 5; step++) {
      const [x, y, lr] = [features(step), labels(step), 0.02 / step];
      tidy(() => {
        const W = parameter(tensor(Float64Array.from(head.weight.toArray()), [rows, D]));
        const { loss } = marginSoftmax(tensor(Float64Array.from(x), [N, D]), W, y, margin);
        backward(loss);
        expect(head.stepSync(x, y, { lr }).loss).toBeCloseTo(loss.item(), 4);
        adamwStep(wanted, W.grad?.toArray() as Float64Array, step, { lr, ...options });
      });
      expect(apart(head.weight.toArray(), wanted.weight)).toBeLessThan(2e-5);
      expect(apart(head.optimizerState.get('expAvg')?.toArray() ?? [], wanted.expAvg)).toBeLessThan(
        1e-5 * Math.max(...wanted.expAvg.map(Math.abs)),
      );
      expect(apart(head.optimizerState.get('expAvgSq')?.toArray() ?? [], wanted.expAvgSq)).toBeLessThan(
        2e-5 * Math.max(...wanted.expAvgSq),
      );
      expect(head.state.get('steps')?.item()).toBe(step);
    }
  });

  it.each(['dScale', 'dBias'] as const)('moves the learned number of %s by its own AdamW, without decay', (of) => {
    const margin = of === 'dScale' ? arcface({ scale: learnedScale({ initial: 16 }) }) : sphereface2();
    const name = of === 'dScale' ? 'scale' : 'bias';
    const head = headOf(margin, options);
    const numberOf = (each: string) => (head.state.get(each)?.item() ?? Number.NaN) as number;
    for (let step = 1; step <= 4; step++) {
      const before = { weight: numberOf(name), m: numberOf(`${name}.expAvg`), v: numberOf(`${name}.expAvgSq`) };
      head.stepSync(features(step), labels(step), { lr: 0.05 });
      const g = (numberOf(`${name}.expAvg`) - 0.8 * before.m) / 0.2; // what the step used
      expect(g).not.toBe(0);
      expect(numberOf(`${name}.expAvgSq`)).toBeCloseTo(0.95 * before.v + 0.05 * g * g, 10);
      const root = Math.sqrt(numberOf(`${name}.expAvgSq`) / (1 - 0.95 ** step)) + 1e-4;
      const wanted = before.weight - (0.05 * numberOf(`${name}.expAvg`)) / (1 - 0.8 ** step) / root;
      expect(numberOf(name)).toBeCloseTo(wanted, 10);
    }
  });

  it('moves AdaptiveFace’s margins by it, where no row is by the reward alone', async () => {
    const head = headOf(adaptiveface({ reward: 13 }), options);
    const wanted = moments((head.state.get('margins')?.toArray() ?? []) as Float32Array);
    await head.step(features(), labels(), { lr: 0.05 });
    adamwStep(wanted, new Float64Array(C).fill(-13 / C), 1, { lr: 0.05, ...options, weightDecay: 0 });
    const after = head.state.get('margins')?.toArray() as Float32Array;
    const seen = new Set(labels());
    for (const j of after.keys()) if (!seen.has(j)) expect(after[j]).toBeCloseTo(wanted.weight[j] as number, 6);
    expect([...head.state.keys()]).toEqual(['steps', 'margins', 'margins.expAvg', 'margins.expAvgSq']);
  });

  it('is the same by step and by stepSync, in the order of the calls', async () => {
    const [a, b] = [headOf(arcface()), headOf(arcface())];
    const pending = [1, 2, 3].map((i) => a.step(features(i), labels(i), { lr: 0.01 / i }));
    for (const [i, each] of pending.entries())
      expect(b.stepSync(features(i + 1), labels(i + 1), { lr: 0.01 / (i + 1) })).toEqual(await each);
    expect(allOf(a)).toEqual(allOf(b));
  });

  it('goes on from its tensors with the same bits', () => {
    const [whole, second] = [headOf(curricularface()), headOf(curricularface(), { seed: 9 })];
    for (const i of [1, 2]) whole.stepSync(features(i), labels(i), { lr: 0.01 });
    const theirs = new Map(second.namedTensors());
    for (const [name, x] of whole.namedTensors()) theirs.get(name)?.set(x.toArray() as Float32Array);
    for (const head of [whole, second]) head.stepSync(features(3), labels(3), { lr: 0.01 });
    expect(allOf(second)).toEqual(allOf(whole));
  });

  it('changes nothing when a step fails', async () => {
    const head = headOf(arcface());
    head.stepSync(features(), labels(), { lr: 0.01 });
    const before = allOf(head);
    const spoiled = features();
    spoiled[3 * D] = Number.NaN;
    expect(() => head.stepSync(spoiled, labels(), { lr: 0.01 })).toThrow(NonFiniteError);
    await expect(head.step(features(), labels().fill(C), { lr: 0.01 })).rejects.toThrow('expected labels in');
    expect(allOf(head)).toEqual(before);
    head.weight.set(new Float32Array(C * D).fill(Number.NaN, D, 2 * D));
    const poisoned = allOf(head);
    expect(() => head.stepSync(features(), labels(), { lr: 0.01 })).toThrow(/weights are not finite any more/);
    expect(allOf(head)).toEqual(poisoned);
  });

  it('holds what a checkpoint needs', () => {
    const shapes = headOf(subcenter())
      .namedTensors()
      .map(([name, { shape, dtype }]) => [name, dtype, [...shape]]);
    expect(shapes).toEqual([
      ['weight', 'float32', [3 * C, D]],
      ['expAvg', 'float32', [3 * C, D]],
      ['expAvgSq', 'float32', [3 * C, D]],
      ['steps', 'float64', [1]],
    ]);
  });

  const head = headOf(arcface());
  const step = (rest: object) => () => head.stepSync(features(), labels(), { lr: 0.1, ...rest });
  it.each<[string, () => unknown, RegExp]>([
    ['a velocity', () => head.velocity, /^MarginHead\.velocity: expected a head with optimizer 'sgd' .*, got 'adamw'/],
    [
      'an unknown optimizer',
      () => headOf(arcface(), { optimizer: 'adam' }),
      /^MarginHead: expected optimizer 'sgd' or 'adamw', got 'adam'/,
    ],
    [
      "SGD's momentum",
      () => headOf(arcface(), { momentum: 0.9 }),
      /^MarginHead: expected options .* betas, eps, .*, got 'momentum'/,
    ],
    [
      "AdamW's betas of SGD",
      () => headOf(arcface(), { optimizer: 'sgd', betas: [0.9, 0.9] }),
      /^MarginHead: expected options .* momentum, .*, got 'betas'/,
    ],
    [
      "a step's momentum",
      step({ momentum: 0.9 }),
      /^MarginHead\.stepSync: expected options lr, betas, eps, weightDecay, got 'momentum'/,
    ],
    [
      "a step's betas",
      step({ betas: [1, 1] }),
      /^MarginHead\.stepSync: expected betas, two numbers in \[0, 1\), got \[1, 1\]/,
    ],
    ["a step's eps", step({ eps: Number.NaN }), /^MarginHead\.stepSync: expected a finite eps above 0, got NaN/],
  ])('%s is refused', (_, call, message) => {
    expect(call).toThrow(message);
  });

  it('takes numbers for one step', () => {
    const [one, other] = [headOf(arcface()), headOf(arcface(), { weightDecay: 0.5 })];
    one.stepSync(features(), labels(), { lr: 0.1, weightDecay: 0.5 });
    other.stepSync(features(), labels(), { lr: 0.1 });
    expect(allOf(one)).toEqual(allOf(other));
  });
});
