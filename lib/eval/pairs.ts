import { native } from '../binding.js';
import { checkLists, checkOptions, expected } from '../errors.js';
import { checkLength, checkRates, finiteRowsOf } from './embeddings.js';
import { type RocPoint, share } from './statistics.js';

/** Counts of cosines in equal bins over [−1, 1]. */
export interface PairHistograms {
  readonly genuine: Float64Array;
  readonly impostor: Float64Array;
}

/** Computes {@link PairHistograms} over all unordered pairs; `native.pairHistograms` of the addon. */
export type CountPairs = (embeddings: Float32Array, labels: Int32Array, dim: number, bins: number) => PairHistograms;

export interface AllPairsOptions {
  /** False accept rates to report. Default 1e-3 and 1e-4. */
  readonly fars?: readonly number[];
  /** Points of the ROC, spread evenly over log10 FAR down to one pair. Default 200. */
  readonly rocPoints?: number;
  /** Bars of the histograms for display. Default 200. */
  readonly bars?: number;
  readonly countPairs?: CountPairs;
}

export const allPairsOptions = [
  'fars',
  'rocPoints',
  'bars',
  'countPairs',
] as const satisfies readonly (keyof AllPairsOptions)[];

export interface AllPairsResult {
  readonly rule: string;
  readonly genuinePairs: number;
  readonly impostorPairs: number;
  readonly tarAtFar: readonly (RocPoint & { readonly target: number })[];
  readonly auc: number;
  readonly roc: readonly RocPoint[];
  /** Shares of the pairs in equal bars over [−1, 1]. */
  readonly histograms: PairHistograms;
}

/** Cosines are told apart to 2 / BINS ≈ 1.9e-6, about the rounding of a float32 dot product. */
const BINS = 2 ** 20;

/**
 * Verification over all n(n − 1)/2 pairs of images: TAR@FAR, ROC, AUC and histograms. Embeddings [n, dim] unit rows,
 * labels [n]. Scores are cosines rounded down to a 2^20th of [−1, 1], so a threshold is exact to 1.9e-6 and memory does
 * not grow with n².
 *
 * TAR@FAR: the lowest threshold at which the share of impostor pairs accepted (cosine ≥ threshold) does not exceed FAR.
 *
 * @example
 * const { tarAtFar, auc } = verifyAllPairs(embeddings, labels, 256, { fars: [1e-3, 1e-4] });
 */
export function verifyAllPairs(
  embeddings: Float32Array,
  labels: Int32Array,
  dim: number,
  options: AllPairsOptions = {},
): AllPairsResult {
  checkLists('verifyAllPairs', { labels });
  checkOptions('verifyAllPairs', options, allPairsOptions);
  const { fars = [1e-3, 1e-4], rocPoints = 200, bars = 200 } = options;
  const countPairs = options.countPairs ?? ((...args: Parameters<CountPairs>) => native.pairHistograms(...args));
  expected(typeof countPairs === 'function', 'verifyAllPairs', 'countPairs, a function', countPairs);
  checkRates(fars, 'verifyAllPairs');
  for (const [name, count] of Object.entries({ rocPoints, bars }))
    expected(Number.isSafeInteger(count) && count >= 1, 'verifyAllPairs', `${name}, an integer of at least 1`, count);
  checkLength(labels.length, finiteRowsOf(embeddings, dim, 'verifyAllPairs'), 'labels', 'verifyAllPairs');
  const counts = countPairs(embeddings, labels, dim, BINS);
  const genuine = acceptedFrom(counts.genuine);
  const impostor = acceptedFrom(counts.impostor);
  const at = (far: number) => operatingPoint(genuine, impostor, far);
  const lowest = Math.log10(share(1, impostor[0]) || 1);
  return {
    rule: `all unordered pairs; accepted where cosine ≥ threshold; lowest threshold with FAR ≤ target; thresholds in steps of 2/${BINS}`,
    genuinePairs: genuine[0],
    impostorPairs: impostor[0],
    tarAtFar: fars.map((target) => ({ target, ...at(target) })),
    auc: areaUnder(counts, genuine),
    roc: Array.from({ length: rocPoints }, (_, i) => at(10 ** (lowest * (1 - i / Math.max(1, rocPoints - 1))))),
    histograms: { genuine: toBars(counts.genuine, bars), impostor: toBars(counts.impostor, bars) },
  };
}

/** Pairs at or above each bin; one more entry than bins, the last 0. */
function acceptedFrom(histogram: Float64Array): Float64Array {
  const accepted = new Float64Array(histogram.length + 1);
  for (let bin = histogram.length - 1; bin >= 0; bin--) accepted[bin] = accepted[bin + 1] + histogram[bin];
  return accepted;
}

function operatingPoint(genuine: Float64Array, impostor: Float64Array, far: number): RocPoint {
  const allowed = far * impostor[0];
  // impostor[] falls with the bin: the lowest bin with no more than `allowed`.
  let low = 0;
  let high = impostor.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (impostor[middle] <= allowed) high = middle;
    else low = middle + 1;
  }
  const bins = impostor.length - 1;
  return {
    far: share(impostor[low], impostor[0]),
    tar: share(genuine[low], genuine[0]),
    threshold: (2 * low) / bins - 1,
  };
}

/** Ties within a bin count half. */
function areaUnder(counts: PairHistograms, genuine: Float64Array): number {
  let area = 0;
  let impostors = 0;
  for (let bin = 0; bin < counts.impostor.length; bin++) {
    area += counts.impostor[bin] * (genuine[bin + 1] + counts.genuine[bin] / 2);
    impostors += counts.impostor[bin];
  }
  return share(area, genuine[0] * impostors);
}

function toBars(histogram: Float64Array, bars: number): Float64Array {
  const out = new Float64Array(bars);
  const total = histogram.reduce((a, b) => a + b, 0);
  histogram.forEach((count, bin) => {
    if (count > 0) out[Math.floor((bin * bars) / histogram.length)] += count / total;
  });
  return out;
}
