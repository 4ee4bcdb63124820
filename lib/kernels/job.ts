/** A kernel's call, ready to be run here or on the device's queue. */
import { type Handle, type HostArray, type NativeKernels, native } from '../binding.js';
import { checkNumbers, named } from '../errors.js';
import { Tensor } from '../tensor.js';
import {
  deviceOf,
  type Floats,
  type Located,
  type Operand,
  type Place,
  shownTarget,
  type Target,
  targetsOf,
  withBorrowed,
  withCopies,
  withCopiesSync,
} from './arrays.js';

type KernelName = keyof NativeKernels;
type Handles = readonly (Handle | undefined)[];

export interface Job<K extends KernelName, Result> {
  readonly operation: string;
  readonly kernel: K;
  /** About how many nanoseconds it takes one core. */
  readonly work: number;
  /** The first decides the results' kind. */
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Place[];
  /** Of what args() takes besides, by their names. */
  readonly numbers?: Readonly<Record<string, number | undefined>>;
  readonly args: (inputs: Handles, outputs: Handles) => unknown[];
  readonly result: (outputs: (HostArray | Tensor)[], returned: ReturnType<NativeKernels[K]>) => Result;
}

/** Work below this is done by the asynchronous forms at once: the way to the queue and back takes 16 µs. */
export const inlineWork = 15_000;

/** Nanoseconds for so many elements, of float32 and of float64. */
export function costOf(value: Floats, elements: number, single: number, double: number): number {
  const wide = value instanceof Tensor ? value.dtype === 'float64' : value instanceof Float64Array;
  return elements * (wide ? double : single);
}

const located = (operands: readonly Operand[], targets?: readonly Target[]): Located[] =>
  operands.map(({ value, shape }, i) => ({ target: targets ? targets[i] : value, shape }));

function shown<K extends KernelName, Result>(
  { inputs, result }: Job<K, Result>,
  targets: readonly Target[],
  returned: unknown,
): Result {
  const device = deviceOf(inputs);
  const values = targets.filter((each) => each !== undefined).map((each) => shownTarget(each, device));
  return result(values, returned as ReturnType<NativeKernels[K]>);
}

/** On the calling thread, on the arrays' own memory where that is the device's. */
export function runSync<K extends KernelName, Result>(job: Job<K, Result>): Result {
  const { operation, kernel, inputs, outputs, numbers = {}, args } = job;
  checkNumbers(operation, numbers);
  const targets = targetsOf(operation, inputs, outputs);
  const call = (...given: unknown[]) =>
    named(operation, () => (native[kernel] as (...args: unknown[]) => unknown)(...given));
  const device = deviceOf(inputs);
  const returned =
    device === 'cpu'
      ? withBorrowed([...located(inputs), ...located(outputs, targets)], (handles) =>
          call(...args(handles.slice(0, inputs.length), handles.slice(inputs.length))),
        )
      : withCopiesSync(device, located(inputs), located(outputs, targets), (from, to) => call(...args(from, to)));
  return shown(job, targets, returned);
}

/** At once when it is little; otherwise on the device's queue, with copies of arrays. */
export async function run<K extends KernelName, Result>(job: Job<K, Result>): Promise<Result> {
  const { operation, kernel, inputs, outputs, numbers = {}, args, work } = job;
  const device = deviceOf(inputs);
  // Beside a long operation even a short one would wait for the threads, and on a GPU for all that is under way there.
  if (device === 'cpu' && work < inlineWork && native.queued() === 0) return runSync(job);
  checkNumbers(operation, numbers);
  const targets = targetsOf(operation, inputs, outputs);
  const call = native[`${kernel}Async`] as (...args: unknown[]) => Promise<unknown>;
  const returned = await withCopies(device, located(inputs), located(outputs, targets), (from, to) =>
    named(operation, () => call(...args(from, to))),
  );
  return shown(job, targets, returned);
}
