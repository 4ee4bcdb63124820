import { checkOptions } from '../errors.js';
import { checkedMargin } from '../margins/check.js';
import type { Margin } from '../margins/index.js';
import { countOf, type Floats, floats, type Ints, ints, type Like } from './arrays.js';
import { type Job, run, runSync } from './job.js';

const operation = 'normRegularizer';
const backwardOperation = 'normRegularizerBackward';

function forward(norms: Floats, labels: Ints, margin: Margin): Job<'normRegularizerForward', number> {
  const N = countOf(operation, 'norms', norms, floats);
  const params = checkedMargin(operation, margin, 1);
  return {
    operation,
    kernel: 'normRegularizerForward',
    work: N,
    inputs: [
      { name: 'norms', value: norms, shape: [N] },
      { name: 'labels', value: labels, shape: [N], dtypes: ints },
    ],
    outputs: [],
    args: ([norms, labels]) => [norms, labels, params],
    result: (_, loss) => loss,
  };
}

/**
 * What a margin adds to the loss for the features' norms [N]: MagFace's normPenalty·mean(a/upperNorm² + 1/a), a the
 * clipped norm, over the rows that have a target; 0 for other methods.
 *
 * @example
 * const penalty = await kernels.normRegularizer(norms, labels, magface());
 */
export async function normRegularizer(norms: Floats, labels: Ints, margin: Margin): Promise<number> {
  return run(forward(norms, labels, margin));
}
/** normRegularizer() on the calling thread. */
export function normRegularizerSync(norms: Floats, labels: Ints, margin: Margin): number {
  return runSync(forward(norms, labels, margin));
}

export interface NormRegularizerBackwardOptions<A extends Floats> {
  /** The gradient of the loss, 1 by default. */
  readonly dLoss?: number;
  /** dNorms [N]; may be norms itself. */
  readonly out?: Like<A>;
}

function backward<A extends Floats>(
  norms: A,
  labels: Ints,
  margin: Margin,
  options: NormRegularizerBackwardOptions<A>,
): Job<'normRegularizerBackward', Like<A>> {
  checkOptions(backwardOperation, options, ['dLoss', 'out']);
  const { dLoss = 1, out } = options;
  const N = countOf(backwardOperation, 'norms', norms, floats);
  const params = checkedMargin(backwardOperation, margin, 1);
  return {
    operation: backwardOperation,
    kernel: 'normRegularizerBackward',
    work: N,
    inputs: [
      { name: 'norms', value: norms, shape: [N] },
      { name: 'labels', value: labels, shape: [N], dtypes: ints },
    ],
    outputs: [{ name: 'out', value: out, shape: [N], over: ['norms'] }],
    numbers: { dLoss },
    args: ([norms, labels], [dNorms]) => [norms, labels, params, dLoss, dNorms],
    result: ([dNorms]) => dNorms as Like<A>,
  };
}

/**
 * dNorms [N] of the regulariser times `dLoss`; 0 where the norm is clipped or the label −1.
 *
 * @example
 * const dNorms = await kernels.normRegularizerBackward(norms, labels, magface());
 */
export async function normRegularizerBackward<A extends Floats>(
  norms: A,
  labels: Ints,
  margin: Margin,
  options: NormRegularizerBackwardOptions<A> = {},
): Promise<Like<A>> {
  return run(backward(norms, labels, margin, options));
}
/** normRegularizerBackward() on the calling thread. */
export function normRegularizerBackwardSync<A extends Floats>(
  norms: A,
  labels: Ints,
  margin: Margin,
  options: NormRegularizerBackwardOptions<A> = {},
): Like<A> {
  return runSync(backward(norms, labels, margin, options));
}
