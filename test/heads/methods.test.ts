/** Every method in a head: its state, its gradients through a step, what becomes of both when a step fails. */
import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { native } from '../../lib/binding.js';
import { MarginHead, plusMargins, stateRules } from '../../lib/heads/index.js';
import {
  adacos,
  adacosScale,
  adaface,
  adaptiveface,
  annealing,
  arcface,
  asoftmax,
  combined,
  cosface,
  curricularface,
  curricularNegatives,
  elasticface,
  filteredNegatives,
  initialBias,
  learnedScale,
  type Margin,
  magcosface,
  magface,
  margins,
  mvNegatives,
  mvsoftmax,
  normface,
  sphereface,
  sphereface2,
  subcenter,
  uniface,
} from '../../lib/margins/index.js';
import { marginLogits, marginSoftmax, targetCosines } from '../../lib/ops/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { memory, parameter, type Tensor, tensor, tidy } from '../../lib/tensor.js';

const N = 24;
const C = 130;
const D = 16;
const features = (seed = 5, std = 4) => normalArray(N * D, std, new Random(seed));
const labels = (seed = 6) => {
  const rng = new Random(seed);
  return Int32Array.from({ length: N }, (_, i) => (i % 7 === 3 ? -1 : Math.floor(rng.uniform() * C)));
};
const quiet = { onAdvice: () => {} };
const headOf = (margin: Margin, options: object = {}) =>
  new MarginHead({ numClasses: C, embeddingSize: D, margin, seed: 3, ...quiet, ...options });
const largest = (a: ArrayLike<number>) => Array.from(a).reduce((m, v) => Math.max(m, Math.abs(v)), 0);
const apart = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  largest(Array.from(a, (v, i) => v - (b[i] as number))) / Math.max(largest(b), 1e-30);
const stateOf = (head: MarginHead) => Object.fromEntries([...head.state].map(([name, t]) => [name, t.toArray()]));

const composed: [string, Margin][] = [
  ['softmax', normface()],
  ['cosface', cosface()],
  ['arcface', arcface()],
  ['combined', combined()],
  ['asoftmax', asoftmax({ lambda: annealing({ base: 20 }) })],
  ['sphereface', sphereface()],
  ['adaptiveface', adaptiveface()],
  ['adacos', adacos()],
  ['mvsoftmax', mvsoftmax()],
  ['curricularface', curricularface()],
  ['subcenter', subcenter()],
  ['magface', magface({ lowerNorm: 5, upperNorm: 30 })],
  ['magcosface', magcosface({ lowerNorm: 5, upperNorm: 30 })],
  ['elasticface', elasticface({ plus: 'paper' })],
  ['adaface', adaface()],
  ['sphereface2', sphereface2()],
  ['uniface', uniface()],
  ['AdaFace, curricular negatives, three centers', adaface({ negatives: curricularNegatives(), subCenters: 3 })],
  ['MagFace, MV negatives, AdaCos scale', magface({ negatives: mvNegatives(), scale: adacosScale() })],
  ['ArcFace, filtered, two centers', arcface({ negatives: filteredNegatives({ above: 0.3 }), subCenters: 2 })],
  ['CosFace, learned scale, smoothed', cosface({ scale: learnedScale({ initial: 20 }), labelSmoothing: 0.1 })],
  ['ElasticFace, five centers', elasticface({ variant: 'am', subCenters: 5, gradient: 'detached' })],
  ['SphereFace2, three centers', sphereface2({ subCenters: 3, gradient: 'exact' })],
];

it('has every method above', () => {
  const covered = new Set(composed.map(([, { method }]) => method));
  expect([...covered].sort()).toEqual(Object.keys(margins).sort());
});

