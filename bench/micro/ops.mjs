// Operations as flashmargin and as pure tfjs express them, forward and gradient.  `inputs` names what `make` gives;
// `ours` takes tensors and `theirs` tfjs's, both in that order, and each gives one tensor; `dy` makes its gradient where it
// has more than one element.
import * as fm from 'flashmargin';
import { features, labels, weights } from '../data.mjs';
import {
  arcfaceCosines,
  arcfaceLoss,
  cosines,
  crossEntropy,
  curricularCosines,
  normalize,
  oneHot,
  subCenterMax,
} from './tfjs.mjs';

const { ops } = fm;
const SCALE = 64;
const MARGIN = 0.5;
const T = 0.3;
const K = 3;

/** Gradients from above, uniform in ±0.01. */
const slopes = (count) => weights(count, 99);
const uniform = (count, bound) => weights(count, 7).map((value) => 100 * bound * value);

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
    op: 'cosineLogits',
    inputs: ['features', 'weight'],
    dy: ({ N, C }) => slopes(N * C),
    ours: (x, w) => ops.cosineLogits(x, w),
    theirs: (tf, x, w) => cosines(tf, x, w),
  },
  {
    op: 'subCenterMax',
    inputs: ['centerCosines'],
    dy: ({ N, C }) => slopes(N * C),
    ours: (c) => ops.subCenterMax(c, K).cosines,
    theirs: (tf, c) => subCenterMax(tf, c, K),
  },
  {
    op: 'marginTransform',
    inputs: ['cosines'],
    dy: ({ N, C }) => slopes(N * C),
    ours: (c, { y }) => ops.marginTransform(c, y, fm.arcface()),
    theirs: (tf, c, { y }) => tf.mul(arcfaceCosines(tf, c, oneHot(tf, y, c), MARGIN), SCALE),
  },
  {
    op: 'curricularReweight',
    inputs: ['cosines'],
    dy: ({ N, C }) => slopes(N * C),
    ours: (c, { y }) => ops.curricularReweight(c, y, { t: T, margin: MARGIN }),
    theirs: (tf, c, { y }) => curricularCosines(tf, c, oneHot(tf, y, c), MARGIN, T),
  },
  {
    op: 'softmaxCrossEntropy',
    inputs: ['logits'],
    ours: (z, { y }) => ops.softmaxCrossEntropy(z, y).loss,
    theirs: (tf, z, { y }) => crossEntropy(tf, z, oneHot(tf, y, z)).asScalar(),
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
    cosines: { data: uniform(N * C, 0.8), shape: [N, C] }, // so that θ + m stays below π, and hard negatives are some
    centerCosines: { data: uniform(N * C * K, 0.8), shape: [N, C * K] },
    logits: { data: uniform(N * C, 20), shape: [N, C] },
    labels: labels(N, C),
  };
}
