/** Mean and population standard deviation (division by n, as numpy's default). */
export function meanAndStd(values: ArrayLike<number>): { readonly mean: number; readonly std: number } {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  const mean = sum / values.length;
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += (values[i] - mean) ** 2;
  return { mean, std: Math.sqrt(squares / values.length) };
}

/** A ratio of counts; 0 of 0 is 0, as in the published evaluation code. */
export const share = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);

/** One operating point: the share of genuine pairs accepted (TAR) where `far` of the impostor pairs are. */
export interface RocPoint {
  readonly far: number;
  readonly tar: number;
  readonly threshold: number;
}
