import { checkOptions } from '../errors.js';
import { countOf, type Floats, type Ints, ints, type Like, matrix } from './arrays.js';
import { costOf, type Job, run, runSync } from './job.js';

const operation = 'softmaxCrossEntropy';
const backwardOperation = 'softmaxCrossEntropyBackward';

export interface SoftmaxCrossEntropy<A extends Floats> {
  /** Mean of rowLoss over the rows that have a target; 0 when none has. */
  readonly loss: number;
  /** [N]; 0 where the label is −1. */
  readonly rowLoss: Like<A>;
  /** [N], log Σ exp of the row's logits. */
  readonly lse: Like<A>;
}
export interface SoftmaxCrossEntropyOptions<A extends Floats> {
  /** Share of the target's probability that is spread over all classes, in [0, 1). */
  readonly labelSmoothing?: number;
  readonly out?: Partial<Pick<SoftmaxCrossEntropy<A>, 'rowLoss' | 'lse'>>;
}

function forward<A extends Floats>(
  logits: A,
  labels: Ints,
  options: SoftmaxCrossEntropyOptions<A>,
): Job<'softmaxCrossEntropyForward', SoftmaxCrossEntropy<A>> {
  checkOptions(operation, options, ['labelSmoothing', 'out']);
  const { labelSmoothing = 0, out = {} } = options;
  checkOptions(operation, out, ['rowLoss', 'lse'], 'out');
  const [N, C] = matrix(operation, 'logits', logits, countOf(operation, 'labels', labels, ints));
  return {
    operation,
    kernel: 'softmaxCrossEntropyForward',
    work: costOf(logits, N * C, 0.4, 4.6),
    inputs: [
      { name: 'logits', value: logits, shape: [N, C] },
      { name: 'labels', value: labels, shape: [N], dtypes: ints },
    ],
    outputs: [
      { name: 'out.rowLoss', value: out.rowLoss, shape: [N] },
      { name: 'out.lse', value: out.lse, shape: [N] },
    ],
    numbers: { labelSmoothing },
    args: ([logits, labels], [rowLoss, lse]) => [logits, labels, labelSmoothing, rowLoss, lse],
    result: ([rowLoss, lse], loss) => ({ loss, rowLoss: rowLoss as Like<A>, lse: lse as Like<A> }),
  };
}

/**
 * −log softmax of the targets' logits: logits [N, C], labels int32 [N] in [0, C) or −1 → { loss, rowLoss [N], lse [N] }.
 * Any finite logits give finite results: what is beyond the dtype's range becomes its largest number.
 *
 * @example
 * const { loss } = await kernels.softmaxCrossEntropy(new Float32Array([0, 0]), new Int32Array([1])); // ln 2
 */
export async function softmaxCrossEntropy<A extends Floats>(
  logits: A,
  labels: Ints,
  options: SoftmaxCrossEntropyOptions<A> = {},
): Promise<SoftmaxCrossEntropy<A>> {
  return run(forward(logits, labels, options));
}
/** softmaxCrossEntropy() on the calling thread. */
export function softmaxCrossEntropySync<A extends Floats>(
  logits: A,
  labels: Ints,
  options: SoftmaxCrossEntropyOptions<A> = {},
): SoftmaxCrossEntropy<A> {
  return runSync(forward(logits, labels, options));
}

export interface SoftmaxCrossEntropyBackwardOptions<A extends Floats> {
  readonly labelSmoothing?: number;
  /** The gradient of the loss, 1 by default. */
  readonly dLoss?: number;
  /** dLogits [N, C]; may be logits itself. */
  readonly out?: Like<A>;
}

function backward<A extends Floats>(
  logits: A,
  labels: Ints,
  options: SoftmaxCrossEntropyBackwardOptions<A>,
): Job<'softmaxCrossEntropyBackward', Like<A>> {
  checkOptions(backwardOperation, options, ['labelSmoothing', 'dLoss', 'out']);
  const { labelSmoothing = 0, dLoss = 1, out } = options;
  const [N, C] = matrix(backwardOperation, 'logits', logits, countOf(backwardOperation, 'labels', labels, ints));
  return {
    operation: backwardOperation,
    kernel: 'softmaxCrossEntropyBackward',
    work: costOf(logits, N * C, 0.45, 4.8),
    inputs: [
      { name: 'logits', value: logits, shape: [N, C] },
      { name: 'labels', value: labels, shape: [N], dtypes: ints },
    ],
    outputs: [{ name: 'out', value: out, shape: [N, C], over: ['logits'] }],
    numbers: { labelSmoothing, dLoss },
    args: ([logits, labels], [dLogits]) => [logits, labels, labelSmoothing, dLoss, dLogits],
    result: ([dLogits]) => dLogits as Like<A>,
  };
}

/**
 * dLogits [N, C] of the loss times `dLoss`: (softmax − target)/rows with a target; 0 where the label is −1.  A row's
 * gradients add up to 0 however sure it is.
 *
 * @example
 * const dLogits = await kernels.softmaxCrossEntropyBackward(logits, labels, { out: logits });
 */
export async function softmaxCrossEntropyBackward<A extends Floats>(
  logits: A,
  labels: Ints,
  options: SoftmaxCrossEntropyBackwardOptions<A> = {},
): Promise<Like<A>> {
  return run(backward(logits, labels, options));
}
/** softmaxCrossEntropyBackward() on the calling thread. */
export function softmaxCrossEntropyBackwardSync<A extends Floats>(
  logits: A,
  labels: Ints,
  options: SoftmaxCrossEntropyBackwardOptions<A> = {},
): Like<A> {
  return runSync(backward(logits, labels, options));
}
