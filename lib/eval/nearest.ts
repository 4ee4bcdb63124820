import { type Handle, type HostArray, native } from '../binding.js';
import { deviceIndex } from '../device.js';
import { describe, expected, ShapeError } from '../errors.js';

/** The k nearest gallery rows of each query by dot product. */
export interface Neighbours {
  /** [queries, k], best first, of equal scores the lowest; −1 where no score is a number. */
  readonly index: Int32Array;
  /** [queries, k] */
  readonly score: Float32Array;
}

/**
 * The k rows of a gallery with the largest dot products for each query, on a device.  On the CPU the arrays are read where
 * they are, elsewhere copies of them.
 *
 * @example
 * const { index } = nearest(probes, gallery, 256, 5, 'cuda');
 */
export function nearest(
  queries: Float32Array,
  gallery: Float32Array,
  dim: number,
  k: number,
  device = 'cpu',
): Neighbours {
  expected(Number.isSafeInteger(dim) && dim >= 1, 'nearest', 'dim, an integer of at least 1', dim);
  const at = deviceIndex(device);
  const own: Handle[] = [];
  const held = (handle: Handle): Handle => {
    own.push(handle);
    return handle;
  };
  const rows = (x: HostArray) => {
    if (!(x instanceof Float32Array && x.length % dim === 0)) {
      throw new ShapeError(`nearest: expected a Float32Array of rows of ${dim}, got ${describe(x)}`, {
        code: 'ERR_FM_SHAPE',
      });
    }
    const shape = [x.length / dim, dim];
    return held(at < 0 ? native.borrow(x, shape) : native.fromArray(x, shape, at));
  };
  const read = <A extends HostArray>(handle: Handle, out: A): A => {
    native.readInto(handle, out);
    return out;
  };
  try {
    const found = native.nearest(rows(queries), rows(gallery), k);
    const [index, score] = [held(found.index), held(found.score)];
    const size = (queries.length / dim) * k;
    return { index: read(index, new Int32Array(size)), score: read(score, new Float32Array(size)) };
  } finally {
    for (const each of own) native.dispose(each);
  }
}
