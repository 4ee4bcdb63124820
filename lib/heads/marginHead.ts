import {
  type Handle,
  type HeadOptions,
  type MarginParams,
  type NativeHeadStep,
  native,
  type OptimizerParams,
  type Precision,
} from '../binding.js';
import { deviceIndex, deviceName } from '../device.js';
import {
  ArgumentTypeError,
  checkOptions,
  DeviceError,
  describe,
  expected,
  type FlashmarginError,
  NonFiniteError,
  named,
  ShapeError,
  underName,
} from '../errors.js';
import { fixedAdacosScale, initialBias, type Margin, type MarginState, nativeMargin } from '../margins/index.js';
import { isBinary } from '../margins/native.js';
import {
  checkOptimizer,
  instead,
  type OptimizerName,
  type OptimizerNumbers,
  optimizerParams,
  optimizers,
  optionsOf,
} from '../optimizers.js';
import { fillNormal, Random } from '../random.js';
import { keep, parameter, Tensor, tensor, tidy, zeros } from '../tensor.js';
import { adviceOn, FirstSteps } from './advice.js';
import { type Batch, type BatchHead, factsOf, factsOfSync, type Handles } from './batch.js';
import { checkedOptions, type MarginHeadOptions } from './headOptions.js';
import { type HeadInspection, inspection } from './inspection.js';
import { type BatchFacts, countOf, type Fact, type StateRule, stateNames, stateRules } from './state.js';

/** The head's own by default; of its optimizer alone. */
export interface HeadStepOptions extends OptimizerNumbers {
  readonly lr: number;
}

/** What a step gives back: of the loss's mean over the rows that have a target. */
export interface HeadStepResult<Gradient> {
  readonly loss: number;
  /** Mean regulariser of the norms (MagFace), which `loss` contains times its weight; 0 otherwise. */
  readonly regularizer: number;
  /** Share of the rows with a target whose plain cosine to it is the largest of all classes that take part. */
  readonly accuracy: number;
  /** Rows that have a target. */
  readonly labelled: number;
  /** Share of the blocks of rows and classes that `gradientFilter` left out, 0 to 1. */
  readonly filtered: number;
  /** dLoss/dFeatures, [N, D]: typed array for typed array, tensor for tensor. */
  readonly gradEmbeddings: Gradient;
}

type StateValues = Record<string, Float64Array | Float32Array>;
const isTensorEntry = (entry: [string, unknown]): entry is [string, Tensor] => entry[1] instanceof Tensor;

/** A step as all rules together prepare it. */
interface Ready {
  /** The kernels' numbers. */
  readonly params: MarginParams;
  readonly rowMargins: Handle | undefined;
  /** The state before the step, and what of it the rules move. */
  readonly values: StateValues;
  readonly next: StateValues;
}

/** Handles of the same memory for a call that ends later: it stays, whatever becomes of the tensors. */
function owned(x: Tensor, y: Tensor, made: readonly Tensor[]) {
  const [rows, targets] = [native.reshape(x.handle, x.shape), native.reshape(y.handle, y.shape)] as const;
  for (const each of made) each.dispose();
  const free = (...others: readonly (Handle | undefined)[]) => {
    for (const handle of [rows, targets, ...others]) if (handle) native.dispose(handle);
  };
  return { rows, targets, free };
}

function wrongKind(operation: string, wanted: string, got: unknown): ArgumentTypeError {
  return new ArgumentTypeError(`${operation}: expected ${wanted}, got ${describe(got)}`, { code: 'ERR_FM_TYPE' });
}

