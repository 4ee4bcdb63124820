import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { setNumThreads } from '../../lib/device.js';
import * as presets from '../../lib/margins/index.js';
import {
  curricularNegatives,
  featureNormScale,
  filteredNegatives,
  learnedScale,
  type Margin,
  type MarginFields,
  type MarginName,
  type MarginOptions,
  margins,
  mvNegatives,
  optionsOf,
  presetOf,
} from '../../lib/margins/index.js';
import { marginLogits, marginSoftmax } from '../../lib/ops/index.js';
import { Random } from '../../lib/random.js';
import { parameter, type Tensor, tensor, tidy } from '../../lib/tensor.js';
import { worst } from './conventions.js';
import { formulas, hardAbove, type PlainRow, plainLogits } from './formulas.js';

// Batches this small are quicker without other threads, whatever else the machine does.
setNumThreads(1);

const names = Object.keys(margins) as MarginName[];
const [N, D] = [4, 5];

/** Features, class centers and labels; some features of a length that MagFace and AdaFace tell apart. */
const problem = fc
  .record({ C: fc.integer({ min: 2, max: 7 }), K: fc.integer({ min: 1, max: 3 }), seed: fc.nat(1e6) })
  .map(({ C, K, seed }) => {
    const random = new Random(seed);
    const row = (length: number) => {
      const raw = Float64Array.from({ length: D }, () => random.uniform() - 0.5);
      const norm = Math.hypot(...raw);
      return raw.map((x) => (x / norm) * length);
    };
    const centers = Array.from({ length: C * K }, () => row(0.2 + random.uniform()));
    const labels = Int32Array.from({ length: N }, () => Math.floor(random.uniform() * C));
    // Some near their own class, some beyond π − m of it.
    const features = Array.from(labels, (label, i) => {
      const pull = [0, 3, -3, 1][i];
      const center = centers[label * K];
      return row(1).map((x, d) => 40 * i * (x + (pull * center[d]) / Math.hypot(...center)) + x);
    });
    return { C, K, features, centers, labels };
  });
type Problem = typeof problem extends fc.Arbitrary<infer P> ? P : never;

const flat = (rows: readonly Float64Array[]) => Float64Array.from(rows.flatMap((row) => [...row]));
const withTensors = <R>({ C, K, features, centers }: Problem, run: (x: Tensor, w: Tensor) => R): R =>
  tidy(() => {
    const [x, w] = [
      parameter(tensor(flat(features), [features.length, D])),
      parameter(tensor(flat(centers), [C * K, D])),
    ];
    try {
      return run(x, w);
    } finally {
      for (const each of [x, w]) {
        each.grad?.dispose();
        each.dispose();
      }
    }
  });

/** The rows as the formulas see them. */
const plainRows = ({ C, K, features, centers, labels }: Problem, ofRows?: Float64Array): PlainRow[] =>
  features.map((x, i) => {
    const norm = Math.hypot(...x);
    const cosines = Array.from({ length: C }, (_, j) =>
      Math.max(
        ...centers
          .slice(j * K, (j + 1) * K)
          .map((w) => x.reduce((sum, v, d) => sum + v * w[d], 0) / norm / Math.hypot(...w)),
      ),
    );
    return { cosines, label: labels[i], norm, ...(ofRows ? { margin: ofRows[i] } : {}) };
  });

/** Whether a row sits on a seam, where rounding decides. */
function onASeam(margin: Margin, row: PlainRow): boolean {
  const near = (a: number, b: number) => Math.abs(a - b) < 1e-9;
  const { easyAbove = 0 } = margin as Partial<MarginFields>;
  const target = row.cosines[row.label];
  const threshold = hardAbove(margin, row);
  return near(target, easyAbove) || row.cosines.some((c, j) => j !== row.label && near(c, threshold));
}

