/** A kernel's call, ready to be run here or on the device's queue. */
import { type Handle, type HostArray, type NativeKernels, native } from '../binding.js';
import { Tensor } from '../tensor.js';
import { type Operand, type Place, shownTarget, type Target, targetsOf, withBorrowed, withCopies } from './arrays.js';

type KernelName = keyof NativeKernels;
type Handles = readonly (Handle | undefined)[];

export interface Job<K extends KernelName, Result> {
  readonly operation: string;
  readonly kernel: K;
  /** Elements that are read or written once, in float32 by one core: about as many nanoseconds. */
  readonly work: number;
  /** The first decides the results' kind. */
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Place[];
  readonly args: (inputs: Handles, outputs: Handles) => unknown[];
  readonly result: (outputs: (HostArray | Tensor)[], returned: ReturnType<NativeKernels[K]>) => Result;
}

/**
 * Work below this is done by the asynchronous forms at once, unless the queue is busy: 50 µs, what the queue's round
 * trip costs.
 */
export const inlineWork = 50_000;

const located = (operands: readonly Operand[], targets?: readonly Target[]) =>
  operands.map(({ value, shape }, i) => ({ target: targets ? targets[i] : value, shape }));

function shown<K extends KernelName, Result>(
  { inputs, result }: Job<K, Result>,
  targets: readonly Target[],
  returned: unknown,
): Result {
  const first = inputs[0]?.value;
  const device = first instanceof Tensor ? first.device : 'cpu';
  const values = targets.filter((each) => each !== undefined).map((each) => shownTarget(each, device));
  return result(values, returned as ReturnType<NativeKernels[K]>);
}

/** On the calling thread, on the arrays' own memory. */
export function runSync<K extends KernelName, Result>(job: Job<K, Result>): Result {
  const { operation, kernel, inputs, outputs, args } = job;
  const targets = targetsOf(operation, inputs, outputs);
  const call = native[kernel] as (...args: unknown[]) => unknown;
  const returned = withBorrowed([...located(inputs), ...located(outputs, targets)], (handles) =>
    call(...args(handles.slice(0, inputs.length), handles.slice(inputs.length))),
  );
  return shown(job, targets, returned);
}

/** At once when it is little; otherwise on the device's queue, with copies of arrays. */
export async function run<K extends KernelName, Result>(job: Job<K, Result>): Promise<Result> {
  const { operation, kernel, inputs, outputs, args, work } = job;
  // Beside a long operation even a short one would wait for the threads.
  if (work < inlineWork && native.queued() === 0) return runSync(job);
  const targets = targetsOf(operation, inputs, outputs);
  const call = native[`${kernel}Async`] as (...args: unknown[]) => Promise<unknown>;
  const returned = await withCopies(located(inputs), located(outputs, targets), (from, to) => call(...args(from, to)));
  return shown(job, targets, returned);
}
