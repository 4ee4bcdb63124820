/** One row a method: the published defaults and where they come from.  Types, presets and the CLI derive from it. */
import type { MarginParams } from './binding.js';
import { expected } from './errors.js';

type Option = Exclude<keyof MarginParams, 'method'>;

interface MarginSpec {
  /** The method's own options, with their published values. */
  readonly params: Omit<MarginParams, 'method'>;
  /** Further options that it knows, beside `everyMethod`'s. */
  readonly also: readonly Option[];
  readonly formula: string;
  readonly paper: string;
}

const everyMethod = ['gradient', 'cosineEpsilon', 'targetEpsilon', 'projectWeightGradient'] as const;
const ofAnAngle = ['overflow', 'easyAbove', 'angleEpsilon', 'angleLimit'] as const;

export const margins = {
  softmax: {
    params: { scale: 64 },
    also: [],
    formula: 'φ = cos θ',
    paper: 'NormFace, Wang et al. 2017, arXiv:1704.06369',
  },
  cosface: {
    params: { scale: 64, margin: 0.35 },
    also: ['overflow', 'easyAbove'],
    formula: 'φ = cos θ − m',
    paper: 'CosFace, Wang et al. 2018, arXiv:1801.09414',
  },
  arcface: {
    params: { scale: 64, margin: 0.5 },
    also: ofAnAngle,
    formula: 'φ = cos(θ + m)',
    paper: 'ArcFace, Deng et al. 2019, arXiv:1801.07698',
  },
  combined: {
    params: { scale: 64, m1: 1, m2: 0.3, m3: 0.2, overflow: 'none' },
    also: ofAnAngle,
    formula: 'φ = cos(m₁·θ + m₂) − m₃',
    paper: 'ArcFace, Deng et al. 2019, arXiv:1801.07698, section 2.3',
  },
  sphereface: {
    params: { scale: 30, margin: 1.7, lambda: 0, gradient: 'detached' },
    also: [],
    formula: 'φ = (λ·cos θ + ψ)/(1 + λ), ψ = (−1)^k·cos(m·θ) − 2k, k = ⌊m·θ/π⌋',
    paper: 'SphereFace-R, Liu et al. 2022, arXiv:2109.05565; SphereFace, Liu et al. 2017, arXiv:1704.08063',
  },
  mvsoftmax: {
    params: { scale: 32, margin: 0.35, t: 0.2, variant: 'am', negatives: 'adaptive', overflow: 'easy' },
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
} as const satisfies Record<string, MarginSpec>;

export type MarginName = keyof typeof margins;

type Own<M extends MarginName> = keyof (typeof margins)[M]['params'] & Option;
type Known<M extends MarginName> = Own<M> | (typeof margins)[M]['also'][number] | (typeof everyMethod)[number];

/** What a preset takes: the method's options and no other's. */
export type MarginOptions<M extends MarginName = MarginName> = Partial<Pick<MarginParams, Known<M>>>;

type MarginOf<M extends MarginName> = { readonly method: M } & Required<Pick<MarginParams, Own<M>>> & MarginOptions<M>;

/** A margin with its conventions, by `method`; what MarginHead and marginSoftmax take. */
export type Margin<M extends MarginName = MarginName> = { [K in M]: MarginOf<K> }[M];

/** The options that a method knows. */
export function optionsOf(method: MarginName): readonly Option[] {
  const { params, also } = margins[method];
  return [...new Set([...(Object.keys(params) as Option[]), ...also, ...everyMethod])];
}

function preset<M extends MarginName>(method: M) {
  return (options: MarginOptions<M> = {}): Margin<M> => {
    const known: readonly string[] = optionsOf(method);
    for (const key of Object.keys(options)) expected(known.includes(key), method, `options ${known.join(', ')}`, key);
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    return { method, ...margins[method].params, ...given } as unknown as Margin<M>;
  };
}

/** Normalised softmax without a margin: NormFace. */
export const softmax = preset('softmax');
/** The same under its published name. */
export const normface = softmax;
/** An additive cosine margin, cos θ − m. */
export const cosface = preset('cosface');
/**
 * An additive angular margin, cos(θ + m).  The default gradient is the exact one; `gradient: 'detached'` is what
 * insightface has computed since 2022-12.
 *
 * @example
 * const margin = arcface({ scale: 30, margin: 0.3 });
 */
export const arcface = preset('arcface');
/**
 * A factor on the angle, an angle and a cosine: cos(m₁·θ + m₂) − m₃.
 *
 * @example
 * const margin = combined({ m1: 0.9, m2: 0.4, m3: 0.15 });
 */
export const combined = preset('combined');
/**
 * SphereFace with any factor m on the angle, made to fall all the way; the defaults are SphereFace-R's, whose gradient
 * is detached.  `lambda` is the first paper's blend with the plain cosine.
 *
 * @example
 * const margin = sphereface({ margin: 4, lambda: 5, gradient: 'exact' });
 */
export const sphereface = preset('sphereface');
/**
 * CosFace (`variant: 'am'`) or ArcFace (`'arc'`), and negatives above the target's φ count for more.
 *
 * @example
 * const margin = mvsoftmax({ variant: 'arc', margin: 0.5, t: 0.3 });
 */
export const mvsoftmax = preset('mvsoftmax');
/**
 * ArcFace, and negatives above the target's φ become cos·(t + cos).  MarginHead moves t from `t` on; with
 * marginSoftmax it stays what is given here.
 */
export const curricularface = preset('curricularface');

/**
 * CurricularFace's t for a step: (1 − tRate)·t + tRate·mean of the step's target cosines, those of rows whose label is
 * not −1.
 */
export function nextT(
  { tRate }: Margin<'curricularface'>,
  t: number,
  cosines: ArrayLike<number>,
  labels: ArrayLike<number>,
): number {
  let sum = 0;
  let count = 0;
  for (let i = 0; i < labels.length; i++) {
    if ((labels[i] as number) < 0) continue;
    sum += Math.min(1, Math.max(-1, cosines[i] as number));
    count++;
  }
  return count > 0 ? tRate * (sum / count) + (1 - tRate) * t : t;
}
