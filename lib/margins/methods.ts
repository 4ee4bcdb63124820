/** One row a method: the published defaults and where they come from.  Types, presets, the CLI and docs derive from it. */
import { expected } from '../errors.js';
import type { Annealing, Negatives, Scale } from './axes.js';

/** Every option there is; each method knows some. */
export interface MarginFields {
  readonly scale: Scale;
  /** Radians where it is an angle; SphereFace: the factor of the angle. */
  readonly margin: number;
  readonly gradient: 'exact' | 'detached';
  readonly overflow: 'none' | 'hard' | 'easy' | 'clamp';
  readonly easyAbove: number;
  readonly cosineEpsilon: number;
  readonly targetEpsilon: number;
  readonly angleEpsilon: number;
  readonly angleLimit: number;
  readonly projectWeightGradient: boolean;
  readonly negatives: Negatives;
  /** K: a class's cosine is the largest of its K centers'. */
  readonly subCenters: number;
  /** Share of the target's probability that is spread over all classes. */
  readonly labelSmoothing: number;
  readonly m1: number;
  readonly m2: number;
  readonly m3: number;
  readonly lambda: number | Annealing;
  /** An angular margin, or an additive one of the cosine. */
  readonly variant: 'arc' | 'am';
  readonly t: number;
  readonly tRate: number;
  readonly hard: 'adaptive' | 'fixed';
  /** AdaptiveFace: half the width of the initial margins' interval around `margin`. */
  readonly spread: number;
  /** AdaptiveFace: weight of the mean margin that the loss is lowered by. */
  readonly reward: number;
  readonly lowerNorm: number;
  readonly upperNorm: number;
  readonly lowerMargin: number;
  readonly upperMargin: number;
  /** MagFace's λ_g. */
  readonly normPenalty: number;
  /** ElasticFace: standard deviation of the margins. */
  readonly deviation: number;
  /** ElasticFace+: the larger margins to the smaller cosines (paper), or as the authors' code assigns them (official). */
  readonly plus: 'none' | 'paper' | 'official';
  readonly h: number;
  /** AdaFace: share of a step in the running mean and deviation of the norms. */
  readonly normRate: number;
  readonly normMean: number;
  readonly normStd: number;
  /** SphereFace2: weight of the target's loss, the other classes having 1 − balance. */
  readonly balance: number;
  readonly lossWeight: number;
  readonly power: number;
  /** UniFace: weight of the other classes' losses. */
  readonly negativeWeight: number;
  /** Of the binary losses, where it starts; by default each method's own start for the number of classes. */
  readonly bias: number;
  readonly learnBias: boolean;
}

type Option = keyof MarginFields;

interface MethodSpec {
  /** The method's own options, with their published values. */
  readonly params: Partial<MarginFields>;
  /** Further options that it knows, beside `everyMethod`'s. */
  readonly also: readonly Option[];
  readonly formula: string;
  readonly paper: string;
}

/** Options of every method. */
export const everyMethod = [
  'gradient',
  'cosineEpsilon',
  'targetEpsilon',
  'projectWeightGradient',
  'subCenters',
] as const satisfies readonly Option[];
const ofAnAngle = ['overflow', 'easyAbove', 'angleEpsilon', 'angleLimit'] as const satisfies readonly Option[];
const ofACosine = ['overflow', 'easyAbove'] as const satisfies readonly Option[];
/** What goes with a loss over a softmax. */
const ofASoftmax = ['negatives', 'labelSmoothing'] as const satisfies readonly Option[];

