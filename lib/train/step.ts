/** One step of training: batch → backbone → head step → backward → optimizer. */
import { backwardFrom } from '../autograd.js';
import type { Batch } from '../data/index.js';
import { NonFiniteError } from '../errors.js';
import type { CenterLoss } from '../losses/index.js';
import { GroupedBackbone, type Module } from '../nn/index.js';
import { imageToFloat } from '../ops/index.js';
import type { Optimizer } from '../optim/index.js';
import { type Tensor, tensor, tidy } from '../tensor.js';

/** What turns features into a loss: a MarginHead or a MetricHead. */
export interface TrainingHead {
  readonly device: string;
  /** MarginHead's, where it has one. */
  readonly gradientFilter?: number;
  stepSync(
    features: Tensor,
    labels: Int32Array,
    options: { lr: number },
  ): { loss: number; accuracy: number; filtered?: number; gradEmbeddings: Tensor };
  namedTensors(): Iterable<[string, Tensor]>;
}

export interface StepParts {
  readonly backbone: Module;
  readonly head: TrainingHead;
  /** Beside the head's loss. */
  readonly centerLoss?: CenterLoss;
  readonly optimizer: Optimizer;
}

/** Runs on the head's device; `blame` makes an error of what was not finite. */
export function trainStep(
  { backbone, head, centerLoss, optimizer }: StepParts,
  { images, labels }: Pick<Batch, 'images' | 'labels'>,
  imageShape: readonly number[],
  lr: number,
  blame: (error: NonFiniteError, features: Tensor) => Error = (error) => error,
): { loss: number; accuracy: number; filtered: number; headSeconds: number } {
  return tidy(() => {
    const x = imageToFloat(tensor(images, [labels.length, ...imageShape], head.device));
    const groups = backbone instanceof GroupedBackbone ? backbone : undefined;
    let features = groups ? groups.features(x) : backbone.forward(x);
    const blamed = <R>(part: () => R): R => {
      try {
        return part();
      } catch (error) {
        throw error instanceof NonFiniteError ? blame(error, features) : error;
      }
    };
    const grouped = groups && blamed(() => groups.groupFace.forward(features));
    features = grouped?.embedding ?? features;
    const began = performance.now();
    const result = blamed(() => head.stepSync(features, labels, { lr }));
    const beside = [grouped?.groupLoss, centerLoss?.forward(features, labels)].filter((each) => each !== undefined);
    const loss = beside.reduce((sum, each) => sum + each.item(), result.loss);
    centerLoss?.update(features, labels);
    const headSeconds = (performance.now() - began) / 1000;
    backwardFrom([[features, result.gradEmbeddings], ...beside.map((each) => [each] as const)]);
    blamed(() => optimizer.step(lr));
    return { loss, accuracy: result.accuracy, filtered: result.filtered ?? 0, headSeconds };
  });
}
