// Operations as flashmargin and as pure tfjs express them, forward and gradient.  `inputs` names what `make` gives;
// `ours` takes tensors and `theirs` tfjs's, both in that order, and each gives one tensor; `dy` makes its gradient where it
// has more than one element.
import * as fm from 'flashmargin';
import { features, labels, weights } from '../data.mjs';
import { arcfaceLoss, normalize } from './tfjs.mjs';

const { ops } = fm;
const SCALE = 64;
const MARGIN = 0.5;

/** Gradients from above, uniform in ±0.01. */
const slopes = (count) => weights(count, 99);

export const cases = [
  {
    op: 'normalize',
    inputs: ['features'],
    dy: ({ N, D }) => slopes(N * D),
    ours: (x) => ops.normalize(x),
    theirs: (tf, x) => normalize(tf, x),
  },
  {
    op: 'matmul',
    inputs: ['features', 'weight'],
    dy: ({ N, C }) => slopes(N * C),
    ours: (x, w) => ops.matmul(x, w, { transposeB: true }),
    theirs: (tf, x, w) => tf.matMul(x, w, false, true),
  },
  {
    op: 'marginSoftmax',
    note: 'cosines, ArcFace and cross-entropy as one operation',
    inputs: ['features', 'weight'],
    ours: (x, w, { y }) => ops.marginSoftmax(x, w, y, fm.arcface()).loss,
    theirs: (tf, x, w, { y }) => arcfaceLoss(tf, x, w, y, { scale: SCALE, margin: MARGIN }),
  },
];

/** The inputs of a shape as plain arrays, the same for both sides. */
export function make({ N, D, C }) {
  return {
    features: { data: features(N, D), shape: [N, D] },
    weight: { data: weights(C * D), shape: [C, D] },
    labels: labels(N, C),
  };
}
