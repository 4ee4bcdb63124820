import { checkOptions } from '../errors.js';
import { countOf, type Floats, type Ints, ints, type Like, matrix } from './arrays.js';
import { costOf, type Job, run, runSync } from './job.js';

const operation = 'curricularReweight';
const backwardOperation = 'curricularReweightBackward';

export interface CurricularReweightOptions<A extends Floats> {
  /** In [−1, 1]; nextT() moves it from step to step. */
  readonly t: number;
  /** Radians, in [−π, π]. */
  readonly margin: number;
  /** [N, C]; may be cosines itself, and backward the gradient too. */
  readonly out?: Like<A>;
}

function forward<A extends Floats>(
  cosines: A,
  labels: Ints,
  options: CurricularReweightOptions<A>,
): Job<'curricularReweightForward', Like<A>> {
  checkOptions(operation, options, ['t', 'margin', 'out']);
  const { t, margin, out } = options;
  const [N, C] = matrix(operation, 'cosines', cosines, countOf(operation, 'labels', labels, ints));
  return {
    operation,
    kernel: 'curricularReweightForward',
    work: costOf(cosines, N * C, 0.25, 0.8),
    inputs: [
      { name: 'cosines', value: cosines, shape: [N, C] },
      { name: 'labels', value: labels, shape: [N], dtypes: ints },
    ],
    outputs: [{ name: 'out', value: out, shape: [N, C], over: ['cosines'] }],
    numbers: { t, margin },
    args: ([cosines, labels], [to]) => [cosines, labels, t, margin, to],
    result: ([to]) => to as Like<A>,
  };
}

/**
 * CurricularFace's hard negatives alone: of cosines [N, C], c·(t + c) in the place of every c of another class above
 * cos(θ_y + margin); the targets, and rows whose label is −1, stay.  (Huang et al. 2020, arXiv:2004.00288.)
 *
 * @example
 * const reweighted = await kernels.curricularReweight(cosines, labels, { t: 0.1, margin: 0.5 });
 */
export async function curricularReweight<A extends Floats>(
  cosines: A,
  labels: Ints,
  options: CurricularReweightOptions<A>,
): Promise<Like<A>> {
  return run(forward(cosines, labels, options));
}
/** curricularReweight() on the calling thread. */
export function curricularReweightSync<A extends Floats>(
  cosines: A,
  labels: Ints,
  options: CurricularReweightOptions<A>,
): Like<A> {
  return runSync(forward(cosines, labels, options));
}

function backward<A extends Floats>(
  dReweighted: A,
  cosines: Floats,
  labels: Ints,
  options: CurricularReweightOptions<A>,
): Job<'curricularReweightBackward', Like<A>> {
  checkOptions(backwardOperation, options, ['t', 'margin', 'out']);
  const { t, margin, out } = options;
  const [N, C] = matrix(
    backwardOperation,
    'dReweighted',
    dReweighted,
    countOf(backwardOperation, 'labels', labels, ints),
  );
  return {
    operation: backwardOperation,
    kernel: 'curricularReweightBackward',
    work: costOf(dReweighted, N * C, 0.45, 1.2),
    inputs: [
      { name: 'dReweighted', value: dReweighted, shape: [N, C] },
      { name: 'cosines', value: cosines, shape: [N, C] },
      { name: 'labels', value: labels, shape: [N], dtypes: ints },
    ],
    outputs: [{ name: 'out', value: out, shape: [N, C], over: ['dReweighted', 'cosines'] }],
    numbers: { t, margin },
    args: ([d, cosines, labels], [to]) => [d, cosines, labels, t, margin, to],
    result: ([to]) => to as Like<A>,
  };
}

/**
 * Of dReweighted [N, C]: dCosines [N, C], times t + 2c at the hard negatives; their threshold is constant.
 *
 * @example
 * const dCosines = await kernels.curricularReweightBackward(d, cosines, labels, { t: 0.1, margin: 0.5, out: d });
 */
export async function curricularReweightBackward<A extends Floats>(
  dReweighted: A,
  cosines: Floats,
  labels: Ints,
  options: CurricularReweightOptions<A>,
): Promise<Like<A>> {
  return run(backward(dReweighted, cosines, labels, options));
}
/** curricularReweightBackward() on the calling thread. */
export function curricularReweightBackwardSync<A extends Floats>(
  dReweighted: A,
  cosines: Floats,
  labels: Ints,
  options: CurricularReweightOptions<A>,
): Like<A> {
  return runSync(backward(dReweighted, cosines, labels, options));
}