const double = (min: number, max: number) => fc.double({ min, max, noNaN: true });
const choices: { readonly [K in keyof MarginFields]?: fc.Arbitrary<MarginFields[K]> } = {
  scale: double(1, 128),
  margin: double(0, 1),
  overflow: fc.constantFrom('none', 'easy', 'clamp', 'hard'),
  easyAbove: double(-0.5, 0.5),
  cosineEpsilon: fc.constantFrom(0, 1e-3, 0.1),
  targetEpsilon: fc.constantFrom(0, 0.05),
  angleEpsilon: double(1e-4, 0.3),
  angleLimit: fc.constantFrom(0, 3, Math.PI),
  gradient: fc.constantFrom('exact', 'detached'),
  m1: double(0.5, 2),
  m2: double(-0.5, 0.8),
  m3: double(-0.2, 0.5),
  lambda: double(0, 10),
  variant: fc.constantFrom('arc', 'am'),
  t: double(0, 0.4),
  hard: fc.constantFrom('adaptive', 'fixed'),
  negatives: fc.oneof(
    fc.constant({ rule: 'plain' } as const),
    double(0, 0.4).map((t) => mvNegatives({ t })),
    double(0, 0.4).map((t) => mvNegatives({ t, hard: 'fixed' })),
    double(-0.2, 0.8).map((t) => curricularNegatives({ t })),
    double(0.1, 0.6).map((above) => filteredNegatives({ above })),
  ),
  lowerNorm: double(1, 20),
  upperNorm: double(60, 130),
  lowerMargin: double(0, 0.4),
  upperMargin: double(0.4, 1),
  h: double(0, 2),
  normMean: double(1, 100),
  normStd: double(1, 100),
  power: fc.integer({ min: 1, max: 5 }),
  bias: double(-10, 10),
};

/** Any options that a method knows. */
function optionsFor(method: MarginName): fc.Arbitrary<MarginOptions> {
  const known = optionsOf(method).filter((key) => key in choices);
  // Options that only go together with others are tried by their own tests.
  const model = Object.fromEntries(known.map((key) => [key, choices[key] as fc.Arbitrary<unknown>]));
  if (typeof margins[method].params.scale === 'object') delete model.scale;
  if (method === 'asoftmax') for (const key of ['negatives', 'cosineEpsilon']) delete model[key];
  if (method === 'asoftmax' || method === 'sphereface') model.margin = double(1, 4);
  if (method === 'combined' || method === 'adaface') model.overflow = fc.constantFrom('none', 'easy', 'clamp');
  if (model.overflow && optionsOf(method).includes('overflow') && !optionsOf(method).includes('angleEpsilon'))
    model.overflow = fc.constantFrom('none', 'easy');
  return (fc.record(model, { requiredKeys: [] }) as fc.Arbitrary<Options>).map((options) => {
    // Of a margin of the cosine these are refused.
    const { variant = (margins[method].params as Options).variant, overflow, ...rest } = options;
    const refused = variant === 'am' && (overflow === 'hard' || overflow === 'clamp');
    return (refused ? { ...rest, variant } : options) as MarginOptions;
  });
}
type Options = { variant?: string; overflow?: string };

/** Compares the kernels' logits with the formulas'; sphereface2's and uniface's have a bias in them. */
function agree(margin: Margin, of: Problem, ofRows?: Float64Array): void {
  const rows = plainRows(of, ofRows);
  fc.pre(!rows.some((row) => onASeam(margin, row)));
  const wanted = rows.flatMap((row) => plainLogits(margin, row));
  withTensors(of, (x, w) => {
    const given = ofRows ? { margins: tensor(ofRows, [N]) } : {};
    const logits = marginLogits(x, w, of.labels, margin, given).toArray();
    const scale = Math.max(...rows.map(({ norm }) => norm), 128);
    expect(worst(logits, wanted)).toBeLessThan(1e-11 * scale);
  });
}

describe.each(names)('%s is its formula', (method) => {
  it('as published', () => {
    fc.assert(
      fc.property(problem, (of) => {
        const margin = presetOf(method, { subCenters: of.K } as MarginOptions<typeof method>);
        agree(margin as Margin, of);
      }),
    );
  });

  it('with any of its options', () => {
    fc.assert(
      fc.property(problem, optionsFor(method), (of, options) => {
        agree(presetOf(method, { ...options, subCenters: of.K } as never) as Margin, of);
      }),
      { numRuns: 100 },
    );
  });
});

