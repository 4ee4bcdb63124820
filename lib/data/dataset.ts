import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { native } from '../binding.js';
import { checkOptions, checkPath, expected } from '../errors.js';
import type { FileAccess } from './byteSource.js';
import { dataError, remedies } from './dataError.js';
import { checkChannels, decodeInto, type ImageShape, imageShapeOf } from './decode.js';
import { FLOAT32_EXACT, type ImageRecord } from './recordFormat.js';
import type { RecordIndex } from './recordIndex.js';
import { RecordReader } from './recordio.js';

export interface OpenDatasetOptions {
  /** Default: the path with `.rec` replaced by `.idx`, if that file exists. */
  readonly idx?: string;
  /** Default: the path with `.rec` replaced by `.property`, or `property` in the same folder, if one exists. */
  readonly property?: string;
  /** Default: the path with `.rec` replaced by `.tsv`, if that file exists. */
  readonly tsv?: string;
  /** Channels to decode to; default: those of the first image. */
  readonly channels?: 1 | 3;
  /**
   * `'map'` (default) maps the `.rec`, unless it is larger than 4 GiB (a limit of Node 20). `'read'` reads each record
   * by itself: a file that shrinks while it is open is then an error, where a mapping would end the process.
   */
  readonly access?: FileAccess;
}

/** All that another thread needs to read the same set; the arrays are shared, not copied. */
export interface DatasetHandle {
  readonly path: string;
  readonly access: FileAccess;
  /** Keys and offsets of the images alone. */
  readonly images: RecordIndex;
  readonly numClasses: number;
  readonly imageShape: ImageShape;
}

/** Labelled images of one size, by position 0 … size − 1 in key order. */
export interface Dataset {
  readonly size: number;
  readonly numClasses: number;
  /** [height, width, channels] */
  readonly imageShape: ImageShape;
  /** The class of an image, in [0, numClasses). */
  label(i: number): number;
  /** The key of an image in its file. */
  key(i: number): number;
  /** The decoded image, uint8 [height, width, channels]. */
  image(i: number): Uint8Array;
}

/** A RecordIO set; made by {@link openDataset}. */
export class RecordDataset implements Dataset {
  readonly size: number;
  readonly numClasses: number;
  readonly imageShape: ImageShape;
  readonly name: string;
  readonly #reader: RecordReader;
  #columns: ReadonlyMap<string, readonly string[]> | undefined;

  constructor(
    readonly handle: DatasetHandle,
    private readonly tsv?: string,
  ) {
    const made = handle?.images?.keys !== undefined && typeof handle.path === 'string';
    expected(made, 'RecordDataset', 'the handle of a set that openDataset made', handle);
    this.name = basename(handle.path);
    this.size = handle.images.keys.length;
    this.numClasses = handle.numClasses;
    this.imageShape = handle.imageShape;
    this.#reader = openReader(handle.path, handle.access, handle.images);
  }

  label(i: number): number {
    return checkedLabel(this.#record(i), this.numClasses, () => this.where(i));
  }

  /** Labels of all images, int32 [size]. Touches every record once. */
  labels(): Int32Array {
    return Int32Array.from({ length: this.size }, (_, i) => this.label(i));
  }

  key(i: number): number {
    this.#check(i);
    return this.handle.images.keys[i];
  }

  image(i: number): Uint8Array {
    const [height, width, channels] = this.imageShape;
    const out = new Uint8Array(height * width * channels);
    this.read(i, out, 0);
    return out;
  }

  /** Decodes an image into `out` from `offset` and returns its label. */
  read(i: number, out: Uint8Array, offset: number): number {
    const record = this.#record(i);
    const bytes = this.imageShape.reduce((n, extent) => n * extent, 1);
    const fits =
      out instanceof Uint8Array && Number.isSafeInteger(offset) && offset >= 0 && offset + bytes <= out.length;
    expected(fits, this.name, `a Uint8Array with ${bytes} bytes from offset ${offset}`, out);
    const where = this.where(i);
    decodeInto(record.body, this.imageShape, out, offset, where);
    return checkedLabel(record, this.numClasses, () => where);
  }

  /** The image as it is stored. */
  encoded(i: number): Uint8Array {
    return this.#record(i).body.slice();
  }

  /** Columns of the `.tsv` beside the set, one value an image; undefined where there is no such file or column. */
  column(name: string): readonly string[] | undefined {
    this.#columns ??= this.tsv === undefined ? new Map() : readColumns(this.tsv, this.handle.images.keys);
    return this.#columns.get(name);
  }

  /** Names an image in messages. */
  where(i: number): string {
    return `${this.name} key ${this.key(i)}`;
  }

  close(): void {
    this.#reader.close();
  }

  #record(i: number): ImageRecord {
    this.#check(i);
    return this.#reader.recordAt(i);
  }