describe.each(composed)('%s', (_, margin) => {
  it('steps as marginSoftmax says, from the state that it moved to', () => {
    const head = headOf(margin, { weightDecay: 0, momentum: 0 });
    head.weight.set(normalArray(head.weight.size, 1, new Random(9)));
    const [x, y] = [features(), labels()];
    for (let step = 0; step < 3; step++) {
      const before = head.weight.toArray() as Float32Array;
      const state = stateOf(head);
      const result = head.stepSync(x, y, { lr: 0.5 });
      const at = Object.fromEntries(
        ['t', 'normMean', 'normStd'].flatMap((name) => {
          const value = head.state.get(name)?.item();
          return value === undefined ? [] : [[name, value]];
        }),
      );
      const moved = typeof margin.scale === 'object' && margin.scale.rule === 'adacos';
      const scale = moved ? head.scale : (state.scale?.[0] as number | undefined);
      const lambda = margin.method === 'asoftmax' ? Math.max(5, 20 / (1 + 0.12 * (step + 1))) : undefined;
      tidy(() => {
        const X = parameter(tensor(Float64Array.from(x), [N, D]));
        const W = parameter(tensor(Float64Array.from(before), head.weight.shape));
        const rowMargins = marginsOf(margin, state, y, X, W);
        const options = {
          state: {
            ...at,
            ...(scale === undefined ? {} : { scale }),
            ...(lambda === undefined ? {} : { lambda }),
            ...(state.bias ? { bias: state.bias[0] as number } : {}),
          },
          ...(rowMargins ? { margins: tensor(Float64Array.from(rowMargins), [N]) } : {}),
        };
        const { loss, accuracy, regularizer } = marginSoftmax(X, W, y, margin, options);
        backward(loss);
        expect(Math.abs(result.loss - loss.item())).toBeLessThan(2e-5 * Math.max(1, Math.abs(result.loss)));
        expect(result.accuracy).toBe(accuracy);
        expect(result.regularizer).toBeCloseTo(regularizer, 6);
        expect(apart(result.gradEmbeddings, X.grad?.toArray() as Float64Array)).toBeLessThan(1e-4);
        const dW = W.grad?.toArray() as Float64Array;
        const after = head.weight.toArray() as Float32Array;
        expect(
          apart(
            after,
            Float64Array.from(before, (w, i) => w - 0.5 * (dW[i] as number)),
          ),
        ).toBeLessThan(3e-5);
        for (const made of [X, W]) {
          made.grad?.dispose();
          made.dispose();
        }
      });
    }
    head.dispose();
  });

  it('is the same asynchronously, in the order of the calls, and for any number of threads', async () => {
    const threads = native.status().threads;
    const [a, b, c] = [1, 2, 3].map(() => headOf(margin)) as [MarginHead, MarginHead, MarginHead];
    const lrs = [0.1, 0.2, 0.3];
    const pending = lrs.map((lr, i) => a.step(features(i), labels(i), { lr }));
    const sync = lrs.map((lr, i) => b.stepSync(features(i), labels(i), { lr }));
    expect(await Promise.all(pending)).toEqual(sync);
    native.setNumThreads(1);
    expect(lrs.map((lr, i) => c.stepSync(features(i), labels(i), { lr }))).toEqual(sync);
    native.setNumThreads(threads);
    for (const other of [a, c]) {
      expect(other.weight.toArray()).toEqual(b.weight.toArray());
      expect(stateOf(other)).toEqual(stateOf(b));
    }
    for (const head of [a, b, c]) head.dispose();
  });

  it('goes on from its named tensors as if nothing had happened', () => {
    const whole = headOf(margin);
    for (let i = 0; i < 2; i++) whole.stepSync(features(i), labels(i), { lr: 0.1 });
    const resumed = headOf(margin);
    const saved = new Map(whole.namedTensors().map(([name, t]) => [name, t.toArray()]));
    for (const [name, t] of resumed.namedTensors()) t.set(saved.get(name) as Float32Array);
    const step = (head: MarginHead) => head.stepSync(features(7), labels(7), { lr: 0.1 });
    expect(step(resumed)).toEqual(step(whole));
    expect(stateOf(resumed)).toEqual(stateOf(whole));
    for (const head of [whole, resumed]) head.dispose();
  });

  it('changes nothing and keeps nothing where a step fails', async () => {
    const head = headOf(margin);
    const bad = labels();
    bad[5] = C;
    const before = { weight: head.weight.toArray(), state: stateOf(head), tensors: memory().tensors };
    expect(() => head.stepSync(features(), bad, { lr: 0.1 })).toThrow(`got ${C} at row 5`);
    await expect(head.step(features(), bad, { lr: 0.1 })).rejects.toThrow(`got ${C} at row 5`);
    expect({ weight: head.weight.toArray(), state: stateOf(head), tensors: memory().tensors }).toEqual(before);
    head.stepSync(features(), labels(), { lr: 0.1 });
    await head.step(features(), labels(), { lr: 0.1 });
    expect(memory().tensors).toBe(before.tensors);
    head.dispose();
  });

  it('decreases the loss of a batch that it sees again', () => {
    const head = headOf(margin, { weightDecay: 0 });
    const [x, y] = [features(), labels()];
    const losses = Array.from({ length: 30 }, () => head.stepSync(x, y, { lr: 0.02 }).loss);
    expect(losses.at(-1) as number).toBeLessThan(losses[0] as number);
    head.dispose();
  });

  it('stays finite on rows of zeros, at cosines of ±1 and at extreme norms', () => {
    const unit = [1, 0, 0, 0];
    const rows = [unit, unit.map((v) => -v), [0, 0, 0, 0], unit.map((v) => v * 1e-20), unit.map((v) => v * 1e18)];
    const W = [unit, unit.map((v) => -v), [0, 0, 0, 0], [0, 1e18, 0, 0], [1e-20, 0, 0, 0]];
    const K = margin.subCenters ?? 1;
    for (const y of [rows.map((_, i) => i), rows.map(() => -1), rows.map(() => 0), rows.map((_, i) => (i + 1) % 5)]) {
      const head = new MarginHead({ numClasses: W.length, embeddingSize: 4, margin, ...quiet });
      head.weight.set(Float32Array.from(W.flatMap((row) => new Array(K).fill(row).flat())));
      for (let step = 0; step < 2; step++) {
        const { loss, gradEmbeddings } = head.stepSync(Float32Array.from(rows.flat()), Int32Array.from(y), { lr: 0.1 });
        expect(Number.isFinite(loss)).toBe(true);
        expect(gradEmbeddings.every(Number.isFinite)).toBe(true);
        expect((head.weight.toArray() as Float32Array).every(Number.isFinite)).toBe(true);
        for (const values of Object.values(stateOf(head))) expect(values.every(Number.isFinite)).toBe(true);
      }
      head.dispose();
    }
    const single = new MarginHead({ numClasses: 1, embeddingSize: 4, margin, ...quiet });
    const { loss, gradEmbeddings } = single.stepSync(Float32Array.from(unit), new Int32Array(1), { lr: 0.1 });
    expect([loss, ...gradEmbeddings].every(Number.isFinite)).toBe(true);
    single.dispose();
  });
});

