import { checkOptions, expected } from '../errors.js';
import { type Floats, type Ints, ints, type Like, matrix, type Rows } from './arrays.js';
import { costOf, type Job, run, runSync } from './job.js';

const operation = 'subCenterMax';
const backwardOperation = 'subCenterMaxBackward';

/** int32: an array for an array, a tensor for a tensor. */
type Centers<A extends Floats> = Like<A> extends Float32Array | Float64Array ? Int32Array : Ints;

export interface SubCenterMax<A extends Floats> {
  /** [N, C] */
  readonly cosines: Like<A>;
  /** int32 [N, C]: which of its class's centers, in [0, K). */
  readonly centers: Centers<A>;
}
export interface SubCenterMaxOptions<A extends Floats> extends Rows {
  readonly out?: Partial<SubCenterMax<A>>;
}

function checkCenters(operation: string, K: number): void {
  expected(Number.isSafeInteger(K) && K >= 1 && K <= 1024, operation, 'subCenters, an integer in [1, 1024]', K);
}

function forward<A extends Floats>(
  cosines: A,
  subCenters: number,
  options: SubCenterMaxOptions<A>,
): Job<'subCenterMaxForward', SubCenterMax<A>> {
  checkOptions(operation, options, ['rows', 'out']);
  const { rows, out = {} } = options;
  checkOptions(operation, out, ['cosines', 'centers'], 'out');
  checkCenters(operation, subCenters);
  const [N, R] = matrix(operation, 'cosines', cosines, rows);
  const C = R / subCenters;
  expected(Number.isInteger(C), operation, `cosines [N, C·${subCenters}]`, [N, R]);
  return {
    operation,
    kernel: 'subCenterMaxForward',
    work: costOf(cosines, N * R, 0.5, 0.9),
    inputs: [{ name: 'cosines', value: cosines, shape: [N, R] }],
    outputs: [
      { name: 'out.cosines', value: out.cosines, shape: [N, C] },
      { name: 'out.centers', value: out.centers, shape: [N, C], dtypes: ints },
    ],
    args: ([cosines], [largest, centers]) => [cosines, subCenters, largest, centers],
    result: ([largest, centers]) => ({ cosines: largest as Like<A>, centers: centers as Centers<A> }),
  };
}

/**
 * The largest of each class's K cosines and which it is: cosines [N, C·K], class j's at j·K … j·K + K − 1, →
 * { cosines [N, C], centers int32 [N, C] }; of equal ones the first.  (Sub-center ArcFace, Deng et al. 2020.)
 *
 * @example
 * const { cosines, centers } = await kernels.subCenterMax(new Float32Array([0.1, 0.7, 0.5, 0.5]), 2, { rows: 1 });
 * // [0.7, 0.5], [1, 0]
 */
export async function subCenterMax<A extends Floats>(
  cosines: A,
  subCenters: number,
  options: SubCenterMaxOptions<A> = {},
): Promise<SubCenterMax<A>> {
  return run(forward(cosines, subCenters, options));
}
/** subCenterMax() on the calling thread. */
export function subCenterMaxSync<A extends Floats>(
  cosines: A,
  subCenters: number,
  options: SubCenterMaxOptions<A> = {},
): SubCenterMax<A> {
  return runSync(forward(cosines, subCenters, options));
}

export interface SubCenterMaxBackwardOptions<A extends Floats> extends Rows {
  /** [N, C·K] */
  readonly out?: Like<A>;
}

function backward<A extends Floats>(
  dCosines: A,
  centers: Ints,
  subCenters: number,
  options: SubCenterMaxBackwardOptions<A>,
): Job<'subCenterMaxBackward', Like<A>> {
  checkOptions(backwardOperation, options, ['rows', 'out']);
  const { rows, out } = options;
  checkCenters(backwardOperation, subCenters);
  const [N, C] = matrix(backwardOperation, 'dCosines', dCosines, rows);
  return {
    operation: backwardOperation,
    kernel: 'subCenterMaxBackward',
    work: costOf(dCosines, N * C * subCenters, 0.8, 1.1),
    inputs: [
      { name: 'dCosines', value: dCosines, shape: [N, C] },
      { name: 'centers', value: centers, shape: [N, C], dtypes: ints },
    ],
    outputs: [{ name: 'out', value: out, shape: [N, C * subCenters] }],
    args: ([d, centers], [to]) => [d, centers, subCenters, to],
    result: ([to]) => to as Like<A>,
  };
}

/**
 * Of dCosines [N, C]: [N, C·K], each class's gradient at its largest center and 0 at the others.
 *
 * @example
 * const d = await kernels.subCenterMaxBackward(new Float32Array([2, 3]), new Int32Array([1, 0]), 2, { rows: 1 });
 * // [0, 2, 3, 0]
 */
export async function subCenterMaxBackward<A extends Floats>(
  dCosines: A,
  centers: Ints,
  subCenters: number,
  options: SubCenterMaxBackwardOptions<A> = {},
): Promise<Like<A>> {
  return run(backward(dCosines, centers, subCenters, options));
}
/** subCenterMaxBackward() on the calling thread. */
export function subCenterMaxBackwardSync<A extends Floats>(
  dCosines: A,
  centers: Ints,
  subCenters: number,
  options: SubCenterMaxBackwardOptions<A> = {},
): Like<A> {
  return runSync(backward(dCosines, centers, subCenters, options));
}
