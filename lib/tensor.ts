/** Tensors: an opaque native handle beside plain fields, and the scopes that free them. */
import { type Dtype, type Handle, type HostArray, type HostDtype, native } from './binding.js';
import { deviceIndex, deviceName } from './device.js';
import { ArgumentTypeError, DisposedError, describe, expected } from './errors.js';

export type { Dtype, HostArray } from './binding.js';

/** What autograd keeps beside a tensor that an operation made; ops and users never touch it. */
export interface TapeNode {
  readonly name: string;
  readonly inputs: readonly Tensor[];
  /** Gradients of the inputs, `undefined` where none is needed. */
  backward(dy: Tensor): readonly (Tensor | undefined)[];
  /** Frees what was kept for the backward pass. */
  release(): void;
}

let live = 0;
const scopes: Set<Tensor>[] = [];

/**
 * A contiguous n-dimensional array in native memory.  Images are [N, H, W, C].
 *
 * @example
 * const x = tensor(new Float32Array([3, 4]), [1, 2]);
 * console.log(normalize(x).toArray()); // Float32Array [0.6, 0.8]
 */
export class Tensor {
  readonly shape: readonly number[];
  readonly dtype: Dtype;
  readonly device: string;
  /** Set on parameters: gradients are kept for it. */
  requiresGrad = false;
  /** The gradient that backward() left here; of a parameter only. */
  grad: Tensor | undefined;
  /** How this tensor was made, while a backward pass may still ask. */
  node: TapeNode | undefined;
  #handle: Handle | undefined;

  constructor(handle: Handle, device = 'cpu') {
    const { shape, dtype } = native.describe(handle);
    this.#handle = handle;
    this.shape = shape;
    this.dtype = dtype;
    this.device = device;
    live++;
    scopes.at(-1)?.add(this);
  }

  /** The native side of it; throws after dispose(). */
  get handle(): Handle {
    if (this.#handle === undefined) {
      throw new DisposedError(`tensor [${this.shape.join(', ')}] was disposed`, { code: 'ERR_FM_DISPOSED' });
    }
    return this.#handle;
  }

  get size(): number {
    return this.shape.reduce((n, extent) => n * extent, 1);
  }

  get disposed(): boolean {
    return this.#handle === undefined;
  }

  /** A copy of the values in JavaScript memory; of bfloat16 a Float32Array. */
  toArray(): HostArray {
    if (this.dtype !== 'bfloat16') return read(this.handle, this.dtype, this.size);
    const wide = native.cast(this.handle, 'float32');
    const out = read(wide, 'float32', this.size);
    native.dispose(wide);
    return out;
  }

  /** Overwrites the values; the array has this tensor's dtype and size. */
  set(data: HostArray): void {
    native.writeFrom(this.handle, data);
  }

  /** The same values under another shape; shares memory, and gradients flow through. */
  reshape(shape: readonly number[]): Tensor {
    const out = new Tensor(native.reshape(this.handle, shape), this.device);
    if (this.requiresGrad || this.node) {
      out.node = {
        name: 'reshape',
        inputs: [this],
        release: () => {},
        backward: (dy) => [new Tensor(native.reshape(dy.handle, this.shape), this.device)],
      };
    }
    return out;
  }

  /** The single value of a tensor of one element. */
  item(): number {
    expected(this.size === 1, 'item', 'a tensor of one element', this.shape);
    return this.toArray()[0] as number;
  }

  /** Frees the memory now; safe to call twice. */
  dispose(): void {
    if (this.#handle === undefined) return;
    native.dispose(this.#handle);
    this.#handle = undefined;
    this.node?.release();
    this.node = undefined;
    live--;
    for (const scope of scopes) scope.delete(this);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function read(handle: Handle, dtype: HostDtype, size: number): HostArray {
  const out = new arrayTypes[dtype](size);
  native.readInto(handle, out);
  return out;
}

const arrayTypes = { float32: Float32Array, float64: Float64Array, int32: Int32Array, uint8: Uint8Array } as const;

/**
 * A tensor with a copy of `data`; its dtype follows the array's type.
 *
 * @example
 * const labels = tensor(new Int32Array([0, 2, 1]), [3]);
 */
export function tensor(data: HostArray, shape: readonly number[], device = 'cpu'): Tensor {
  return new Tensor(native.fromArray(data, shape, deviceIndex(device)), deviceName(deviceIndex(device)));
}

/** A tensor of zeros. */
export function zeros(shape: readonly number[], dtype: Dtype = 'float32', device = 'cpu'): Tensor {
  return new Tensor(native.zeros(dtype, shape, deviceIndex(device)), deviceName(deviceIndex(device)));
}

/** A tensor of ones. */
export function ones(shape: readonly number[], dtype: Dtype = 'float32', device = 'cpu'): Tensor {
  const out = zeros(shape, dtype, device);
  native.fill(out.handle, 1);
  return out;
}

/** Throws unless x is a tensor. */
export function checkTensor(operation: string, name: string, x: unknown): asserts x is Tensor {
  if (x instanceof Tensor) return;
  throw new ArgumentTypeError(`${operation}: expected ${name} as a tensor, got ${describe(x)}`, {
    code: 'ERR_FM_TYPE',
  });
}

/** Marks a tensor as a parameter: it outlives scopes, and backward() leaves its gradient in `grad`. */
export function parameter(x: Tensor): Tensor {
  checkTensor('parameter', 'x', x);
  x.requiresGrad = true;
  return keep(x);
}

/** Takes a tensor out of every open scope. */
export function keep<T extends Tensor>(x: T): T {
  checkTensor('keep', 'x', x);
  for (const scope of scopes) scope.delete(x);
  return x;
}

/**
 * Runs f and frees every tensor made inside, except what it returns (a tensor, or tensors in an array or object).
 *
 * @example
 * const norms = tidy(() => ops.normalize(backbone.forward(images)));
 */
export function tidy<T>(f: () => T): T {
  expected(typeof f === 'function', 'tidy', 'a function', f);
  const scope = new Set<Tensor>();
  scopes.push(scope);
  try {
    const result = f();
    const outer = scopes.at(-2);
    for (const kept of tensorsIn(result)) if (scope.delete(kept)) outer?.add(kept);
    return result;
  } finally {
    scopes.pop();
    for (const made of scope) made.dispose();
  }
}

/** The tensors in a tensor, an array or a plain object, at any depth. */
export function tensorsIn(value: unknown): Tensor[] {
  if (value instanceof Tensor) return [value];
  if (Array.isArray(value)) return value.flatMap(tensorsIn);
  if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype) {
    return Object.values(value).flatMap(tensorsIn);
  }
  return [];
}

/** Live tensors and native memory: bytes in use, kept for reuse, and the high-water mark of use. */
export function memory(): { tensors: number; used: number; cached: number; peak: number } {
  return { tensors: live, ...native.memory() };
}
