/** The formulas of the losses on pairs in plain loops, and what their tests draw. */
import { normalArray, Random } from '../../lib/random.js';
import { tensor } from '../../lib/tensor.js';

export type Rows = readonly (readonly number[])[];

export const draw = (N: number, D: number, seed: number): Rows =>
  Array.from({ length: N }, (_, n) => Array.from(normalArray(D, 1, new Random(seed * 1000 + n))));

export const float64 = (rows: Rows) => tensor(Float64Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 0]);
export const float32 = (rows: Rows) => tensor(Float32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 0]);

export const unit = (rows: Rows): Rows => rows.map((row) => row.map((v) => v / Math.hypot(...row)));

export const squared = (rows: Rows, i: number, j: number): number =>
  (rows[i] as readonly number[]).reduce((sum, v, d) => sum + (v - (rows[j]?.[d] as number)) ** 2, 0);

export const distances = (rows: Rows): number[] => rows.flatMap((_, i) => rows.map((_, j) => squared(rows, i, j)));