/** The margins that a step had: those of the classes, or those drawn at this state. */
function marginsOf(margin: Margin, state: Record<string, ArrayLike<number>>, y: Int32Array, X: Tensor, W: Tensor) {
  if (margin.method === 'adaptiveface')
    return Float32Array.from(y, (label) => (label < 0 ? 0 : (state.margins?.[label] as number)));
  if (margin.method !== 'elasticface') return undefined;
  const rule = stateRules(margin, C, 0, 3).find(({ initial }) => 'draws' in initial);
  const batch = { labels: y, targetCosines: targetCosines(X, W, y, { subCenters: margin.subCenters ?? 1 }).toArray() };
  return rule?.prepare(batch, { draws: Float64Array.from(state.draws as ArrayLike<number>) }).margins;
}

describe('running numbers', () => {
  it('ElasticFace draws other margins each step, the same for the same seed', () => {
    const losses = (seed: number) => {
      const head = headOf(elasticface(), { seed });
      head.weight.set(normalArray(head.weight.size, 1, new Random(9)));
      return [0, 1].map(() => head.stepSync(features(), labels(), { lr: 0 }).loss);
    };
    const [first, second] = losses(3) as [number, number];
    expect(first).not.toBe(second);
    expect(losses(3)).toEqual([first, second]);
    expect(losses(4)[0]).not.toBe(first);
  });

  it('ElasticFace’s draws have its mean and deviation', () => {
    const rule = stateRules(elasticface({ margin: 0.5, deviation: 0.05 }), C, 0, 1)[0];
    const drawn = Array.from(
      rule?.prepare({ labels: new Int32Array(20_000) }, { draws: new Float64Array(1) }).margins ?? [],
    );
    const mean = drawn.reduce((sum, m) => sum + m, 0) / drawn.length;
    const deviation = Math.sqrt(drawn.reduce((sum, m) => sum + (m - mean) ** 2, 0) / drawn.length);
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.0015);
    expect(Math.abs(deviation - 0.05)).toBeLessThan(0.001);
  });

  it('ElasticFace+ gives the larger margins to the smaller cosines; the authors’ code does not', () => {
    const drawn = Float32Array.from([0.5, 0.3, 0.6, 0.4]);
    const cosines = [0.1, 0.9, 0.5, 0.7];
    expect([...plusMargins(drawn, cosines, 'paper')]).toEqual([...Float32Array.from([0.6, 0.3, 0.5, 0.4])]);
    // argsort by falling cosine is [1, 3, 2, 0]
    expect([...plusMargins(drawn, cosines, 'official')]).toEqual([...Float32Array.from([0.4, 0.6, 0.5, 0.3])]);
  });

  it('AdaptiveFace’s margins grow by the reward where no row is, and stay in [0, 1]', () => {
    const head = headOf(adaptiveface({ reward: 13 }), { momentum: 0 });
    const before = head.state.get('margins')?.toArray() as Float32Array;
    expect(Math.min(...before)).toBeGreaterThanOrEqual(0.3);
    expect(Math.max(...before)).toBeLessThanOrEqual(0.4);
    head.stepSync(features(), labels(), { lr: 0.5 });
    const after = head.state.get('margins')?.toArray() as Float32Array;
    const free = Array.from(after.keys()).filter((j) => !labels().includes(j));
    for (const j of free) expect(after[j]).toBeCloseTo((before[j] as number) + (0.5 * 13) / C, 6);
    for (const j of new Set(labels()))
      if (j >= 0) expect(after[j]).toBeLessThan((before[j] as number) + (0.5 * 13) / C);
    for (let i = 0; i < 40; i++) head.stepSync(features(i), labels(i), { lr: 0.5 });
    const later = head.state.get('margins')?.toArray() as Float32Array;
    expect(Math.min(...later)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...later)).toBeLessThanOrEqual(1);
  });

  it.each(['step', 'stepSync'] as const)('AdaptiveFace’s margins move along their gradients by %s', async (call) => {
    const head = headOf(adaptiveface({ reward: 5 }), { momentum: 0.8 });
    head.weight.set(normalArray(head.weight.size, 1, new Random(9)));
    const clamp = (m: number) => Math.min(1, Math.max(0, m));
    const at = Float64Array.from(stateOf(head).margins ?? []).fill(-0.1, 0, 3); // loaded from elsewhere
    head.state.get('margins')?.set(Float32Array.from(at));
    const velocity = new Float64Array(C);
    for (let step = 0; step < 4; step++) {
      const [x, y, lr] = [features(step), labels(step), 0.3 / (step + 1)];
      const gradients = tidy(() => {
        const [X, W] = [x, head.weight.toArray()].map((a) => tensor(Float64Array.from(a), [a.length / D, D]));
        const m = parameter(
          tensor(
            Float64Array.from(y, (label) => (label < 0 ? 0 : clamp(at[label] as number))),
            [N],
          ),
        );
        backward(marginSoftmax(X as Tensor, W as Tensor, y, head.margin, { margins: m }).loss);
        return m.grad?.toArray() as Float64Array;
      });
      for (let j = 0; j < C; j++) velocity[j] = 0.8 * (velocity[j] as number) - 5 / C;
      for (const [i, label] of y.entries())
        if (label >= 0) velocity[label] = (velocity[label] as number) + (gradients[i] as number);
      for (let j = 0; j < C; j++) at[j] = clamp(clamp(at[j] as number) - lr * (velocity[j] as number));
      await head[call](x, y, { lr });
      expect(apart(head.state.get('margins')?.toArray() ?? [], at)).toBeLessThan(1e-6);
      expect(apart(head.state.get('margins.velocity')?.toArray() ?? [], velocity)).toBeLessThan(1e-5);
    }
    const before = stateOf(head);
    const refused = async (x: Float32Array, y: Int32Array) => head[call](x, y, { lr: 0.1 });
    await expect(refused(features().fill(Number.NaN, 5, 6), labels())).rejects.toThrow(/row 0/);
    await expect(refused(features(), labels().fill(C, 2, 3))).rejects.toThrow(/or -1, got 130 at row 2/);
    expect(stateOf(head)).toEqual(before);
    head.dispose();
  });

  it('a learned scale and a bias move against their gradients', () => {
    const lr = 1e-3;
    for (const [margin, name] of [
      [cosface({ scale: learnedScale({ initial: 20 }) }), 'scale'],
      [sphereface2(), 'bias'],
      [uniface(), 'bias'],
    ] as const) {
      const head = headOf(margin, { momentum: 0 });
      head.weight.set(normalArray(head.weight.size, 1, new Random(9)));
      const at = head.state.get(name)?.item() as number;
      const loss = (value: number) =>
        tidy(() =>
          marginSoftmax(
            tensor(Float64Array.from(features()), [N, D]),
            tensor(Float64Array.from(head.weight.toArray()), [C, D]),
            labels(),
            margin,
            { state: { [name]: value } },
          ).loss.item(),
        );
      const gradient = (loss(at + 1e-4) - loss(at - 1e-4)) / 2e-4;
      head.stepSync(features(), labels(), { lr });
      const moved = ((head.state.get(name)?.item() as number) - at) / -lr;
      expect(Math.abs(moved - gradient) / Math.abs(gradient)).toBeLessThan(1e-4);
    }
  });

  it.each([2, 3, 4, C, 100_000])('SphereFace2’s bias starts where pull and push are equal: %d classes', (classes) => {
    const margin = sphereface2();
    const b = initialBias(margin, classes);
    const { scale, margin: m, power, balance } = margin;
    const sigmoid = (z: number) => 1 / (1 + Math.exp(-z));
    const g = 2 * 0.5 ** power - 1;
    const pull = balance * sigmoid(-(scale * (g - m) + b));
    const push = (1 - balance) * (classes - 1) * sigmoid(scale * (g + m) + b);
    expect(push / pull).toBeCloseTo(1, 6);
  });
});

