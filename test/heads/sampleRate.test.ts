/** Partial FC: a step of a head that samples is a step of the sampled rows alone. */
import { describe, expect, it } from 'vitest';
import { native } from '../../lib/binding.js';
import { MarginHead, type MarginHeadOptions, sampledClasses } from '../../lib/heads/index.js';
import {
  adacosScale,
  adaptiveface,
  arcface,
  initialBias,
  type Margin,
  magface,
  sphereface2,
  uniface,
} from '../../lib/margins/index.js';
import { marginSoftmax } from '../../lib/ops/index.js';
import { Random } from '../../lib/random.js';
import { memory, Tensor, tensor } from '../../lib/tensor.js';
import { emulatedCuda } from '../emulatedCuda.js';

if (emulatedCuda) process.env.FLASHMARGIN_CUDA ??= emulatedCuda;

const N = 12;
const D = 20;

function batch(numClasses: number, seed: number): { features: Float32Array; labels: Int32Array } {
  const random = new Random(seed);
  return {
    features: Float32Array.from({ length: N * D }, () => random.normal()),
    labels: Int32Array.from({ length: N }, (_, i) => (i === 3 ? -1 : Math.floor(random.uniform() * numClasses))),
  };
}

/** The classes of step `step`, and the labels' places among them. */
function sampleOf(labels: Int32Array, numClasses: number, count: number, seed: number, step: number) {
  const { classes, labels: places } = native.sampleClasses(tensor(labels, [N]).handle, numClasses, count, seed, step);
  const values = (handle: typeof classes) => [...new Tensor(handle).toArray()].map(Number);
  return { classes: values(classes), places: Int32Array.from(values(places)) };
}

