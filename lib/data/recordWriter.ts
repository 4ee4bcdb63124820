import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import { ConfigError, checkLists, checkOptions, checkPath, expected } from '../errors.js';
import { dataError, remedies } from './dataError.js';
import { type ImageShape, imageShapeOf } from './decode.js';
import {
  FLOAT32_EXACT,
  IMAGE_HEADER_BYTES,
  MAX_PART_LENGTH,
  PART_HEADER_BYTES,
  PartFlag,
  padTo4,
  RECORD_MAGIC,
} from './recordFormat.js';

export interface RecordWriterOptions {
  /**
   * `'face'` (default): keys 1 … n, then a record of each identity's range, and record 0 with the range of those;
   * labels must arrive in ascending order. `'flat'`: keys 0 … n − 1 and nothing else, in any order (im2rec).
   */
  readonly layout?: 'face' | 'flat';
  /** For `property`; default: the largest label + 1. */
  readonly numClasses?: number;
}

/** Record 0 of the face layout: a header and two labels, patched once their values are known. */
const RANGE_RECORD_BYTES = PART_HEADER_BYTES + IMAGE_HEADER_BYTES + 8;

/**
 * Writes a RecordIO set: `.rec`, `.idx` and `.property`. The files appear under their names only when `finish` has
 * written all of them; until then, or after `abort`, there is nothing.
 *
 * @example
 * const writer = new RecordWriter('faces.rec');
 * for (const { label, jpeg } of images) writer.add(label, jpeg);
 * writer.finish();   // { images, numClasses }
 */
export class RecordWriter {
  readonly #layout: 'face' | 'flat';
  readonly #stem: string;
  readonly #fd: number;
  readonly #index: string[] = [];
  /** First key of each label's images; the face layout's ranges. */
  readonly #firsts: number[] = [];
  #offset = 0;
  #count = 0;
  #maxLabel = -1;
  #shape: ImageShape | undefined;
  #open = true;

