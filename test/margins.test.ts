import { describe, expect, it } from 'vitest';
import { ArgumentRangeError } from '../lib/errors.js';
import { MarginHead, nextT } from '../lib/heads/index.js';
import {
  adacos,
  adacosScale,
  adaface,
  adaptiveface,
  annealedLambda,
  annealing,
  arcface,
  asoftmax,
  checkMargin,
  combined,
  cosface,
  curricularface,
  curricularNegatives,
  elasticface,
  featureNormScale,
  filteredNegatives,
  fixedAdacosScale,
  initialBias,
  learnedScale,
  type Margin,
  type MarginName,
  magcosface,
  magface,
  margins,
  mvNegatives,
  mvsoftmax,
  normface,
  optionsOf,
  presetOf,
  softmax,
  sphereface,
  sphereface2,
  subcenter,
  uniface,
} from '../lib/margins/index.js';

describe('published defaults', () => {
  // Each from its paper or, where it says less, from its authors' code: insightface's arcface_mxnet (combined,
  // subcenter), wy1iu/sphereface's prototxt, OpenSphere (sphereface, sphereface2), FaceX-Zoo (adaptiveface),
  // SV-X-Softmax, MagFace's run.sh, ElasticFace's config.py, AdaFace's scripts.
  it.each<[Margin, object]>([
    [softmax(), { method: 'softmax', scale: 64 }],
    [normface(), { method: 'softmax', scale: 64 }],
    [cosface(), { method: 'cosface', scale: 64, margin: 0.35 }],
    [arcface(), { method: 'arcface', scale: 64, margin: 0.5 }],
    [combined(), { method: 'combined', scale: 64, m1: 1, m2: 0.3, m3: 0.2, overflow: 'none' }],
    [
      asoftmax(),
      {
        method: 'asoftmax',
        scale: { rule: 'featureNorm' },
        margin: 4,
        lambda: { base: 1000, gamma: 0.12, power: 1, least: 5 },
      },
    ],
    [sphereface(), { method: 'sphereface', scale: 30, margin: 1.7, lambda: 0, gradient: 'detached' }],
    [adaptiveface(), { method: 'adaptiveface', scale: 30, margin: 0.35, spread: 0.05, reward: 70 }],
    [adacos(), { method: 'adacos', scale: { rule: 'adacos', dynamic: true } }],
    [
      mvsoftmax(),
      { method: 'mvsoftmax', scale: 32, margin: 0.35, t: 0.2, variant: 'am', hard: 'adaptive', overflow: 'easy' },
    ],
    [curricularface(), { method: 'curricularface', scale: 64, margin: 0.5, t: 0, tRate: 0.01 }],
    [subcenter(), { method: 'subcenter', scale: 64, margin: 0.5, subCenters: 3, overflow: 'none' }],
    [
      magface(),
      {
        method: 'magface',
        scale: 64,
        variant: 'arc',
        lowerNorm: 10,
        upperNorm: 110,
        lowerMargin: 0.45,
        upperMargin: 0.8,
        normPenalty: 35,
        overflow: 'easy',
      },
    ],
    [elasticface(), elastic('arc', 0.5, 0.05, 'none')],
    [elasticface({ plus: 'paper' }), elastic('arc', 0.5, 0.0175, 'paper')],
    [elasticface({ variant: 'am' }), elastic('am', 0.35, 0.05, 'none')],
    [elasticface({ variant: 'am', plus: 'official' }), elastic('am', 0.35, 0.02, 'official')],
    [
      adaface(),
      {
        method: 'adaface',
        scale: 64,
        margin: 0.4,
        h: 0.333,
        normRate: 0.01,
        normMean: 20,
        normStd: 100,
        overflow: 'clamp',
        cosineEpsilon: 1e-3,
      },
    ],
    [
      sphereface2(),
      {
        method: 'sphereface2',
        scale: 40,
        margin: 0.4,
        power: 3,
        balance: 0.7,
        lossWeight: 50,
        gradient: 'detached',
        learnBias: true,
      },
    ],
    [uniface(), { method: 'uniface', scale: 64, margin: 0.4, negativeWeight: 1, learnBias: true }],
  ])('%o', (margin, wanted) => expect(margin).toEqual(wanted));

  it('cover every method', () => {
    for (const method of Object.keys(margins) as MarginName[]) {
      expect(presetOf(method)).toMatchObject({ method, ...margins[method].params });
      expect(() => checkMargin(presetOf(method) as Margin, 1000, 'here')).not.toThrow();
    }
    expect(magcosface()).toEqual({ ...magface(), variant: 'am' });
  });
});

function elastic(variant: string, margin: number, deviation: number, plus: string) {
  return { method: 'elasticface', scale: 64, variant, margin, deviation, plus, overflow: 'none' };
}

