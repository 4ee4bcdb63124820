import { ArgumentRangeError, checkLists, checkOptions, expected } from '../errors.js';
import { checkLength, checkRates, checkValues, type Embeddings, rowsOf } from './embeddings.js';
import { meanAndStd, type RocPoint, share } from './statistics.js';

// The protocol of insightface's verification.py: pairs in ten contiguous folds, the threshold of each fold chosen on
// the nine others.

/** Accuracy grid: 0, 0.01, … 3.99. Squared distances of unit vectors reach 4, which is not in it. */
const ACCURACY_STEP = 0.01;
/** TAR@FAR grid: 0, 0.001, … 3.999. */
const FAR_STEP = 0.001;
const MAX_DISTANCE = 4;

export interface VerificationOptions {
  /** Default 10. */
  readonly folds?: number;
  /** The false accept rate at which TAR is reported. Default 1e-3. */
  readonly far?: number;
}

export interface VerificationResult {
  readonly pairs: number;
  readonly folds: number;
  readonly accuracy: {
    readonly rule: string;
    readonly mean: number;
    readonly std: number;
    readonly perFold: Float64Array;
    /** The threshold chosen for each fold, a squared distance. */
    readonly thresholds: Float64Array;
  };
  readonly tarAtFar: {
    readonly rule: string;
    /** The FAR aimed at. */
    readonly target: number;
    readonly tar: number;
    readonly std: number;
    /** The FAR met on the test folds. */
    readonly far: number;
  };
  /** Mean over the folds at each threshold of the accuracy grid, [400] each. */
  readonly grid: { readonly tpr: Float64Array; readonly fpr: Float64Array };
}

/**
 * Squared Euclidean distance of each pair of rows (2p, 2p + 1); embeddings [2P, dim] unit rows, result [P].
 *
 * @example
 * pairDistances(Float32Array.of(1, 0, 0, 1), 2);   // [2]
 */
export function pairDistances(embeddings: Embeddings, dim: number): Float64Array {
  const n = rowsOf(embeddings, dim, 'pairDistances');
  expected(n % 2 === 0, 'pairDistances', 'two rows a pair', n);
  checkValues(embeddings, 'embeddings, numbers', 'pairDistances');
  const distances = new Float64Array(n >> 1);
  for (let p = 0; p < distances.length; p++) {
    let sum = 0;
    for (let i = 2 * p * dim; i < (2 * p + 1) * dim; i++) sum += (embeddings[i] - embeddings[i + dim]) ** 2;
    distances[p] = sum;
  }
  return distances;
}

/**
 * Verification accuracy and TAR@FAR over labelled pairs, by insightface's rules. `distances` [P] are squared and of
 * unit embeddings, `same` [P] is non-zero for pairs of one identity.
 *
 * Source: deepinsight/insightface, recognition/arcface_torch/eval/verification.py (calculate_roc, calculate_val).
 *
 * @example
 * const { accuracy, tarAtFar } = verifyPairs(pairDistances(embeddings, 512), pairs.same);
 */
export function verifyPairs(
  distances: ArrayLike<number>,
  same: ArrayLike<number>,
  options: VerificationOptions = {},
): VerificationResult {
  checkOptions('verifyPairs', options, ['folds', 'far']);
  const { folds = 10, far = 1e-3 } = options;
  checkPairs('verifyPairs', distances, same);
  checkRates([far], 'verifyPairs');
  if (!Number.isInteger(folds) || folds < 2 || folds > distances.length) {
    throw new ArgumentRangeError(`verifyPairs: expected folds in [2, ${distances.length} pairs], got ${folds}`, {
      code: 'ERR_FM_RANGE',
    });
  }
  const coarse = countAccepted(distances, same, folds, ACCURACY_STEP);
  return {
    pairs: distances.length,
    folds,
    accuracy: accuracyOf(coarse),
    tarAtFar: tarAtFar(distances, same, countAccepted(distances, same, folds, FAR_STEP), far),
    grid: gridRates(coarse),
  };
}

function checkPairs(operation: string, distances: ArrayLike<number>, same: ArrayLike<number>): void {
  checkLists(operation, { distances, same });
  checkLength(same.length, distances.length, 'same', operation);
  checkValues(distances, 'distances, numbers', operation);
  checkValues(same, 'same, numbers that are 0 for pairs of two identities', operation);
}

