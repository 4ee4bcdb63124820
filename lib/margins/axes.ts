/** What a head composes with any margin: the scale, the negatives, λ's annealing.  Plain objects, fit for a file. */
import { checkObject, checkOptions, expected } from '../errors.js';

/** √2·ln(C − 1), AdaCos's fixed scale; dynamic: moved by every step (Zhang et al. 2019, arXiv:1905.00292). */
export interface AdacosScale {
  readonly rule: 'adacos';
  readonly dynamic: boolean;
}
/** A parameter of the head, moved by its gradient. */
export interface LearnedScale {
  readonly rule: 'learned';
  readonly initial: number;
}
/** The norm of the feature, with its gradient (SphereFace 2017). */
export interface NormScale {
  readonly rule: 'featureNorm';
}
/** s of the logits s·φ. */
export type Scale = number | AdacosScale | LearnedScale | NormScale;

/** Every other class keeps its cosine c. */
export interface PlainNegatives {
  readonly rule: 'plain';
}
/** A class whose c is above the target's margined cosine gets (t + 1)·c + t (adaptive) or c + t (fixed). */
export interface MvNegatives {
  readonly rule: 'mv';
  readonly t: number;
  readonly hard: 'adaptive' | 'fixed';
}
/** A class whose c is above the target's margined cosine gets c·(t + c); t ← (1 − tRate)·t + tRate·mean cos θ_y. */
export interface CurricularNegatives {
  readonly rule: 'curricular';
  readonly t: number;
  readonly tRate: number;
}
/** A class whose c is above `above` gets 0 and no gradient: taken for a mislabelled twin (insightface). */
export interface FilteredNegatives {
  readonly rule: 'filter';
  readonly above: number;
}
/** What the classes that are not a row's label have in the place of their cosine. */
export type Negatives = PlainNegatives | MvNegatives | CurricularNegatives | FilteredNegatives;

/** λ = max(least, base·(1 + gamma·step)^−power), the step counted from 1 (SphereFace 2017). */
export interface Annealing {
  readonly base: number;
  readonly gamma: number;
  readonly power: number;
  readonly least: number;
}

function given<T extends object>(operation: string, defaults: T, options: Partial<T>): T {
  const known = Object.keys(defaults).filter((key) => key !== 'rule');
  checkOptions(operation, options, known);
  const set = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  return { ...defaults, ...set } as T;
}

/** AdaCos's scale for any margin. */
export const adacosScale = (options: { dynamic?: boolean } = {}): AdacosScale =>
  given<AdacosScale>('adacosScale', { rule: 'adacos', dynamic: true }, options);
/** A scale that the head learns, from `initial` on. */
export const learnedScale = (options: { initial?: number } = {}): LearnedScale =>
  given<LearnedScale>('learnedScale', { rule: 'learned', initial: 64 }, options);
/** Logits ‖x‖·φ. */
export const featureNormScale = (): NormScale => ({ rule: 'featureNorm' });

/** MV-Softmax's negatives for any margin. */
export const mvNegatives = (options: Partial<Omit<MvNegatives, 'rule'>> = {}): MvNegatives =>
  given<MvNegatives>('mvNegatives', { rule: 'mv', t: 0.2, hard: 'adaptive' }, options);
/** CurricularFace's negatives for any margin. */
export const curricularNegatives = (options: Partial<Omit<CurricularNegatives, 'rule'>> = {}): CurricularNegatives =>
  given<CurricularNegatives>('curricularNegatives', { rule: 'curricular', t: 0, tRate: 0.01 }, options);
/** insightface's inter-class filter for any margin. */
export const filteredNegatives = (options: { above?: number } = {}): FilteredNegatives =>
  given<FilteredNegatives>('filteredNegatives', { rule: 'filter', above: 0.4 }, options);

/** SphereFace's annealing; the defaults are its authors'. */
export const annealing = (options: Partial<Annealing> = {}): Annealing =>
  given<Annealing>('annealing', { base: 1000, gamma: 0.12, power: 1, least: 5 }, options);

/** λ at a step, the first being 1. */
export function annealedLambda(lambda: Annealing, step: number): number {
  checkObject('annealedLambda', 'lambda, as annealing() makes it', lambda);
  const { base, gamma, power, least } = lambda;
  for (const [name, value] of Object.entries({ base, gamma, power, least }))
    expected(Number.isFinite(value) && value >= 0, 'annealedLambda', `lambda.${name}, a number of at least 0`, value);
  expected(Number.isFinite(step) && step >= 0, 'annealedLambda', 'a step of at least 0', step);
  return Math.max(least, base * (1 + gamma * step) ** -power);
}

/** AdaCos's fixed scale, √2·ln(C − 1): below it a softmax over C classes cannot become sure (its section 3.2). */
export function fixedAdacosScale(numClasses: number): number {
  const count = Number.isSafeInteger(numClasses) && numClasses >= 1;
  expected(count, 'fixedAdacosScale', 'numClasses, an integer of at least 1', numClasses);
  return Math.SQRT2 * Math.log(Math.max(numClasses - 1, 2));
}
