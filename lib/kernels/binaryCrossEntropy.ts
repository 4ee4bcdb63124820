import { checkOptions } from '../errors.js';
import { countOf, type Floats, type Ints, ints, type Like, matrix } from './arrays.js';
import { costOf, type Job, run, runSync } from './job.js';

const operation = 'binaryCrossEntropy';
const backwardOperation = 'binaryCrossEntropyBackward';

export interface BinaryCrossEntropy<A extends Floats> {
  /** Mean of rowLoss over the rows that have a target; 0 when none has. */
  readonly loss: number;
  /** [N]; 0 where the label is −1. */
  readonly rowLoss: Like<A>;
}
/** Of at least 0; 1 by default. */
export interface BinaryWeights {
  readonly positiveWeight?: number;
  readonly negativeWeight?: number;
}
export interface BinaryCrossEntropyOptions<A extends Floats> extends BinaryWeights {
  readonly out?: { readonly rowLoss?: Like<A> };
}

function forward<A extends Floats>(
  logits: A,
  labels: Ints,
  options: BinaryCrossEntropyOptions<A>,
): Job<'binaryCrossEntropyForward', BinaryCrossEntropy<A>> {
  checkOptions(operation, options, ['positiveWeight', 'negativeWeight', 'out']);
  const { positiveWeight = 1, negativeWeight = 1, out = {} } = options;
  checkOptions(operation, out, ['rowLoss'], 'out');
  const [N, C] = matrix(operation, 'logits', logits, countOf(operation, 'labels', labels, ints));
  return {
    operation,
    kernel: 'binaryCrossEntropyForward',
    work: costOf(logits, N * C, 0.6, 10),
    inputs: [
      { name: 'logits', value: logits, shape: [N, C] },
      { name: 'labels', value: labels, shape: [N], dtypes: ints },
    ],
    outputs: [{ name: 'out.rowLoss', value: out.rowLoss, shape: [N] }],
    numbers: { positiveWeight, negativeWeight },
    args: ([logits, labels], [rowLoss]) => [logits, labels, positiveWeight, negativeWeight, rowLoss],
    result: ([rowLoss], loss) => ({ loss, rowLoss: rowLoss as Like<A> }),
  };
}

/**
 * A binary loss a class, w₊·ln(1 + e^−z_y) + w₋·Σ ln(1 + e^z_j) over the others: logits [N, C] of at most 1e30
 * (float64: 1e290), labels int32 [N] in [0, C) or −1 → { loss, rowLoss [N] }.  SphereFace2's weights are
 * lossWeight/scale times balance and 1 − balance, UniFace's 1 and negativeWeight.
 *
 * @example
 * const { loss } = await kernels.binaryCrossEntropy(logits, labels, { negativeWeight: 0.3 });
 */
export async function binaryCrossEntropy<A extends Floats>(
  logits: A,
  labels: Ints,
  options: BinaryCrossEntropyOptions<A> = {},
): Promise<BinaryCrossEntropy<A>> {
  return run(forward(logits, labels, options));
}
/** binaryCrossEntropy() on the calling thread. */
export function binaryCrossEntropySync<A extends Floats>(
  logits: A,
  labels: Ints,
  options: BinaryCrossEntropyOptions<A> = {},
): BinaryCrossEntropy<A> {
  return runSync(forward(logits, labels, options));
}

export interface BinaryCrossEntropyBackwardOptions<A extends Floats> extends BinaryWeights {
  /** The gradient of the loss, 1 by default. */
  readonly dLoss?: number;
  /** dLogits [N, C]; may be logits itself. */
  readonly out?: Like<A>;
}

function backward<A extends Floats>(
  logits: A,
  labels: Ints,
  options: BinaryCrossEntropyBackwardOptions<A>,
): Job<'binaryCrossEntropyBackward', Like<A>> {
  checkOptions(backwardOperation, options, ['positiveWeight', 'negativeWeight', 'dLoss', 'out']);
  const { positiveWeight = 1, negativeWeight = 1, dLoss = 1, out } = options;
  const [N, C] = matrix(backwardOperation, 'logits', logits, countOf(backwardOperation, 'labels', labels, ints));
  return {
    operation: backwardOperation,
    kernel: 'binaryCrossEntropyBackward',
    work: costOf(logits, N * C, 0.5, 4.8),
    inputs: [
      { name: 'logits', value: logits, shape: [N, C] },
      { name: 'labels', value: labels, shape: [N], dtypes: ints },
    ],
    outputs: [{ name: 'out', value: out, shape: [N, C], over: ['logits'] }],
    numbers: { positiveWeight, negativeWeight, dLoss },
    args: ([logits, labels], [dLogits]) => [logits, labels, positiveWeight, negativeWeight, dLoss, dLogits],
    result: ([dLogits]) => dLogits as Like<A>,
  };
}

/**
 * dLogits [N, C] of the loss times `dLoss`; 0 where the label is −1.
 *
 * @example
 * const dLogits = await kernels.binaryCrossEntropyBackward(logits, labels, { negativeWeight: 0.3 });
 */
export async function binaryCrossEntropyBackward<A extends Floats>(
  logits: A,
  labels: Ints,
  options: BinaryCrossEntropyBackwardOptions<A> = {},
): Promise<Like<A>> {
  return run(backward(logits, labels, options));
}
/** binaryCrossEntropyBackward() on the calling thread. */
export function binaryCrossEntropyBackwardSync<A extends Floats>(
  logits: A,
  labels: Ints,
  options: BinaryCrossEntropyBackwardOptions<A> = {},
): Like<A> {
  return runSync(backward(logits, labels, options));
}