  constructor(
    readonly path: string,
    private readonly options: RecordWriterOptions = {},
  ) {
    checkPath('RecordWriter', 'a path that ends in .rec', path);
    checkOptions('RecordWriter', options, ['layout', 'numClasses']);
    expected(path.endsWith('.rec'), 'RecordWriter', 'a path that ends in .rec', path);
    const { layout = 'face', numClasses } = options;
    expected(layout === 'face' || layout === 'flat', 'RecordWriter', "layout 'face' or 'flat'", layout);
    const count = numClasses === undefined || (Number.isSafeInteger(numClasses) && numClasses >= 1);
    expected(count, 'RecordWriter', 'numClasses, an integer of at least 1', numClasses);
    this.#layout = layout;
    this.#stem = path.slice(0, -4);
    try {
      this.#fd = openSync(temporary(path), 'w');
    } catch (cause) {
      throw dataError(`${path}: cannot be written: ${(cause as Error).message}`, remedies.write, cause);
    }
    if (this.#layout === 'face') this.#write(rangeRecord(0, 0, 0, 1), 0);
  }

  /** Adds a PNG or JPEG with its class, and returns its key. More labels than one make the record's label an array. */
  add(label: number | readonly number[], encoded: Uint8Array): number {
    const labels = typeof label === 'number' ? [label] : label;
    checkLists('RecordWriter.add', { labels });
    expected(labels.every(Number.isFinite), 'RecordWriter.add', 'labels that are finite numbers', labels);
    expected(encoded instanceof Uint8Array, 'RecordWriter.add', 'the bytes of a PNG or JPEG, a Uint8Array', encoded);
    const id = labels[0];
    const key = this.#layout === 'face' ? this.#count + 1 : this.#count;
    expected(this.#open, 'RecordWriter.add', 'an open writer', 'a finished one');
    expected(
      Number.isInteger(id) && id >= 0 && id < FLOAT32_EXACT,
      'RecordWriter.add',
      `a label in [0, ${FLOAT32_EXACT})`,
      id,
    );
    this.#checkShape(encoded, key);
    if (this.#layout === 'face') {
      expected(
        id >= this.#maxLabel,
        'RecordWriter.add',
        `labels in ascending order (layout 'face'), ${this.#maxLabel} or more`,
        id,
      );
      while (this.#firsts.length <= id) this.#firsts.push(key);
    }
    const payload = imagePayload(typeof label === 'number' ? 0 : labels.length, labels, key, 0, encoded);
    this.#write(encodeRecord(payload), key);
    this.#count++;
    if (id > this.#maxLabel) this.#maxLabel = id;
    return key;
  }

  /** Completes the files and gives them their names. */
  finish(): { readonly images: number; readonly numClasses: number } {
    expected(this.#open, 'RecordWriter.finish', 'an open writer', 'a finished one');
    const numClasses = this.options.numClasses ?? this.#maxLabel + 1;
    if (this.#shape === undefined || numClasses <= this.#maxLabel) {
      this.abort();
      throw new ConfigError(
        this.#shape === undefined
          ? `RecordWriter: expected images for ${this.path}, got none`
          : `RecordWriter: expected numClasses above the largest label ${this.#maxLabel}, got ${numClasses}`,
        { code: 'ERR_FM_CONFIG' },
      );
    }
    if (this.#layout === 'face') this.#finishRanges();
    fsyncSync(this.#fd);
    closeSync(this.#fd);
    this.#open = false;
    const [height, width] = this.#shape;
    writeFileSync(temporary(`${this.#stem}.idx`), this.#index.join(''));
    writeFileSync(temporary(`${this.#stem}.property`), `${numClasses},${height},${width}\n`);
    for (const end of ['.idx', '.property', '.rec']) renameSync(temporary(this.#stem + end), this.#stem + end);
    return { images: this.#count, numClasses };
  }

  /** Gives up: removes what was written. */
  abort(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
    rmSync(temporary(this.path), { force: true });
  }

  #finishRanges(): void {
    const end = this.#count + 1;
    this.#firsts.forEach((first, label) => {
      this.#write(rangeRecord(end + label, first, this.#firsts[label + 1] ?? end, 0), end + label);
    });
    writeSync(this.#fd, rangeRecord(0, end, end + this.#firsts.length, 1), 0, RANGE_RECORD_BYTES, 0);
  }

  #write(record: Uint8Array, key: number): void {
    for (let done = 0; done < record.length; ) {
      done += writeSync(this.#fd, record, done, record.length - done, this.#offset + done);
    }
    this.#index.push(`${key}\t${this.#offset}\n`);
    this.#offset += record.length;
  }

  #checkShape(encoded: Uint8Array, key: number): void {
    const shape = imageShapeOf(encoded, `${basename(this.path)} key ${key}`);
    this.#shape ??= shape;
    if (shape[0] !== this.#shape[0] || shape[1] !== this.#shape[1]) {
      throw dataError(
        `${basename(this.path)} key ${key}: expected an image of ${this.#shape[1]}×${this.#shape[0]} pixels like the first, got ${shape[1]}×${shape[0]}`,
        'resize it: all images of a set have one size',
      );
    }
  }
}

/** IRHeader, the labels of the array form, the body. */
function imagePayload(flag: number, labels: readonly number[], id: number, id2: number, body: Uint8Array): Uint8Array {
  const payload = new Uint8Array(IMAGE_HEADER_BYTES + 4 * flag + body.length);
  const view = new DataView(payload.buffer);
  view.setUint32(0, flag, true);
  view.setFloat32(4, flag === 0 ? labels[0] : 0, true);
  view.setBigUint64(8, BigInt(id), true);
  view.setBigUint64(16, BigInt(id2), true);
  for (let i = 0; i < flag; i++) view.setFloat32(IMAGE_HEADER_BYTES + 4 * i, labels[i], true);
  payload.set(body, IMAGE_HEADER_BYTES + 4 * flag);
  return payload;
}

function rangeRecord(id: number, first: number, end: number, id2: number): Uint8Array {
  return encodeRecord(imagePayload(2, [first, end], id, id2, new Uint8Array(0)));
}

/** Frames a payload, split where it holds the magic at a multiple of 4. */
export function encodeRecord(payload: Uint8Array): Uint8Array {
  const cuts = magicOffsets(payload);
  const starts = [0, ...cuts.map((cut) => cut + 4)];
  const ends = [...cuts, payload.length];
  const parts = starts.map((start, i) => payload.subarray(start, ends[i]));
  const record = new Uint8Array(parts.reduce((sum, part) => sum + PART_HEADER_BYTES + padTo4(part.length), 0));
  const view = new DataView(record.buffer);
  let at = 0;
  parts.forEach((part, i) => {
    expected(
      part.length <= MAX_PART_LENGTH,
      'encodeRecord',
      `a payload below ${MAX_PART_LENGTH + 1} bytes`,
      part.length,
    );
    view.setUint32(at, RECORD_MAGIC, true);
    view.setUint32(at + 4, partFlag(i, parts.length) * 2 ** 29 + part.length, true);
    record.set(part, at + PART_HEADER_BYTES);
    at += PART_HEADER_BYTES + padTo4(part.length);
  });
  return record;
}

function partFlag(part: number, parts: number): number {
  if (parts === 1) return PartFlag.whole;
  if (part === 0) return PartFlag.first;
  return part === parts - 1 ? PartFlag.last : PartFlag.middle;
}

function magicOffsets(payload: Uint8Array): number[] {
  const found: number[] = [];
  for (let at = 0; at + 4 <= payload.length; at += 4) {
    if (payload[at] === 0x0a && payload[at + 1] === 0x23 && payload[at + 2] === 0xd7 && payload[at + 3] === 0xce)
      found.push(at);
  }
  return found;
}

const temporary = (path: string): string => `${path}.${process.pid}.tmp`;
