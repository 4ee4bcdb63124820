/** What kernels take and give, and how far arrays of JavaScript are from the addon's tensors. */
import { type Handle, type HostArray, type HostDtype, native } from '../binding.js';
import { deviceIndex } from '../device.js';
import { ArgumentTypeError, describe, expected, ShapeError } from '../errors.js';
import { keep, Tensor } from '../tensor.js';

export type FloatArray = Float32Array | Float64Array;
/** A matrix or one number a row: float32 or float64, all of a call alike. */
export type Floats = FloatArray | Tensor;
/** Labels or centers: int32. */
export type Ints = Int32Array | Tensor;
/** What comes back for what was given. */
export type Like<A extends Floats> = A extends Tensor ? Tensor : A extends Float32Array ? Float32Array : Float64Array;

/** How many rows a typed array has; a tensor says it itself, and so do labels. */
export interface Rows {
  readonly rows?: number;
}

export type Shape = readonly number[];

const shown = (shape: Shape): string => `[${shape.join(', ')}]`;

/** Throws unless `value` is a typed array of these kinds, or a tensor. */
export function checkKind(operation: string, name: string, value: unknown, dtypes: readonly HostDtype[]): void {
  if (value instanceof Tensor || (ArrayBuffer.isView(value) && dtypes.some((d) => value instanceof arrays[d]))) return;
  const kinds = dtypes.map((d) => arrays[d].name).join(', ');
  throw new ArgumentTypeError(`${operation}: expected ${name} as ${kinds} or tensor, got ${describe(value)}`, {
    code: 'ERR_FM_TYPE',
  });
}

const arrays = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  uint8: Uint8Array,
} as const;
export const floats = ['float32', 'float64'] as const satisfies readonly HostDtype[];
export const ints = ['int32'] as const satisfies readonly HostDtype[];

const dtypeOf = (value: HostArray): HostDtype =>
  (Object.keys(arrays) as HostDtype[]).find((d) => value instanceof arrays[d]) as HostDtype;

export function countOf(operation: string, name: string, value: Floats | Ints, dtypes: readonly HostDtype[]): number {
  checkKind(operation, name, value, dtypes);
  return value instanceof Tensor ? value.size : value.length;
}

/** The two extents of a matrix: a tensor's own, or a typed array's length over its rows. */
export function matrix(operation: string, name: string, value: Floats, rows: number | undefined): [number, number] {
  checkKind(operation, name, value, floats);
  if (value instanceof Tensor) {
    const [first, second] = value.shape;
    if (value.shape.length !== 2 || (rows !== undefined && rows !== first)) {
      const wanted = `[${rows ?? 'rows'}, columns]`;
      throw new ShapeError(`${operation}: expected ${name} ${wanted}, got ${shown(value.shape)}`, {
        code: 'ERR_FM_SHAPE',
      });
    }
    return [first as number, second as number];
  }
  const whole = rows !== undefined && Number.isSafeInteger(rows) && rows >= 1;
  expected(whole, operation, `rows of ${name}, an integer of at least 1`, rows);
  if (value.length === 0 || value.length % rows !== 0) {
    throw new ShapeError(`${operation}: expected ${name} of ${rows} rows, got ${value.length} values`, {
      code: 'ERR_FM_SHAPE',
    });
  }
  return [rows, value.length / rows];
}

/** An argument of a kernel under its name, and the shape that a typed array is to have. */
export interface Operand {
  readonly name: string;
  readonly value: Floats | Ints | undefined;
  readonly shape: Shape;
  readonly dtypes?: readonly HostDtype[];
}

/** A result: where it goes, or nothing for a new one like the first argument. */
export interface Place extends Operand {
  /** Arguments whose very memory it may be. */
  readonly over?: readonly string[];
  /** Nobody asks for it. */
  readonly skipped?: boolean;
}

function checkOperand(operation: string, { name, value, shape, dtypes = floats }: Operand): void {
  if (value === undefined) return;
  checkKind(operation, name, value, dtypes);
  const size = shape.reduce((n, extent) => n * extent, 1);
  if (value instanceof Tensor ? value.shape.join() === shape.join() : value.length === size) return;
  const came = value instanceof Tensor ? shown(value.shape) : `${value.length} values`;
  throw new ShapeError(`${operation}: expected ${name} ${shown(shape)}, got ${came}`, { code: 'ERR_FM_SHAPE' });
}

/** Where a kernel computes: where its first argument is. */
export function deviceOf(inputs: readonly Operand[]): string {
  const first = inputs.find(({ value }) => value !== undefined)?.value;
  return first instanceof Tensor ? first.device : 'cpu';
}

/** A new result of the first argument's kind. */
function place(first: Floats, { shape, dtypes = floats }: Place): HostArray | Handle {
  const only = dtypes.length === 1 ? dtypes[0] : undefined;
  if (first instanceof Tensor) return native.empty(only ?? first.dtype, shape, deviceIndex(first.device));
  return new arrays[only ?? dtypeOf(first)](shape.reduce((n, extent) => n * extent, 1));
}

/** A value in the shape that a kernel is to see. */
export interface Located {
  readonly target: Target;
  readonly shape: Shape;
}

/** A result where it is: what the caller gave, a new array, or a new tensor's handle. */
export type Target = HostArray | Tensor | Handle | undefined;

/**
 * Results in their places.  Throws when an argument has another size than it must, and when a result is to be written
 * over something that is still read.
 */
