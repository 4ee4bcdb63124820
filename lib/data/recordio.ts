import { basename } from 'node:path';
import { checkOptions, checkPath, type DataError, expected } from '../errors.js';
import { type ByteSource, type MapFile, openSource } from './byteSource.js';
import { dataError, remedies } from './dataError.js';
import {
  IMAGE_HEADER_BYTES,
  type ImageRecord,
  OLD_RECORD_MAGIC,
  PART_HEADER_BYTES,
  PartFlag,
  padTo4,
  RECORD_MAGIC,
} from './recordFormat.js';
import { findKey, type RecordIndex, readIndexFile, sortIndex } from './recordIndex.js';

export interface RecordReaderOptions {
  /** Path of the `.idx`; without it the `.rec` is scanned once and keys are the records' ids. */
  readonly idx?: string;
  /** An index that was read before, instead of `idx`. */
  readonly index?: RecordIndex;
  /** Maps the file instead of reading it piece by piece. */
  readonly mapFile?: MapFile;
}

/**
 * Random access to the records of a RecordIO file (`.rec`, with or without its `.idx`), which is never loaded whole.
 * Split records are put together again. Format: dmlc-core `recordio.h`, MXNet `IRHeader`.
 *
 * @example
 * const reader = new RecordReader('train.rec', { idx: 'train.idx' });
 * const { labels, body } = reader.record(1);   // body: the encoded image
 * reader.close();
 */
export class RecordReader {
  readonly index: RecordIndex;
  readonly #source: ByteSource;
  readonly #name: string;

