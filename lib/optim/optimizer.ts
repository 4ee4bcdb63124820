import { native } from '../binding.js';
import { checkOptions, expected, NonFiniteError, named, ShapeError } from '../errors.js';
import {
  checkOptimizer,
  instead,
  type OptimizerName,
  type OptimizerNumbers,
  optimizerParams,
  optimizers,
  optionsOf,
} from '../optimizers.js';
import { checkTensor, keep, type Tensor, zeros } from '../tensor.js';

interface Slot {
  readonly name: string;
  readonly weight: Tensor;
  readonly states: readonly Tensor[];
}

/** Beside an optimizer's own numbers. */
export interface ClipOptions {
  /** Gradients whose norm, over all parameters together, is above it are scaled down to it. */
  readonly clipNorm?: number;
}

/** What the optimizers have in common: parameters, what is kept beside each, and the step. */
export abstract class Optimizer {
  readonly type: OptimizerName;
  readonly clipNorm: number | undefined;
  readonly #name: string;
  protected readonly numbers: OptimizerNumbers;
  readonly #slots: readonly Slot[];
  /** float64 [1]: steps so far, where a step depends on them. */
  readonly #steps: Tensor | undefined;

  protected constructor(
    name: string,
    type: OptimizerName,
    parameters: Iterable<[string, Tensor]>,
    options: OptimizerNumbers & ClipOptions,
  ) {
    const iterable = typeof (parameters as Iterable<unknown> | undefined)?.[Symbol.iterator] === 'function';
    expected(iterable, name, 'parameters, a name and a tensor each', parameters);
    checkOptions(name, options, [...optionsOf(type), 'clipNorm']);
    const { clipNorm, ...numbers } = options;
    checkOptimizer(name, numbers);
    const clips = clipNorm === undefined || (Number.isFinite(clipNorm) && clipNorm > 0);
    expected(clips, name, 'a finite clipNorm above 0', clipNorm);
    this.clipNorm = clipNorm;
    this.#name = name;
    this.type = type;
    this.numbers = instead(optimizers[type].defaults, numbers);
    this.#slots = Array.from(parameters, (entry) => {
      expected(Array.isArray(entry), name, 'parameters, a name and a tensor each', entry);
      const [parameter, weight] = entry;
      checkTensor(name, `parameter ${parameter}`, weight);
      const states = optimizers[type].states.map(() => keep(zeros(weight.shape, weight.dtype, weight.device)));
      return { name: parameter, weight, states };
    });
    if (type === 'adamw') this.#steps = keep(zeros([1], 'float64'));
  }

  /** One update of every parameter that has a gradient; gradients are freed. */
  step(lr: number): void {
    const operation = `${this.#name}.step`;
    expected(lr !== undefined, operation, 'a finite lr of at least 0', lr);
    checkOptimizer(operation, { lr });
    const steps = this.#steps?.item() ?? 0;
    const params = optimizerParams(this.type, { ...this.numbers, lr }, steps);
    named(operation, () => {
      const factor = this.#clipFactor(operation);
      for (const { weight, states } of this.#slots) {
        if (!weight.grad) continue;
        const handles = states.map((state) => state.handle);
        const clipped = factor < 1 ? native.scale(weight.grad.handle, factor) : undefined;
        native.optimizerStep(weight.handle, handles, clipped ?? weight.grad.handle, params);
        if (clipped) native.dispose(clipped);
        weight.grad.dispose();
        weight.grad = undefined;
      }
    });
    this.#steps?.set(new Float64Array([steps + 1]));
  }

  /** What torch.nn.utils.clip_grad_norm_ multiplies gradients by; 1 where they are left as they are. */
  #clipFactor(operation: string): number {
    if (this.clipNorm === undefined) return 1;
    const gradients = this.#slots.flatMap(({ weight }) => weight.grad?.handle ?? []);
    const norm = Math.sqrt(gradients.reduce((sum, each) => sum + native.dot(each, each), 0));
    if (!Number.isFinite(norm)) {
      throw new NonFiniteError(`${operation}: expected gradients of a finite norm, got ${norm}`, {
        code: 'ERR_FM_NON_FINITE',
        hint: 'lower lr; no parameter was updated',
      });
    }
    return Math.min(1, this.clipNorm / (norm + 1e-6));
  }

  /** Frees gradients without using them. */
  zeroGrad(): void {
    for (const { weight } of this.#slots) {
      weight.grad?.dispose();
      weight.grad = undefined;
    }
  }

  /** All the state there is: under a parameter's name its one tensor, or each under its own name behind it. */
  *namedState(): Generator<[string, Tensor]> {
    const names = optimizers[this.type].states;
    for (const { name, states } of this.#slots)
      for (const [k, state] of states.entries()) yield [names.length > 1 ? `${name}.${names[k]}` : name, state];
    if (this.#steps) yield ['steps', this.#steps];
  }

  loadState(name: string, values: Float32Array | Float64Array): void {
    const found = [...this.namedState()].find(([own]) => own === name);
    if (!found) throw new ShapeError(`${this.type}: no parameter is called ${name}`, { code: 'ERR_FM_SHAPE' });
    found[1].set(values);
  }

  dispose(): void {
    for (const [, state] of this.namedState()) state.dispose();
  }
}
