/** What the losses on pairs of a batch share: checked labels, their distances, and how often a nearest row agrees. */
import { expected, NonFiniteError, ShapeError } from '../errors.js';
import * as ops from '../ops/index.js';
import { checkTensor, Tensor, tensor } from '../tensor.js';

export interface PairDistances {
  /** [N, N], squared, of unit rows where `normalize` was asked for; on the tape. */
  readonly squared: Tensor;
  /** The same values on this side. */
  readonly values: Float32Array | Float64Array;
  /** [N]; a row below 0 is in no pair. */
  readonly labels: Int32Array;
}

/** Labels as an array of one a row of features [N, D]. */
export function labelsOf(operation: string, features: Tensor, labels: Tensor | Int32Array): Int32Array {
  checkTensor(operation, 'features', features);
  const array = labels instanceof Tensor ? labels.toArray() : labels;
  if (features.shape.length !== 2)
    throw new ShapeError(`${operation}: expected features [N, D], got [${features.shape.join(', ')}]`, {
      code: 'ERR_FM_SHAPE',
    });
  expected(array instanceof Int32Array, operation, 'labels as Int32Array or int32 tensor', labels);
  if (array.length !== features.shape[0]) {
    throw new ShapeError(`${operation}: expected ${features.shape[0]} labels, got ${array.length}`, {
      code: 'ERR_FM_SHAPE',
    });
  }
  return array;
}

/** Distances of all pairs of a batch. */
export function pairDistances(
  operation: string,
  features: Tensor,
  labels: Tensor | Int32Array,
  normalize: boolean,
): PairDistances {
  const array = labelsOf(operation, features, labels);
  const squared = ops.squaredDistances(normalize ? ops.normalize(features) : features);
  const values = squared.toArray() as Float32Array | Float64Array;
  const N = array.length;
  for (let n = 0; n < N; n++) {
    // The distance to oneself is 0 by definition: a row is judged by the others, of which one may be to blame.
    const other = values[n * N + ((n + 1) % N)];
    if (N > 1 && !Number.isFinite(other))
      throw new NonFiniteError(`${operation}: row ${n} or ${(n + 1) % N} of the features is not finite`, {
        code: 'ERR_FM_NON_FINITE',
      });
  }
  return { squared, values, labels: array };
}

/**
 * Share of the rows that have another of their class in the batch whose nearest other row is of it; 0 where none has.
 * Unlabelled rows neither count nor are found.
 */
export function nearestAgrees({ values, labels }: Pick<PairDistances, 'values' | 'labels'>): number {
  const N = labels.length;
  let asked = 0;
  let right = 0;
  for (let a = 0; a < N; a++) {
    if ((labels[a] as number) < 0) continue;
    let nearest = -1;
    let hasOwn = false;
    for (let b = 0; b < N; b++) {
      if (b === a || (labels[b] as number) < 0) continue;
      hasOwn ||= labels[b] === labels[a];
      if (nearest < 0 || (values[a * N + b] as number) < (values[a * N + nearest] as number)) nearest = b;
    }
    if (!hasOwn) continue;
    asked++;
    if (labels[nearest] === labels[a]) right++;
  }
  return asked > 0 ? right / asked : 0;
}

/** ⟨weights, x⟩ + offset as a tensor of one element; weights [N, N] are constants. */
export function weighted(x: Tensor, weights: Float64Array, offset = 0): Tensor {
  const data = x.dtype === 'float64' ? weights : Float32Array.from(weights);
  const sum = ops.dot(x, tensor(data, x.shape, x.device));
  return offset === 0 ? sum : ops.affine(sum, { offset });
}
