import { type NativeHeadStep, native, type SgdParams } from '../binding.js';
import { ArgumentTypeError, expected, ShapeError } from '../errors.js';
import { arcface, type Margin } from '../margins.js';
import { normalArray, Random } from '../random.js';
import { keep, parameter, Tensor, tensor, zeros } from '../tensor.js';

export interface MarginHeadOptions {
  readonly numClasses: number;
  readonly embeddingSize: number;
  readonly margin?: Margin;
  readonly device?: string;
  /** Of the initial class centers, N(0, 0.01²). */
  readonly seed?: number;
  readonly momentum?: number;
  readonly weightDecay?: number;
}

export interface HeadStepOptions {
  readonly lr: number;
  readonly momentum?: number;
  readonly weightDecay?: number;
}

/** What a step gives back: of the loss's mean over the rows that have a target. */
export interface HeadStepResult<Gradient> {
  readonly loss: number;
  /** Share of the rows with a target whose plain cosine to it is the largest of all classes. */
  readonly accuracy: number;
  /** Rows that have a target. */
  readonly labelled: number;
  /** dLoss/dFeatures, [N, D]: typed array for typed array, tensor for tensor. */
  readonly gradEmbeddings: Gradient;
}

/**
 * Class centers, margin and softmax loss, with their own SGD: one call is forward, backward and update, and the
 * [N, C] logits never exist.
 *
 * @example
 * const head = new MarginHead({ numClasses: 10_000, embeddingSize: 512, margin: arcface() });
 * const { loss, gradEmbeddings } = await head.step(features, labels, { lr: 0.1 }); // Float32Array [N·512], Int32Array [N]
 */
export class MarginHead {
  readonly numClasses: number;
  readonly embeddingSize: number;
  readonly margin: Margin;
  readonly device: string;
  /** [C, D], one row a class center, not normalised. */
  readonly weight: Tensor;
  /** [C, D], the momentum of `weight`. */
  readonly velocity: Tensor;
  readonly #sgd: { momentum: number; weightDecay: number };

  constructor({
    numClasses,
    embeddingSize,
    margin = arcface(),
    device = 'cpu',
    seed = 0,
    momentum = 0.9,
    weightDecay = 5e-4,
  }: MarginHeadOptions) {
    expected(Number.isSafeInteger(numClasses) && numClasses >= 1, 'MarginHead', 'numClasses of at least 1', numClasses);
    expected(
      Number.isSafeInteger(embeddingSize) && embeddingSize >= 1,
      'MarginHead',
      'embeddingSize of at least 1',
      embeddingSize,
    );
    expected(margin.scale > 0, 'MarginHead', 'a scale above 0', margin.scale);
    this.numClasses = numClasses;
    this.embeddingSize = embeddingSize;
    this.margin = margin;
    this.device = device;
    this.#sgd = { momentum, weightDecay };
    const shape = [numClasses, embeddingSize];
    this.weight = parameter(zeros(shape, 'float32', device));
    this.weight.set(normalArray(numClasses * embeddingSize, 0.01, new Random(seed)));
    this.velocity = keep(zeros(shape, 'float32', device));
  }

  /**
   * One step off the event loop.  Features are [N, D] as the backbone gives them, not normalised; labels are in
   * [0, C), or −1 for a row without a target.  Steps run in the order of the calls.  When it rejects (a label out of
   * range, a row that is not finite), nothing has changed.
   */
  step(features: Float32Array, labels: Int32Array, options: HeadStepOptions): Promise<HeadStepResult<Float32Array>>;
  step(features: Tensor, labels: Tensor | Int32Array, options: HeadStepOptions): Promise<HeadStepResult<Tensor>>;
  async step(
    features: Tensor | Float32Array,
    labels: Tensor | Int32Array,
    options: HeadStepOptions,
  ): Promise<HeadStepResult<Tensor | Float32Array>> {
    const { x, y, sgd, made } = this.#arguments(features, labels, options);
    let pending: Promise<NativeHeadStep>;
    try {
      pending = native.headStep(x.handle, this.weight.handle, this.velocity.handle, y.handle, this.margin, sgd);
    } finally {
      for (const each of made) each.dispose(); // the step holds the memory until it is done
    }
    return this.#result(await pending, features instanceof Tensor);
  }

  /** step() on the calling thread. */
  stepSync(features: Float32Array, labels: Int32Array, options: HeadStepOptions): HeadStepResult<Float32Array>;
  stepSync(features: Tensor, labels: Tensor | Int32Array, options: HeadStepOptions): HeadStepResult<Tensor>;
  stepSync(
    features: Tensor | Float32Array,
    labels: Tensor | Int32Array,
    options: HeadStepOptions,
  ): HeadStepResult<Tensor | Float32Array> {
    const { x, y, sgd, made } = this.#arguments(features, labels, options);
    try {
      const result = native.headStepSync(
        x.handle,
        this.weight.handle,
        this.velocity.handle,
        y.handle,
        this.margin,
        sgd,
      );
      return this.#result(result, features instanceof Tensor);
    } finally {
      for (const each of made) each.dispose();
    }
  }

  dispose(): void {
    this.weight.dispose();
    this.velocity.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #arguments(features: Tensor | Float32Array, labels: Tensor | Int32Array, options: HeadStepOptions) {
    const D = this.embeddingSize;
    const N = features instanceof Tensor ? (features.shape[0] as number) : features.length / D;
    if (features instanceof Tensor ? features.shape.length !== 2 || features.shape[1] !== D : !Number.isInteger(N)) {
      const got = features instanceof Tensor ? `[${features.shape.join(', ')}]` : `${features.length} values`;
      throw new ShapeError(`MarginHead.step: expected features [N, ${D}], got ${got}`, { code: 'ERR_FM_SHAPE' });
    }
    if (!(labels instanceof Tensor) && !(labels instanceof Int32Array)) {
      throw new ArgumentTypeError(
        `MarginHead.step: expected labels as Int32Array or int32 tensor, got ${typeof labels}`,
        {
          code: 'ERR_FM_TYPE',
        },
      );
    }
    const count = labels instanceof Tensor ? labels.size : labels.length;
    if (count !== N) {
      throw new ShapeError(`MarginHead.step: expected ${N} labels for features [${N}, ${D}], got ${count}`, {
        code: 'ERR_FM_SHAPE',
      });
    }
    expected(Number.isFinite(options?.lr), 'MarginHead.step', 'a finite lr', options?.lr);
    const made: Tensor[] = [];
    const own = (x: Tensor) => {
      made.push(keep(x));
      return x;
    };
    return {
      x: features instanceof Tensor ? features : own(tensor(features, [N, D], this.device)),
      y: labels instanceof Tensor ? labels : own(tensor(labels, [N], this.device)),
      sgd: { ...this.#sgd, ...options } satisfies SgdParams,
      made,
    };
  }

  #result(
    { rowLoss, lse, dFeatures, loss, correct, labelled }: NativeHeadStep,
    asTensor: boolean,
  ): HeadStepResult<Tensor | Float32Array> {
    native.dispose(rowLoss);
    native.dispose(lse);
    const gradient = new Tensor(dFeatures, this.device);
    const common = { loss, labelled, accuracy: labelled > 0 ? correct / labelled : 0 };
    if (asTensor) return { ...common, gradEmbeddings: gradient };
    const copy = gradient.toArray() as Float32Array;
    gradient.dispose();
    return { ...common, gradEmbeddings: copy };
  }
}
