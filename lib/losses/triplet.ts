/**
 * Triplet loss (FaceNet, Schroff et al. 2015, arXiv:1503.03832): an anchor is to be nearer to a row of its own class
 * than to a row of another, by a margin of squared distance:
 *
 *   L = mean over triplets of max(0, d_ap − d_an + α),   d_ij = ‖e_i − e_j‖²,   e = x/‖x‖
 *
 * Where it is not 0 the loss is linear in the distances.  So triplets are counted, not gathered: a pair's coefficient
 * is the number of active triplets that pull it together less the number that push it apart, and one dot product of
 * the [N, N] distances with those coefficients is the whole loss, however many triplets there are.
 */
import {
  ArgumentTypeError,
  checkBooleans,
  checkLists,
  checkOptions,
  describe,
  expected,
  ShapeError,
} from '../errors.js';
import { Random } from '../random.js';
import type { Tensor } from '../tensor.js';
import { nearestAgrees, pairDistances, weighted } from './pairs.js';

export type TripletMining = 'all' | 'semi-hard' | 'hard';

export interface TripletOptions {
  /** α, of squared distance. */
  readonly margin?: number;
  /**
   * 'all': every triplet.
   * 'semi-hard': for each anchor and positive a random negative with d_ap < d_an < d_ap + α; none, no triplet.
   * 'hard': for each anchor the farthest positive and the nearest negative (Hermans et al. 2017, arXiv:1703.07737).
   */
  readonly mining?: TripletMining;
  /** Divides by all triplets, or by those alone whose loss is above 0. */
  readonly average?: 'triplets' | 'active';
  /** Of the random negatives: the same seed, the same choice. */
  readonly seed?: number;
  /** Features are made unit rows first. */
  readonly normalize?: boolean;
}

export interface TripletResult {
  /** Of one element, for backward(). */
  readonly loss: Tensor;
  readonly triplets: number;
  /** Triplets whose loss is above 0. */
  readonly active: number;
  /** Share of the rows with a positive whose nearest other row is one. */
  readonly accuracy: number;
}

export type Triplet = readonly [anchor: number, positive: number, negative: number];

/**
 * The triplets of a batch, by its squared distances [N, N] and labels [N]; rows whose label is below 0 are in none.
 *
 * @example
 * for (const [a, p, n] of mineTriplets(squaredDistances(e).toArray(), labels, { mining: 'hard' })) console.log(a, p, n);
 */
export function mineTriplets(
  distances: ArrayLike<number>,
  labels: Int32Array,
  options: Pick<TripletOptions, 'mining' | 'margin' | 'seed'> = {},
): Generator<Triplet> {
  checkLists('mineTriplets', { distances });
  if (!(labels instanceof Int32Array)) {
    throw new ArgumentTypeError(`mineTriplets: expected labels as Int32Array, got ${describe(labels)}`, {
      code: 'ERR_FM_TYPE',
    });
  }
  const N = labels.length;
  if (distances.length !== N * N) {
    throw new ShapeError(
      `mineTriplets: expected distances [${N}, ${N}] for ${N} labels, got ${distances.length} values`,
      { code: 'ERR_FM_SHAPE' },
    );
  }
  checkOptions('mineTriplets', options, ['mining', 'margin', 'seed']);
  checkTriplet('mineTriplets', options);
  return mined(distances, labels, options);
}

function* mined(
  distances: ArrayLike<number>,
  labels: Int32Array,
  { mining = 'semi-hard', margin = 0.3, seed = 0 }: Pick<TripletOptions, 'mining' | 'margin' | 'seed'>,
): Generator<Triplet> {
  const N = labels.length;
  const rng = new Random(seed);
  const at = (a: number, b: number) => distances[a * N + b] as number;
  for (let a = 0; a < N; a++) {
    const own = labels[a] as number;
    if (own < 0) continue;
    const positives: number[] = [];
    const negatives: number[] = [];
    for (let b = 0; b < N; b++) {
      if (labels[b] === own) {
        if (b !== a) positives.push(b);
      } else if ((labels[b] as number) >= 0) negatives.push(b);
    }
    if (positives.length === 0 || negatives.length === 0) continue;
    if (mining === 'hard') {
      const farthest = positives.reduce((best, p) => (at(a, p) > at(a, best) ? p : best));
      const nearest = negatives.reduce((best, n) => (at(a, n) < at(a, best) ? n : best));
      yield [a, farthest, nearest];
      continue;
    }
    for (const p of positives) {
      if (mining === 'all') {
        for (const n of negatives) yield [a, p, n];
      } else {
        const near = at(a, p);
        const eligible = negatives.filter((n) => at(a, n) > near && at(a, n) < near + margin);
        if (eligible.length > 0) yield [a, p, eligible[Math.floor(rng.uniform() * eligible.length)] as number];
      }
    }
  }
}

const minings: readonly string[] = ['all', 'semi-hard', 'hard'];

/** Throws unless the options make sense. */
export function checkTriplet(operation: string, options: TripletOptions & { readonly kind?: string }): void {
  checkOptions(operation, options, ['kind', 'margin', 'mining', 'average', 'seed', 'normalize']);
  const { margin, mining, average, seed, normalize } = options;
  checkBooleans(operation, { normalize });
  if (margin !== undefined)
    expected(Number.isFinite(margin) && margin >= 0, operation, 'a margin of at least 0', margin);
  if (mining !== undefined)
    expected(minings.includes(mining), operation, "mining 'all', 'semi-hard' or 'hard'", mining);
  if (average !== undefined)
    expected(average === 'triplets' || average === 'active', operation, "average 'triplets' or 'active'", average);
  if (seed !== undefined)
    expected(Number.isSafeInteger(seed) && seed >= 0, operation, 'seed, an integer of at least 0', seed);
}

/**
 * Features [N, D] as the backbone gives them, labels int32 [N]; a row whose label is −1 is in no triplet.  A batch
 * without triplets has the loss 0 and no gradient.
 *
 * @example
 * const { loss, active } = tripletLoss(features, new Int32Array([0, 0, 1, 1]), { mining: 'hard' });
 * backward(loss);
 */
export function tripletLoss(
  features: Tensor,
  labels: Tensor | Int32Array,
  options: TripletOptions = {},
): TripletResult {
  checkTriplet('tripletLoss', options);
  const { margin = 0.3, mining = 'semi-hard', average = 'triplets', seed = 0, normalize = true } = options;
  const pairs = pairDistances('tripletLoss', features, labels, normalize);
  const N = pairs.labels.length;
  const coefficients = new Float64Array(N * N);
  let triplets = 0;
  let active = 0;
  for (const [a, p, n] of mineTriplets(pairs.values, pairs.labels, { mining, margin, seed })) {
    triplets++;
    if ((pairs.values[a * N + p] as number) - (pairs.values[a * N + n] as number) + margin <= 0) continue;
    active++;
    coefficients[a * N + p] = (coefficients[a * N + p] as number) + 1;
    coefficients[a * N + n] = (coefficients[a * N + n] as number) - 1;
  }
  const divisor = Math.max(1, average === 'active' ? active : triplets);
  for (let i = 0; i < coefficients.length; i++) coefficients[i] = (coefficients[i] as number) / divisor;
  const loss = weighted(pairs.squared, coefficients, (active * margin) / divisor);
  return { loss, triplets, active, accuracy: nearestAgrees(pairs) };
}
