import { checkOptions, expected, ShapeError } from '../errors.js';
import { countOf, type Floats, floats, type Like, matrix, type Rows } from './arrays.js';
import { costOf, type Job, run, runSync } from './job.js';

const operation = 'cosineLogits';
const backwardOperation = 'cosineLogitsBackward';

/** rows: of features. */
export interface CosineLogitsOptions<A extends Floats> extends Rows {
  /** [N, R] */
  readonly out?: Like<A>;
}

/** N, D and R. */
function extents(
  operation: string,
  features: Floats,
  weight: Floats,
  rows: number | undefined,
): [number, number, number] {
  const [N, D] = matrix(operation, 'features', features, rows);
  const R = countOf(operation, 'weight', weight, floats) / D;
  if (!Number.isInteger(R) || R === 0) {
    throw new ShapeError(
      `${operation}: expected weight [R, ${D}] to match features [${N}, ${D}], got ${R * D} values`,
      {
        code: 'ERR_FM_SHAPE',
      },
    );
  }
  return [N, D, R];
}

const workOf = (features: Floats, N: number, D: number, R: number): number =>
  costOf(features, (N + R) * D, 0.5, 1.2) + costOf(features, N * R * D, 0.035, 0.065);

function forward<A extends Floats>(
  features: A,
  weight: Floats,
  options: CosineLogitsOptions<A>,
): Job<'cosineLogitsForward', Like<A>> {
  checkOptions(operation, options, ['rows', 'out']);
  const { rows, out } = options;
  const [N, D, R] = extents(operation, features, weight, rows);
  return {
    operation,
    kernel: 'cosineLogitsForward',
    work: workOf(features, N, D, R),
    inputs: [
      { name: 'features', value: features, shape: [N, D] },
      { name: 'weight', value: weight, shape: [R, D] },
    ],
    outputs: [{ name: 'out', value: out, shape: [N, R] }],
    args: ([features, weight], [cosines]) => [features, weight, cosines],
    result: ([cosines]) => cosines as Like<A>,
  };
}

/**
 * The cosines between rows, features [N, D] and weight [R, D] → [N, R]; both are normalised inside.  Beside the result
 * it needs normalised copies of features and of 4096 rows of weight.
 *
 * @example
 * const cosines = await kernels.cosineLogits(features, weight, { rows: 2 }); // Float32Array [2·D], [R·D] → [2·R]
 */
export async function cosineLogits<A extends Floats>(
  features: A,
  weight: Floats,
  options: CosineLogitsOptions<A> = {},
): Promise<Like<A>> {
  return run(forward(features, weight, options));
}
/** cosineLogits() on the calling thread. */
export function cosineLogitsSync<A extends Floats>(
  features: A,
  weight: Floats,
  options: CosineLogitsOptions<A> = {},
): Like<A> {
  return runSync(forward(features, weight, options));
}

export interface CosineGradients<A extends Floats> {
  /** [N, D] */
  readonly dFeatures: Like<A>;
  /** [R, D] */
  readonly dWeight: Like<A>;
}
export interface CosineLogitsBackwardOptions<A extends Floats> extends Rows {
  /** false: dWeight is the gradient at the unit rows, neither tangent nor divided by ‖w‖ (Margin's option). */
  readonly projectWeightGradient?: boolean;
  /** dFeatures may be features itself, and dWeight weight. */
  readonly out?: Partial<CosineGradients<A>>;
}

function backward<A extends Floats>(
  dCosines: A,
  features: Floats,
  weight: Floats,
  options: CosineLogitsBackwardOptions<A>,
): Job<'cosineLogitsBackward', CosineGradients<A>> {
  checkOptions(backwardOperation, options, ['rows', 'projectWeightGradient', 'out']);
  const { rows, projectWeightGradient = true, out = {} } = options;
  checkOptions(backwardOperation, out, ['dFeatures', 'dWeight'], 'out');
  expected(
    typeof projectWeightGradient === 'boolean',
    backwardOperation,
    'projectWeightGradient, true or false',
    projectWeightGradient,
  );
  const [N, D, R] = extents(backwardOperation, features, weight, rows);
  return {
    operation: backwardOperation,
    kernel: 'cosineLogitsBackward',
    work: 2 * workOf(features, N, D, R),
    inputs: [
      { name: 'dCosines', value: dCosines, shape: [N, R] },
      { name: 'features', value: features, shape: [N, D] },
      { name: 'weight', value: weight, shape: [R, D] },
    ],
    outputs: [
      { name: 'out.dFeatures', value: out.dFeatures, shape: [N, D], over: ['features'] },
      { name: 'out.dWeight', value: out.dWeight, shape: [R, D], over: ['weight'] },
    ],
    args: ([d, features, weight], [dFeatures, dWeight]) => [
      d,
      features,
      weight,
      projectWeightGradient,
      dFeatures,
      dWeight,
    ],
    result: ([dFeatures, dWeight]) => ({ dFeatures: dFeatures as Like<A>, dWeight: dWeight as Like<A> }),
  };
}

/**
 * Of dCosines [N, R]: { dFeatures [N, D], dWeight [R, D] }, both tangent to their rows; 0 in a row shorter than 1e-12.
 *
 * @example
 * const { dFeatures, dWeight } = await kernels.cosineLogitsBackward(dCosines, features, weight, { rows: 2 });
 */
export async function cosineLogitsBackward<A extends Floats>(
  dCosines: A,
  features: Floats,
  weight: Floats,
  options: CosineLogitsBackwardOptions<A> = {},
): Promise<CosineGradients<A>> {
  return run(backward(dCosines, features, weight, options));
}
/** cosineLogitsBackward() on the calling thread. */
export function cosineLogitsBackwardSync<A extends Floats>(
  dCosines: A,
  features: Floats,
  weight: Floats,
  options: CosineLogitsBackwardOptions<A> = {},
): CosineGradients<A> {
  return runSync(backward(dCosines, features, weight, options));
}
