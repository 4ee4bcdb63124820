/** How far apart two sets of numbers are, and how far they may be. */

/** Of one quantity. */
export interface Measurement {
  readonly error: number;
  readonly allowed: number;
  /** What the source's own float32 run loses, where it is known; judged in float32 only. */
  readonly source?: number;
}
/** By quantity. */
export type Measurements = Readonly<Record<string, Measurement>>;

/** Largest |a − b|; infinite where the lengths differ or a value is not a number. */
export function worst(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let largest = a.length === b.length ? 0 : Number.POSITIVE_INFINITY;
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const difference = Math.abs(a[i] - b[i]);
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return largest;
}

/** Largest |aᵢ|. */
export function largest(a: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]));
  return most;
}

export const relative = (a: number, b: number): number => Math.abs(a - b) / Math.max(Math.abs(b), 1e-300);

/** Largest |a − b| over the largest |b|. */
export const worstRelative = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  worst(a, b) / Math.max(largest(b), 1e-300);

/** √Σaᵢ². */
export function norm2(a: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * a[i];
  return Math.sqrt(sum);
}

/** As the files define dX_rel: the largest ‖xᵢ‖·|Δ dXᵢ| over the largest ‖xᵢ‖·|dXᵢ|. */
export function rowRelative(
  ours: ArrayLike<number>,
  theirs: ArrayLike<number>,
  x: ArrayLike<number>,
  D: number,
): number {
  if (ours.length !== theirs.length) return Number.POSITIVE_INFINITY;
  const rows = theirs.length / D;
  let error = 0;
  let size = 0;
  for (let i = 0; i < rows; i++) {
    const at = (a: ArrayLike<number>) => Array.from({ length: D }, (_, d) => a[i * D + d]);
    const norm = norm2(at(x));
    const [a, b] = [at(ours), at(theirs)];
    const difference = norm * norm2(a.map((v, d) => v - b[d]));
    if (!(difference <= error)) error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    size = Math.max(size, norm * norm2(b));
  }
  return error / Math.max(size, 1e-300);
}

/** The one that is nearest to what is allowed, or furthest beyond it. */
export const tightest = (all: readonly Measurement[]): Measurement =>
  all.reduce((a, b) => (b.error / b.allowed > a.error / a.allowed ? b : a));
