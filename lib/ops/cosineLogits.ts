import { defineOp } from '../autograd.js';
import { native } from '../binding.js';
import { deviceIndex } from '../device.js';
import { checkOptions } from '../errors.js';
import type { Tensor } from '../tensor.js';
import { extents, written } from './headArguments.js';

const cosineLogitsOp = defineOp<readonly [Tensor, Tensor], { project: boolean }, undefined>({
  name: 'cosineLogits',
  forward: ([features, weight]) => {
    const shape = [extents('cosineLogits', 'features', features)[0], extents('cosineLogits', 'weight', weight)[0]];
    const y = written(features, shape, (to) => native.cosineLogitsForward(features.handle, weight.handle, to));
    return { y, saved: undefined };
  },
  backward: (dy, { inputs: [features, weight], attributes: { project }, needs }) => {
    const [dFeatures, dWeight] = [features, weight].map((x, i) =>
      needs[i] ? native.empty(x.dtype, x.shape, deviceIndex(x.device)) : undefined,
    );
    native.cosineLogitsBackward(dy, features.handle, weight.handle, project, dFeatures, dWeight);
    return [dFeatures, dWeight];
  },
});

/**
 * The cosines between rows, both normalised inside: features [N, D], weight [R, D] → [N, R].
 *
 * @example
 * const cosines = cosineLogits(features, weight);
 */
export function cosineLogits(
  features: Tensor,
  weight: Tensor,
  options: { projectWeightGradient?: boolean } = {},
): Tensor {
  checkOptions('cosineLogits', options, ['projectWeightGradient']);
  const { projectWeightGradient = true } = options;
  return cosineLogitsOp([features, weight], { project: projectWeightGradient });
}
