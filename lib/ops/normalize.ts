import { defineOp } from '../autograd.js';
import { type Handle, native } from '../binding.js';
import { Tensor } from '../tensor.js';
import { extents, written } from './headArguments.js';

/** y = x / max(‖x‖, ε) over rows.  dx = (dy − y·⟨dy, y⟩) / max(‖x‖, ε) */
const normalizeOp = defineOp<readonly [Tensor], undefined, { y: Tensor; norm: Tensor }>({
  name: 'normalize',
  forward: ([x]) => {
    const { y, norm } = native.normalizeForward(x.handle);
    // A second handle on y's memory: the first belongs to the result, which its owner may dispose.
    const saved = { y: new Tensor(native.reshape(y, x.shape), x.device), norm: new Tensor(norm, x.device) };
    return { y, saved };
  },
  backward: (dy, { saved: { y, norm } }) => [native.normalizeBackward(dy, y.handle, norm.handle)],
});

/**
 * Rows of unit length: [N, D] → [N, D].  A zero row stays zero.
 *
 * @example
 * const e = normalize(tensor(new Float32Array([3, 4]), [1, 2])); // [[0.6, 0.8]]
 */
export function normalize(x: Tensor): Tensor {
  return normalizeOp([x], undefined);
}

const rowNormsOp = defineOp<readonly [Tensor], undefined, { y: Tensor; norm: Tensor }>({
  name: 'rowNorms',
  forward: ([x]) => {
    const [N] = extents('rowNorms', 'x', x);
    let unit: Handle | undefined;
    const norm = written(x, [N], (to) => {
      unit = written(x, x.shape, (y) => native.normalizeInto(x.handle, y, to));
    });
    const saved = { y: new Tensor(unit as Handle, x.device), norm: new Tensor(native.reshape(norm, [N]), x.device) };
    return { y: norm, saved };
  },
  backward: (dy, { inputs: [x], saved: { y, norm } }) => [
    written(x, x.shape, (to) => native.normalizeBackwardInto(undefined, y.handle, norm.handle, dy, to)),
  ],
});

/**
 * Lengths of rows: [N, D] → [N].
 *
 * @example
 * const norms = rowNorms(features);
 */
export function rowNorms(x: Tensor): Tensor {
  return rowNormsOp([x], undefined);
}
