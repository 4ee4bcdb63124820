import { defineOp } from '../autograd.js';
import { native } from '../binding.js';
import { checkBooleans, checkOptions, expected, within } from '../errors.js';
import { Tensor } from '../tensor.js';
import { checkTensors } from './headArguments.js';

export interface BatchNormState {
  /** [C], changed in place while training. */
  readonly runningMean: Tensor;
  readonly runningVar: Tensor;
  readonly training: boolean;
  readonly momentum: number;
  readonly epsilon: number;
}

/** What the result goes through in the same pass; one of these at most. */
export interface BehindBatchNorm {
  /** [C], a PReLU's: y where y > 0, slope·y elsewhere. */
  readonly slope?: Tensor | undefined;
  /** x's shape, added to y. */
  readonly shortcut?: Tensor | undefined;
}

type Inputs = readonly [x: Tensor, weight: Tensor, bias: Tensor, ...behind: Tensor[]];

interface Attributes extends BatchNormState {
  /** What the fourth input is. */
  readonly behind: keyof BehindBatchNorm | undefined;
}

const batchNormOp = defineOp<Inputs, Attributes, { mean: Tensor; invStd: Tensor }>({
  name: 'batchNorm',
  forward: (inputs, { runningMean, runningVar, training, momentum, epsilon, behind }) => {
    const [x, weight, bias, last] = inputs;
    const tensors = [x.handle, weight.handle, bias.handle, runningMean.handle, runningVar.handle] as const;
    const tail = [behind === 'slope' ? last?.handle : undefined, behind === 'shortcut' ? last?.handle : undefined];
    const { y, mean, invStd } = training
      ? native.batchNormTrain(...tensors, momentum, epsilon, ...tail)
      : native.batchNormEval(...tensors, epsilon, ...tail);
    return { y, saved: { mean: new Tensor(mean, x.device), invStd: new Tensor(invStd, x.device) } };
  },
  backward: (dy, { inputs, attributes: { training, behind }, saved: { mean, invStd } }) => {
    const [x, weight, bias, last] = inputs;
    const { dx, dWeight, dBias, dSlope } = native.batchNormBackward(
      dy,
      x.handle,
      weight.handle,
      bias.handle,
      mean.handle,
      invStd.handle,
      training,
      behind === 'slope' ? last?.handle : undefined,
    );
    return [dx, dWeight, dBias, behind === 'shortcut' ? dy : dSlope];
  },
});

/**
 * Batch normalisation over all axes but the last: x [..., C], weight and bias [C].  While training, with the batch's
 * own statistics, and the running ones move towards them (the variance unbiased); otherwise with the running ones.
 * A PReLU behind it, or an addition, can be had in the same pass over memory, both forwards and backwards, with the values
 * of `prelu` and `add`, but for one rounding less in bfloat16.
 *
 * @example
 * const state = { runningMean, runningVar, training: true, momentum: 0.1, epsilon: 1e-5 };
 * const y = batchNorm(x, weight, bias, state);
 * const bent = batchNorm(x, weight, bias, state, { slope });
 * const sum = batchNorm(x, weight, bias, state, { shortcut });
 */
export function batchNorm(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  state: BatchNormState,
  behind: BehindBatchNorm = {},
): Tensor {
  checkOptions('batchNorm', state, ['runningMean', 'runningVar', 'training', 'momentum', 'epsilon'], 'state');
  checkOptions('batchNorm', behind, ['slope', 'shortcut'], 'behind');
  const { runningMean, runningVar, training, momentum, epsilon } = state;
  checkTensors('batchNorm', { runningMean, runningVar });
  expected(training !== undefined, 'batchNorm', 'training true or false', training);
  checkBooleans('batchNorm', { training });
  expected(within(momentum, 0, 1), 'batchNorm', 'momentum in [0, 1]', momentum);
  expected(within(epsilon, 0, Number.MAX_VALUE), 'batchNorm', 'a finite epsilon of at least 0', epsilon);
  const { slope, shortcut } = behind;
  if (slope !== undefined) checkTensors('batchNorm', { slope });
  if (shortcut !== undefined) checkTensors('batchNorm', { shortcut });
  expected(!slope || !shortcut, 'batchNorm', 'a slope or a shortcut behind it', behind);
  if (slope !== undefined) return batchNormOp([x, weight, bias, slope], { ...state, behind: 'slope' });
  if (shortcut !== undefined) return batchNormOp([x, weight, bias, shortcut], { ...state, behind: 'shortcut' });
  return batchNormOp([x, weight, bias], { ...state, behind: undefined });
}
