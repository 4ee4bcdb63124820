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

const batchNormOp = defineOp<readonly [Tensor, Tensor, Tensor], BatchNormState, { mean: Tensor; invStd: Tensor }>({
  name: 'batchNorm',
  forward: ([x, weight, bias], { runningMean, runningVar, training, momentum, epsilon }) => {
    const { y, mean, invStd } = training
      ? native.batchNormTrain(
          x.handle,
          weight.handle,
          bias.handle,
          runningMean.handle,
          runningVar.handle,
          momentum,
          epsilon,
        )
      : native.batchNormEval(x.handle, weight.handle, bias.handle, runningMean.handle, runningVar.handle, epsilon);
    return { y, saved: { mean: new Tensor(mean, x.device), invStd: new Tensor(invStd, x.device) } };
  },
  backward: (dy, { inputs: [x, weight], attributes: { training }, saved: { mean, invStd } }) => {
    const { dx, dWeight, dBias } = native.batchNormBackward(
      dy,
      x.handle,
      weight.handle,
      mean.handle,
      invStd.handle,
      training,
    );
    return [dx, dWeight, dBias];
  },
});

/**
 * Batch normalisation over all axes but the last: x [..., C], weight and bias [C].  While training, with the batch's
 * own statistics, and the running ones move towards them (the variance unbiased); otherwise with the running ones.
 *
 * @example
 * const y = batchNorm(x, weight, bias, { runningMean, runningVar, training: true, momentum: 0.1, epsilon: 1e-5 });
 */
export function batchNorm(x: Tensor, weight: Tensor, bias: Tensor, state: BatchNormState): Tensor {
  checkOptions('batchNorm', state, ['runningMean', 'runningVar', 'training', 'momentum', 'epsilon'], 'state');
  const { runningMean, runningVar, training, momentum, epsilon } = state;
  checkTensors('batchNorm', { runningMean, runningVar });
  expected(training !== undefined, 'batchNorm', 'training true or false', training);
  checkBooleans('batchNorm', { training });
  expected(within(momentum, 0, 1), 'batchNorm', 'momentum in [0, 1]', momentum);
  expected(within(epsilon, 0, Number.MAX_VALUE), 'batchNorm', 'a finite epsilon of at least 0', epsilon);
  return batchNormOp([x, weight, bias], state);
}