export const margins = {
  softmax: {
    params: { scale: 64 },
    also: ofASoftmax,
    formula: 'φ = cos θ',
    paper: 'NormFace, Wang et al. 2017, arXiv:1704.06369',
  },
  cosface: {
    params: { scale: 64, margin: 0.35 },
    also: [...ofACosine, ...ofASoftmax],
    formula: 'φ = cos θ − m',
    paper: 'CosFace, Wang et al. 2018, arXiv:1801.09414',
  },
  arcface: {
    params: { scale: 64, margin: 0.5 },
    also: [...ofAnAngle, ...ofASoftmax],
    formula: 'φ = cos(θ + m)',
    paper: 'ArcFace, Deng et al. 2019, arXiv:1801.07698',
  },
  combined: {
    params: { scale: 64, m1: 1, m2: 0.3, m3: 0.2, overflow: 'none' },
    also: [...ofAnAngle, ...ofASoftmax],
    formula: 'φ = cos(m₁·θ + m₂) − m₃',
    paper: 'ArcFace, Deng et al. 2019, arXiv:1801.07698, section 2.3',
  },
  asoftmax: {
    params: {
      scale: { rule: 'featureNorm' },
      margin: 4,
      lambda: { base: 1000, gamma: 0.12, power: 1, least: 5 },
    },
    also: ofASoftmax,
    formula: 'logits ‖x‖·φ, φ = (λ·cos θ + ψ)/(1 + λ), ψ = (−1)^k·cos(m·θ) − 2k, k = ⌊m·θ/π⌋',
    paper: 'SphereFace, Liu et al. 2017, arXiv:1704.08063',
  },
  sphereface: {
    params: { scale: 30, margin: 1.7, lambda: 0, gradient: 'detached' },
    also: ofASoftmax,
    formula: 'φ = (λ·cos θ + ψ)/(1 + λ), ψ = (−1)^k·cos(m·θ) − 2k, k = ⌊m·θ/π⌋',
    paper: 'SphereFace-R, Liu et al. 2022, arXiv:2109.05565',
  },
  adaptiveface: {
    params: { scale: 30, margin: 0.35, spread: 0.05, reward: 70 },
    also: [...ofACosine, ...ofASoftmax],
    formula: 'φ = cos θ − m_y, m_y in [0, 1] learned by class; loss lowered by reward·mean m',
    paper: 'AdaptiveFace, Liu et al. 2019 (CVPR)',
  },
  adacos: {
    params: { scale: { rule: 'adacos', dynamic: true } },
    also: ofASoftmax,
    formula: 'φ = cos θ; s = √2·ln(C − 1), or ln B/cos min(π/4, median θ_y) step by step',
    paper: 'AdaCos, Zhang et al. 2019, arXiv:1905.00292',
  },
  mvsoftmax: {
    params: { scale: 32, margin: 0.35, t: 0.2, variant: 'am', hard: 'adaptive', overflow: 'easy' },
    also: ofAnAngle,
    formula: 'φ = cos θ − m or cos(θ + m); a harder negative (t + 1)·cos + t or cos + t',
    paper: 'MV-Softmax, Wang et al. 2020, arXiv:1912.00833',
  },
  curricularface: {
    params: { scale: 64, margin: 0.5, t: 0, tRate: 0.01 },
    also: ofAnAngle,
    formula: 'φ = cos(θ + m); a harder negative cos·(t + cos)',
    paper: 'CurricularFace, Huang et al. 2020, arXiv:2004.00288',
  },
  subcenter: {
    params: { scale: 64, margin: 0.5, subCenters: 3, overflow: 'none' },
    also: [...ofAnAngle, ...ofASoftmax],
    formula: 'φ = cos(θ + m); cos θ the largest of a class’s K centers',
    paper: 'Sub-center ArcFace, Deng et al. 2020 (ECCV)',
  },
  magface: {
    params: {
      scale: 64,
      variant: 'arc',
      lowerNorm: 10,
      upperNorm: 110,
      lowerMargin: 0.45,
      upperMargin: 0.8,
      normPenalty: 35,
      overflow: 'easy',
    },
    also: [...ofAnAngle, ...ofASoftmax],
    formula: 'φ = cos(θ + m(a)), m linear in a = ‖x‖ clipped; loss + λ_g·mean(a/u_a² + 1/a)',
    paper: 'MagFace, Meng et al. 2021, arXiv:2103.06627',
  },
  elasticface: {
    params: { scale: 64, variant: 'arc', margin: 0.5, deviation: 0.05, plus: 'none', overflow: 'none' },
    also: [...ofAnAngle, ...ofASoftmax],
    formula: 'φ = cos(θ + m_i) or cos θ − m_i, m_i ~ N(m, σ) drawn for each row',
    paper: 'ElasticFace, Boutros et al. 2022, arXiv:2109.09416',
  },
  adaface: {
    params: {
      scale: 64,
      margin: 0.4,
      h: 0.333,
      normRate: 0.01,
      normMean: 20,
      normStd: 100,
      overflow: 'clamp',
      cosineEpsilon: 1e-3,
    },
    also: [...ofAnAngle, ...ofASoftmax],
    formula: 'φ = cos(θ − m·q) − m·(1 + q), q = h·(‖x‖ − mean)/deviation clipped to ±1',
    paper: 'AdaFace, Kim et al. 2022, arXiv:2204.00964',
  },
  sphereface2: {
    params: { scale: 40, margin: 0.4, power: 3, balance: 0.7, lossWeight: 50, gradient: 'detached', learnBias: true },
    also: ['bias'],
    formula: 'a binary loss a class: z = s·(g(cos θ) ∓ m) + b, g(c) = 2·((c + 1)/2)^t − 1',
    paper: 'SphereFace2, Wen et al. 2022, arXiv:2108.01513',
  },
  uniface: {
    params: { scale: 64, margin: 0.4, negativeWeight: 1, learnBias: true },
    also: ['bias'],
    formula: 'a binary loss a class: z_y = s·(cos θ − m) + b, z_j = s·cos θ_j + b',
    paper: 'UniFace, Zhou et al. 2023 (ICCV)',
  },
} as const satisfies Record<string, MethodSpec>;

export type MarginName = keyof typeof margins;

/** Those without a softmax: their scale is a number. */
export type BinaryName = 'sphereface2' | 'uniface';

type Own<M extends MarginName> = keyof (typeof margins)[M]['params'] & Option;
type Known<M extends MarginName> = Own<M> | (typeof margins)[M]['also'][number] | (typeof everyMethod)[number];
type FieldsOf<M extends MarginName> = M extends BinaryName
  ? Omit<MarginFields, 'scale'> & { readonly scale: number }
  : MarginFields;

/** What a preset takes: the method's options and no other's. */
export type MarginOptions<M extends MarginName = MarginName> = Partial<Pick<FieldsOf<M>, Known<M>>>;

type MarginOf<M extends MarginName> = { readonly method: M } & Required<Pick<FieldsOf<M>, Own<M>>> & MarginOptions<M>;

/** A margin with its conventions, by `method`, and what it is composed with; what MarginHead and marginSoftmax take. */
export type Margin<M extends MarginName = MarginName> = { [K in M]: MarginOf<K> }[M];

/** Throws unless it is the name of a method. */
export function checkMethod(operation: string, method: unknown): asserts method is MarginName {
  const known = typeof method === 'string' && Object.hasOwn(margins, method);
  expected(known, operation, `a method (${Object.keys(margins).join(', ')})`, method);
}

/** The options that a method knows. */
export function optionsOf(method: MarginName): readonly Option[] {
  checkMethod('optionsOf', method);
  const { params, also } = margins[method];
  return [...new Set([...(Object.keys(params) as Option[]), ...also, ...everyMethod])];
}
