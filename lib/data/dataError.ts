import { DataError } from '../errors.js';

/** Remedies that several messages have. */
export const remedies = {
  path: 'name a file that is there and may be read; paths are relative to the folder that you run in',
  write: 'name a file in a folder that may be written',
  copy: 'copy the file again and compare its size with the original',
  image: 'copy the set again, or pack it again with this image whole or left out',
  pack: 'copy the set again, or pack it again, with RecordWriter or im2rec',
  index: 'take the .idx away, so that the .rec is scanned; if that fails too, copy the set again',
  tsv: 'correct the .tsv, or take it away: tiers and families alone need it',
  pairs: 'copy the file again, or write it again with writePairSet()',
} as const;

/** A `DataError` with its code; the remedy, where there is one, as `hint`. */
export function dataError(message: string, hint?: string, cause?: unknown): DataError {
  return new DataError(message, { code: 'ERR_FM_DATA', hint, cause });
}
