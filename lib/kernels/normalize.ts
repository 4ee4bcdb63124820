import { checkOptions } from '../errors.js';
import { countOf, type Floats, floats, type Like, matrix, type Rows } from './arrays.js';
import { costOf, type Job, run, runSync } from './job.js';

const operation = 'normalize';
const backwardOperation = 'normalizeBackward';

export interface Normalized<A extends Floats> {
  /** [N, D], rows of unit length; a row shorter than 1e-12 is divided by 1e-12. */
  readonly y: Like<A>;
  /** [N] */
  readonly norm: Like<A>;
}
export interface NormalizeOptions<A extends Floats> extends Rows {
  readonly out?: Partial<Normalized<A>>;
}

function forward<A extends Floats>(x: A, options: NormalizeOptions<A>): Job<'normalizeInto', Normalized<A>> {
  checkOptions(operation, options, ['rows', 'out']);
  const { rows, out = {} } = options;
  checkOptions(operation, out, ['y', 'norm'], 'out');
  const [N, D] = matrix(operation, 'x', x, rows);
  return {
    operation,
    kernel: 'normalizeInto',
    work: costOf(x, N * D, 0.5, 1.2),
    inputs: [{ name: 'x', value: x, shape: [N, D] }],
    outputs: [
      { name: 'out.y', value: out.y, shape: [N, D], over: ['x'] },
      { name: 'out.norm', value: out.norm, shape: [N] },
    ],
    args: ([x], [y, norm]) => [x, y, norm],
    result: ([y, norm]) => ({ y: y as Like<A>, norm: norm as Like<A> }),
  };
}

/**
 * Rows of unit length and the norms: x [N, D] → { y [N, D], norm [N] }.  y may be x itself.  A row that is not finite,
 * or whose norm is beyond the dtype's range, is a NonFiniteError that names it.
 *
 * @example
 * const { y, norm } = await kernels.normalize(new Float32Array([3, 4]), { rows: 1 }); // [0.6, 0.8], [5]
 */
export async function normalize<A extends Floats>(x: A, options: NormalizeOptions<A> = {}): Promise<Normalized<A>> {
  return run(forward(x, options));
}
/** normalize() on the calling thread. */
export function normalizeSync<A extends Floats>(x: A, options: NormalizeOptions<A> = {}): Normalized<A> {
  return runSync(forward(x, options));
}

export interface NormalizeBackwardOptions<A extends Floats> {
  /** [N]: the gradient of `norm`, which goes along the row. */
  readonly dNorm?: Floats;
  /** dx [N, D]; may be dy or y itself. */
  readonly out?: Like<A>;
}

function backward<A extends Floats>(
  dy: A,
  y: Floats,
  norm: Floats,
  options: NormalizeBackwardOptions<A>,
): Job<'normalizeBackwardInto', Like<A>> {
  checkOptions(backwardOperation, options, ['dNorm', 'out']);
  const { dNorm, out } = options;
  const N = countOf(backwardOperation, 'norm', norm, floats);
  const [, D] = matrix(backwardOperation, 'dy', dy, N);
  return {
    operation: backwardOperation,
    kernel: 'normalizeBackwardInto',
    work: costOf(dy, N * D, 0.7, 1.6),
    inputs: [
      { name: 'dy', value: dy, shape: [N, D] },
      { name: 'y', value: y, shape: [N, D] },
      { name: 'norm', value: norm, shape: [N] },
      { name: 'dNorm', value: dNorm, shape: [N] },
    ],
    outputs: [{ name: 'out', value: out, shape: [N, D], over: ['dy', 'y'] }],
    args: ([dy, y, norm, dNorm], [dx]) => [dy, y, norm, dNorm, dx],
    result: ([dx]) => dx as Like<A>,
  };
}

/**
 * dx [N, D] = (dy − y·⟨dy, y⟩)/norm + dNorm·y, from dy [N, D] and what normalize() gave; 0 in a row whose norm is below
 * 1e-12.
 *
 * @example
 * const dx = await kernels.normalizeBackward(dy, y, norm, { out: dy });
 */
export async function normalizeBackward<A extends Floats>(
  dy: A,
  y: Floats,
  norm: Floats,
  options: NormalizeBackwardOptions<A> = {},
): Promise<Like<A>> {
  return run(backward(dy, y, norm, options));
}
/** normalizeBackward() on the calling thread. */
export function normalizeBackwardSync<A extends Floats>(
  dy: A,
  y: Floats,
  norm: Floats,
  options: NormalizeBackwardOptions<A> = {},
): Like<A> {
  return runSync(backward(dy, y, norm, options));
}
