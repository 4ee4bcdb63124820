import { backward } from '../autograd.js';
import { native } from '../binding.js';
import { deviceIndex, deviceName } from '../device.js';
import { ArgumentTypeError, checkOptions, expected } from '../errors.js';
import { keep, parameter, Tensor, zeros } from '../tensor.js';
import { type ContrastiveOptions, checkContrastive, contrastiveLoss } from './contrastive.js';
import { checkTriplet, type TripletOptions, tripletLoss } from './triplet.js';

/** A loss on pairs, by its kind. */
export type MetricLoss =
  | ({ readonly kind: 'triplet' } & Omit<TripletOptions, 'seed'>)
  | ({ readonly kind: 'contrastive' } & ContrastiveOptions);

export interface MetricHeadOptions {
  readonly loss: MetricLoss;
  /** Of random negatives. */
  readonly seed?: number;
  readonly device?: string;
}

export interface MetricStepResult {
  readonly loss: number;
  /** Share of the rows with a positive whose nearest other row is one. */
  readonly accuracy: number;
  /** dLoss/dFeatures, [N, D]. */
  readonly gradEmbeddings: Tensor;
}

/**
 * A loss on the pairs of a batch in the place of a MarginHead: it has no classes and no weights.  What it draws is a
 * function of the seed and of the steps so far, which a checkpoint holds.
 *
 * @example
 * const head = new MetricHead({ loss: { kind: 'triplet', mining: 'hard' }, seed: 1 });
 * const { loss, gradEmbeddings } = head.stepSync(features, labels);
 * backward(features, gradEmbeddings);
 */
export class MetricHead {
  readonly loss: MetricLoss;
  readonly device: string;
  readonly seed: number;
  /** int32 [1]: steps so far. */
  readonly draws: Tensor;

  constructor(options: MetricHeadOptions) {
    checkOptions('MetricHead', options, ['loss', 'seed', 'device']);
    const { loss, seed = 0, device = 'cpu' } = options;
    expected(
      loss?.kind === 'triplet' || loss?.kind === 'contrastive',
      'MetricHead',
      "loss.kind 'triplet' or 'contrastive'",
      loss?.kind,
    );
    if (loss.kind === 'triplet') checkTriplet('MetricHead', loss);
    else checkContrastive('MetricHead', loss);
    expected(Number.isSafeInteger(seed) && seed >= 0, 'MetricHead', 'seed, an integer of at least 0', seed);
    this.loss = loss;
    this.seed = seed;
    this.device = deviceName(deviceIndex(device));
    this.draws = keep(zeros([1], 'int32')); // read at every step, which on a GPU would wait for its queue
  }

  /** What a checkpoint needs. */
  namedTensors(): [string, Tensor][] {
    return [['draws', this.draws]];
  }

  /** Loss and gradient of features [N, D], labels int32 [N] or −1; nothing is changed when it throws. */
  stepSync(features: Tensor, labels: Tensor | Int32Array): MetricStepResult {
    if (!(features instanceof Tensor))
      throw new ArgumentTypeError('MetricHead.stepSync: expected features as a tensor', { code: 'ERR_FM_TYPE' });
    const draw = this.draws.item();
    // The features themselves, without the network behind them: the tape of the loss ends here.
    const leaf = parameter(new Tensor(native.reshape(features.handle, features.shape), features.device));
    try {
      const { loss, accuracy } =
        this.loss.kind === 'triplet'
          ? tripletLoss(leaf, labels, { ...this.loss, seed: mixed(this.seed, draw) })
          : contrastiveLoss(leaf, labels, this.loss);
      const value = loss.item();
      backward(loss);
      const gradient = leaf.grad as Tensor;
      // Another handle, in the scope of the caller: what backward() leaves is outside all scopes.
      const gradEmbeddings = new Tensor(native.reshape(gradient.handle, gradient.shape), gradient.device);
      gradient.dispose();
      this.draws.set(new Int32Array([(draw + 1) | 0]));
      return { loss: value, accuracy, gradEmbeddings };
    } finally {
      leaf.dispose();
    }
  }

  dispose(): void {
    this.draws.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A seed of its own for each step. */
const mixed = (seed: number, draw: number): number => (Math.imul(seed + 1, 0x9e3779b1) + draw) >>> 0;
