/** What the head's separate stages share. */
import { type Dtype, type Handle, native } from '../binding.js';
import { deviceIndex } from '../device.js';
import { ArgumentTypeError, describe, named, ShapeError } from '../errors.js';
import { checkTensor, Tensor, tensor } from '../tensor.js';

/** Another handle of the same memory: the first belongs to the caller, who may dispose it. */
export const again = (x: Tensor): Tensor => new Tensor(native.reshape(x.handle, x.shape), x.device);

/** Throws unless labels are of one of the two kinds. */
function checkLabels(operation: string, labels: unknown): void {
  const whole = labels instanceof Tensor ? labels.dtype === 'int32' : labels instanceof Int32Array;
  if (whole) return;
  throw new ArgumentTypeError(`${operation}: expected labels as Int32Array or int32 tensor, got ${describe(labels)}`, {
    code: 'ERR_FM_TYPE',
  });
}

/**
 * Runs f with labels as a tensor of the operation's own, which f keeps unless it throws; the labels stand beside
 * arguments that have to be tensors, and are where the first of those is.
 */
export function withLabels<R>(
  operation: string,
  labels: Tensor | Int32Array,
  beside: Readonly<Record<string, Tensor>>,
  f: (own: Tensor) => R,
): R {
  checkTensors(operation, beside);
  checkLabels(operation, labels);
  const { device } = Object.values(beside)[0] as Tensor;
  const own = labels instanceof Tensor ? again(labels) : tensor(labels, [labels.length], device);
  try {
    return f(own);
  } catch (error) {
    own.dispose();
    throw error;
  }
}

/** Runs f with labels as a tensor that is freed afterwards. */
export function borrowLabels<R>(
  operation: string,
  labels: Tensor | Int32Array,
  beside: Readonly<Record<string, Tensor>>,
  f: (own: Tensor) => R,
): R {
  return withLabels(operation, labels, beside, (own) => {
    const result = named(operation, () => f(own));
    own.dispose();
    return result;
  });
}

/** Throws unless all of these are tensors, by their names. */
export function checkTensors(operation: string, tensors: Readonly<Record<string, unknown>>): void {
  for (const [name, x] of Object.entries(tensors)) checkTensor(operation, name, x);
}

/** The two extents of x. */
export function extents(operation: string, name: string, x: Tensor): [number, number] {
  checkTensor(operation, name, x);
  if (x.shape.length === 2) return [x.shape[0] as number, x.shape[1] as number];
  throw new ShapeError(`${operation}: expected ${name} with 2 axes, got [${x.shape.join(', ')}]`, {
    code: 'ERR_FM_SHAPE',
  });
}

/** New memory on like's device that `write` fills. */
export function written(
  like: Tensor,
  shape: readonly number[],
  write: (to: Handle) => void,
  dtype: Dtype = like.dtype,
): Handle {
  const to = native.empty(dtype, shape, deviceIndex(like.device));
  try {
    write(to);
    return to;
  } catch (error) {
    native.dispose(to);
    throw error;
  }
}

/** A loss as a tensor of one element. */
export const scalar = (like: Tensor, value: number): Handle =>
  native.fromArray(
    like.dtype === 'float64' ? new Float64Array([value]) : new Float32Array([value]),
    [1],
    deviceIndex(like.device),
  );