  #check(i: number): void {
    expected(Number.isInteger(i) && i >= 0 && i < this.size, this.name, `an image in [0, ${this.size})`, i);
  }
}

/**
 * Opens a RecordIO set: `.rec`, and beside it `.idx`, `property` and `.tsv` where they exist. Both published layouts
 * are known: that of face sets (record 0 holds the ranges, identity records follow the images) and the flat one of im2rec.
 *
 * Without `property` every label is read once to count the classes.
 *
 * @example
 * const train = openDataset('data/kanji28/train.rec');
 * train.size;            // 82916
 * train.imageShape;      // [32, 32, 1]
 * train.image(0);        // Uint8Array(1024)
 */
export function openDataset(path: string, options: OpenDatasetOptions = {}): RecordDataset {
  expected(typeof path === 'string' && path !== '', 'openDataset', 'the path of a .rec file', path);
  checkOptions('openDataset', options, ['idx', 'property', 'tsv', 'channels', 'access']);
  checkChannels('openDataset', options.channels);
  for (const file of ['idx', 'property', 'tsv'] as const)
    if (options[file] !== undefined) checkPath('openDataset', `${file}, the path of a file`, options[file]);
  const access = options.access ?? 'map';
  expected(access === 'map' || access === 'read', 'openDataset', "access 'map' or 'read'", access);
  const idx = options.idx ?? sidecar(path, '.idx');
  const property = options.property ?? sidecar(path, '.property') ?? sibling(path, 'property');
  const reader = openReader(path, access, idx);
  try {
    const images = imageRecords(reader, basename(path));
    if (images.keys.length === 0) throw dataError(`${basename(path)}: expected images, got none`, remedies.pack);
    const name = `${basename(path)} key ${images.keys[0]}`;
    const [height, width, stored] = imageShapeOf(reader.record(images.keys[0]).body, name);
    const imageShape: ImageShape = [height, width, options.channels ?? stored];
    let numClasses: number;
    if (property === undefined) {
      numClasses = 0;
      for (const key of images.keys) {
        const label = checkedLabel(reader.record(key), FLOAT32_EXACT, () => `${basename(path)} key ${key}`);
        if (label >= numClasses) numClasses = label + 1;
      }
    } else {
      numClasses = readProperty(property, imageShape, name);
    }
    return new RecordDataset({ path, access, images, numClasses, imageShape }, options.tsv ?? sidecar(path, '.tsv'));
  } finally {
    reader.close();
  }
}

function openReader(path: string, access: FileAccess, index: string | undefined | RecordIndex): RecordReader {
  return new RecordReader(path, {
    ...(access === 'map' ? { mapFile: (file: string) => native.mapFile(file) } : {}),
    ...(typeof index === 'object' ? { index } : { idx: index }),
  });
}

/** Keys and offsets of the images: all records, or those that record 0 announces. */
function imageRecords(reader: RecordReader, name: string): RecordIndex {
  const { keys, offsets } = reader.index;
  if (keys.length === 0 || keys[0] !== 0) return reader.index;
  const head = reader.recordAt(0);
  if (head.body.length > 0) return reader.index;
  if (head.labels.length < 2) {
    throw dataError(
      `${name} key 0: expected an image, or the two ends of the identity records, got ${head.labels.length} labels and no image`,
      remedies.pack,
    );
  }
  // Image keys run from 1 to labels[0] − 1. A float32 end above 2^24 may have been rounded, so the border is looked
  // up where the records stop having an image.
  const hasImage = (at: number) => reader.recordAt(at).body.length > 0;
  let end = lowerBound(keys, head.labels[0]);
  if (head.labels[0] >= FLOAT32_EXACT) {
    while (end > 1 && !hasImage(end - 1)) end--;
    while (end < keys.length && hasImage(end)) end++;
  }
  return { keys: keys.subarray(1, end), offsets: offsets.subarray(1, end) };
}