describe('inspect', () => {
  it('counts angles, norms, hard negatives and centers as a plain look at the cosines does', async () => {
    const margin = arcface({ subCenters: 3, overflow: 'none' });
    const head = headOf(margin);
    head.weight.set(normalArray(head.weight.size, 1, new Random(9)));
    const [x, y] = [features(), labels()];
    const w = head.weight.toArray() as Float32Array;
    const unit = (v: Float32Array) => Array.from(v, (a) => a / Math.hypot(...v));
    const seen = await head.inspect(x, y);
    let hard = 0;
    let hardRows = 0;
    for (let i = 0; i < N; i++) {
      const label = y[i] as number;
      if (label < 0) {
        expect(seen.rows.targetCosine[i]).toBeNaN();
        continue;
      }
      const e = unit(x.slice(i * D, (i + 1) * D));
      const cosines = Array.from({ length: C }, (_, j) =>
        Array.from({ length: 3 }, (_, k) =>
          unit(w.slice((j * 3 + k) * D, (j * 3 + k + 1) * D)).reduce((sum, v, d) => sum + v * (e[d] as number), 0),
        ),
      );
      const best = cosines.map((each) => Math.max(...each));
      const target = best[label] as number;
      const others = best.filter((_, j) => j !== label);
      const phi = Math.cos(Math.acos(target) + 0.5);
      const harder = others.filter((cos) => cos > phi).length;
      hard += harder;
      hardRows += harder > 0 ? 1 : 0;
      expect(seen.rows.targetCosine[i]).toBeCloseTo(target, 5);
      expect(seen.rows.nearestCosine[i]).toBeCloseTo(Math.max(...others), 5);
      expect(seen.rows.norm[i]).toBeCloseTo(Math.hypot(...x.slice(i * D, (i + 1) * D)), 4);
      const center = (cosines[label] as number[]).indexOf(target);
      expect(seen.subCenters.get(label)?.counts[center]).toBeGreaterThan(0);
    }
    const rows = y.filter((label) => label >= 0).length;
    expect(seen.labelled).toBe(rows);
    expect(seen.hardShare).toBeCloseTo(hard / (rows * (C - 1)), 9);
    expect(seen.hardRows).toBeCloseTo(hardRows / rows, 9);
    for (const { counts } of [seen.targetAngles, seen.nearestAngles, seen.norms])
      expect(counts.reduce((a, b) => a + b, 0)).toBe(rows);
    head.dispose();
  });

  it('sees the running numbers of the next step', async () => {
    const head = headOf(asoftmax({ lambda: annealing({ base: 20 }) }));
    head.weight.set(normalArray(head.weight.size, 1, new Random(9)));
    const [x, y] = [features(), labels()];
    for (let i = 0; i < 20; i++) head.stepSync(x, y, { lr: 0 });
    const { hardShare } = await head.inspect(x, y);
    const lambda = 20 / (1 + 0.12 * 21);
    const [X, W] = [tensor(x, [N, D]), tensor(head.weight.toArray(), [C, D])];
    const logits = marginLogits(X, W, y, head.margin, { state: { lambda } }).toArray();
    let hard = 0;
    y.forEach((label, i) => {
      const row = logits.subarray(i * C, (i + 1) * C);
      if (label >= 0) hard += row.filter((z, j) => j !== label && z > (row[label] as number)).length;
    });
    expect(hardShare).toBeCloseTo(hard / (y.filter((label) => label >= 0).length * (C - 1)), 9);
    head.dispose();
  });

  it('leaves the head as it is, for every method', async () => {
    for (const [, margin] of composed) {
      const head = headOf(margin);
      const before = { weight: head.weight.toArray(), state: stateOf(head), tensors: memory().tensors };
      const { labelled } = await head.inspect(features(), labels());
      expect(labelled).toBe(labels().filter((label) => label >= 0).length);
      expect({ weight: head.weight.toArray(), state: stateOf(head), tensors: memory().tensors }).toEqual(before);
      head.dispose();
    }
  });
});