  constructor(path: string, options: RecordReaderOptions = {}) {
    checkPath('RecordReader', 'the path of a .rec file', path);
    checkOptions('RecordReader', options, ['idx', 'index', 'mapFile']);
    const { idx, index, mapFile } = options;
    if (idx !== undefined) checkPath('RecordReader', 'idx, the path of a file', idx);
    const indexed = index === undefined || (ArrayBuffer.isView(index?.keys) && ArrayBuffer.isView(index?.offsets));
    expected(indexed, 'RecordReader', 'index, { keys, offsets }', index);
    expected(mapFile === undefined || typeof mapFile === 'function', 'RecordReader', 'mapFile, a function', mapFile);
    this.#source = openSource(path, options.mapFile);
    this.#name = basename(path);
    try {
      this.index =
        options.index ??
        (options.idx === undefined ? this.#scan() : this.#checked(readIndexFile(options.idx), options.idx));
    } catch (error) {
      this.#source.close();
      throw error;
    }
  }

  /** The record of a key. `body` is valid until the next read of this reader. */
  record(key: number): ImageRecord {
    const at = findKey(this.index.keys, key);
    if (at < 0) throw dataError(`${this.#name}: no record has key ${key}; keys run ${describeKeys(this.index.keys)}`);
    return this.recordAt(at);
  }

  /** The record at a position in key order. `body` is valid until the next read of this reader. */
  recordAt(position: number): ImageRecord {
    const offset = this.index.offsets[position];
    expected(offset !== undefined, this.#name, `a position in [0, ${this.index.offsets.length})`, position);
    return parseImageRecord(
      this.payload(offset),
      () => `${this.#name} at byte ${offset}, key ${this.index.keys[position]}`,
    );
  }

  /** The payload of the record that starts at a byte offset, split parts joined. */
  payload(offset: number): Uint8Array {
    const first = this.#part(offset);
    if (first.flag === PartFlag.whole) return this.#source.read(offset + PART_HEADER_BYTES, first.length);
    if (first.flag !== PartFlag.first) {
      throw dataError(
        `${this.#name} at byte ${offset}: expected the start of a record, got part ${first.flag} of a split one: the .idx does not belong to this file`,
        remedies.index,
      );
    }
    const parts = [this.#source.read(offset + PART_HEADER_BYTES, first.length).slice()];
    for (let at = first.end, flag: number = first.flag; flag !== PartFlag.last; ) {
      const part = this.#part(at);
      if (part.flag !== PartFlag.middle && part.flag !== PartFlag.last) {
        throw dataError(
          `${this.#name} at byte ${at}: expected part 2 or 3 of the record split at byte ${offset}, got ${part.flag}`,
          remedies.index,
        );
      }
      parts.push(this.#source.read(at + PART_HEADER_BYTES, part.length).slice());
      at = part.end;
      flag = part.flag;
    }
    return joinParts(parts);
  }

  close(): void {
    this.#source.close();
  }

  #part(offset: number): { flag: number; length: number; end: number } {
    const header = this.#source.read(offset, PART_HEADER_BYTES);
    const magic = uint32(header, 0);
    if (magic !== RECORD_MAGIC) throw badMagic(this.#name, offset, magic);
    const word = uint32(header, 4);
    const length = word & 0x1fffffff;
    const end = offset + PART_HEADER_BYTES + padTo4(length);
    if (offset + PART_HEADER_BYTES + length > this.#source.size) {
      throw dataError(
        `${this.#name} at byte ${offset}: expected a record of ${length} bytes, but the file ends after ${this.#source.size - offset - PART_HEADER_BYTES} of them: it is truncated`,
        remedies.copy,
      );
    }
    return { flag: word >>> 29, length, end };
  }

  /** Every offset lies inside the file, and the last record is complete. */
  #checked(index: RecordIndex, idxPath: string): RecordIndex {
    const { keys, offsets } = index;
    let last = -1;
    for (let i = 0; i < offsets.length; i++) {
      const offset = offsets[i];
      if (offset + PART_HEADER_BYTES > this.#source.size) {
        throw dataError(
          `${basename(idxPath)}: key ${keys[i]} points at byte ${offset}, but ${this.#name} has ${this.#source.size} bytes: the .rec is truncated or the .idx belongs to another file`,
          'copy both files again, or leave the .idx out so that the .rec is scanned',
        );
      }
      if (last < 0 || offset > offsets[last]) last = i;
    }
    if (last >= 0) this.payload(offsets[last]);
    return index;
  }

  #scan(): RecordIndex {
    const offsets: number[] = [];
    const ids: number[] = [];
    for (let at = 0; at < this.#source.size; ) {
      const first = this.#part(at);
      const header = this.#source.read(at + PART_HEADER_BYTES, Math.min(first.length, IMAGE_HEADER_BYTES));
      ids.push(header.length < 16 ? Number.NaN : uint32(header, 8) + uint32(header, 12) * 2 ** 32);
      offsets.push(at);
      let part = first;
      while (part.flag === PartFlag.first || part.flag === PartFlag.middle) part = this.#part(part.end);
      at = part.end;
    }
    // Writers that leave the id at 0 give no keys: the order in the file then counts.
    const distinct = new Set(ids).size === ids.length && ids.every(Number.isSafeInteger);
    return sortIndex(
      Float64Array.from(distinct ? ids : offsets.map((_, i) => i)),
      Float64Array.from(offsets),
      this.#name,
    );
  }
}

const scratch = new DataView(new ArrayBuffer(4));

/** Splits a payload into header fields, labels and image. `where` names the record in an error. */
export function parseImageRecord(payload: Uint8Array, where: () => string): ImageRecord {
  if (payload.length < IMAGE_HEADER_BYTES) {
    throw dataError(
      `${where()}: expected an image record header of ${IMAGE_HEADER_BYTES} bytes, got a payload of ${payload.length}`,
      remedies.pack,
    );
  }
  const flag = uint32(payload, 0);
  const start = IMAGE_HEADER_BYTES + 4 * flag;
  if (start > payload.length) {
    throw dataError(
      `${where()}: expected ${flag} labels (${4 * flag} bytes) after the header, got ${payload.length - IMAGE_HEADER_BYTES} bytes`,
      remedies.pack,
    );
  }
  const labels =
    flag === 0
      ? [float32(payload, 4)]
      : Array.from({ length: flag }, (_, i) => float32(payload, IMAGE_HEADER_BYTES + 4 * i));
  return { flag, labels, id: uint64(payload, 8), id2: uint64(payload, 16), body: payload.subarray(start) };
}

function joinParts(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 4 * (parts.length - 1)));
  let at = 0;
  parts.forEach((part, i) => {
    if (i > 0) {
      for (let byte = 0; byte < 4; byte++) joined[at++] = (RECORD_MAGIC >>> (8 * byte)) & 255;
    }
    joined.set(part, at);
    at += part.length;
  });
  return joined;
}

function badMagic(name: string, offset: number, magic: number): DataError {
  const hex = (value: number) => `0x${value.toString(16).padStart(8, '0')}`;
  const got = `${name} at byte ${offset}: expected the record magic ${hex(RECORD_MAGIC)}, got ${hex(magic)}`;
  return magic === OLD_RECORD_MAGIC
    ? dataError(`${got}: this is the format before 2015`, 'write the set again with a current im2rec')
    : dataError(`${got}: this is no RecordIO file, it is damaged, or its .idx belongs to another file`, remedies.index);
}

function describeKeys(keys: Float64Array): string {
  return keys.length === 0 ? 'over nothing: the file is empty' : `from ${keys[0]} to ${keys[keys.length - 1]}`;
}

function uint32(bytes: Uint8Array, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}

function uint64(bytes: Uint8Array, at: number): bigint {
  return BigInt(uint32(bytes, at)) | (BigInt(uint32(bytes, at + 4)) << 32n);
}

function float32(bytes: Uint8Array, at: number): number {
  scratch.setUint32(0, uint32(bytes, at));
  return scratch.getFloat32(0);
}
