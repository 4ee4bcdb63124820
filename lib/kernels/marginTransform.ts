import type { MarginParams } from '../binding.js';
import { checkOptions } from '../errors.js';
import { checkedMargin } from '../margins/check.js';
import type { Margin, MarginState } from '../margins/index.js';
import { countOf, type Floats, type Ints, ints, type Like, matrix } from './arrays.js';
import { costOf, type Job, run, runSync } from './job.js';

const operation = 'marginTransform';
const backwardOperation = 'marginTransformBackward';

export interface MarginTransformInputs {
  /** [N]: each row's own margin, of CosFace's and ArcFace's kind. */
  readonly margins?: Floats;
  /** [N]: norms of the features, for MagFace, AdaFace and `featureNormScale()`. */
  readonly norms?: Floats;
  /** What running numbers are at; by default where the method starts. */
  readonly state?: Omit<MarginState, 'numClasses'>;
}
export interface MarginTransformOptions<A extends Floats> extends MarginTransformInputs {
  /** [N, C]; may be cosines itself. */
  readonly out?: Like<A>;
}

interface Call {
  readonly N: number;
  readonly C: number;
  readonly params: MarginParams;
}

function call(
  operation: string,
  cosines: Floats,
  labels: Ints,
  margin: Margin,
  options: MarginTransformInputs & { readonly out?: unknown },
): Call {
  checkOptions(operation, options, ['margins', 'norms', 'state', 'out']);
  const [N, C] = matrix(operation, 'cosines', cosines, countOf(operation, 'labels', labels, ints));
  return { N, C, params: checkedMargin(operation, margin, C, options.state) };
}

function forward<A extends Floats>(
  cosines: A,
  labels: Ints,
  margin: Margin,
  options: MarginTransformOptions<A>,
): Job<'marginTransformForward', Like<A>> {
  const { N, C, params } = call(operation, cosines, labels, margin, options);
  return {
    operation,
    kernel: 'marginTransformForward',
    work: costOf(cosines, N * C, 0.25, 0.8),
    inputs: [
      { name: 'cosines', value: cosines, shape: [N, C] },
      { name: 'labels', value: labels, shape: [N], dtypes: ints },
      { name: 'margins', value: options.margins, shape: [N] },
      { name: 'norms', value: options.norms, shape: [N] },
    ],
    outputs: [{ name: 'out', value: options.out, shape: [N, C], over: ['cosines'] }],
    args: ([cosines, labels, margins, norms], [logits]) => [cosines, labels, margins, norms, params, logits],
    result: ([logits]) => logits as Like<A>,
  };
}

/**
 * What a margin makes of cosines: cosines [N, C] in [−1, 1], labels int32 [N] in [0, C) or −1 → logits [N, C] = s·φ
 * (+ bias): the target's φ, what becomes of the negatives, and the scale.  Sub-centers and label smoothing, which a
 * margin may ask for too, are subCenterMax's and softmaxCrossEntropy's.
 *
 * @example
 * const logits = await kernels.marginTransform(cosines, new Int32Array([2, 0]), arcface({ scale: 32 }), { out: cosines });
 */
export async function marginTransform<A extends Floats>(
  cosines: A,
  labels: Ints,
  margin: Margin,
  options: MarginTransformOptions<A> = {},
): Promise<Like<A>> {
  return run(forward(cosines, labels, margin, options));
}
/** marginTransform() on the calling thread. */
export function marginTransformSync<A extends Floats>(
  cosines: A,
  labels: Ints,
  margin: Margin,
  options: MarginTransformOptions<A> = {},
): Like<A> {
  return runSync(forward(cosines, labels, margin, options));
}

export interface MarginTransformGradients<A extends Floats> {
  /** [N, C] */
  readonly dCosines: Like<A>;
  /** [N], where margins were given. */
  readonly dMargins?: Like<A>;
  /** [N], where norms were given; 0 where the margin is constant in them. */
  readonly dNorms?: Like<A>;
  /** Of the scale s. */
  readonly dScale: number;
  /** Of a binary loss's bias; 0 otherwise. */
  readonly dBias: number;
}
export interface MarginTransformBackwardOptions<A extends Floats> extends MarginTransformInputs {
  /** dCosines may be dLogits or cosines itself. */
  readonly out?: Partial<Pick<MarginTransformGradients<A>, 'dCosines' | 'dMargins' | 'dNorms'>>;
}

function backward<A extends Floats>(
  dLogits: A,
  cosines: Floats,
  labels: Ints,
  margin: Margin,
  options: MarginTransformBackwardOptions<A>,
): Job<'marginTransformBackward', MarginTransformGradients<A>> {
  const { N, C, params } = call(backwardOperation, cosines, labels, margin, options);
  const { margins, norms, out = {} } = options;
  checkOptions(backwardOperation, out, ['dCosines', 'dMargins', 'dNorms'], 'out');
  return {
    operation: backwardOperation,
    kernel: 'marginTransformBackward',
    work: costOf(dLogits, N * C, 0.45, 1.2),
    inputs: [
      { name: 'dLogits', value: dLogits, shape: [N, C] },
      { name: 'cosines', value: cosines, shape: [N, C] },
      { name: 'labels', value: labels, shape: [N], dtypes: ints },
      { name: 'margins', value: margins, shape: [N] },
      { name: 'norms', value: norms, shape: [N] },
    ],
    outputs: [
      { name: 'out.dCosines', value: out.dCosines, shape: [N, C], over: ['dLogits', 'cosines'] },
      { name: 'out.dMargins', value: out.dMargins, shape: [N], skipped: !margins },
      { name: 'out.dNorms', value: out.dNorms, shape: [N], skipped: !norms },
    ],
    args: ([d, cosines, labels, margins, norms], [dCosines, dMargins, dNorms]) => [
      d,
      cosines,
      labels,
      margins,
      norms,
      params,
      dCosines,
      dMargins,
      dNorms,
    ],
    result: (all, { dScale, dBias }) => {
      const [dCosines, ...rest] = all as Like<A>[];
      return {
        dCosines: dCosines as Like<A>,
        ...(margins ? { dMargins: rest[0] as Like<A> } : {}),
        ...(norms ? { dNorms: rest[margins ? 1 : 0] as Like<A> } : {}),
        dScale,
        dBias,
      };
    },
  };
}

/**
 * Of dLogits [N, C]: { dCosines [N, C], dMargins?, dNorms?, dScale, dBias }.  The target's slope is exact or detached as
 * the margin says, thresholds of hard negatives are constant, and a clipped cosine has no gradient unless detached.
 *
 * @example
 * const { dCosines } = await kernels.marginTransformBackward(dLogits, cosines, labels, arcface(), { out: { dCosines: dLogits } });
 */
export async function marginTransformBackward<A extends Floats>(
  dLogits: A,
  cosines: Floats,
  labels: Ints,
  margin: Margin,
  options: MarginTransformBackwardOptions<A> = {},
): Promise<MarginTransformGradients<A>> {
  return run(backward(dLogits, cosines, labels, margin, options));
}
/** marginTransformBackward() on the calling thread. */
export function marginTransformBackwardSync<A extends Floats>(
  dLogits: A,
  cosines: Floats,
  labels: Ints,
  margin: Margin,
  options: MarginTransformBackwardOptions<A> = {},
): MarginTransformGradients<A> {
  return runSync(backward(dLogits, cosines, labels, margin, options));
}
