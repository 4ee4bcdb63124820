import { checkLists, ShapeError } from '../errors.js';

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