export function targetsOf(operation: string, inputs: readonly Operand[], outputs: readonly Place[]): Target[] {
  for (const each of [...inputs, ...outputs]) checkOperand(operation, each);
  checkApart(operation, inputs, outputs);
  const first = inputs.find(({ value }) => value !== undefined)?.value as Floats;
  return outputs.map((each) => (each.skipped ? undefined : (each.value ?? place(first, each))));
}

function checkApart(operation: string, inputs: readonly Operand[], outputs: readonly Place[]): void {
  const given = outputs.filter(({ value }) => value !== undefined);
  if (given.length === 0) return;
  const borrowed: Handle[] = [];
  const handleOf = ({ value, shape }: Operand): Handle => {
    if (value instanceof Tensor) return value.handle;
    borrowed.push(native.borrow(value as HostArray, shape));
    return borrowed.at(-1) as Handle;
  };
  try {
    const read = inputs.filter(({ value }) => value !== undefined).map((each) => ({ ...each, handle: handleOf(each) }));
    const written = given.map((each) => ({ ...each, handle: handleOf(each) }));
    written.forEach((out, i) => {
      for (const other of [...read, ...written.slice(0, i)]) {
        const how = native.overlap(out.handle, other.handle);
        if (how === 'none' || (how === 'same' && out.over?.includes(other.name))) continue;
        const may = out.over?.length ? `, or to be ${out.over.join(' or ')} itself` : '';
        const came = how === 'same' ? 'the same memory' : 'memory that they share partly';
        throw new ArgumentTypeError(`${operation}: expected ${out.name} apart from ${other.name}${may}, got ${came}`, {
          code: 'ERR_FM_TYPE',
        });
      }
    });
  } finally {
    for (const each of borrowed) native.dispose(each);
  }
}

const isArray = (target: Target): target is HostArray => ArrayBuffer.isView(target);

/** What the caller sees of a result. */
export function shownTarget(target: Target, device: string): HostArray | Tensor {
  return isArray(target) || target instanceof Tensor ? target : keep(new Tensor(target as Handle, device));
}

/** Handles on the arrays' own memory, for the length of f. */
export function withBorrowed<R>(values: readonly Located[], f: (handles: (Handle | undefined)[]) => R): R {
  const borrowed: Handle[] = [];
  try {
    return f(
      values.map(({ target, shape }) => {
        if (!isArray(target)) return target instanceof Tensor ? target.handle : target;
        borrowed.push(native.borrow(target, shape));
        return borrowed.at(-1);
      }),
    );
  } finally {
    for (const each of borrowed) native.dispose(each);
  }
}

/** The same beside tensors of another device than the CPU: copies of arrays there, and of results back into them. */
export function withCopiesSync<R>(
  device: string,
  inputs: readonly Located[],
  outputs: readonly Located[],
  f: (inputs: (Handle | undefined)[], outputs: (Handle | undefined)[]) => R,
): R {
  const at = deviceIndex(device);
  const own: Handle[] = [];
  const hold =
    (make: (array: HostArray, shape: Shape) => Handle) =>
    ({ target, shape }: Located) => {
      if (!isArray(target)) return target instanceof Tensor ? target.handle : target;
      own.push(make(target, shape));
      return own.at(-1);
    };
  try {
    const from = inputs.map(hold((array, shape) => native.fromArray(array, shape, at)));
    const to = outputs.map(hold((array, shape) => native.empty(dtypeOf(array), shape, at, false)));
    const result = f(from, to);
    for (const [i, { target }] of outputs.entries()) if (isArray(target)) native.readInto(to[i] as Handle, target);
    return result;
  } finally {
    for (const each of own) native.dispose(each);
  }
}

// A copy of this much takes about a millisecond.
const partBytes = 1 << 20;
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

async function copyInParts(array: HostArray, handle: Handle, toArray: boolean): Promise<void> {
  const step = partBytes / array.BYTES_PER_ELEMENT;
  for (let first = 0; first < array.length; first += step) {
    if (first > 0) await turn();
    native.copyPart(handle, first, array.subarray(first, first + step), toArray);
  }
}

/**
 * Handles that stay whatever becomes of arrays and tensors: copies of arrays on the device, made and read back in parts
 * between which the event loop turns, and second handles on tensors' memory.
 */
export async function withCopies<R>(
  device: string,
  inputs: readonly Located[],
  outputs: readonly Located[],
  f: (inputs: (Handle | undefined)[], outputs: (Handle | undefined)[]) => Promise<R>,
): Promise<R> {
  const at = deviceIndex(device);
  const own: Handle[] = [];
  const hold = ({ target, shape }: Located): Handle | undefined => {
    if (target === undefined) return undefined;
    const handle = isArray(target)
      ? native.empty(dtypeOf(target), shape, at, false)
      : native.reshape(target instanceof Tensor ? target.handle : target, shape);
    own.push(handle);
    return handle;
  };
  try {
    const from = inputs.map(hold);
    const to = outputs.map(hold);
    for (const [i, { target }] of inputs.entries())
      if (isArray(target)) await copyInParts(target, from[i] as Handle, false);
    const result = await f(from, to);
    for (const [i, { target }] of outputs.entries())
      if (isArray(target)) await copyInParts(target, to[i] as Handle, true);
    return result;
  } finally {
    for (const each of own) native.dispose(each);
  }
}