/** Pairs of one fold: how many there are, and how many each threshold accepts. */
interface FoldCounts {
  readonly first: number;
  readonly end: number;
  readonly genuine: number;
  readonly impostor: number;
  /** [thresholds] */
  readonly genuineAccepted: Float64Array;
  readonly impostorAccepted: Float64Array;
}

/** Folds are contiguous; the first P mod folds of them hold one pair more. A pair is accepted where distance < i·step. */
function countAccepted(
  distances: ArrayLike<number>,
  same: ArrayLike<number>,
  folds: number,
  step: number,
): readonly FoldCounts[] {
  const pairs = distances.length;
  const thresholds = Math.round(MAX_DISTANCE / step);
  let first = 0;
  return Array.from({ length: folds }, (_, fold) => {
    const end = first + Math.floor(pairs / folds) + (fold < pairs % folds ? 1 : 0);
    const genuineAccepted = new Float64Array(thresholds);
    const impostorAccepted = new Float64Array(thresholds);
    let genuine = 0;
    for (let p = first; p < end; p++) {
      const isSame = same[p] !== 0;
      if (isSame) genuine++;
      const at = firstAccepting(distances[p], step);
      if (at < thresholds) (isSame ? genuineAccepted : impostorAccepted)[at]++;
    }
    for (let i = 1; i < thresholds; i++) {
      genuineAccepted[i] += genuineAccepted[i - 1];
      impostorAccepted[i] += impostorAccepted[i - 1];
    }
    const counts = { first, end, genuine, impostor: end - first - genuine, genuineAccepted, impostorAccepted };
    first = end;
    return counts;
  });
}

/** The smallest i with distance < i·step, compared as the published code compares: against the rounded product. */
function firstAccepting(distance: number, step: number): number {
  if (!(distance < MAX_DISTANCE)) return Number.POSITIVE_INFINITY;
  let i = Math.max(0, Math.floor(distance / step) - 1);
  while (!(distance < i * step)) i++;
  return i;
}

const sumOf = <T>(items: readonly T[], value: (item: T) => number): number =>
  items.reduce((sum, item) => sum + value(item), 0);

function accuracyOf(counts: readonly FoldCounts[]): VerificationResult['accuracy'] {
  const thresholds = counts[0].genuineAccepted.length;
  const correct = (fold: FoldCounts, i: number) => fold.genuineAccepted[i] + fold.impostor - fold.impostorAccepted[i];
  const chosen = counts.map((test) => {
    let best = 0;
    let bestCorrect = -1;
    for (let i = 0; i < thresholds; i++) {
      const trainCorrect = sumOf(counts, (fold) => (fold === test ? 0 : correct(fold, i)));
      if (trainCorrect > bestCorrect) {
        best = i;
        bestCorrect = trainCorrect;
      }
    }
    return best;
  });
  const perFold = Float64Array.from(counts, (fold, f) => correct(fold, chosen[f]) / (fold.end - fold.first));
  return {
    rule: 'insightface: same where |a − b|² < threshold; contiguous folds; per fold the first best threshold of 0, 0.01, … 3.99 on the other folds; mean and population standard deviation over folds',
    ...meanAndStd(perFold),
    perFold,
    thresholds: Float64Array.from(chosen, (i) => i * ACCURACY_STEP),
  };
}

function tarAtFar(
  distances: ArrayLike<number>,
  same: ArrayLike<number>,
  counts: readonly FoldCounts[],
  target: number,
): VerificationResult['tarAtFar'] {
  const rates = counts.map((test) => {
    const threshold = thresholdAtFar(
      counts.filter((fold) => fold !== test),
      target,
    );
    let genuine = 0;
    let impostor = 0;
    for (let p = test.first; p < test.end; p++) {
      if (!(distances[p] < threshold)) continue;
      if (same[p] !== 0) genuine++;
      else impostor++;
    }
    return { tar: share(genuine, test.genuine), far: share(impostor, test.impostor) };
  });
  const { mean, std } = meanAndStd(rates.map(({ tar }) => tar));
  return {
    rule: 'insightface: per fold the threshold is interpolated linearly on the other folds (steps of 0.001) between the last with FAR below the target and the first at or above it, 0 if none reaches it; mean and population standard deviation of TAR, mean of FAR, over folds',
    target,
    tar: mean,
    std,
    far: meanAndStd(rates.map(({ far }) => far)).mean,
  };
}