const word = (z: bigint) => BigInt.asUintN(64, z);
/** SplitMix64's finaliser with the constants of Stafford's mix13. */
function mix(z: bigint): bigint {
  const first = word((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
  const second = word((first ^ (first >> 27n)) * 0x94d049bb133111ebn);
  return second ^ (second >> 31n);
}
/** class_draw of native/cpu/class_sample.h. */
function classDraw(seed: number, step: number, j: number): number {
  const key = word((mix(BigInt(seed)) + BigInt(step)) * 0x9e3779b97f4a7c15n + 0x632be59bd9b4e019n);
  return Number(mix(mix(word(BigInt(j) + key)) ^ key) >> 32n);
}

/** A head, and what it advises. */
function advised(options: Omit<MarginHeadOptions, 'embeddingSize'>): { head: MarginHead; said: string[] } {
  const said: string[] = [];
  return { head: new MarginHead({ embeddingSize: D, onAdvice: (sentence) => said.push(sentence), ...options }), said };
}

const rowsOf = (x: Tensor, classes: readonly number[], K: number) => {
  const all = x.toArray() as Float32Array;
  return Float32Array.from(classes.flatMap((c) => [...all.subarray(c * K * D, (c + 1) * K * D)]));
};

describe('the classes of a step', () => {
  it('are the batch’s and as many others as the rate says, the same for the same seed and step', () => {
    const { labels } = batch(500, 1);
    const own = new Set([...labels].filter((label) => label >= 0));
    const { classes, places } = sampleOf(labels, 500, 60, 7, 3);
    expect(classes).toHaveLength(60);
    expect(classes).toEqual([...classes].sort((a, b) => a - b));
    labels.forEach((label, i) => expect(label < 0 ? -1 : classes[places[i] as number]).toBe(label));
    expect([...own].every((label) => classes.includes(label))).toBe(true);
    expect(sampleOf(labels, 500, 60, 7, 3).classes).toEqual(classes);
    expect(sampleOf(labels, 500, 60, 7, 4).classes).not.toEqual(classes);
    expect(sampleOf(labels, 500, 60, 8, 3).classes).not.toEqual(classes);
    expect(sampleOf(labels, 500, 5, 7, 3).classes).toEqual([...own].sort((a, b) => a - b));
    expect(sampleOf(labels, 500, 500, 7, 3).classes).toHaveLength(500);
  });
  it('are those that sampledClasses takes by their draws', () => {
    // 40,000 classes are looked at in three parts
    for (const [C, count] of [
      [40, 20],
      [500, 60],
      [500, 499],
      [40_000, 4000],
    ] as const)
      for (const [seed, step] of [
        [0, 0],
        [7, 3],
        [2 ** 53 - 1, 2 ** 40],
      ] as const) {
        const { labels } = batch(C, seed % 100);
        const draws = Float64Array.from({ length: C }, (_, j) => classDraw(seed, step, j));
        const own = labels.filter((label) => label >= 0);
        expect(sampleOf(labels, C, count, seed, step).classes).toEqual([...sampledClasses(draws, own, count)]);
      }
  });
  it('are each as likely, alone and in pairs', () => {
    const [C, count, steps] = [40, 10, 20_000];
    const none = new Int32Array(N).fill(-1);
    const seen = new Float64Array(C);
    let [pair, apart] = [0, 0];
    for (let step = 0; step < steps; step++) {
      const taken = new Set(sampleOf(none, C, count, 5, step).classes);
      for (const c of taken) seen[c] = (seen[c] as number) + 1;
      if (taken.has(3) && taken.has(4)) pair++;
      if (taken.has(3) && taken.has(39)) apart++;
    }
    // five standard deviations of the counts
    const near = (count: number, p: number) =>
      expect(Math.abs(count - steps * p)).toBeLessThan(5 * Math.sqrt(steps * p * (1 - p)));
    for (const each of seen) near(each, count / C);
    const together = (count * (count - 1)) / (C * (C - 1));
    near(pair, together);
    near(apart, together);
  });
});

const methods: Record<string, Partial<MarginHeadOptions>> = {
  arcface: {},
  'three centers': { margin: arcface({ subCenters: 3 }) },
  adamw: { optimizer: 'adamw' },
  bfloat16: { precision: 'bfloat16' },
  'all kept': { memory: 'fast' },
  magface: { margin: magface() },
  sphereface2: { margin: sphereface2() },
  'a bias that stays': { margin: uniface({ learnBias: false }) },
  'label smoothing': { margin: arcface({ labelSmoothing: 0.1 }) },
};

describe('a step of a head that samples', () => {
  for (const [name, options] of Object.entries(methods)) {
    it(`is one of a head of its classes alone: ${name}`, async () => {
      const [C, rate, seed] = [300, 0.25, 11];
      const head = new MarginHead({ numClasses: C, embeddingSize: D, seed, sampleRate: rate, ...options });
      const K = head.subCenters;
      for (let step = 0; step < 3; step++) {
        const { features, labels } = batch(C, 20 + step);
        const { classes, places } = sampleOf(labels, C, C * rate, seed, step);
        const small = new MarginHead({ numClasses: classes.length, embeddingSize: D, seed, ...options });
        const tensors = (of: MarginHead) => [of.weight, ...of.optimizerState.values()];
        const before = tensors(head).map((x) => x.toArray());
        tensors(head).forEach((x, k) => tensors(small)[k]?.set(rowsOf(x, classes, K)));
        for (const [name, x] of small.state) x.set(head.state.get(name)?.toArray() as Float64Array);
        const [got, wanted] = [
          step === 1 ? head.stepSync(features, labels, { lr: 0.1 }) : await head.step(features, labels, { lr: 0.1 }),
          small.stepSync(features, places, { lr: 0.1 }),
        ];
        expect(got).toEqual(wanted);
        tensors(head).forEach((x, k) => {
          expect(rowsOf(x, classes, K)).toEqual(tensors(small)[k]?.toArray());
          const [was, is] = [before[k] as Float32Array, x.toArray()];
          const moved = [...Array(C).keys()].filter((c) =>
            is.slice(c * K * D, (c + 1) * K * D).some((value, d) => value !== was[c * K * D + d]),
          );
          expect(moved.every((c) => classes.includes(c))).toBe(true);
          expect(moved.length).toBeGreaterThan(classes.length / 2);
        });
        small.dispose();
      }
      expect(head.state.get('sampledSteps')?.item()).toBe(3);
      head.dispose();
    });
  }

  it.skipIf(!emulatedCuda)('is the same on a GPU, but for rounding', () => {
    const [here, there] = ['cpu', 'cuda'].map((device) => {
      const head = new MarginHead({ numClasses: 300, embeddingSize: D, seed: 3, sampleRate: 0.25, device });
      for (let step = 0; step < 4; step++) {
        const { features, labels } = batch(300, 20 + step);
        head.stepSync(features, labels, { lr: 0.1 });
      }
      return [...(head.weight.toArray() as Float32Array)];
    }) as [number[], number[]];
    const largest = Math.max(...here.map(Math.abs));
    expect(Math.max(...here.map((x, i) => Math.abs(x - (there[i] as number)))) / largest).toBeLessThan(1e-5);
  });

  it.skipIf(!emulatedCuda)('refuses a batch that is elsewhere', () => {
    const { features, labels } = batch(90, 5);
    const on = (device: string) => [tensor(features, [N, D], device), tensor(labels, [N], device)] as const;
    for (const [own, other, name] of [
      ['cpu', 'cuda', 'cuda:0'],
      ['cuda', 'cpu', 'cpu'],
    ] as const)
      for (const sampleRate of [0.5, 1]) {
        const head = new MarginHead({ numClasses: 90, embeddingSize: D, device: own, sampleRate });
        const [mine, theirs] = [on(own), on(other)];
        const lr = { lr: 0.1 };
        expect(() => head.stepSync(theirs[0], mine[1], lr)).toThrow(
          `MarginHead.stepSync: expected features on ${head.device}, got ${name}`,
        );
        expect(() => head.stepSync(mine[0], theirs[1], lr)).toThrow(
          `MarginHead.stepSync: expected labels on ${head.device}, got ${name}`,
        );
        expect(() => marginSoftmax(mine[0], tensor(features, [N, D], other), labels, arcface())).toThrow(
          `expected weight on ${head.device}, got ${name}`,
        );
      }
  });

  it.each(['cpu', ...(emulatedCuda ? ['cuda'] : [])])('moves the other centers where it is asked to: %s', (device) => {
    const C = 200;
    const make = (options: Partial<MarginHeadOptions>) =>
      new MarginHead({ numClasses: C, embeddingSize: D, seed: 1, device, sampleRate: 0.2, ...options });
    const [kept, moved] = [make({}), make({ unsampledCenters: 'moved' })];
    let w = moved.weight.toArray() as Float32Array;
    let v = moved.velocity.toArray() as Float32Array;
    for (let step = 0; step < 3; step++) {
      const { features, labels } = batch(C, step);
      const { classes } = sampleOf(labels, C, 40, 1, step);
      kept.weight.set(w);
      kept.velocity.set(v);
      const results = [kept, moved].map((head) => head.stepSync(features, labels, { lr: 0.1 }));
      expect(results[1]).toEqual(results[0]);
      const [others, velocity] = [kept.weight.toArray() as Float32Array, kept.velocity.toArray() as Float32Array];
      // torch.optim.SGD with a gradient of 0
      for (let i = 0; i < w.length; i++) {
        if (classes.includes(Math.floor(i / D))) continue;
        velocity[i] = 0.9 * (v[i] as number) + 5e-4 * (w[i] as number);
        others[i] = (w[i] as number) - 0.1 * (velocity[i] as number);
      }
      [w, v] = [moved.weight.toArray() as Float32Array, moved.velocity.toArray() as Float32Array];
      const apart = (a: Float32Array, b: Float32Array) =>
        a.reduce((most, x, i) => Math.max(most, Math.abs(x - (b[i] as number))), 0);
      expect(apart(w, others)).toBeLessThan(1e-5);
      expect(apart(v, velocity)).toBeLessThan(1e-5);
    }
    expect(() => make({ unsampledCenters: 'frozen' as 'kept' })).toThrow("expected unsampledCenters 'kept' or 'moved'");
  });

  it('of rate 1 is a step of all classes', () => {
    const { features, labels } = batch(90, 5);
    const [all, sampled] = [{}, { sampleRate: 1 }].map((options) => {
      const head = new MarginHead({ numClasses: 90, embeddingSize: D, ...options });
      return [head.stepSync(features, labels, { lr: 0.1 }), head.weight.toArray(), [...head.state.keys()]];
    });
    expect(sampled).toEqual(all);
  });

  it('sums AdaCos’s scale over its classes, and moves AdaptiveFace’s margins of all', () => {
    const C = 400;
    const { features, labels } = batch(C, 9);
    const adacos = new MarginHead({
      numClasses: C,
      embeddingSize: D,
      seed: 2,
      sampleRate: 0.2,
      margin: arcface({ scale: adacosScale() }),
    });
    const { classes, places } = sampleOf(labels, C, 80, 2, 0);
    const small = new MarginHead({
      numClasses: 80,
      embeddingSize: D,
      margin: arcface({ scale: adacosScale() }),
    });
    small.weight.set(rowsOf(adacos.weight, classes, 1));
    small.state.get('scale')?.set(Float64Array.of(adacos.scale));
    adacos.stepSync(features, labels, { lr: 0.1 });
    small.stepSync(features, places, { lr: 0.1 });
    expect(adacos.scale).toBe(small.scale);

    const adaptive = new MarginHead({ numClasses: C, embeddingSize: D, sampleRate: 0.2, margin: adaptiveface() });
    const before = adaptive.state.get('margins')?.toArray() as Float32Array;
    adaptive.stepSync(features, labels, { lr: 0.1 });
    const after = adaptive.state.get('margins')?.toArray() as Float32Array;
    expect([...after].filter((m, c) => m !== before[c]).length).toBeGreaterThan(C / 2);
  });

  it.each([sphereface2(), uniface()])('starts $method’s bias where its classes alone have it', (margin) => {
    const biasOf = (options: Partial<MarginHeadOptions>) =>
      new MarginHead({ numClasses: 1010, embeddingSize: D, margin, ...options }).state.get('bias')?.item();
    expect(biasOf({ sampleRate: 0.1 })).toBe(initialBias(margin, 101));
    expect(biasOf({})).toBe(initialBias(margin, 1010));
    expect(biasOf({ sampleRate: 0.1, margin: { ...margin, bias: -3 } })).toBe(-3);
  });

  it('is of the batch as it was when it was called', async () => {
    const make = () => new MarginHead({ numClasses: 200, embeddingSize: D, sampleRate: 0.3 });
    const { features, labels } = batch(200, 6);
    const wanted = make().stepSync(features, labels, { lr: 0.1 });
    const step = make().step(features, labels, { lr: 0.1 });
    features.fill(0);
    labels.fill(0);
    expect(await step).toEqual(wanted);
  });

  it('goes on where a checkpoint left its draws', () => {
    const options = { numClasses: 200, embeddingSize: D, sampleRate: 0.1, seed: 4 };
    const run = (head: MarginHead, from: number, to: number) => {
      for (let step = from; step < to; step++) {
        const { features, labels } = batch(200, step);
        head.stepSync(features, labels, { lr: 0.1 });
      }
      return head.weight.toArray();
    };
    const [whole, first, second] = [0, 1, 2].map(() => new MarginHead(options)) as [MarginHead, MarginHead, MarginHead];
    const wanted = run(whole, 0, 6);
    run(first, 0, 3);
    const saved = new Map(first.namedTensors());
    for (const [name, x] of second.namedTensors()) x.set((saved.get(name) as Tensor).toArray() as Float32Array);
    expect(run(second, 3, 6)).toEqual(wanted);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, 0.5, -1, 2 ** 53])(
    'is not made where their number is %d',
    async (was) => {
      const head = new MarginHead({ numClasses: 200, embeddingSize: D, sampleRate: 0.1 });
      const { features, labels } = batch(200, 1);
      const before = head.weight.toArray();
      head.state.get('sampledSteps')?.set(Float64Array.of(was));
      const message =
        `: expected sampledSteps, an integer in [0, 2^53), got ${was}\n` +
        '  fix: start again, or from an earlier checkpoint';
      expect(() => head.stepSync(features, labels, { lr: 0.1 })).toThrow(`MarginHead.stepSync${message}`);
      await expect(head.step(features, labels, { lr: 0.1 })).rejects.toThrow(`MarginHead.step${message}`);
      expect(head.weight.toArray()).toEqual(before);
      expect((await head.inspect(features, labels)).labelled).toBe(N - 1);
    },
  );

  it('that fails keeps no memory', async () => {
    const head = new MarginHead({ numClasses: 60_000, embeddingSize: D, sampleRate: 0.9 });
    const { features, labels } = batch(60_000, 1);
    features[7] = Number.NaN;
    const fail = async () => {
      expect(() => head.stepSync(features, labels, { lr: 0.1 })).toThrow('expected finite features');
      await expect(head.step(features, labels, { lr: 0.1 })).rejects.toThrow('expected finite features');
    };
    await fail();
    const before = memory().used;
    for (let i = 0; i < 5; i++) await fail();
    expect(memory().used - before).toBeLessThan(60_000);
  });

  it('of no class but its rows’ own is told of, once', () => {
    const { head, said } = advised({ numClasses: 2000, sampleRate: 0.001 });
    const { features, labels } = batch(2000, 1);
    for (let step = 0; step < 2; step++) head.stepSync(features, labels, { lr: 0.1 });
    expect(said.filter((sentence) => sentence.includes('sampleRate'))).toEqual([
      'sampleRate 0.001 of 2000 classes is 2, no more than a batch has: its own classes are all that its rows are told apart from',
    ]);
  });

  it('is told of where its scale does not fit its classes, of which all are named', () => {
    const [numClasses, sampleRate] = [5000, 0.1];
    const saidOf = (margin: Margin) => advised({ numClasses, sampleRate, margin }).said;
    const classes = 'the 500 of 5000 classes that take part in a step (sampleRate 0.1)';
    const fixed = new MarginHead({
      numClasses,
      embeddingSize: 2,
      margin: arcface({ scale: adacosScale({ dynamic: false }) }),
      sampleRate,
    });
    expect(saidOf(arcface())).toEqual([
      `arcface: scale 64 is large for ${classes}: it is published for tens of thousands; adacosScale() finds one that fits, starting from ${fixed.scale.toFixed(0)}`,
    ]);
    expect(saidOf(arcface({ scale: 8 }))).toEqual([
      expect.stringContaining(`scale 8 is small for ${classes}: below √2·ln(C − 1) = 8.8 `),
    ]);
  });

  it('of its only class is nothing to be told of', () => {
    const { head, said } = advised({ numClasses: 1, sampleRate: 0.5 });
    head.stepSync(batch(1, 1).features, new Int32Array(N), { lr: 0.1 });
    expect(said).toEqual([]);
  });

  it('names what is wrong, and moves nothing', async () => {
    const make = (sampleRate: unknown) => () =>
      new MarginHead({ numClasses: 50, embeddingSize: D, sampleRate } as MarginHeadOptions);
    for (const wrong of [0, -0.1, 1.5, Number.NaN, '0.1'])
      expect(make(wrong)).toThrow(/MarginHead: expected sampleRate, a share above 0 and at most 1, got/);
    const head = make(0.1)();
    const before = head.weight.toArray();
    const { features, labels } = batch(50, 3);
    labels[5] = 50;
    const message = ': expected labels in [0, 50) or -1, got 50 at row 5';
    expect(() => head.stepSync(features, labels, { lr: 0.1 })).toThrow(`MarginHead.stepSync${message}`);
    await expect(head.step(features, labels, { lr: 0.1 })).rejects.toThrow(`MarginHead.step${message}`);
    expect(head.weight.toArray()).toEqual(before);
    expect(head.state.get('sampledSteps')?.item()).toBe(0);
    const spoiled = head.weight.toArray() as Float32Array;
    spoiled[40 * D] = Number.NaN;
    head.weight.set(spoiled);
    labels[5] = 40;
    expect(() => head.stepSync(features, labels, { lr: 0.1 })).toThrow('at class 40');
  });
});