describe('options', () => {
  it("are the method's own and no other's, in types and when called", () => {
    expect(combined({ m1: 1.2 }).m1).toBe(1.2);
    expect(sphereface({ gradient: undefined }).gradient).toBe('detached');
    // @ts-expect-error
    expect(() => arcface({ m1: 1.2 })).toThrow(/arcface: expected options scale, margin, .*, got 'm1'/);
    // @ts-expect-error
    expect(() => cosface({ t: 0.2 })).toThrow(ArgumentRangeError);
    // @ts-expect-error
    expect(() => cosface({ angleEpsilon: 0.2 })).toThrow(/cosface/);
    // @ts-expect-error
    expect(() => softmax({ margin: 0.2 })).toThrow(/softmax/);
    // @ts-expect-error
    expect(() => sphereface({ overflow: 'hard' })).toThrow(/sphereface/);
    // @ts-expect-error
    expect(() => mvsoftmax({ tRate: 0.1 })).toThrow(/mvsoftmax/);
    // @ts-expect-error
    expect(() => mvsoftmax({ negatives: filteredNegatives() })).toThrow(/mvsoftmax/);
    // @ts-expect-error
    expect(() => curricularface({ labelSmoothing: 0.1 })).toThrow(/curricularface/);
    // @ts-expect-error
    expect(() => sphereface2({ negatives: filteredNegatives() })).toThrow(/sphereface2/);
    // @ts-expect-error
    expect(() => magface({ margin: 0.5 })).toThrow(/magface/);
    // @ts-expect-error
    expect(() => adaptiveface({ deviation: 0.1 })).toThrow(/adaptiveface/);
    // @ts-expect-error
    sphereface2({ scale: adacosScale() });
    // @ts-expect-error
    elasticface({ plus: 'no' });
    // @ts-expect-error
    arcface({ scale: '64' });
    // @ts-expect-error
    const other: Margin = { method: 'cosface', scale: 64, margin: 0.35, lambda: 5 };
    expect(optionsOf(other.method)).not.toContain('lambda');
    // @ts-expect-error
    const without: Margin = { method: 'magface', scale: 64 };
    expect(without.method).toBe('magface');
  });
});