function thresholdAtFar(train: readonly FoldCounts[], target: number): number {
  const impostor = sumOf(train, (fold) => fold.impostor);
  const farAt = (i: number) =>
    share(
      sumOf(train, (fold) => fold.impostorAccepted[i]),
      impostor,
    );
  const thresholds = train[0].impostorAccepted.length;
  let above = 0;
  while (above < thresholds && farAt(above) < target) above++;
  if (above === thresholds) return 0;
  above = Math.max(above, 1);
  const [low, high] = [farAt(above - 1), farAt(above)];
  const [from, to] = [(above - 1) * FAR_STEP, above * FAR_STEP];
  return high === low ? from : from + ((to - from) / (high - low)) * (target - low);
}

function gridRates(counts: readonly FoldCounts[]): VerificationResult['grid'] {
  const thresholds = counts[0].genuineAccepted.length;
  const mean = (rate: (fold: FoldCounts, i: number) => number) =>
    Float64Array.from({ length: thresholds }, (_, i) => sumOf(counts, (fold) => rate(fold, i)) / counts.length);
  return {
    tpr: mean((fold, i) => share(fold.genuineAccepted[i], fold.genuine)),
    fpr: mean((fold, i) => share(fold.impostorAccepted[i], fold.impostor)),
  };
}

/**
 * The exact ROC of labelled pairs: one point for each distinct distance (accepting `distance ≤ threshold`), starting
 * with the one that accepts nothing. Points on a straight line between their neighbours are left out.
 *
 * @example
 * rocOfPairs([0.1, 0.5], [1, 0]);   // (0, 0), (0, 1), (1, 1)
 */
export function rocOfPairs(distances: ArrayLike<number>, same: ArrayLike<number>): readonly RocPoint[] {
  const points = allPoints('rocOfPairs', distances, same);
  const bends = points.filter((point, i) => {
    const before = points[i - 1];
    const after = points[i + 1];
    if (before === undefined || after === undefined) return true;
    const straight = after.tp - point.tp === point.tp - before.tp && after.fp - point.fp === point.fp - before.fp;
    return !straight;
  });
  const { tp: genuine, fp: impostor } = points[points.length - 1] ?? { tp: 0, fp: 0 };
  return [
    { far: 0, tar: 0, threshold: Number.NEGATIVE_INFINITY },
    ...bends.map(({ tp, fp, threshold }) => ({ far: share(fp, impostor), tar: share(tp, genuine), threshold })),
  ];
}

/** Exact area under the ROC: the share of (genuine, impostor) pairs in the right order, ties counting half. */
export function aucOfPairs(distances: ArrayLike<number>, same: ArrayLike<number>): number {
  let area = 0;
  let before = { tp: 0, fp: 0 };
  for (const point of allPoints('aucOfPairs', distances, same)) {
    area += ((point.tp + before.tp) / 2) * (point.fp - before.fp);
    before = point;
  }
  return share(area, before.tp * before.fp);
}

/**
 * TAR at given FARs by the IJB rule: the ROC point whose FAR is nearest the target; of several the one with the
 * largest TAR. Source: deepinsight/insightface, recognition/arcface_torch/eval_ijbc.py.
 */
export function tarAtFarIjb(roc: readonly RocPoint[], targets: readonly number[]): readonly RocPoint[] {
  checkLists('tarAtFarIjb', { roc, targets });
  const points = roc.length > 0 && roc.every((point) => typeof point?.far === 'number');
  expected(points, 'tarAtFarIjb', 'a ROC of one point or more, as rocOfPairs() returns it', roc);
  checkRates(targets, 'tarAtFarIjb');
  return targets.map((target) =>
    // Walked from the end, so that of equally near points the later, larger TAR is met first.
    roc.reduceRight((best, point) => (Math.abs(point.far - target) < Math.abs(best.far - target) ? point : best)),
  );
}

/** Accepted pairs after each distinct distance, ascending. */
function allPoints(
  operation: string,
  distances: ArrayLike<number>,
  same: ArrayLike<number>,
): readonly { readonly tp: number; readonly fp: number; readonly threshold: number }[] {
  checkPairs(operation, distances, same);
  const order = Uint32Array.from({ length: distances.length }, (_, i) => i).sort((a, b) => distances[a] - distances[b]);
  const points: { tp: number; fp: number; threshold: number }[] = [];
  let tp = 0;
  let fp = 0;
  order.forEach((pair, i) => {
    if (same[pair] !== 0) tp++;
    else fp++;
    const next = order[i + 1];
    if (next === undefined || distances[next] !== distances[pair]) points.push({ tp, fp, threshold: distances[pair] });
  });
  return points;
}
