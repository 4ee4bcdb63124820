/**
 * Errors say the operation, what was expected, what came, where, and the remedy when there is one.  `code` is stable;
 * the classes say whose fault it is.
 */
export class FlashmarginError extends Error {
  readonly code: string;
  /** The message without its remedy. */
  readonly what: string;
  readonly hint?: string;

  constructor(message: string, options: { code?: string; hint?: string; cause?: unknown } = {}) {
    super(options.hint ? `${message}\n  fix: ${options.hint}` : message, { cause: options.cause });
    this.name = new.target.name;
    this.code = options.code ?? 'ERR_FM';
    this.what = message;
    if (options.hint !== undefined) this.hint = options.hint;
  }
}

/** A wrong kind of value or dtype. */
export class ArgumentTypeError extends FlashmarginError {}
/** The right kind, but outside what is allowed. */
export class ArgumentRangeError extends FlashmarginError {}
/** Shapes that do not fit each other. */
export class ShapeError extends FlashmarginError {}
/** CUDA or driver failures, mixed devices, operations that a device lacks. */
export class DeviceError extends FlashmarginError {}
/** Use after dispose. */
export class DisposedError extends FlashmarginError {}
/** A file that is missing, truncated, corrupt, or not what it claims to be. */
export class DataError extends FlashmarginError {}
/** A configuration that is wrong; the message has one line for each problem, with its path. */
export class ConfigError extends FlashmarginError {}
/** Training met a value that is not finite. */
export class NonFiniteError extends FlashmarginError {}

const byCode: Record<
  string,
  new (
    message: string,
    options?: { code?: string; hint?: string; cause?: unknown },
  ) => FlashmarginError
> = {
  ERR_FM_TYPE: ArgumentTypeError,
  ERR_FM_RANGE: ArgumentRangeError,
  ERR_FM_SHAPE: ShapeError,
  ERR_FM_DEVICE: DeviceError,
  ERR_FM_DISPOSED: DisposedError,
  ERR_FM_DATA: DataError,
  ERR_FM_NON_FINITE: NonFiniteError,
};

/** The error class that stands for what the addon threw. */
export function fromNative(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const code = (error as Error & { code?: string }).code ?? '';
  const Class = byCode[code];
  return Class ? new Class(error.message, { code, cause: error }) : error;
}

/** The same error as another operation's, perhaps with a remedy. */
export function underName(operation: string, error: FlashmarginError, hint = error.hint): FlashmarginError {
  const what = error.what.replace(/^[\w.]+: /, '');
  const Class = error.constructor as typeof FlashmarginError;
  return new Class(`${operation}: ${what}`, { code: error.code, ...(hint ? { hint } : {}), cause: error });
}

/** What an error says, without its remedy. */
export function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split('\n')[0] as string;
}

/** Throws unless the condition holds: `expected(n > 0, 'matmul', 'a positive size', n)`; perhaps with a remedy. */
export function expected(
  condition: unknown,
  operation: string,
  wanted: string,
  got: unknown,
  hint?: string,
): asserts condition {
  if (condition) return;
  const what = `${operation}: expected ${wanted}, got ${describe(got)}`;
  throw new ArgumentRangeError(what, { code: 'ERR_FM_RANGE', ...(hint ? { hint } : {}) });
}

/** Throws unless the value is a path: `checkPath('openPairSet', 'the path of a .bin pair set', file)`. */
export function checkPath(operation: string, wanted: string, value: unknown): asserts value is string {
  expected(typeof value === 'string' && value !== '', operation, wanted, value);
}

/** The largest finite float32. */
export const MOST_FLOAT32 = 2 ** 128 - 2 ** 104;

/** Throws unless each number, by its name, stays finite in float32, which the kernels compute in. */
export function checkFloat32(operation: string, numbers: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(numbers))
    expected(Math.abs(value) <= MOST_FLOAT32, operation, `${name} of at most 3.4e38, float32's largest`, value);
}

/** Throws unless the value is an object: `checkObject('median', 'a histogram', histogram)`. */
export function checkObject(operation: string, wanted: string, value: unknown): asserts value is object {
  expected(typeof value === 'object' && value !== null, operation, wanted, value);
}

/** Throws unless it can be walked with for … of, and is no text: `checkIterable('Sgd', 'parameters', parameters)`. */
export function checkIterable(operation: string, wanted: string, value: unknown): asserts value is Iterable<unknown> {
  const walks = typeof value === 'object' && value !== null && Symbol.iterator in value;
  expected(walks, operation, wanted, value);
}

/** Throws unless each value, by its name, is an array, typed or not. */
export function checkLists(operation: string, lists: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(lists))
    expected(Array.isArray(value) || ArrayBuffer.isView(value), operation, `${name}, an array`, value);
}

/** Throws unless options (or the part of them that `name` says) are an object with no other keys than these. */
export function checkOptions(
  operation: string,
  options: unknown,
  known: readonly string[],
  name = 'options',
): asserts options is object {
  checkObject(operation, `${name}, an object`, options);
  for (const key of Object.keys(options)) expected(known.includes(key), operation, `${name} ${known.join(', ')}`, key);
}

/** Throws unless each value that is there is a number, by its name; what range it has is the kernels' to say. */
export function checkNumbers(operation: string, numbers: object): void {
  for (const [name, value] of Object.entries(numbers)) {
    if (value !== undefined && typeof value !== 'number')
      throw new ArgumentTypeError(`${operation}: expected ${name}, a number, got ${describe(value)}`, {
        code: 'ERR_FM_TYPE',
      });
  }
}

/** Throws unless each value that is there is true or false, by its name. */
export function checkBooleans(operation: string, values: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(values))
    expected(value === undefined || typeof value === 'boolean', operation, `${name} true or false`, value);
}

/** Whether it is a number from `low` to `high`. */
export function within(value: unknown, low: number, high: number): value is number {
  return typeof value === 'number' && value >= low && value <= high;
}

/** Runs f; what it throws, or what its promise rejects with, is this operation's error, whichever part of it failed. */
export function named<R>(operation: string, f: () => R, rename = underName): R {
  // That there is no addon is nobody's fault who called.
  const renamed = (error: unknown) =>
    error instanceof FlashmarginError && error.code !== 'ERR_FM_NO_ADDON' ? rename(operation, error) : error;
  try {
    const result = f();
    if (!(result instanceof Promise)) return result;
    return result.catch((error: unknown) => {
      throw renamed(error);
    }) as R;
  } catch (error) {
    throw renamed(error);
  }
}

/** '1 epoch', '2 epochs'. */
export function counted(count: number, one: string, several = `${one}s`): string {
  return `${count} ${count === 1 ? one : several}`;
}

/** A value as an error shows it: what it is, and no more of it than fits into a line. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value === 'function') return `the function ${value.name || 'without a name'}`;
  if (typeof value !== 'object' || value === null) return String(value);
  if (ArrayBuffer.isView(value))
    return `${value.constructor.name} of ${(value as unknown as ArrayLike<number>).length}`;
  if (Array.isArray(value)) return `[${value.map(describe).join(', ')}]`.slice(0, 80);
  const { shape, dtype } = value as { shape?: unknown; dtype?: unknown };
  if (Array.isArray(shape) && typeof dtype === 'string') return `a ${dtype} tensor [${shape.join(', ')}]`;
  const kind = value.constructor?.name ?? 'Object';
  const inside = Object.entries(value).map(
    ([key, each]) => `${key}: ${typeof each === 'object' && each !== null ? '…' : describe(each)}`,
  );
  return kind === 'Object' ? `{${inside.join(', ')}}`.slice(0, 80) : kind;
}
