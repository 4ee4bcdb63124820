import { type Handle, native } from '../binding.js';
import {
  ArgumentTypeError,
  checkIterable,
  checkOptions,
  DeviceError,
  describe,
  expected,
  NonFiniteError,
  named,
  ShapeError,
  underName,
} from '../errors.js';
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

/** Throws unless it is a tensor that is still there and that an optimizer can move. */
function checkWeight(operation: string, name: string, weight: unknown): asserts weight is Tensor {
  checkTensor(operation, name, weight);
  checkAlive(operation, name, weight);
  if (weight.dtype === 'float32' || weight.dtype === 'float64') return;
  throw new ArgumentTypeError(`${operation}: expected ${name} in float32 or float64, got ${describe(weight)}`, {
    code: 'ERR_FM_TYPE',
  });
}

/** Whether one is the other, or a reshape of it. */
function areOne(a: Tensor, b: Tensor): boolean {
  return a === b || native.overlap(a.handle, b.handle) !== 'none';
}

function checkAlive(operation: string, name: string, x: Tensor): void {
  named(
    operation,
    () => x.handle,
    (_, error) => underName(`${operation}: ${name}`, error),
  );
}

/** What the optimizers have in common: parameters, what is kept beside each, and the step. */
export abstract class Optimizer {
  readonly type: OptimizerName;
  readonly clipNorm: number | undefined;
  readonly #name: string;
  protected readonly numbers: OptimizerNumbers;
  readonly #slots: readonly Slot[];
  /** float64 [1]: steps so far that moved something, where a step depends on them. */
  readonly #steps: Tensor | undefined;