it("each row's own margin", () => {
  const drawn = fc.array(double(0, 1), { minLength: N, maxLength: N }).map((values) => Float64Array.from(values));
  const margin = fc.constantFrom<Margin>(
    presets.elasticface(),
    presets.elasticface({ variant: 'am' }),
    presets.adaptiveface(),
  );
  fc.assert(
    fc.property(problem, drawn, margin, (of, margins_, each) => agree({ ...each, subCenters: of.K }, of, margins_)),
  );
});

it('scales that are not numbers', () => {
  const margin = fc.constantFrom<Margin>(
    presets.arcface({ scale: presets.adacosScale() }),
    presets.cosface({ scale: learnedScale({ initial: 20 }) }),
    presets.arcface({ scale: featureNormScale() }),
  );
  fc.assert(fc.property(problem, margin, (of, each) => agree({ ...each, subCenters: of.K }, of)));
});

/** Loss and gradients of a problem. */
const step = (margin: Margin, of: Problem) =>
  withTensors(of, (x, w) => {
    const { loss } = marginSoftmax(x, w, of.labels, { ...margin, subCenters: of.K });
    backward(loss);
    return {
      loss: loss.item(),
      dX: Float64Array.from(x.grad?.toArray() ?? []),
      dW: Float64Array.from(w.grad?.toArray() ?? []),
    };
  });
const close = (a: ReturnType<typeof step>, b: ReturnType<typeof step>) => {
  const size = (values: ArrayLike<number>) => Array.from(values).reduce((most, x) => Math.max(most, Math.abs(x)), 1);
  expect(Math.abs(a.loss - b.loss)).toBeLessThan(1e-11 * Math.max(1, Math.abs(b.loss)));
  expect(worst(a.dX, b.dX)).toBeLessThan(1e-10 * size(b.dX));
  expect(worst(a.dW, b.dW)).toBeLessThan(1e-10 * size(b.dW));
};
/** Where no row is on a seam. */
const free = (margin: Margin, of: Problem) => fc.pre(!plainRows(of).some((row) => onASeam(margin, row)));
const everyMethod = fc.constantFrom(...names).map((name) => presetOf(name) as Margin);