describe('advice', () => {
  const adviceFor = (margin: Margin, numClasses = 100_000) => {
    const said: string[] = [];
    new MarginHead({ numClasses, embeddingSize: 2, margin, onAdvice: (sentence) => said.push(sentence) }).dispose();
    return said;
  };

  it.each([
    [arcface({ scale: 10 }), /scale 10 is small for 100000 classes.* 16\.3/],
    [magface({ normPenalty: 20 }), /normPenalty 20 is below MagFace's own bound .*= 22\.\d/],
    [mvsoftmax({ t: 0.5 }), /t 0\.5 .*diverge/],
    [arcface({ margin: 1 }), /margin 1 is far above/],
    [cosface({ scale: 200 }), /scale 200 is far above/],
    [arcface({ negatives: filteredNegatives({ above: 0.1 }) }), /cosine of 0\.1 are left out/],
  ] as [Margin, RegExp][])('of $method, once', (margin, sentence) => {
    const said = adviceFor(margin).filter((each) => sentence.test(each));
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(new RegExp(`^${margin.method}: `));
  });

  it('is silent about what is published', () => {
    for (const [name, margin] of composed.slice(0, 17)) {
      if (name === 'magface' || name === 'magcosface') continue;
      expect(adviceFor(margin), name).toEqual([]);
    }
    expect(adviceFor(magface())).toEqual([]);
    expect(adviceFor(arcface(), 50).join()).toMatch(/scale 64 is large for 50 classes/);
  });

  it('speaks of the first steps once, of targets past π and of norms outside the window', () => {
    const said: string[] = [];
    const head = headOf(magface(), { onAdvice: (sentence: string) => said.push(sentence) });
    for (let i = 0; i < 45; i++) head.stepSync(features(i, 0.1), labels(i), { lr: 0 });
    expect(said.filter((each) => /100 % of the feature norms .*\[10, 110\]/.test(each))).toHaveLength(1);
    const other: string[] = [];
    const opposed = headOf(arcface({ margin: 0.7 }), { onAdvice: (sentence: string) => other.push(sentence) });
    const x = features();
    const w = new Float32Array(C * D);
    labels().forEach((label, i) => {
      if (label >= 0)
        w.set(
          x.slice(i * D, (i + 1) * D).map((v) => -v),
          label * D,
        );
    });
    opposed.weight.set(w);
    for (let i = 0; i < 45; i++) opposed.stepSync(x, labels(), { lr: 0 });
    expect(other.filter((each) => /of the targets .*above π/.test(each))).toHaveLength(1);
  });
});

describe('what has no meaning', () => {
  it('misspelt options of what a margin is composed with are refused', () => {
    expect(() => adacosScale({ dynamc: false } as never)).toThrow(
      /adacosScale: expected options dynamic, got 'dynamc'/,
    );
    expect(() => mvNegatives({ T: 1 } as never)).toThrow(/mvNegatives: expected options t, hard, got 'T'/);
    expect(() => arcface(null as never)).toThrow(/arcface: expected options, an object, got null/);
    expect(() => new MarginHead({ numClasses: 2, embeddingSize: 2, memry: 1 } as never)).toThrow(
      /onAdvice, got 'memry'/,
    );
  });

  const make = (margin: unknown) => () => headOf(margin as Margin);
  it.each([
    ['smoothing with reweighted negatives', { ...curricularface(), labelSmoothing: 0.1 }, /labelSmoothing 0/],
    ['smoothing with several centers', arcface({ labelSmoothing: 0.1, subCenters: 2 }), /labelSmoothing 0/],
    [
      'norm scale with a filter',
      { ...asoftmax(), negatives: filteredNegatives() },
      /scale other than the feature's norm/,
    ],
    ['a learned scale with hard negatives', { ...mvsoftmax(), scale: learnedScale() }, /scale that is not learned/],
    ['a binary loss with a filter', { ...uniface(), negatives: filteredNegatives() }, /plain negatives.*uniface/],
    ['a fraction of a center', arcface({ subCenters: 2.5 }), /subCenters: expected an integer, got 2.5/],
    ['an unknown scale rule', { ...arcface(), scale: { rule: 'adacoss' } }, /a rule adacos, learned, featureNorm/],
    [
      'an unknown negatives rule',
      { ...arcface(), negatives: { rule: 'hard' } },
      /negatives with a rule plain, mv, curricular, filter, got 'hard'/,
    ],
    ['a window that is none', magface({ lowerNorm: 20, upperNorm: 10 }), /lowerNorm < upperNorm/],
    ['smoothing of 1', arcface({ labelSmoothing: 1 }), /labelSmoothing in \[0, 1\), got 1/],
    ['hard AdaFace', adaface({ overflow: 'hard' }), /overflow of adaface/],
    ['a deviation past 1', elasticface({ deviation: 3 }), /margin\.deviation, a number in \[0, 1\], got 3/],
    [
      'a misspelt annealing',
      asoftmax({ lambda: { base: 1 } as never }),
      /lambda\.gamma, a number in \[0, 1e9\], got undefined/,
    ],
    ['MagFace of a kind there is not', { ...magface(), variant: 'cos' }, /margin\.variant, arc or am, got 'cos'/],
    ['ElasticFace+ of no reading', { ...elasticface(), plus: 'x' }, /margin\.plus, none or paper or official, got 'x'/],
    ['MV without its t', { ...arcface(), negatives: { rule: 'mv' } }, /negatives\.t, a number, got undefined/],
    ['a filter without a bound', { ...arcface(), negatives: { rule: 'filter' } }, /negatives\.above/],
    ['a tRate past 1', arcface({ negatives: curricularNegatives({ tRate: 5 }) }), /negatives\.tRate, .* got 5/],
    ['a learned scale without a start', { ...arcface(), scale: { rule: 'learned' } }, /scale\.initial/],
    ['a rule for the scale of a binary loss', { ...uniface(), scale: adacosScale() }, /number as the scale of uniface/],
    ['AdaptiveFace past 1', adaptiveface({ margin: 3 }), /margin\.margin in \[0, 1\]/],
    ['a hard overflow of a cosine margin', cosface({ overflow: 'hard' }), /overflow none or easy/],
    ['a NaN margin', arcface({ margin: Number.NaN }), /margin\.margin, a number, got NaN/],
  ])('%s is refused with a sentence', (_, margin, message) => {
    expect(make(margin)).toThrow(message);
    const [x, w] = [tensor(features(), [N, D]), tensor(new Float32Array(C * 2 * D).fill(1), [C * 2, D])];
    expect(() => marginSoftmax(x, w, labels(), margin as Margin)).toThrow(/^marginSoftmax: (subCenters: )?expected/);
  });
});

describe('what a checkpoint is to hold of a head', () => {
  it.each<[string, Margin, Record<string, number[]>]>([
    ['arcface', arcface(), {}],
    ['three centers a class', subcenter({ subCenters: 3 }), {}],
    ['curricular negatives', arcface({ negatives: curricularNegatives() }), { t: [1] }],
    ["AdaCos's scale", adacos(), { scale: [1] }],
    ['a learned scale', arcface({ scale: learnedScale() }), { scale: [1], 'scale.velocity': [1] }],
    ['an annealed λ', asoftmax({ lambda: annealing() }), { steps: [1] }],
    ['adaface', adaface(), { normMean: [1], normStd: [1] }],
    ['elasticface', elasticface(), { draws: [1] }],
    ['adaptiveface', adaptiveface(), { margins: [C], 'margins.velocity': [C] }],
    ['sphereface2', sphereface2(), { bias: [1], 'bias.velocity': [1] }],
    ['uniface', uniface(), { bias: [1], 'bias.velocity': [1] }],
    ['a bias that stays', sphereface2({ learnBias: false }), {}],
  ])('%s', (_, margin, state) => {
    const head = new MarginHead({ numClasses: C, embeddingSize: D, margin, onAdvice: () => {} });
    const rows = [C * (margin.subCenters ?? 1), D];
    expect(Object.fromEntries(head.namedTensors().map(([name, { shape }]) => [name, [...shape]]))).toEqual({
      weight: rows,
      velocity: rows,
      ...state,
    });
  });
});

describe('a head that training has spoiled', () => {
  const x = () => normalArray(N * D, 1, new Random(5));
  const y = Int32Array.from({ length: N }, (_, i) => i % C);
  const spoiled = (margin: Margin) => new MarginHead({ numClasses: C, embeddingSize: D, margin, onAdvice: () => {} });

  it.each([
    [
      'a bias',
      sphereface2(),
      /^MarginHead\.step(?:Sync)?: expected a bias in .*\n {2}fix: the head's bias has run away: .*lower lr/,
    ],
    [
      'a learned scale',
      arcface({ scale: learnedScale({ initial: 64 }) }),
      /^MarginHead\.step(?:Sync)?: expected a scale in .*\n {2}fix: the head's scale has run away: .*lower lr/,
    ],
  ])('says that %s has run away', async (_, margin, message) => {
    const head = spoiled(margin);
    const name = margin.method === 'sphereface2' ? 'bias' : 'scale';
    head.state.get(`${name}.velocity`)?.set(new Float64Array([-1e6]));
    head.stepSync(x(), y, { lr: 1 });
    const before = head.weight.toArray();
    expect(() => head.stepSync(x(), y, { lr: 1 })).toThrow(message);
    await expect(head.step(x(), y, { lr: 1 })).rejects.toThrow(message);
    expect(head.weight.toArray()).toEqual(before);
    // What the caller gave is no fault of the state.
    const wrong = y.map(() => C);
    head.state.get(name)?.set(new Float64Array([1]));
    expect(() => head.stepSync(x(), wrong, { lr: 1 })).toThrow(
      /^MarginHead\.stepSync: expected labels (?!.*run away)/s,
    );
  });

  it.each([
    ['steps', { optimizer: 'adamw' } as const],
    ['steps', { margin: sphereface({ lambda: annealing() }) }],
    ['draws', { margin: elasticface() }],
  ])('says that %s are no count, of %o', async (name, options) => {
    const head = new MarginHead({ numClasses: C, embeddingSize: D, onAdvice: () => {}, ...options });
    const before = head.weight.toArray();
    for (const was of [Number.NaN, 0.5, -1, 2 ** 53]) {
      head.state.get(name)?.set(Float64Array.of(was));
      const message = `: expected ${name}, an integer in [0, 2^53), got ${was}\n  fix: start again, or from an`;
      expect(() => head.stepSync(x(), y, { lr: 1 })).toThrow(`MarginHead.stepSync${message}`);
      await expect(head.step(x(), y, { lr: 1 })).rejects.toThrow(`MarginHead.step${message}`);
      if ('optimizer' in options) expect((await head.inspect(x(), y)).labelled).toBe(N); // which has no use for it
    }
    expect(head.weight.toArray()).toEqual(before);
  });

  it("says that AdaCos's scale has run away", () => {
    const head = spoiled(adacos());
    const row = x().subarray(0, D);
    head.weight.set(Float32Array.from({ length: C * D }, (_, i) => row[i % D] as number));
    head.state.get('scale')?.set(new Float64Array([1e4]));
    const rows = Float32Array.from({ length: N * D }, (_, i) => row[i % D] as number);
    expect(() => head.stepSync(rows, y, { lr: 1 })).toThrow(
      /expected a scale in .*\n {2}fix: the head's scale has run away: .* adacosScale\(\{ dynamic: false \}\)/,
    );
    head.state.get('scale')?.set(new Float64Array([Number.NaN])); // before its sum over the classes
    expect(() => head.stepSync(rows, y, { lr: 1 })).toThrow(/a scale in .*, got nan\n {2}fix: .* has run away/);
  });

  it('says that its weights are not finite any more, and not so of features', () => {
    const head = spoiled(arcface());
    const bad = x().fill(Number.NaN, 0, D);
    expect(() => head.stepSync(bad, y, { lr: 1 })).toThrow(/^MarginHead\.stepSync: expected finite features.*(?!fix)$/);
    for (let step = 0; step < 3; step++) {
      try {
        head.stepSync(x(), y, { lr: 1e38 });
      } catch (error) {
        expect((error as Error).message).toMatch(
          /^MarginHead\.stepSync: expected finite weights, .* at class \d+\n {2}fix: the weights are not finite .* lower lr$/,
        );
        return;
      }
    }
    expect.unreachable();
  });
});