/**
 * Class centers, margin and loss, with their own optimizer: one call is forward, backward and update, and the [N, C] logits
 * never exist.  What a method carries from step to step (t, a scale, statistics, margins, a bias) is the head's, moves
 * before or with a step, and is in the checkpoint.
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
  /** Centers a class, K. */
  readonly subCenters: number;
  /** [C·K, D], one row a class center, not normalised; class j's are rows j·K … j·K + K − 1. */
  readonly weight: Tensor;
  readonly optimizer: OptimizerName;
  /** What the optimizer keeps of `weight`, [C·K, D] each: SGD's `velocity`, AdamW's `expAvg` and `expAvgSq`. */
  readonly optimizerState: ReadonlyMap<string, Tensor>;
  /** What else is carried from step to step, by name: float64 [1], AdaptiveFace's margins float32 [C]. */
  readonly state: ReadonlyMap<string, Tensor>;
  /** The margin, of a binary loss with the bias that it starts from. */
  readonly #started: Margin;
  readonly #rules: readonly StateRule[];
  /** The last asynchronous step of a method with a state. */
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  /** Asynchronous calls that read or write the weights, and have not ended. */
  #underWay = 0;
  readonly #numbers: OptimizerNumbers;
  readonly precision: Precision;
  readonly memory: HeadOptions['memory'];
  readonly gradientFilter: number;
  /** The share of the classes that take part in a step. */
  readonly sampleRate: number;
  readonly unsampledCenters: 'kept' | 'moved';
  readonly #seed: number;
  readonly #advise: (sentence: string) => void;
  #firstSteps: FirstSteps | undefined;
  #stepsSeen = 0;
  #toldOfSample = false;

  constructor(options: MarginHeadOptions) {
    const { numClasses, embeddingSize, margin, device, seed, ...how } = checkedOptions(options);
    const { optimizer: type, numbers, precision, memory, gradientFilter, sampleRate, unsampledCenters, onAdvice } = how;
    this.numClasses = numClasses;
    this.embeddingSize = embeddingSize;
    this.margin = margin;
    this.device = deviceName(deviceIndex(device));
    this.subCenters = margin.subCenters ?? 1;
    this.optimizer = type;
    const defaults = optimizers[type].defaults;
    this.#numbers = instead(type === 'sgd' ? { ...defaults, weightDecay: 5e-4 } : defaults, numbers);
    this.precision = precision;
    this.memory = memory;
    this.gradientFilter = gradientFilter;
    this.sampleRate = sampleRate;
    this.unsampledCenters = unsampledCenters;
    this.#seed = seed;
    const shape = [numClasses * this.subCenters, embeddingSize];
    this.weight = parameter(named('MarginHead', () => zeros(shape, 'float32', device)));
    fillNormal(this.weight.handle, 0.01, new Random(seed));
    this.optimizerState = new Map(
      optimizers[type].states.map((name) => [name, keep(named('MarginHead', () => zeros(shape, 'float32', device)))]),
    );
    // The negatives that a bias outweighs are those of a step.
    this.#started = isBinary(margin) ? { ...margin, bias: initialBias(margin, this.#count) } : margin;
    this.#rules = stateRules(this.#started, numClasses, fixedAdacosScale(numClasses), seed, type, sampleRate < 1);
    this.state = new Map(
      this.#rules.flatMap(({ initial }) =>
        Object.entries(initial).map(([name, values]) => [name, keep(tensor(values, [values.length]))] as const),
      ),
    );
    this.#advise = onAdvice;
    const classes = { numClasses, sampleRate, count: this.#count };
    for (const sentence of adviceOn(margin, classes, this.scale)) onAdvice(`${margin.method}: ${sentence}`);
    const smooths = Boolean((margin as { labelSmoothing?: number }).labelSmoothing);
    if (gradientFilter > 0 && (this.device === 'cpu' || precision === 'float32' || smooths))
      onAdvice(
        'gradientFilter leaves nothing out here: it needs a CUDA device, precision bfloat16 and no label smoothing',
      );
    if (precision === 'bfloat16' && device !== 'cpu') {
      const { warning } = native.headPath(deviceIndex(device));
      if (warning !== '') onAdvice(warning);
    }
    const angular = 'margin' in margin && !isBinary(margin) && !['asoftmax', 'sphereface'].includes(margin.method);
    if (angular || margin.method === 'magface') this.#firstSteps = new FirstSteps();
  }

  /** The scale that the next step starts from; of logits scaled by the feature's norm, 1. */
  get scale(): number {
    const { margin, numClasses } = this;
    return this.state.get('scale')?.item() ?? (nativeMargin(margin, { numClasses }).scale as number);
  }

  /** [C·K, D], SGD's momentum of `weight`. */
  get velocity(): Tensor {
    const velocity = this.optimizerState.get('velocity');
    expected(
      velocity,
      'MarginHead.velocity',
      "a head with optimizer 'sgd' (others have `optimizerState`)",
      this.optimizer,
    );
    return velocity;
  }

  /** CurricularFace's t, [1] float64, which each step moves before it uses it. */
  get t(): Tensor | undefined {
    return this.state.get('t');
  }

  /** What a checkpoint needs. */
  namedTensors(): [string, Tensor][] {
    return [['weight', this.weight], ...this.optimizerState, ...this.state];
  }

  /**
   * One step off the event loop.  Features are [N, D] as the backbone gives them, not normalised; labels are in
   * [0, C), or −1 for a row without a target.  Steps run in the order of the calls.  When it rejects (a label out of
   * range, a row that is not finite), nothing has changed.  Until it ends stepSync() refuses.
   */
  step(features: Float32Array, labels: Int32Array, options: HeadStepOptions): Promise<HeadStepResult<Float32Array>>;
  step(features: Tensor, labels: Tensor | Int32Array, options: HeadStepOptions): Promise<HeadStepResult<Tensor>>;
  async step(
    features: Tensor | Float32Array,
    labels: Tensor | Int32Array,
    options: HeadStepOptions,
  ): Promise<HeadStepResult<Tensor | Float32Array>> {
    const { x, y, known, numbers, made } = this.#arguments('MarginHead.step', features, labels, options);
    const { rows, targets, free } = owned(x, y, made);
    const run = async () => {
      const used: Handles = [];
      try {
        const batch = await factsOf(this.#asked(this.#sampling()), this.#needs(), { rows, targets, known }, used);
        const prepared = this.#prepare(batch, used);
        const optimizer = this.#optimizerStep(numbers, prepared);
        const args = this.#stepArguments(rows, targets, prepared, optimizer, batch);
        const result = await native.headStep(...args);
        const few = this.numClasses < 1 << 16; // a turn of the queue would take longer
        await this.#moveMargins(few ? native.classMarginsStep : native.classMarginsStepAsync, batch, result, optimizer);
        this.#settle(prepared, batch, result, optimizer);
        return result;
      } finally {
        free(...used);
      }
    };
    // A state is a function of the weights that the step before left.
    const waits = this.#rules.length > 0 || this.#firstSteps !== undefined || this.#waiting > 0;
    const ended = this.#named('MarginHead.step', () => this.#launched(waits ? () => this.#inTurn(run) : run));
    return this.#result(await ended, features instanceof Tensor);
  }

  /** step() on the calling thread; throws while a step() or inspect() of this head has not ended. */
  stepSync(features: Float32Array, labels: Int32Array, options: HeadStepOptions): HeadStepResult<Float32Array>;
  stepSync(features: Tensor, labels: Tensor | Int32Array, options: HeadStepOptions): HeadStepResult<Tensor>;
  stepSync(
    features: Tensor | Float32Array,
    labels: Tensor | Int32Array,
    options: HeadStepOptions,
  ): HeadStepResult<Tensor | Float32Array> {
    const calls = this.#underWay;
    expected(calls === 0, 'MarginHead.stepSync', 'no step() or inspect() under way', calls, 'await each first');
    const { x, y, known, numbers, made } = this.#arguments('MarginHead.stepSync', features, labels, options);
    const used: Handles = [];
    const run = () => {
      const batch = factsOfSync(
        this.#asked(this.#sampling()),
        this.#needs(),
        { rows: x.handle, targets: y.handle, known },
        used,
      );
      const prepared = this.#prepare(batch, used);
      const optimizer = this.#optimizerStep(numbers, prepared);
      const args = this.#stepArguments(x.handle, y.handle, prepared, optimizer, batch);
      const result = native.headStepSync(...args);
      this.#moveMargins(native.classMarginsStep, batch, result, optimizer);
      this.#settle(prepared, batch, result, optimizer);
      return this.#result(result, features instanceof Tensor);
    };
    try {
      return this.#named('MarginHead.stepSync', run);
    } finally {
      for (const handle of used) if (handle) native.dispose(handle);
      for (const each of made) each.dispose();
    }
  }

  /**
   * A look at a batch as a step of it would see it, without the step: angles of the targets and of each row's nearest
   * other class, norms, how many negatives are hard, and which of a class's centers its rows choose.
   *
   * @example
   * const { targetAngles, hardShare } = await head.inspect(features, labels);
   */
  async inspect(features: Tensor | Float32Array, labels: Tensor | Int32Array): Promise<HeadInspection> {
    const { x, y, known, made } = this.#arguments('MarginHead.inspect', features, labels, { lr: 0 });
    const { rows, targets, free } = owned(x, y, made);
    const run = async () => {
      const used: Handles = [];
      try {
        const batch = await factsOf(
          { ...this.#asked(undefined), options: { ...this.#headOptions(), memory: 0 } }, // no step follows
          this.#needs(),
          { rows, targets, known },
          used,
        );
        const prepared = this.#prepare(batch, used);
        const seen = await native.inspectHead(rows, this.weight.handle, targets, prepared.rowMargins, prepared.params);
        return inspection(seen, batch.labels, this.numClasses, this.subCenters);
      } finally {
        free(...used);
      }
    };
    return this.#named('MarginHead.inspect', () => this.#launched(() => this.#inTurn(run)));
  }

  dispose(): void {
    this.weight.dispose();
    for (const tensor of [...this.optimizerState.values(), ...this.state.values()]) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #needs(): Fact[] {
    const needed = new Set(this.#rules.flatMap(({ needs }) => needs));
    if (this.#firstSteps) {
      needed.add('targetCosines');
      if (this.margin.method === 'magface') needed.add('norms');
    }
    return [...needed];
  }

  /** The numbers of every rule, by tensor name; what is as long as the classes stays where it is. */
  #values(): StateValues {
    const numbers = [...this.state].filter(([, { dtype }]) => dtype === 'float64');
    return Object.fromEntries(numbers.map(([name, tensor]) => [name, tensor.toArray() as Float64Array]));
  }

  /** What the rules ask of a batch depends on it. */
  #asked(sampling: BatchHead['sampling']): BatchHead {
    const { numClasses, embeddingSize, subCenters } = this;
    return {
      numClasses,
      embeddingSize,
      subCenters,
      weight: this.weight.handle,
      margins: this.state.get('margins'),
      plainSoftmax: () => this.#checked({ method: 'softmax', scale: this.scale, subCenters }, ['scale']),
      options: this.#headOptions(),
      device: deviceIndex(this.device),
      sampling,
    };
  }

  /** Classes that take part in a step. */
  get #count(): number {
    return Math.max(1, Math.floor(this.sampleRate * this.numClasses));
  }

  #sampling(): BatchHead['sampling'] {
    if (this.sampleRate === 1) return undefined;
    const step = countOf('sampledSteps', (this.state.get('sampledSteps') as Tensor).item());
    return { count: this.#count, seed: this.#seed, step };
  }

  async #launched<R>(run: () => Promise<R>): Promise<R> {
    this.#underWay++;
    try {
      return await run();
    } finally {
      this.#underWay--;
    }
  }

  /** After the asynchronous steps so far. */
  async #inTurn<R>(run: () => Promise<R>): Promise<R> {
    this.#waiting++;
    const pending = this.#turn.then(run, run);
    this.#turn = pending;
    try {
      return await pending;
    } finally {
      this.#waiting--;
    }
  }

  /** An error of one of a step's parts, under the step's name; of weights that earlier steps spoiled, with what helps. */
  #renamed(operation: string, error: FlashmarginError): FlashmarginError {
    const spoiled = error instanceof NonFiniteError && !native.allFinite(this.weight.handle);
    return underName(
      operation,
      error,
      spoiled
        ? 'the weights are not finite any more: start again, or from an earlier checkpoint, with a lower lr'
        : error.hint,
    );
  }

  /** The kernels' numbers.  What the constructor took is refused only for what the state has become. */
  #params(state: Omit<MarginState, 'numClasses'>): MarginParams {
    const params = nativeMargin(this.#started, { numClasses: this.numClasses, ...state });
    const names = Object.keys(state);
    return names.length > 0 ? this.#checked(params, names) : params;
  }

  #checked<P extends MarginParams>(params: P, names: readonly string[]): P {
    const { scale } = this.margin;
    const dynamic = typeof scale === 'object' && scale.rule === 'adacos';
    const hint =
      `the head's ${names.join(' or ')} has run away: start again, or from an earlier checkpoint, with a lower lr` +
      (dynamic ? ', a larger embeddingSize or adacosScale({ dynamic: false })' : '');
    named(
      'MarginHead',
      () => native.checkMargin(params),
      (operation, error) => underName(operation, error, hint),
    );
    return params;
  }

  #named<R>(operation: string, f: () => R): R {
    return named(operation, f, (name, error) => this.#renamed(name, error));
  }

  #stepArguments(
    rows: Handle,
    targets: Handle,
    { params, rowMargins }: Ready,
    optimizer: OptimizerParams,
    { sums, sample }: Batch,
  ): Parameters<typeof native.headStep> {
    const movesOthers = this.unsampledCenters === 'moved';
    const options = { ...this.#headOptions(), ...sums, classes: sample?.classes, movesOthers };
    const state = [...this.optimizerState.values()].map(({ handle }) => handle);
    return [rows, this.weight.handle, state, sample?.targets ?? targets, rowMargins, params, optimizer, options];
  }

  #optimizerStep(numbers: OptimizerNumbers & { lr: number }, { values }: Ready): OptimizerParams {
    return optimizerParams(this.optimizer, numbers, countOf('steps', values.steps?.[0] ?? 0));
  }

  #headOptions(): HeadOptions {
    return { precision: this.precision, memory: this.memory, gradientFilter: this.gradientFilter };
  }

  /** Margins by class move, where the method has such: a pass over all of them. */
  #moveMargins<R>(
    step: (...args: Parameters<typeof native.classMarginsStep>) => R,
    { labels }: BatchFacts,
    { dMargins }: NativeHeadStep,
    optimizer: OptimizerParams,
  ): R | undefined {
    const common = this.#rules.find(({ commonGradient }) => commonGradient !== undefined)?.commonGradient;
    if (common === undefined) return undefined;
    const handleOf = (name: string) => (this.state.get(name) as Tensor).handle;
    const state = stateNames('margins', this.optimizer).map(handleOf);
    const gradients = new Float32Array(labels.length);
    native.readInto(dMargins, gradients);
    return tidy(() => {
      const [y, dy] = [tensor(labels, [labels.length]), tensor(gradients, [labels.length])];
      return step(handleOf('margins'), state, y.handle, dy.handle, common, optimizer);
    });
  }

  /** What a step of this batch computes with, and what the state is after it; `used` takes the handles. */
  #prepare(batch: Batch, used: Handles): Ready {
    if (batch.sample) this.#watchSample(batch);
    const values = this.#rules.length > 0 ? this.#values() : {};
    const prepared = this.#rules.map((rule) => rule.prepare(batch, values));
    const state = Object.assign({}, ...prepared.map((each) => each.state ?? {}));
    const margins = prepared.find((each) => each.margins)?.margins;
    const rowMargins = margins && native.fromArray(margins, [margins.length], deviceIndex(this.device));
    used.push(rowMargins);
    return {
      values,
      rowMargins,
      next: Object.assign({}, ...prepared.map((each) => each.next ?? {})),
      params: this.#params(state),
    };
  }

  /** The step has succeeded: the state moves. */
  #settle({ next, values }: Ready, batch: BatchFacts, result: NativeHeadStep, optimizer: OptimizerParams): void {
    if (this.weight.disposed) return; // while the step ran
    const after = this.#rules.map((rule) => rule.after?.(result, values, optimizer) ?? {});
    for (const [name, numbers] of Object.entries(Object.assign({}, next, ...after))) {
      this.state.get(name)?.set(numbers as Float64Array);
    }
    this.#watch(batch);
  }

  #watchSample({ labels }: BatchFacts): void {
    if (this.#toldOfSample || this.#count > labels.length || this.#count === this.numClasses) return;
    if (new Set(labels.filter((label) => label >= 0)).size < this.#count) return;
    this.#toldOfSample = true;
    this.#advise(
      `sampleRate ${this.sampleRate} of ${this.numClasses} classes is ${this.#count}, no more than a batch has: its own classes are all that its rows are told apart from`,
    );
  }

  #watch({ labels, targetCosines = [], norms = [] }: BatchFacts): void {
    if (!this.#firstSteps) return;
    const labelled = (values: ArrayLike<number>) => Array.from(values).filter((_, i) => (labels[i] as number) >= 0);
    this.#firstSteps.add(this.margin, labelled(targetCosines), labelled(norms));
    if (++this.#stepsSeen < FirstSteps.count) return;
    for (const sentence of this.#firstSteps.advice(this.margin)) this.#advise(`${this.margin.method}: ${sentence}`);
    this.#firstSteps = undefined;
  }

  #arguments(
    operation: string,
    features: Tensor | Float32Array,
    labels: Tensor | Int32Array,
    options: HeadStepOptions,
  ) {
    const D = this.embeddingSize;
    const single = features instanceof Tensor ? features.dtype === 'float32' : features instanceof Float32Array;
    if (!single) throw wrongKind(operation, 'features as Float32Array or float32 tensor', features);
    const N = features instanceof Tensor ? (features.shape[0] as number) : features.length / D;
    if (features instanceof Tensor ? features.shape.length !== 2 || features.shape[1] !== D : !Number.isInteger(N)) {
      const got = features instanceof Tensor ? `[${features.shape.join(', ')}]` : `${features.length} values`;
      throw new ShapeError(`${operation}: expected features [N, ${D}], got ${got}`, { code: 'ERR_FM_SHAPE' });
    }
    const whole = labels instanceof Tensor ? labels.dtype === 'int32' : labels instanceof Int32Array;
    if (!whole) throw wrongKind(operation, 'labels as Int32Array or int32 tensor', labels);
    const given = labels instanceof Tensor ? labels.shape : [labels.length];
    if (given.length !== 1 || given[0] !== N) {
      const came = given.length === 1 ? given[0] : `[${given.join(', ')}]`;
      throw new ShapeError(`${operation}: expected ${N} labels for features [${N}, ${D}], got ${came}`, {
        code: 'ERR_FM_SHAPE',
      });
    }
    checkOptions(operation, options, ['lr', ...optionsOf(this.optimizer)]);
    expected(options.lr !== undefined, operation, 'a finite lr of at least 0', options.lr);
    checkOptimizer(operation, options);
    for (const [name, { device }] of Object.entries({ features, labels }).filter(isTensorEntry)) {
      if (device === this.device) continue;
      throw new DeviceError(`${operation}: expected ${name} on ${this.device}, got ${device}`, {
        code: 'ERR_FM_DEVICE',
      });
    }
    const made: Tensor[] = [];
    const own = (x: Tensor) => {
      made.push(keep(x));
      return x;
    };
    return {
      x: features instanceof Tensor ? features : own(tensor(features, [N, D], this.device)),
      y: labels instanceof Tensor ? labels : own(tensor(labels, [N], this.device)),
      known: labels instanceof Tensor ? undefined : labels.slice(), // as they are now: a step may run later
      numbers: { ...instead(this.#numbers, options), lr: options.lr },
      made,
    };
  }

  #result(
    { rowLoss, lse, dFeatures, dMargins, loss, regularizer, correct, labelled, filtered }: NativeHeadStep,
    asTensor: boolean,
  ): HeadStepResult<Tensor | Float32Array> {
    for (const each of [rowLoss, lse, dMargins]) native.dispose(each);
    const gradient = new Tensor(dFeatures, this.device);
    const common = { loss, regularizer, labelled, accuracy: labelled > 0 ? correct / labelled : 0, filtered };
    if (asTensor) return { ...common, gradEmbeddings: gradient };
    const copy = gradient.toArray() as Float32Array;
    gradient.dispose();
    return { ...common, gradEmbeddings: copy };
  }
}
