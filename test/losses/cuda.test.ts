/** The losses on pairs and centers on device 'cuda', here the CUDA library under the host emulation, beside the CPU. */
import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { CenterLoss, contrastiveLoss, tripletLoss } from '../../lib/losses/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { parameter, type Tensor, tensor, tidy } from '../../lib/tensor.js';
import { emulatedCuda } from '../emulatedCuda.js';

if (emulatedCuda) process.env.FLASHMARGIN_CUDA ??= emulatedCuda;

const [N, D] = [13, 9];
const features = Float64Array.from(normalArray(N * D, 1, new Random(8)));
const labels = Int32Array.from({ length: N }, (_, i) => (i === 4 ? -1 : i % 4));

/** The loss and its gradient, and whatever else f gives. */
function on(device: string, f: (x: Tensor) => { loss: Tensor; more?: () => ArrayLike<number> }): number[][] {
  const x = parameter(tensor(features, [N, D], device));
  try {
    return tidy(() => {
      const { loss, more = () => [] } = f(x);
      backward(loss);
      return [[loss.item()], Array.from((x.grad as Tensor).toArray()), Array.from(more())];
    });
  } finally {
    x.grad?.dispose();
    x.dispose();
  }
}

describe.skipIf(!emulatedCuda)("losses on device 'cuda', emulated", () => {
  it.each([
    ['tripletLoss', () => (x: Tensor) => tripletLoss(x, labels)],
    ['contrastiveLoss', () => (x: Tensor) => contrastiveLoss(x, labels)],
    [
      'CenterLoss',
      (device: string) => {
        const center = new CenterLoss({ numClasses: 4, embeddingSize: D, dtype: 'float64', device });
        return (x: Tensor) => {
          center.update(x, labels);
          return { loss: center.forward(x, labels), more: () => center.centers.toArray() };
        };
      },
    ],
  ])('%s is that of the CPU', (_, make) => {
    const wanted = on('cpu', make('cpu'));
    const got = on('cuda', make('cuda'));
    wanted.forEach((values, which) =>
      values.forEach((value, i) => expect(got[which]?.[i], `${which}, ${i}`).toBeCloseTo(value, 11)),
    );
  });
});
