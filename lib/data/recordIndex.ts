import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { dataError, remedies } from './dataError.js';

/**
 * Keys and byte offsets of a `.rec` file, sorted by key. Both arrays lie in shared memory, so that decoding threads
 * use them without a copy.
 */
export interface RecordIndex {
  readonly keys: Float64Array<SharedArrayBuffer>;
  readonly offsets: Float64Array<SharedArrayBuffer>;
}

const TAB = 9;
const NEWLINE = 10;
const RETURN = 13;
const ZERO = 48;

/** Reads `key<TAB>offset` lines; keys may stand in any order. */
export function readIndexFile(path: string): RecordIndex {
  const name = basename(path);
  let text: Buffer;
  try {
    text = readFileSync(path);
  } catch (cause) {
    throw dataError(`${path}: cannot be read: ${(cause as Error).message}`, remedies.index, cause);
  }
  let lines = 1;
  for (let at = text.indexOf(NEWLINE); at >= 0; at = text.indexOf(NEWLINE, at + 1)) lines++;
  const keys = new Float64Array(lines);
  const offsets = new Float64Array(lines);
  let count = 0;
  for (let at = 0, line = 1; at < text.length; line++) {
    let end = text.indexOf(NEWLINE, at);
    if (end < 0) end = text.length;
    const stop = end > at && text[end - 1] === RETURN ? end - 1 : end;
    if (stop > at) {
      const tab = text.indexOf(TAB, at);
      keys[count] = tab < 0 || tab >= stop ? Number.NaN : parseDigits(text, at, tab);
      offsets[count] = tab < 0 || tab >= stop ? Number.NaN : parseDigits(text, tab + 1, stop);
      if (Number.isNaN(keys[count]) || Number.isNaN(offsets[count])) {
        throw dataError(
          `${name} line ${line}: expected "key<TAB>byte offset", got ${JSON.stringify(text.toString('latin1', at, Math.min(stop, at + 60)))}`,
          remedies.index,
        );
      }
      count++;
    }
    at = end + 1;
  }
  return sortIndex(keys.subarray(0, count), offsets.subarray(0, count), name);
}

/** Sorts by key and copies into shared memory; a key that occurs twice is refused. */
export function sortIndex(keys: Float64Array, offsets: Float64Array, name: string): RecordIndex {
  const shared = (values: Float64Array) => {
    const copy = new Float64Array(new SharedArrayBuffer(values.length * 8));
    copy.set(values);
    return copy;
  };
  const index = { keys: shared(keys), offsets: shared(offsets) };
  if (!isAscending(keys)) {
    const order = Uint32Array.from(keys, (_, i) => i).sort((a, b) => keys[a] - keys[b]);
    order.forEach((from, to) => {
      index.keys[to] = keys[from];
      index.offsets[to] = offsets[from];
    });
  }
  for (let i = 1; i < index.keys.length; i++) {
    if (index.keys[i] === index.keys[i - 1]) {
      throw dataError(`${name}: expected each key once, got key ${index.keys[i]} twice`, remedies.index);
    }
  }
  return index;
}

/** Position of `key`, or -1. */
export function findKey(keys: Float64Array, key: number): number {
  let low = 0;
  let high = keys.length - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const found = keys[middle];
    if (found === key) return middle;
    if (found < key) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

function isAscending(keys: Float64Array): boolean {
  for (let i = 1; i < keys.length; i++) if (keys[i] <= keys[i - 1]) return false;
  return true;
}

function parseDigits(text: Buffer, from: number, to: number): number {
  if (from === to || to - from > 15) return Number.NaN;
  let value = 0;
  for (let i = from; i < to; i++) {
    const digit = text[i] - ZERO;
    if (digit < 0 || digit > 9) return Number.NaN;
    value = value * 10 + digit;
  }
  return value;
}