function lowerBound(keys: Float64Array, key: number): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle] < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

function checkedLabel(record: ImageRecord, numClasses: number, where: () => string): number {
  const label = record.labels[0];
  if (!Number.isInteger(label) || label < 0 || label >= numClasses) {
    throw dataError(
      `${where()}: expected a label in [0, ${numClasses}), got ${label}`,
      'numClasses comes from the property file: correct it, or take it away so that the labels are counted',
    );
  }
  return label;
}

function readProperty(path: string, shape: ImageShape, first: string): number {
  const text = readText(path).trim();
  const [numClasses, height, width] = text.split(',').map(Number);
  if (![numClasses, height, width].every((value) => Number.isInteger(value) && value > 0)) {
    throw dataError(
      `${basename(path)}: expected "num_classes,height,width", got ${JSON.stringify(text.slice(0, 60))}`,
      'write that line, or take the file away so that the labels are counted',
    );
  }
  if (numClasses > FLOAT32_EXACT) {
    throw dataError(
      `${basename(path)}: expected at most ${FLOAT32_EXACT} classes, got ${numClasses}: labels are stored as float32, which holds no larger integers exactly`,
    );
  }
  if (height !== shape[0] || width !== shape[1]) {
    throw dataError(
      `${basename(path)} says ${width}×${height} pixels, but ${first} has ${shape[1]}×${shape[0]}`,
      'resize the images when the set is packed, or correct the property file',
    );
  }
  return numClasses;
}

/** A text file, without the mark that some editors begin it with. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8').replace(/^\uFEFF/, '');
  } catch (cause) {
    throw dataError(`${path}: cannot be read: ${(cause as Error).message}`, remedies.path, cause);
  }
}

function readColumns(path: string, keys: Float64Array): ReadonlyMap<string, readonly string[]> {
  const [header, ...lines] = readText(path).split(/\r?\n/);
  const names = header.split('\t');
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined)
    throw dataError(`${basename(path)} line 1: expected each column once, got "${twice}" twice`, remedies.tsv);
  const keyColumn = names.indexOf('key');
  if (keyColumn < 0)
    throw dataError(
      `${basename(path)}: expected a column "key" in its first line, got ${JSON.stringify(header.slice(0, 80))}`,
      remedies.tsv,
    );
  const rows = new Map<number, readonly string[]>();
  const lineOf = new Map<number, number>();
  lines.forEach((text, i) => {
    if (text === '') return;
    const line = i + 2; // the first is the header
    const row = text.split('\t');
    const key = Number(row[keyColumn] || Number.NaN);
    if (!Number.isSafeInteger(key))
      throw dataError(
        `${basename(path)} line ${line}: expected a whole number as key, got ${JSON.stringify(row[keyColumn] ?? '')}`,
        remedies.tsv,
      );
    if (rows.has(key))
      throw dataError(
        `${basename(path)} line ${line}: expected each key once, got key ${key} of line ${lineOf.get(key)} again`,
        remedies.tsv,
      );
    rows.set(key, row);
    lineOf.set(key, line);
  });
  const columns = new Map(names.map((name) => [name, [] as string[]]));
  for (const key of keys) {
    const row = rows.get(key);
    if (row === undefined || row.length !== names.length) {
      throw dataError(
        `${basename(path)}: expected a row of ${names.length} columns for key ${key}, got ${row === undefined ? 'none' : row.length}`,
        remedies.tsv,
      );
    }
    names.forEach((name, c) => {
      columns.get(name)?.push(row[c]);
    });
  }
  return columns;
}

function sidecar(path: string, extension: string): string | undefined {
  const candidate = path.replace(/\.rec$/, extension);
  return candidate !== path && existsSync(candidate) ? candidate : undefined;
}

function sibling(path: string, name: string): string | undefined {
  const candidate = path.slice(0, path.length - basename(path).length) + name;
  return existsSync(candidate) ? candidate : undefined;
}
