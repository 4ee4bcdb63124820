import { ArgumentRangeError, checkLists, describe, expected, ShapeError, within } from '../errors.js';

/** Rows of embeddings, [n, dim]. */
export type Embeddings = Float32Array | Float64Array;

export function rowsOf(embeddings: Embeddings, dim: number, operation: string): number {
  checkLists(operation, { embeddings });
  if (!Number.isInteger(dim) || dim < 1 || embeddings.length % dim !== 0) {
    throw new ShapeError(`${operation}: expected embeddings [n, dim], got ${embeddings.length} values for dim ${dim}`, {
      code: 'ERR_FM_SHAPE',
    });
  }
  return embeddings.length / dim;
}

/** rowsOf() that throws unless all of each row is finite. */
export function finiteRowsOf(embeddings: Embeddings, dim: number, operation: string): number {
  const n = rowsOf(embeddings, dim, operation);
  for (let row = 0; row < n; row++) {
    const squares = dot(embeddings, row, embeddings, row, dim);
    if (Number.isFinite(squares)) continue;
    throw new ArgumentRangeError(
      `${operation}: expected embeddings that are finite, got the norm ${Math.sqrt(squares)} at row ${row}`,
      { code: 'ERR_FM_RANGE', hint: 'look at the features that they were made of' },
    );
  }
  return n;
}

/** Throws unless each value is a number. */
export function checkValues(values: ArrayLike<unknown>, wanted: string, operation: string): void {
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (typeof value === 'number' && !Number.isNaN(value)) continue;
    throw new ArgumentRangeError(`${operation}: expected ${wanted}, got ${describe(value)} at ${i}`, {
      code: 'ERR_FM_RANGE',
    });
  }
}

/** Throws unless these are false accept rates. */
export function checkRates(rates: readonly number[], operation: string): void {
  checkLists(operation, { 'false accept rates': rates });
  for (const rate of rates) expected(within(rate, 0, 1), operation, 'false accept rates in [0, 1]', rate);
}

export function checkLength(length: number, wanted: number, what: string, operation: string): void {
  if (length !== wanted) {
    throw new ShapeError(`${operation}: expected ${what} [${wanted}], got [${length}]`, { code: 'ERR_FM_SHAPE' });
  }
}

/**
 * Sums two embeddings of the same image, usually plain and mirrored, and normalises: the flip test of insightface.
 * Both [n, dim]; a zero sum stays zero.
 *
 * @example
 * fuseFlip(Float32Array.of(1, 0), Float32Array.of(0, 1), 2);   // [0.707, 0.707]
 */
export function fuseFlip(plain: Float32Array, mirrored: Float32Array, dim: number): Float32Array {
  const n = rowsOf(plain, dim, 'fuseFlip');
  checkLists('fuseFlip', { mirrored });
  checkLength(mirrored.length, plain.length, 'as many values as the plain embeddings', 'fuseFlip');
  const fused = new Float32Array(plain.length);
  for (let row = 0; row < n; row++) {
    let squares = 0;
    for (let i = row * dim; i < (row + 1) * dim; i++) squares += (plain[i] + mirrored[i]) ** 2;
    const scale = squares > 0 ? 1 / Math.sqrt(squares) : 0;
    for (let i = row * dim; i < (row + 1) * dim; i++) fused[i] = (plain[i] + mirrored[i]) * scale;
  }
  return fused;
}

/** Copies the chosen rows, [rows.length, dim]. */
export function takeRows(embeddings: Float32Array, dim: number, rows: ArrayLike<number>): Float32Array {
  const taken = new Float32Array(rows.length * dim);
  for (let i = 0; i < rows.length; i++) {
    taken.set(embeddings.subarray(rows[i] * dim, (rows[i] + 1) * dim), i * dim);
  }
  return taken;
}

export function dot(a: Embeddings, aRow: number, b: Embeddings, bRow: number, dim: number): number {
  let sum = 0;
  for (let i = 0; i < dim; i++) sum += a[aRow * dim + i] * b[bRow * dim + i];
  return sum;
}