describe('a composition that means nothing is refused where a head is made', () => {
  const head = (margin: Margin) => () =>
    new MarginHead({ numClasses: 100, embeddingSize: 8, margin, onAdvice: () => {} }).dispose();
  /** As it may come from a file. */
  const unchecked = (margin: object) => margin as Margin;

  it.each<[string, Margin, string | RegExp]>([
    ['a scale', arcface({ scale: -1 }), 'MarginHead: expected a scale above 0, got -1'],
    ['a scale', arcface({ scale: 1e5 }), 'expected a scale in (0, 10000], got 100000'],
    ['a margin', arcface({ margin: 4 }), 'expected a margin in [-pi, pi], got 4'],
    [
      'a factor of the angle',
      sphereface({ margin: 0 }),
      /expected a margin \(factor of the angle\) in \(0, 10\], got 0/,
    ],
    ['m1', combined({ m1: 0 }), 'expected m1 in (0, 10], got 0'],
    ['m3', combined({ m3: 3 }), 'expected m3 in [-2, 2], got 3'],
    ['hard', combined({ overflow: 'hard' }), 'expected overflow of combined to be none, easy or clamp, got hard'],
    ['hard', adaface({ overflow: 'hard' }), 'expected overflow of adaface to be none, easy or clamp, got hard'],
    ['t', mvsoftmax({ t: -1 }), 'expected t of negatives in [0, 10], got -1'],
    ['t', curricularface({ t: 2 }), 'expected t of negatives in [-1, 1], got 2'],
    ['tRate', curricularface({ tRate: 2 }), 'MarginHead: expected margin.tRate, a number in [0, 1], got 2'],
    ['above', arcface({ negatives: filteredNegatives({ above: 2 }) }), 'expected above of negatives in [-1, 1], got 2'],
    ['norms', magface({ lowerNorm: 110 }), 'expected norms with 0 < lowerNorm < upperNorm <= 1e6, got 110 and 110'],
    ['normPenalty', magface({ normPenalty: -1 }), 'expected normPenalty in [0, 1e9], got -1'],
    ['deviation', elasticface({ deviation: 2 }), 'MarginHead: expected margin.deviation, a number in [0, 1], got 2'],
    ['h', adaface({ h: 1000 }), 'expected h in [-100, 100], got 1000'],
    ['normRate', adaface({ normRate: 2 }), 'MarginHead: expected margin.normRate, a number in [0, 1], got 2'],
    ['reward', adaptiveface({ reward: -1 }), 'MarginHead: expected margin.reward, a number in [0, 1e9], got -1'],
    ['power', sphereface2({ power: 0 }), 'expected a power in [1, 16], got 0'],
    ['subCenters', arcface({ subCenters: 0 }), 'expected subCenters in [1, 1024], got 0'],
    ['cosineEpsilon', arcface({ cosineEpsilon: 1 }), 'expected cosineEpsilon in [0, 1), got 1'],
    ['labelSmoothing', arcface({ labelSmoothing: 1 }), 'expected labelSmoothing in [0, 1), got 1'],
    [
      "annealing's numbers",
      asoftmax({ lambda: annealing({ gamma: -1 }) }),
      'expected lambda.gamma, a number in [0, 1e9], got -1',
    ],
    [
      'labelSmoothing with hard negatives',
      arcface({ labelSmoothing: 0.1, negatives: mvNegatives() }),
      'expected labelSmoothing 0 where negatives are reweighted, cosines clipped, or a class has several centers',
    ],
    ['labelSmoothing with sub-centers', subcenter({ labelSmoothing: 0.1 }), /a class has several centers/],
    [
      'the norm as scale with hard negatives',
      asoftmax({ negatives: curricularNegatives() }),
      "expected a scale other than the feature's norm where negatives are reweighted or cosines clipped",
    ],
    [
      'a learned scale with a filter',
      arcface({ scale: learnedScale(), negatives: filteredNegatives() }),
      'expected a scale that is not learned where negatives are reweighted or cosines clipped',
    ],
    [
      'a learned scale with clipped cosines',
      adaface({ scale: learnedScale() }),
      'expected a scale that is not learned where negatives are reweighted or cosines clipped',
    ],
    [
      'a softmax for a binary loss',
      unchecked({ ...uniface(), negatives: mvNegatives() }),
      'expected plain negatives, no labelSmoothing and a fixed scale with uniface, whose loss has no softmax',
    ],
    [
      'the norm as scale for a binary loss',
      unchecked({ ...sphereface2(), scale: featureNormScale() }),
      /expected a number as the scale of sphereface2, got 'featureNorm'/,
    ],
    [
      'a rule that is none',
      unchecked({ ...arcface(), scale: { rule: 'magic' } }),
      /scale with a rule adacos, learned, featureNorm, got 'magic'/,
    ],
    [
      'negatives that are none',
      unchecked({ ...arcface(), negatives: { rule: 'hard' } }),
      /negatives with a rule plain, mv, curricular, filter, got 'hard'/,
    ],
    ['a method that is none', unchecked({ method: 'arc' }), /expected a margin such as arcface\(\) \(softmax, cosface/],
    ['a word for a number', unchecked({ ...arcface(), margin: '0.5' }), "expected margin.margin, a number, got '0.5'"],
    ['NaN', unchecked({ ...arcface(), margin: Number.NaN }), 'expected margin.margin, a number, got NaN'],
  ])('%s: %o', (_, margin, message) => {
    expect(head(margin)).toThrow(message);
    expect(head(margin)).toThrow(ArgumentRangeError);
  });

  it('while others are made', () => {
    for (const margin of [
      arcface({ scale: adacosScale(), negatives: filteredNegatives(), subCenters: 2 }),
      magface({ negatives: mvNegatives(), cosineEpsilon: 1e-3 }),
      adaface({ negatives: curricularNegatives() }),
      asoftmax({ labelSmoothing: 0.1 }),
      arcface({ scale: learnedScale(), subCenters: 3 }),
      sphereface2({ subCenters: 2 }),
    ]) {
      expect(head(margin)).not.toThrow();
    }
  });
});

describe("CurricularFace's t", () => {
  const margin = curricularface({ tRate: 0.25 });

  it('moves towards the mean over rows that have a target', () => {
    expect(nextT(margin, 0.4, [0.8, 0.5, 0.2], [3, -1, 0])).toBeCloseTo(0.25 * 0.5 + 0.75 * 0.4, 15);
  });
  it('stays where no row has one', () => expect(nextT(margin, 0.4, [0, 0], [-1, -1])).toBe(0.4));
});

describe('numbers that follow from the classes', () => {
  it("are AdaCos's scale", () => {
    // 85,742 identities of MS1MV2; 30,001 and 3,001 classes as in the paper's figures.
    expect(fixedAdacosScale(85_742)).toBeCloseTo(16.06, 2);
    expect(fixedAdacosScale(30_001)).toBeCloseTo(14.579, 3);
    expect(fixedAdacosScale(3001)).toBeCloseTo(11.323, 3);
  });
  it("are UniFace's and SphereFace2's bias", () => {
    expect(initialBias(uniface(), 1000)).toBeCloseTo(-Math.log(10_000), 12);
    expect(initialBias(uniface({ bias: -3 }), 1000)).toBe(-3);
    // At cosines of 0 a row's pull on its target is as strong as its push on the 999 others.
    const margin = sphereface2();
    const { scale, margin: m, balance, power } = margin;
    const at = (sign: number) => scale * (2 * 0.5 ** power - 1 + sign * m) + initialBias(margin, 1000);
    const sigmoid = (z: number) => 1 / (1 + Math.exp(-z));
    expect((balance * sigmoid(-at(-1))) / ((1 - balance) * 999 * sigmoid(at(1)))).toBeCloseTo(1, 9);
  });
  it("are SphereFace's λ by step", () => {
    expect(annealedLambda(annealing(), 1)).toBeCloseTo(1000 / 1.12, 9);
    expect(annealedLambda(annealing(), 1e6)).toBe(5);
    expect(annealedLambda(annealing({ power: 2, gamma: 1e-4 }), 100)).toBeCloseTo(1000 * 1.01 ** -2, 9);
  });
});
