/** The layers that the field's backbones are made of, with its initialisations. */
import { checkBooleans, checkOptions, expected, within } from '../errors.js';
import * as ops from '../ops/index.js';
import { normalArray, Random, uniformArray } from '../random.js';
import { ones, parameter, type Tensor, tensor, zeros } from '../tensor.js';
import { buffer, Module } from './module.js';

export interface LayerOptions {
  /** Where initial weights come from; layers of one network share it. */
  readonly rng?: Random;
  readonly device?: string;
  /** float64 is for checks: slow, and exact enough to judge float32. */
  readonly dtype?: 'float32' | 'float64';
}

/** Of every layer's options. */
export const layerOptions = ['rng', 'device', 'dtype'] as const satisfies readonly (keyof LayerOptions)[];

/** Throws unless sizes, by name, are such, and options are a layer's or of its own names. */
export function checkLayer(
  layer: string,
  sizes: Readonly<Record<string, unknown>>,
  options: LayerOptions,
  own: readonly string[] = [],
): void {
  for (const [name, size] of Object.entries(sizes))
    expected(Number.isSafeInteger(size) && (size as number) >= 1, layer, `${name}, an integer of at least 1`, size);
  checkOptions(layer, options, [...own, ...layerOptions]);
  const { rng, dtype } = options;
  expected(rng === undefined || rng instanceof Random, layer, 'rng, a Random', rng);
  const known = dtype === undefined || dtype === 'float32' || dtype === 'float64';
  expected(known, layer, "dtype 'float32' or 'float64'", dtype);
}

/** A tensor of initial values in the layer's precision. */
function initial(
  values: Float32Array,
  shape: readonly number[],
  { device = 'cpu', dtype = 'float32' }: LayerOptions,
): Tensor {
  return tensor(dtype === 'float64' ? Float64Array.from(values) : values, shape, device);
}

/** A square convolution without bias, [N, H, W, I] → [N, OH, OW, O]; weights N(0, std²), by default He's std. */
export class Conv2d extends Module {
  readonly weight: Tensor;
  readonly #stride: number;
  readonly #padding: number;

  constructor(
    inputs: number,
    outputs: number,
    options: LayerOptions & {
      kernel?: number;
      stride?: number;
      padding?: number;
      std?: number;
    } = {},
  ) {
    super();
    checkLayer('Conv2d', { inputs, outputs }, options, ['kernel', 'stride', 'padding', 'std']);
    const { kernel = 3, stride = 1, padding = (kernel - 1) / 2, std, rng = new Random(0) } = options;
    checkLayer('Conv2d', { kernel, stride }, {});
    const natural = Number.isSafeInteger(padding) && padding >= 0;
    expected(natural, 'Conv2d', 'padding, an integer of at least 0 (of an even kernel, given)', padding);
    expected(std === undefined || (Number.isFinite(std) && std >= 0), 'Conv2d', 'std of at least 0', std);
    const shape = [outputs, inputs, kernel, kernel];
    const spread = std ?? Math.sqrt(2 / (inputs * kernel * kernel));
    this.weight = parameter(initial(normalArray(outputs * inputs * kernel * kernel, spread, rng), shape, options));
    this.#stride = stride;
    this.#padding = padding;
  }

  override forward(x: Tensor): Tensor {
    return ops.conv2d(x, this.weight, { stride: this.#stride, padding: this.#padding });
  }
}

/** x·Wᵀ + b; both uniform in ±1/√I, as PyTorch initialises them. */
export class Linear extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;

  constructor(inputs: number, outputs: number, options: LayerOptions & { bias?: boolean } = {}) {
    super();
    checkLayer('Linear', { inputs, outputs }, options, ['bias']);
    const { bias = true, rng = new Random(0) } = options;
    checkBooleans('Linear', { bias });
    const bound = 1 / Math.sqrt(inputs);
    this.weight = parameter(initial(uniformArray(outputs * inputs, bound, rng), [outputs, inputs], options));
    this.bias = bias ? parameter(initial(uniformArray(outputs, bound, rng), [outputs], options)) : undefined;
  }

  override forward(x: Tensor): Tensor {
    return ops.linear(x, this.weight, this.bias);
  }
}

/** Batch normalisation over all axes but the last; ε = 1e-5, momentum 0.1. */
export class BatchNorm extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly running_mean: Tensor;
  readonly running_var: Tensor;

