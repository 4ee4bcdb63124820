/**
 * Center loss (Wen et al., ECCV 2016): features are drawn to the mean of their class, beside a softmax that keeps the
 * classes apart:
 *
 *   L = 1/(2N)·Σ ‖x_i − c_{y_i}‖²,   c_j ← c_j − α·Σ_{y_i = j} (c_j − x_i)/(1 + count_j)
 *
 * on features as they are, not normalised.  The centers are a state, not parameters: nothing flows into them.
 */
import { native } from '../binding.js';
import { checkOptions, expected, NonFiniteError, ShapeError, within } from '../errors.js';
import * as ops from '../ops/index.js';
import { keep, type Tensor, tensor, tidy, zeros } from '../tensor.js';
import { labelsOf } from './pairs.js';

export interface CenterLossOptions {
  readonly numClasses: number;
  readonly embeddingSize: number;
  /** α, the rate of the centers. */
  readonly alpha?: number;
  /** Of the loss beside the softmax's. */
  readonly weight?: number;
  readonly device?: string;
  /** float64 is for checks. */
  readonly dtype?: 'float32' | 'float64';
}

/**
 * Class centers and the loss of the distances to them.
 *
 * @example
 * const center = new CenterLoss({ numClasses: 5000, embeddingSize: 256 });
 * const { gradEmbeddings } = head.stepSync(features, labels, { lr });
 * const loss = center.forward(features, labels); // times center.weight
 * backwardFrom([[features, gradEmbeddings], [loss]]);
 * center.update(features, labels);
 */
export class CenterLoss {
  readonly numClasses: number;
  readonly embeddingSize: number;
  readonly alpha: number;
  readonly weight: number;
  /** [C, D], zeros at first. */
  readonly centers: Tensor;

  constructor(options: CenterLossOptions) {
    checkOptions('CenterLoss', options, ['numClasses', 'embeddingSize', 'alpha', 'weight', 'device', 'dtype']);
    const { numClasses, embeddingSize, alpha = 0.5, weight = 0.003, device = 'cpu', dtype = 'float32' } = options;
    for (const [name, size] of Object.entries({ numClasses, embeddingSize }))
      expected(Number.isSafeInteger(size) && size >= 1, 'CenterLoss', `${name} of at least 1`, size);
    expected(within(alpha, 0, 1), 'CenterLoss', 'alpha in [0, 1]', alpha);
    expected(weight >= 0 && Number.isFinite(weight), 'CenterLoss', 'a finite weight of at least 0', weight);
    this.numClasses = numClasses;
    this.embeddingSize = embeddingSize;
    this.alpha = alpha;
    this.weight = weight;
    this.centers = keep(zeros([numClasses, embeddingSize], dtype, device));
  }

  /** What a checkpoint needs. */
  namedTensors(): [string, Tensor][] {
    return [['centers', this.centers]];
  }

  /**
   * weight·L, of one element, for backward(): features [N, D], labels int32 [N] in [0, C).  A row whose label is −1
   * has no center: no part in the loss nor in the mean.
   */
  forward(features: Tensor, labels: Tensor | Int32Array): Tensor {
    const { rows, own } = this.#labelled(features, labels);
    const difference = ops.subtract(ops.gatherRows(features, rows), ops.gatherRows(this.centers, own));
    return ops.scale(ops.dot(difference, difference), this.weight / (2 * Math.max(1, rows.length)));
  }

  /** Moves the centers of the classes in the batch towards their features; no gradient flows. */
  update(features: Tensor, labels: Tensor | Int32Array): void {
    const { rows, own } = this.#labelled(features, labels);
    const counts = new Map<number, number>();
    for (const label of own) counts.set(label, (counts.get(label) ?? 0) + 1);
    const rates = Float64Array.from(own, (label) => this.alpha / (1 + (counts.get(label) as number)));
    tidy(() => {
      const difference = ops.subtract(ops.gatherRows(features, rows), ops.gatherRows(this.centers, own));
      const like = features.dtype === 'float64' ? rates : Float32Array.from(rates);
      const share = tensor(like, [own.length, 1], features.device);
      const [N, D] = difference.shape as readonly [number, number];
      ops.scatterAddRows(this.centers, own, ops.weightedSum(share, difference.reshape([N, 1, D])));
    });
  }

  dispose(): void {
    this.centers.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** The rows that have a label, and the labels of those. */
  #labelled(features: Tensor, labels: Tensor | Int32Array): { rows: Int32Array; own: Int32Array } {
    const array = labelsOf('CenterLoss', features, labels);
    if (features.shape[1] !== this.embeddingSize) {
      throw new ShapeError(
        `CenterLoss: expected features [N, ${this.embeddingSize}], got [${features.shape.join(', ')}]`,
        { code: 'ERR_FM_SHAPE' },
      );
    }
    if (!native.allFinite(features.handle)) {
      throw new NonFiniteError('CenterLoss: expected finite features, got a value that is not', {
        code: 'ERR_FM_NON_FINITE',
      });
    }
    array.forEach((label, row) => {
      expected(
        label >= -1 && label < this.numClasses,
        'CenterLoss',
        `labels in [0, ${this.numClasses}) or -1, row ${row}`,
        label,
      );
    });
    const rows = Int32Array.from(array.keys()).filter((row) => (array[row] as number) >= 0);
    return { rows, own: rows.map((row) => array[row] as number) };
  }
}
