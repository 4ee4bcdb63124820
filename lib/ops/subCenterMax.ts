import { defineOp } from '../autograd.js';
import { native } from '../binding.js';
import { expected } from '../errors.js';
import { Tensor } from '../tensor.js';
import { again, extents, written } from './headArguments.js';

interface Context {
  readonly subCenters: number;
  readonly out: { centers?: Tensor };
}

const subCenterMaxOp = defineOp<readonly [Tensor], Context, { centers: Tensor }>({
  name: 'subCenterMax',
  forward: ([cosines], { subCenters, out }) => {
    const [N, R] = extents('subCenterMax', 'cosines', cosines);
    const shape = [N, R / subCenters];
    expected(Number.isInteger(shape[1]), 'subCenterMax', `cosines [N, C·${subCenters}]`, cosines.shape);
    let y: ReturnType<typeof written> | undefined;
    const centers = written(
      cosines,
      shape,
      (to) => {
        y = written(cosines, shape, (largest) => native.subCenterMaxForward(cosines.handle, subCenters, largest, to));
      },
      'int32',
    );
    out.centers = new Tensor(centers, cosines.device);
    return { y: y as ReturnType<typeof written>, saved: { centers: again(out.centers) } };
  },
  backward: (dy, { inputs: [cosines], attributes: { subCenters }, saved: { centers } }) => [
    written(cosines, cosines.shape, (to) => native.subCenterMaxBackward(dy, centers.handle, subCenters, to)),
  ],
});

/**
 * The largest of each class's K cosines: [N, C·K] → { cosines [N, C], centers int32 [N, C] }, which of them it is, of
 * equal ones the first.
 *
 * @example
 * const { cosines } = subCenterMax(cosineLogits(features, weight), 3);
 */
export function subCenterMax(cosines: Tensor, subCenters: number): { cosines: Tensor; centers: Tensor } {
  expected(Number.isSafeInteger(subCenters) && subCenters >= 1, 'subCenterMax', 'subCenters of at least 1', subCenters);
  const out: Context['out'] = {};
  const largest = subCenterMaxOp([cosines], { subCenters, out });
  return { cosines: largest, centers: out.centers as Tensor };
}