  protected constructor(
    name: string,
    type: OptimizerName,
    parameters: Iterable<[string, Tensor]>,
    options: OptimizerNumbers & ClipOptions,
  ) {
    checkIterable(name, 'parameters, a name and a tensor each', parameters);
    checkOptions(name, options, [...optionsOf(type), 'clipNorm']);
    const { clipNorm, ...numbers } = options;
    checkOptimizer(name, numbers);
    const clips = clipNorm === undefined || (Number.isFinite(clipNorm) && clipNorm > 0);
    expected(clips, name, 'a finite clipNorm above 0', clipNorm);
    this.clipNorm = clipNorm;
    this.#name = name;
    this.type = type;
    this.numbers = instead(optimizers[type].defaults, numbers);
    const entries = Array.from(parameters, (entry) => {
      expected(Array.isArray(entry), name, 'parameters, a name and a tensor each', entry);
      const [parameter, weight] = entry;
      expected(typeof parameter === 'string', name, 'parameters, a name and a tensor each', entry);
      checkWeight(name, `parameter ${parameter}`, weight);
      return [parameter, weight] as const;
    });
    const used = new Set<string>();
    const bySize = new Map<number, (typeof entries)[number][]>(); // a tensor shares all of its memory, or none
    for (const entry of entries) {
      const [parameter, weight] = entry;
      expected(!used.has(parameter), name, 'parameters of different names', parameter);
      used.add(parameter);
      const alike = bySize.get(weight.size) ?? [];
      const other = alike.find(([, each]) => areOne(each, weight))?.[0];
      expected(
        other === undefined,
        name,
        `parameter ${parameter} in memory of its own, not in that of ${other}`,
        weight,
      );
      bySize.set(weight.size, [...alike, entry]);
    }
    this.#slots = entries.map(([parameter, weight]) => {
      const states = optimizers[type].states.map(() => keep(zeros(weight.shape, weight.dtype, weight.device)));
      return { name: parameter, weight, states };
    });
    if (type === 'adamw') this.#steps = keep(zeros([1], 'float64'));
  }

  get weightDecay(): number {
    return this.numbers.weightDecay as number;
  }

  /** One update of every parameter that has a gradient; gradients are freed.  When it throws, nothing has changed. */
  step(lr: number): void {
    const operation = `${this.#name}.step`;
    expected(lr !== undefined, operation, 'a finite lr of at least 0', lr);
    checkOptimizer(operation, { ...this.numbers, lr });
    const taken = new Set<Tensor>(this.#slots.flatMap(({ weight, states }) => [weight, ...states]));
    for (const slot of this.#slots) if (slot.weight.grad) this.#checkSlot(operation, slot, taken);
    named(operation, () => {
      const steps = this.#steps?.item() ?? 0;
      const gradientFactor = this.#clipFactor(operation);
      const params = { ...optimizerParams(this.type, { ...this.numbers, lr }, steps), gradientFactor };
      let moved = false;
      for (const { weight, states } of this.#slots) {
        if (!weight.grad) continue;
        const handles = states.map((state) => state.handle);
        native.optimizerStep(weight.handle, handles, weight.grad.handle, params);
        weight.grad.dispose();
        weight.grad = undefined;
        moved = true;
      }
      if (moved) this.#steps?.set(new Float64Array([steps + 1]));
    });
  }

  /** Throws what the update of a parameter would: none has moved yet. */
  #checkSlot(operation: string, { name, weight, states }: Slot, taken: Set<Tensor>): void {
    checkAlive(operation, `parameter ${name}`, weight);
    for (const state of states) checkAlive(operation, `the state of ${name}`, state);
    const { grad } = weight;
    const what = `the gradient of ${name}`;
    checkTensor(operation, what, grad);
    checkAlive(operation, what, grad);
    // It is freed with the update.
    expected(!taken.has(grad), operation, `${what} to be a tensor of its own`, grad);
    taken.add(grad);
    const otherwise = () => `${operation}: expected ${what} as ${describe(weight)}, got ${describe(grad)}`;
    if (grad.dtype !== weight.dtype) throw new ArgumentTypeError(otherwise(), { code: 'ERR_FM_TYPE' });
    if (grad.shape.join() !== weight.shape.join()) throw new ShapeError(otherwise(), { code: 'ERR_FM_SHAPE' });
    if (grad.device !== weight.device) {
      throw new DeviceError(`${operation}: expected ${what} on ${weight.device}, got it on ${grad.device}`, {
        code: 'ERR_FM_DEVICE',
      });
    }
  }

  /** What torch.nn.utils.clip_grad_norm_ multiplies gradients by; 1 where they are left as they are. */
  #clipFactor(operation: string): number {
    if (this.clipNorm === undefined) return 1;
    const gradients = new Map<string, Handle[]>(); // of a device, whose number is waited for once
    for (const { weight } of this.#slots) {
      if (!weight.grad) continue;
      const there = gradients.get(weight.device) ?? [];
      there.push(weight.grad.handle);
      gradients.set(weight.device, there);
    }
    let squares = 0;
    for (const there of gradients.values()) squares += native.sumOfSquares(there);
    const norm = Math.sqrt(squares);
    if (!Number.isFinite(norm)) {
      throw new NonFiniteError(
        `${operation}: expected gradients of a finite norm, got ${norm}; none of its parameters was updated`,
        { code: 'ERR_FM_NON_FINITE', hint: 'lower lr' },
      );
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
    const operation = `${this.#name}.loadState`;
    const states = new Map(this.namedState());
    const state = states.get(name);
    expected(state, operation, `the name of a state (${shortList([...states.keys()])})`, name);
    const wanted = state.dtype === 'float64' ? Float64Array : Float32Array;
    const fits = values instanceof wanted && values.length === state.size;
    expected(fits, operation, `${wanted.name} of ${state.size} for ${name}`, values);
    checkAlive(operation, name, state);
    state.set(values);
  }

  dispose(): void {
    for (const [, state] of this.namedState()) state.dispose();
  }
}

/** The first few of many names. */
function shortList(names: readonly string[]): string {
  return names.slice(0, 4).join(', ') + (names.length > 4 ? ', …' : '');
}
