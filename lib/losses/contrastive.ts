/**
 * Contrastive loss (Hadsell et al. 2006) over all pairs i < j of a batch, y = 1 where both are of one class:
 *
 *   ½·[y·d² + (1 − y)·max(0, m − √(d² + 1e-9))²],   d = ‖e_i − e_j‖,   e = x/‖x‖
 *
 * The 1e-9 keeps the slope of the root finite where two rows meet.
 */
import { checkBooleans, checkOptions, expected } from '../errors.js';
import * as ops from '../ops/index.js';
import type { Tensor } from '../tensor.js';
import { nearestAgrees, pairDistances, weighted } from './pairs.js';

export interface ContrastiveOptions {
  /** m, of distance. */
  readonly margin?: number;
  /** The mean over all pairs, or that over the positive ones plus that over the negative ones. */
  readonly average?: 'pairs' | 'separate';
  /** Features are made unit rows first. */
  readonly normalize?: boolean;
}

export interface ContrastiveResult {
  /** Of one element, for backward(). */
  readonly loss: Tensor;
  readonly positives: number;
  readonly negatives: number;
  /** Share of the rows with a positive whose nearest other row is one. */
  readonly accuracy: number;
}

/** Throws unless the options make sense. */
export function checkContrastive(operation: string, options: ContrastiveOptions & { readonly kind?: string }): void {
  checkOptions(operation, options, ['kind', 'margin', 'average', 'normalize']);
  const { margin, average, normalize } = options;
  checkBooleans(operation, { normalize });
  if (margin !== undefined)
    expected(Number.isFinite(margin) && margin >= 0, operation, 'a margin of at least 0', margin);
  if (average !== undefined)
    expected(average === 'pairs' || average === 'separate', operation, "average 'pairs' or 'separate'", average);
}

/**
 * Features [N, D] as the backbone gives them, labels int32 [N]; a row whose label is −1 is in no pair.
 *
 * @example
 * const { loss } = contrastiveLoss(features, new Int32Array([0, 0, 1, 1]), { margin: 1, average: 'separate' });
 * backward(loss);
 */
export function contrastiveLoss(
  features: Tensor,
  labels: Tensor | Int32Array,
  options: ContrastiveOptions = {},
): ContrastiveResult {
  checkContrastive('contrastiveLoss', options);
  const { margin = 1, average = 'pairs', normalize = true } = options;
  const pairs = pairDistances('contrastiveLoss', features, labels, normalize);
  const N = pairs.labels.length;
  const [pull, push] = [new Float64Array(N * N), new Float64Array(N * N)];
  let positives = 0;
  let negatives = 0;
  for (let i = 0; i < N; i++) {
    if ((pairs.labels[i] as number) < 0) continue;
    for (let j = i + 1; j < N; j++) {
      if ((pairs.labels[j] as number) < 0) continue;
      const alike = pairs.labels[i] === pairs.labels[j];
      (alike ? pull : push)[i * N + j] = 0.5;
      if (alike) positives++;
      else negatives++;
    }
  }
  const [ofPull, ofPush] =
    average === 'pairs' ? [positives + negatives, positives + negatives] : [positives, negatives];
  for (let i = 0; i < N * N; i++) {
    pull[i] = (pull[i] as number) / Math.max(1, ofPull);
    push[i] = (push[i] as number) / Math.max(1, ofPush);
  }
  const distance = ops.sqrt(pairs.squared, { epsilon: 1e-9 });
  const lacking = ops.relu(ops.affine(distance, { factor: -1, offset: margin }));
  const loss = ops.add(weighted(pairs.squared, pull), weighted(ops.multiply(lacking, lacking), push));
  return { loss, positives, negatives, accuracy: nearestAgrees(pairs) };
}
