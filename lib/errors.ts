/**
 * Errors say the operation, what was expected, what came, where, and the remedy when there is one.  `code` is stable;
 * the classes say whose fault it is.
 */
export class FlashmarginError extends Error {
  readonly code: string;
  readonly hint?: string;

  constructor(message: string, options: { code?: string; hint?: string; cause?: unknown } = {}) {
    super(options.hint ? `${message}\n  fix: ${options.hint}` : message, { cause: options.cause });
    this.name = new.target.name;
    this.code = options.code ?? 'ERR_FM';
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
  const what = error.message.replace(/^[\w.]+: /, '').replace(/\n {2}fix: .*$/s, '');
  const Class = error.constructor as typeof FlashmarginError;
  return new Class(`${operation}: ${what}`, { code: error.code, ...(hint ? { hint } : {}), cause: error });
}

/** What an error says, without its remedy. */
export function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split('\n')[0] as string;
}

/** Throws unless the condition holds: `expected(n > 0, 'matmul', 'a positive size', n)`. */
export function expected(condition: unknown, operation: string, wanted: string, got: unknown): asserts condition {
  if (!condition)
    throw new ArgumentRangeError(`${operation}: expected ${wanted}, got ${describe(got)}`, { code: 'ERR_FM_RANGE' });
}

/** Throws unless options are an object with no other keys than these. */
export function checkOptions(operation: string, options: unknown, known: readonly string[]): void {
  expected(typeof options === 'object' && options !== null, operation, 'options, an object', options);
  for (const key of Object.keys(options)) expected(known.includes(key), operation, `options ${known.join(', ')}`, key);
}

function describe(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (Array.isArray(value)) return `[${value.join(', ')}]`;
  return String(value);
}