describe('identities', () => {
  it('permuting the classes permutes dW', () => {
    fc.assert(
      fc.property(problem, everyMethod, (of, margin) => {
        free(margin, of);
        const { C, K } = of;
        const order = Array.from({ length: C }, (_, j) => (j + 1) % C);
        const permuted: Problem = {
          ...of,
          centers: order.flatMap((j) => of.centers.slice(j * K, (j + 1) * K)),
          labels: of.labels.map((label) => order.indexOf(label)),
        };
        const [plain, other] = [step(margin, of), step(margin, permuted)];
        const back = new Float64Array(plain.dW.length);
        order.forEach((j, at) => back.set(other.dW.subarray(at * K * D, (at + 1) * K * D), j * K * D));
        close({ ...other, dW: back }, plain);
      }),
    );
  });

  it('a batch is the mean of its halves', () => {
    fc.assert(
      fc.property(problem, everyMethod, (of, margin) => {
        free(margin, of);
        const half = (from: number): Problem => ({
          ...of,
          features: of.features.slice(from, from + N / 2),
          labels: of.labels.slice(from, from + N / 2),
        });
        const [whole, a, b] = [step(margin, of), step(margin, half(0)), step(margin, half(N / 2))];
        const mean = {
          loss: (a.loss + b.loss) / 2,
          dX: Float64Array.from([...a.dX, ...b.dX], (x) => x / 2),
          dW: a.dW.map((x, i) => (x + b.dW[i]) / 2),
        };
        close(mean, whole);
      }),
    );
  });

  it('a center that is there twice is there once', () => {
    fc.assert(
      fc.property(
        problem.filter(({ K }) => K === 1),
        everyMethod,
        (of, margin) => {
          free(margin, of);
          const twice: Problem = { ...of, K: 2, centers: of.centers.flatMap((row) => [row, row]) };
          const [one, two] = [step(margin, of), step(margin, twice)];
          // Which of the twins has the gradient is not said here.
          const sum = one.dW.map((_, i) => {
            const at = Math.floor(i / D) * 2 * D + (i % D);
            return two.dW[at] + two.dW[at + D];
          });
          close({ ...two, dW: sum }, one);
        },
      ),
    );
  });

  const same = (name: string, make: (scale: number) => [Margin, Margin]) =>
    it(name, () => {
      fc.assert(
        fc.property(problem, double(1, 64), (of, scale) => {
          const [one, other] = make(scale);
          free(one, of);
          close(step(one, of), step(other, of));
        }),
      );
    });
  const noMargin: [string, (scale: number) => Margin][] = [
    ['cosface', (scale) => presets.cosface({ scale, margin: 0 })],
    ['arcface', (scale) => presets.arcface({ scale, margin: 0 })],
    ['combined', (scale) => presets.combined({ scale, m1: 1, m2: 0, m3: 0 })],
    ['sphereface', (scale) => presets.sphereface({ scale, margin: 1, gradient: 'exact' })],
    ['subcenter', (scale) => presets.subcenter({ scale, margin: 0 })],
    ['elasticface', (scale) => presets.elasticface({ scale, margin: 0, deviation: 0 })],
    ['adaptiveface', (scale) => presets.adaptiveface({ scale, margin: 0 })],
    ['adaface', (scale) => presets.adaface({ scale, margin: 0, overflow: 'none', cosineEpsilon: 0 })],
    [
      'magface',
      (scale) => presets.magface({ scale, lowerMargin: 0, upperMargin: 0, normPenalty: 0, overflow: 'none' }),
    ],
  ];
  for (const [name, make] of noMargin) {
    same(`${name} without a margin is softmax`, (scale) => [make(scale), presets.softmax({ scale })]);
  }
  same('a filter above 1 filters nothing', (scale) => [
    presets.arcface({ scale, negatives: filteredNegatives({ above: 1 }) }),
    presets.arcface({ scale }),
  ]);
  same('MV-Softmax with t 0 is its margin alone', (scale) => [
    presets.mvsoftmax({ scale, variant: 'arc', t: 0, overflow: 'hard' }),
    presets.arcface({ scale, margin: 0.35 }),
  ]);
  same('MV negatives with t 0 are plain', (scale) => [
    presets.cosface({ scale, negatives: mvNegatives({ t: 0, hard: 'fixed' }) }),
    presets.cosface({ scale }),
  ]);
  same('CurricularFace composes of ArcFace and its negatives', (scale) => [
    presets.curricularface({ scale, t: 0.3 }),
    presets.arcface({ scale, negatives: curricularNegatives({ t: 0.3 }) }),
  ]);
  same('a combined angle is ArcFace, a combined cosine CosFace', (scale) => [
    presets.combined({ scale, m1: 1, m2: 0.5, m3: 0 }),
    presets.arcface({ scale, margin: 0.5, overflow: 'none' }),
  ]);
  same('Mag-CosFace of one margin is CosFace', (scale) => [
    presets.magcosface({ scale, lowerMargin: 0.3, upperMargin: 0.3, normPenalty: 0, overflow: 'none' }),
    presets.cosface({ scale, margin: 0.3 }),
  ]);
});

describe('a method is in four places', () => {
  const root = new URL('../../', import.meta.url);
  const text = (file: string) => readFileSync(new URL(file, root), 'utf8');
  const native = [...text('native/common/methods.def').matchAll(/^METHOD\((\w+), (\w+)\)$/gm)];

  it.each(native.map(([, name, struct]) => [name, struct]))('%s', (name, struct) => {
    expect(text(`native/common/margins/${name}.h`)).toMatch(new RegExp(`struct ${struct} : `));
    expect(text('native/common/methods.h')).toContain(`#include "margins/${name}.h"`);
    expect(names).toContain(name);
    expect(formulas).toHaveProperty(name);
  });

  it.each(names)('%s has a formula here and a preset', (name) => {
    expect(formulas).toHaveProperty(name);
    expect((presets as unknown as Record<string, (options: object) => Margin>)[name]({})).toEqual(presetOf(name));
  });
  it('and no formula is of none', () => expect(Object.keys(formulas).sort()).toEqual([...names].sort()));
});
