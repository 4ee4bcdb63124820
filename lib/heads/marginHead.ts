import { type Handle, type MarginParams, type NativeHeadStep, native, type SgdParams } from '../binding.js';
import { ArgumentTypeError, expected, ShapeError } from '../errors.js';
import { arcface, type Margin, type MarginName, margins, nextT } from '../margins.js';
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

function checkSgd(
  operation: string,
  { momentum = 0, weightDecay = 0 }: { momentum?: number; weightDecay?: number },
): void {
  expected(momentum >= 0 && momentum <= 1, operation, 'momentum in [0, 1]', momentum);
  expected(
    weightDecay >= 0 && Number.isFinite(weightDecay),
    operation,
    'a finite weightDecay of at least 0',
    weightDecay,
  );
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
  /** [1] float64: CurricularFace's t, which each step moves before it uses it. */
  readonly t: Tensor | undefined;
  /** The last asynchronous step of a method with a state. */
  #turn: Promise<unknown> = Promise.resolve();
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
    const known = margins[margin?.method as MarginName];
    expected(known, 'MarginHead', `a margin such as arcface() (${Object.keys(margins).join(', ')})`, margin);
    for (const [name, value] of Object.entries(margin)) {
      const wanted = typeof (known.params as Record<string, unknown>)[name];
      if (wanted === 'undefined' || name === 'method') continue;
      expected(typeof value === wanted && !Number.isNaN(value), 'MarginHead', `margin.${name}, a ${wanted}`, value);
    }
    expected(margin.scale > 0, 'MarginHead', 'a scale above 0', margin.scale);
    expected(Number.isSafeInteger(seed) && seed >= 0, 'MarginHead', 'seed, an integer of at least 0', seed);
    checkSgd('MarginHead', { momentum, weightDecay });
    this.numClasses = numClasses;
    this.embeddingSize = embeddingSize;
    this.margin = margin;
    this.device = device;
    this.#sgd = { momentum, weightDecay };
    const shape = [numClasses, embeddingSize];
    this.weight = parameter(zeros(shape, 'float32', device));
    this.weight.set(normalArray(numClasses * embeddingSize, 0.01, new Random(seed)));
    this.velocity = keep(zeros(shape, 'float32', device));
    if (margin.method === 'curricularface') this.t = keep(tensor(new Float64Array([margin.t]), [1]));
  }

  /** What a checkpoint needs. */
  namedTensors(): [string, Tensor][] {
    const all = { weight: this.weight, velocity: this.velocity, t: this.t };
    return Object.entries(all).filter((entry): entry is [string, Tensor] => entry[1] !== undefined);
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
    // Other handles of the same memory: it stays until the step is done, whatever becomes of the tensors.
    const [rows, targets] = [native.reshape(x.handle, x.shape), native.reshape(y.handle, y.shape)];
    for (const each of made) each.dispose();
    const run = async () => {
      try {
        const { margin, t } = this.#marginOfStep(rows, targets);
        const { handle: weight } = this.weight;
        const result = await native.headStep(rows, weight, this.velocity.handle, targets, margin, sgd);
        this.#moveTo(t);
        return result;
      } finally {
        native.dispose(rows);
        native.dispose(targets);
      }
    };
    // t is a function of the weights that the step before left.
    const pending = this.t ? this.#turn.then(run, run) : run();
    if (this.t) this.#turn = pending;
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
      const { margin, t } = this.#marginOfStep(x.handle, y.handle);
      const { handle: weight } = this.weight;
      const result = native.headStepSync(x.handle, weight, this.velocity.handle, y.handle, margin, sgd);
      this.#moveTo(t);
      return this.#result(result, features instanceof Tensor);
    } finally {
      for (const each of made) each.dispose();
    }
  }

  dispose(): void {
    this.weight.dispose();
    this.velocity.dispose();
    this.t?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** The margin with the t of this step, which becomes the head's when the step has succeeded. */
  #marginOfStep(x: Handle, y: Handle): { margin: MarginParams; t?: number } {
    if (this.margin.method !== 'curricularface' || !this.t) return { margin: this.margin };
    const found = new Tensor(native.targetCosines(x, this.weight.handle, y), this.device);
    const cosines = found.toArray();
    found.dispose();
    const labels = new Int32Array(cosines.length);
    native.readInto(y, labels);
    const t = nextT(this.margin, this.t.item(), cosines, labels);
    return { margin: { ...this.margin, t }, t };
  }

  #moveTo(t: number | undefined): void {
    if (t !== undefined) this.t?.set(new Float64Array([t]));
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
    expected(
      Number.isFinite(options?.lr) && options.lr >= 0,
      'MarginHead.step',
      'a finite lr of at least 0',
      options?.lr,
    );
    for (const key of Object.keys(options)) {
      expected(
        ['lr', 'momentum', 'weightDecay'].includes(key),
        'MarginHead.step',
        'options lr, momentum, weightDecay',
        key,
      );
    }
    checkSgd('MarginHead.step', options);
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
