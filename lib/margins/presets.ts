/** Every method with its published defaults. */
import { checkOptions } from '../errors.js';
import { checkMethod, type Margin, type MarginName, type MarginOptions, margins, optionsOf } from './methods.js';

/**
 * A method's margin with published defaults and given options.
 *
 * @example
 * const margin = presetOf('arcface', { margin: 0.3 });
 */
export function presetOf<M extends MarginName>(method: M, options: MarginOptions<M> = {}): Margin<M> {
  checkMethod('presetOf', method);
  checkOptions(method, options, optionsOf(method));
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  return { method, ...margins[method].params, ...published(method, given), ...given } as unknown as Margin<M>;
}

/** Published values that depend on other options. */
function published(method: MarginName, { variant, plus = 'none' }: { variant?: string; plus?: string }) {
  if (method !== 'elasticface') return {};
  const cosine = variant === 'am';
  const deviation = plus === 'none' ? 0.05 : cosine ? 0.02 : 0.0175;
  return { margin: cosine ? 0.35 : 0.5, deviation };
}

const preset =
  <M extends MarginName>(method: M) =>
  (options: MarginOptions<M> = {}): Margin<M> =>
    presetOf(method, options);

/** Normalised softmax without a margin: NormFace. */
export const softmax = preset('softmax');
/** The same under its published name. */
export const normface = softmax;
/** An additive cosine margin, cos θ − m: CosFace, AM-Softmax. */
export const cosface = preset('cosface');
/**
 * An additive angular margin, cos(θ + m).  The default gradient is the exact one; `gradient: 'detached'` is what
 * insightface has computed since 2022-12.
 *
 * @example
 * const margin = arcface({ scale: 30, margin: 0.3, negatives: filteredNegatives({ above: 0.4 }) });
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
 * SphereFace as first published, A-Softmax: a whole m, logits scaled by the feature's norm with its gradient, and λ
 * annealed from a thousand to five.
 *
 * @example
 * const margin = asoftmax({ margin: 3, lambda: annealing({ base: 1500, gamma: 0.1 }) });
 */
export const asoftmax = preset('asoftmax');
/**
 * SphereFace-R: any factor m on the angle, made to fall all the way, with a detached gradient.
 *
 * @example
 * const margin = sphereface({ scale: 64 });
 */
export const sphereface = preset('sphereface');
/**
 * AdaptiveFace's AdaM-Softmax: CosFace with a margin for each class, learned between 0 and 1, which the loss rewards.
 * MarginHead starts them uniformly in margin ± spread.
 */
export const adaptiveface = preset('adaptiveface');
/**
 * AdaCos: no margin, but a scale that follows from the number of classes (`adacosScale({ dynamic: false })`) and from
 * how well the batch is classified.
 *
 * @example
 * const fixed = adacos({ scale: adacosScale({ dynamic: false }) });
 */
export const adacos = preset('adacos');
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
 * ArcFace with K centers a class, of which the nearest counts.
 *
 * @example
 * const margin = subcenter({ subCenters: 2 });
 */
export const subcenter = preset('subcenter');
/**
 * MagFace: ArcFace whose margin grows with the feature's norm, and a regulariser that pulls norms up; both have the
 * norm's gradient.  Easy as its authors' default; `overflow: 'hard'` is their full form.
 */
export const magface = preset('magface');
/** MagFace on CosFace's margin. */
export const magcosface = (options: MarginOptions<'magface'> = {}): Margin<'magface'> =>
  presetOf('magface', { variant: 'am', ...options });
/**
 * ElasticFace: a margin drawn for each row, around `margin`, on ArcFace (`variant: 'arc'`) or CosFace (`'am'`).  MarginHead
 * draws them from its seed; marginSoftmax takes them as `margins`.
 *
 * @example
 * const margin = elasticface({ variant: 'am', plus: 'paper' }); // ElasticFace-Cos+
 */
export const elasticface = preset('elasticface');
/**
 * AdaFace: the norm of the feature turns an angular margin into an additive one.  The authors' first code;
 * `{ overflow: 'none', cosineEpsilon: 0, gradient: 'detached' }` is CVLface's.
 */
export const adaface = preset('adaface');
/** SphereFace2: a binary loss for each class in the place of a softmax. */
export const sphereface2 = preset('sphereface2');
/** UniFace's unified threshold: a binary loss for each class, with one bias. */
export const uniface = preset('uniface');
