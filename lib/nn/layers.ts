/** The layers that the field's backbones are made of, with its initialisations. */
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
    {
      kernel = 3,
      stride = 1,
      padding = (kernel - 1) / 2,
      std,
      ...rest
    }: LayerOptions & {
      kernel?: number;
      stride?: number;
      padding?: number;
      std?: number;
    } = {},
  ) {
    super();
    const { rng = new Random(0) } = rest;
    const shape = [outputs, inputs, kernel, kernel];
    const spread = std ?? Math.sqrt(2 / (inputs * kernel * kernel));
    this.weight = parameter(initial(normalArray(outputs * inputs * kernel * kernel, spread, rng), shape, rest));
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

  constructor(inputs: number, outputs: number, { bias = true, ...rest }: LayerOptions & { bias?: boolean } = {}) {
    super();
    const { rng = new Random(0) } = rest;
    const bound = 1 / Math.sqrt(inputs);
    this.weight = parameter(initial(uniformArray(outputs * inputs, bound, rng), [outputs, inputs], rest));
    this.bias = bias ? parameter(initial(uniformArray(outputs, bound, rng), [outputs], rest)) : undefined;
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
  constructor(
    channels: number,
    {
      frozenWeight = false,
      frozenBias = false,
      ...rest
    }: LayerOptions & { frozenWeight?: boolean; frozenBias?: boolean } = {},
  ) {
    super();
    const { device = 'cpu', dtype = 'float32' } = rest;
    this.weight = buffer(ones([channels], dtype, device));
    this.weight.requiresGrad = !frozenWeight;
    this.bias = buffer(zeros([channels], dtype, device));
    this.bias.requiresGrad = !frozenBias;
    this.running_mean = buffer(zeros([channels], dtype, device));
    this.running_var = buffer(ones([channels], dtype, device));
  }

  override forward(x: Tensor): Tensor {
    return ops.batchNorm(x, this.weight, this.bias, {
      runningMean: this.running_mean,
      runningVar: this.running_var,
      training: this.training,
      momentum: 0.1,
      epsilon: 1e-5,
    });
  }
}

/** PReLU with one slope a channel, 0.25 at first. */
export class PRelu extends Module {
  readonly weight: Tensor;

  constructor(channels: number, options: LayerOptions = {}) {
    super();
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
    Object.assign(this, modules);
  }

  override forward(x: Tensor): Tensor {
    for (const [, child] of this.children()) x = (child as Module).forward(x);
    return x;
  }
}
