import { DataError } from '../errors.js';

/** A `DataError` with its code; the remedy, where there is one, as `hint`. */
export function dataError(message: string, hint?: string, cause?: unknown): DataError {
  return new DataError(message, { code: 'ERR_FM_DATA', hint, cause });
}
