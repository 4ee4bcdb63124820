/** The safetensors format: a little-endian 64-bit header length, a JSON header, raw little-endian data. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import zlib from 'node:zlib';
import {
  checkIterable,
  checkObject,
  checkOptions,
  checkPath,
  DataError,
  describe,
  expected,
  ShapeError,
} from '../errors.js';
import type { HostArray } from '../tensor.js';
import { writeAll, writeAtomically } from './atomicFile.js';

/** Tensors by name.  BigInt64Array stands for I64, which files of other programs use for labels. */
export type FileArray = HostArray | BigInt64Array;
export interface FileTensor {
  readonly shape: readonly number[];
  readonly dtype: string;
  /** Read from the file each time. */
  readonly data: FileArray;
}
export interface TensorFile {
  readonly tensors: Map<string, FileTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

const types = {
  F32: Float32Array,
  F64: Float64Array,
  I32: Int32Array,
  U8: Uint8Array,
  I64: BigInt64Array,
} as const;
type TypeName = keyof typeof types;

const CHECKSUM = 'flashmargin.crc32'; // of all tensor data, eight hexadecimal digits

/** A tensor to be written: its data is asked for once, when its turn comes. */
export interface TensorSource {
  readonly shape: readonly number[];
  readonly dtype: 'float32' | 'float64' | 'int32' | 'uint8';
  data(): HostArray;
}

const nameOfDtype = { float32: 'F32', float64: 'F64', int32: 'I32', uint8: 'U8' } as const;
const dtypeNames = { F32: 'float32', F64: 'float64', I32: 'int32', U8: 'uint8', I64: 'int64' } as const;

/** Throws unless it is a tensor's name and source, of a name that is not yet taken. */
function checkSource(entry: unknown, taken: Set<string>): asserts entry is readonly [string, TensorSource] {
  const operation = 'writeSafetensors';
  const pair = Array.isArray(entry) && typeof entry[0] === 'string';
  expected(pair, operation, 'tensors, a name and a source each', entry);
  const [name, source] = entry as [string, unknown];
  expected(name !== '__metadata__' && !taken.has(name), operation, 'tensors of different names', name);
  taken.add(name);
  checkObject(operation, `${name} as { shape, dtype, data }`, source);
  const { shape, dtype, data } = source as Partial<TensorSource>;
  const extents = Array.isArray(shape) && shape.every((n) => Number.isSafeInteger(n) && n >= 0);
  expected(extents, operation, `the shape of ${name}, a list of extents`, shape);
  const known = Object.keys(nameOfDtype);
  expected(known.includes(dtype as string), operation, `the dtype of ${name}, one of ${known.join(', ')}`, dtype);
  expected(typeof data === 'function', operation, `data of ${name}, a function that returns it`, data);
}

/**
 * Writes tensors and string metadata, atomically, with a checksum of the data in the metadata.
 *
 * @example
 * writeSafetensors('w.safetensors', [['weight', { shape: [2], dtype: 'float32', data: () => new Float32Array([1, 2]) }]]);
 */
export function writeSafetensors(
  file: string,
  tensors: Iterable<readonly [string, TensorSource]>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  checkPath('writeSafetensors', 'the path of a file', file);
  checkIterable('writeSafetensors', 'tensors, a name and a source each', tensors);
  checkObject('writeSafetensors', 'metadata, an object', metadata);
  for (const [key, text] of Object.entries(metadata))
    expected(typeof text === 'string', 'writeSafetensors', `metadata.${key}, a text`, text);
  const taken = new Set<string>();
  const sources = Array.from(tensors, (entry) => {
    checkSource(entry, taken);
    return entry;
  });
  const header: Record<string, unknown> = { __metadata__: { ...metadata, [CHECKSUM]: '00000000' } };
  let offset = 0;
  for (const [name, { shape, dtype }] of sources) {
    const type = nameOfDtype[dtype];
    const bytes = shape.reduce((n, extent) => n * extent, 1) * types[type].BYTES_PER_ELEMENT;
    header[name] = { dtype: type, shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  let json = JSON.stringify(header);
  json += ' '.repeat((8 - (Buffer.byteLength(json) % 8)) % 8); // data starts 8-aligned
  const text = Buffer.from(json);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(text.length));
  writeAtomically(file, (fd) => {
    writeAll(fd, start);
    writeAll(fd, text);
    let crc = zlib.crc32(text);
    for (const [name, source] of sources) {
      const data = source.data();
      const size = source.shape.reduce((n, extent) => n * extent, 1);
      const Type = types[nameOfDtype[source.dtype]];
      if (!(data instanceof Type && data.length === size)) {
        throw new ShapeError(
          `writeSafetensors: expected data of ${name}, ${Type.name} of ${size}, got ${describe(data)}`,
          { code: 'ERR_FM_SHAPE' },
        );
      }
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      crc = zlib.crc32(bytes, crc);
      writeAll(fd, bytes);
    }
    const at = json.indexOf('00000000', json.indexOf(`"${CHECKSUM}"`));
    writeAll(fd, Buffer.from(crc.toString(16).padStart(8, '0')), 8 + Buffer.byteLength(json.slice(0, at)));
  });
}

/**
 * Opens a file: the header is read and checked against the file's size, and where there is a checksum the data too;
 * a tensor's data is read each time it is asked for, so that files may be larger than memory.
 *
 * @example
 * const { tensors, metadata } = readSafetensors('w.safetensors');
 * tensors.get('weight')?.data; // Float32Array
 */
export function readSafetensors(file: string, options: { readonly verify?: boolean } = {}): TensorFile {
  checkPath('readSafetensors', 'the path of a file', file);
  checkOptions('readSafetensors', options, ['verify']);
  const { verify = true } = options;
  const corrupt = (what: string): never => {
    throw new DataError(`${file}: ${what}`, {
      code: 'ERR_FM_DATA',
      hint: 'the file is damaged or not a safetensors file: copy it again, or use an earlier one',
    });
  };
  return withFile(file, (fd) => {
    const size = fstatSync(fd).size;
    if (size < 8) corrupt(`expected a safetensors header, got ${size} bytes`);
    const length = Number(new DataView(readBytes(fd, 0, 8)).getBigUint64(0, true));
    if (length > size - 8) corrupt(`expected a header of ${length} bytes, got a file of ${size}`);
    let header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> = {};
    try {
      header = JSON.parse(Buffer.from(readBytes(fd, 8, length)).toString());
    } catch (error) {
      corrupt(`its header is not JSON (${(error as Error).message})`);
    }
    if (header === null || typeof header !== 'object')
      corrupt(`expected an object as header, got ${JSON.stringify(header)}`);
    const { __metadata__, ...entries } = header as typeof header & { __metadata__?: Record<string, string> };
    const metadata = __metadata__ ?? {};
    const tensors = new Map<string, FileTensor>();
    const start = 8 + length;
    let end = 0;
    for (const [name, entry] of Object.entries(entries)) {
      const Type = types[entry?.dtype as TypeName];
      if (!Type) corrupt(`tensor ${name}: expected dtype ${Object.keys(types).join(', ')}, got ${entry?.dtype}`);
      const [from, to] = Array.isArray(entry.data_offsets) ? entry.data_offsets : [-1, -1];
      const count = Array.isArray(entry.shape) ? entry.shape.reduce((n, extent) => n * extent, 1) : -1;
      if (!(from >= 0 && to - from === count * Type.BYTES_PER_ELEMENT)) {
        corrupt(`tensor ${name}: shape [${entry.shape}] does not fit its ${to - from} bytes`);
      }
      if (start + to > size) corrupt(`tensor ${name}: expected data up to byte ${start + to}, got a file of ${size}`);
      tensors.set(name, {
        shape: entry.shape,
        dtype: dtypeNames[entry.dtype as TypeName],
        get data() {
          return new Type(withFile(file, (again) => readBytes(again, start + from, to - from)));
        },
      });
      end = Math.max(end, to);
    }
    const stored = metadata[CHECKSUM];
    if (verify && stored !== undefined) {
      const found = checksum(fd, start, end, withoutChecksum(Buffer.from(readBytes(fd, 8, length)), stored));
      if (found !== stored) corrupt(`expected data with checksum ${stored}, got ${found}`);
    }
    return { tensors, metadata };
  });
}

function withFile<T>(file: string, use: (fd: number) => T): T {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (error) {
    throw new DataError(`${file}: cannot be opened: ${(error as Error).message}`, {
      code: 'ERR_FM_DATA',
      hint: 'name a file that is there and may be read',
      cause: error,
    });
  }
  try {
    return use(fd);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    throw new DataError(`${file}: cannot be read: ${(error as Error).message}`, {
      code: 'ERR_FM_DATA',
      hint: 'name a safetensors file; of a run, one of its checkpoints folder',
      cause: error,
    });
  } finally {
    closeSync(fd);
  }
}

const PIECE = 64 << 20; // bytes a read

function readBytes(fd: number, from: number, length: number): ArrayBuffer {
  const buffer = new ArrayBuffer(length);
  for (let at = 0; at < length; ) {
    const read = readSync(fd, new Uint8Array(buffer, at, Math.min(PIECE, length - at)), { position: from + at });
    if (read === 0)
      throw new DataError(`expected ${length} bytes at ${from}, the file ends after ${at}`, { code: 'ERR_FM_DATA' });
    at += read;
  }
  return buffer;
}

/** A header as it was when its checksum was computed. */
function withoutChecksum(header: Buffer, stored: string): Buffer {
  const at = header.indexOf(stored, header.indexOf(`"${CHECKSUM}"`) + CHECKSUM.length + 2);
  return at < 0 ? header : header.fill('0', at, at + stored.length);
}

/** CRC-32 of the header and the data. */
function checksum(fd: number, from: number, length: number, header: Buffer): string {
  let crc = zlib.crc32(header);
  for (let at = 0; at < length; at += PIECE)
    crc = zlib.crc32(new Uint8Array(readBytes(fd, from + at, Math.min(PIECE, length - at))), crc);
  return crc.toString(16).padStart(8, '0');
}