  /** frozenWeight, frozenBias: kept at 1 and 0, not trained. */
  constructor(channels: number, options: LayerOptions & { frozenWeight?: boolean; frozenBias?: boolean } = {}) {
    super();
    checkLayer('BatchNorm', { channels }, options, ['frozenWeight', 'frozenBias']);
    const { frozenWeight = false, frozenBias = false, device = 'cpu', dtype = 'float32' } = options;
    checkBooleans('BatchNorm', { frozenWeight, frozenBias });
    this.weight = buffer(ones([channels], dtype, device));
    this.weight.requiresGrad = !frozenWeight;
    this.bias = buffer(zeros([channels], dtype, device));
    this.bias.requiresGrad = !frozenBias;
    this.running_mean = buffer(zeros([channels], dtype, device));
    this.running_var = buffer(ones([channels], dtype, device));
  }

  /**
   * [..., C] → [..., C]; in the same pass over memory through a PReLU, or plus a shortcut of x's shape.
   *
   * @example
   * const y = bn2.forward(conv1.forward(x), { prelu });
   * const out = bn3.forward(conv2.forward(y), { shortcut: x });
   */
  override forward(x: Tensor, behind: { prelu?: PRelu; shortcut?: Tensor } = {}): Tensor {
    checkOptions('BatchNorm.forward', behind, ['prelu', 'shortcut'], 'behind');
    const { prelu, shortcut } = behind;
    expected(prelu === undefined || prelu instanceof PRelu, 'BatchNorm.forward', 'prelu, a PRelu', prelu);
    expected(!prelu || !shortcut, 'BatchNorm.forward', 'a prelu or a shortcut behind it', behind);
    const state = {
      runningMean: this.running_mean,
      runningVar: this.running_var,
      training: this.training,
      momentum: 0.1,
      epsilon: 1e-5,
    };
    return ops.batchNorm(x, this.weight, this.bias, state, { slope: prelu?.weight, shortcut });
  }
}

/** PReLU with one slope a channel, 0.25 at first. */
export class PRelu extends Module {
  readonly weight: Tensor;

  constructor(channels: number, options: LayerOptions = {}) {
    super();
    checkLayer('PRelu', { channels }, options);
    this.weight = parameter(initial(new Float32Array(channels).fill(0.25), [channels], options));
  }

  override forward(x: Tensor): Tensor {
    return ops.prelu(x, this.weight);
  }
}

/** Dropout while training; every forward draws the next seed of its own sequence, which a checkpoint holds. */
export class Dropout extends Module {
  readonly #rate: number;
  /** int32 [1]: forwards so far. */
  readonly draws: Tensor;

  constructor(rate: number) {
    super();
    expected(within(rate, 0, 1) && rate < 1, 'Dropout', 'a rate in [0, 1)', rate);
    this.#rate = rate;
    this.draws = buffer(zeros([1], 'int32')); // the CPU's: read at every step, which on a GPU would wait for its queue
  }

  override forward(x: Tensor): Tensor {
    if (!this.training || this.#rate === 0) return x;
    const draw = this.draws.item();
    this.draws.set(new Int32Array([draw + 1]));
    return ops.dropout(x, { rate: this.#rate, seed: draw });
  }
}

/** Modules one after another. */
export class Sequential extends Module {
  constructor(...modules: readonly Module[]) {
    super();
    for (const each of modules) expected(each instanceof Module, 'Sequential', 'modules', each);
    Object.assign(this, modules);
  }

  override forward(x: Tensor): Tensor {
    for (const [, child] of this.children()) x = (child as Module).forward(x);
    return x;
  }
}
