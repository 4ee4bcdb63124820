import { native } from '../binding.js';
import { checkOptions, checkSgd, expected, ShapeError } from '../errors.js';
import { checkTensor, keep, type Tensor, zeros } from '../tensor.js';

export interface SgdOptions {
  readonly momentum?: number;
  readonly weightDecay?: number;
}

/**
 * SGD with momentum and weight decay as PyTorch states it: g ← g + λw, v ← μv + g, w ← w − lr·v.
 *
 * @example
 * const sgd = new Sgd(net.namedParameters(), { momentum: 0.9, weightDecay: 5e-4 });
 * backward(loss);
 * sgd.step(0.1); // updates, and frees the gradients
 */
export class Sgd {
  readonly momentum: number;
  readonly weightDecay: number;
  readonly #slots: readonly { name: string; weight: Tensor; velocity: Tensor }[];

  constructor(parameters: Iterable<[string, Tensor]>, options: SgdOptions = {}) {
    const iterable = typeof (parameters as Iterable<unknown> | undefined)?.[Symbol.iterator] === 'function';
    expected(iterable, 'Sgd', 'parameters, a name and a tensor each', parameters);
    checkOptions('Sgd', options, ['momentum', 'weightDecay']);
    const { momentum = 0.9, weightDecay = 0 } = options;
    checkSgd('Sgd', { momentum, weightDecay });
    this.momentum = momentum;
    this.weightDecay = weightDecay;
    this.#slots = Array.from(parameters, (entry) => {
      expected(Array.isArray(entry), 'Sgd', 'parameters, a name and a tensor each', entry);
      const [name, weight] = entry;
      checkTensor('Sgd', `parameter ${name}`, weight);
      return { name, weight, velocity: keep(zeros(weight.shape, weight.dtype, weight.device)) };
    });
  }

  /** One update of every parameter that has a gradient; gradients are freed. */
  step(lr: number): void {
    expected(lr !== undefined, 'Sgd.step', 'a finite lr of at least 0', lr);
    checkSgd('Sgd.step', { lr });
    const sgd = { lr, momentum: this.momentum, weightDecay: this.weightDecay };
    for (const { weight, velocity } of this.#slots) {
      if (!weight.grad) continue;
      native.sgdStep(weight.handle, velocity.handle, weight.grad.handle, sgd);
      weight.grad.dispose();
      weight.grad = undefined;
    }
  }

  /** Frees gradients without using them. */
  zeroGrad(): void {
    for (const { weight } of this.#slots) {
      weight.grad?.dispose();
      weight.grad = undefined;
    }
  }

  /** The velocities by parameter name: all the state there is. */
  *namedState(): Generator<[string, Tensor]> {
    for (const { name, velocity } of this.#slots) yield [name, velocity];
  }

  loadState(name: string, values: Float32Array | Float64Array): void {
    const slot = this.#slots.find((slot) => slot.name === name);
    if (!slot) throw new ShapeError(`sgd: no parameter is called ${name}`, { code: 'ERR_FM_SHAPE' });
    slot.velocity.set(values);
  }

  dispose(): void {
    for (const { velocity } of this.#slots) velocity.dispose();
  }
}
