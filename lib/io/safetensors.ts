/** The safetensors format: a little-endian 64-bit header length, a JSON header, raw little-endian data. */
import zlib from 'node:zlib';
import { native } from '../binding.js';
import { DataError } from '../errors.js';
import type { HostArray } from '../tensor.js';
import { writeAll, writeAtomically } from './atomicFile.js';

/** Tensors by name.  BigInt64Array stands for I64, which files of other programs use for labels. */
export type FileArray = HostArray | BigInt64Array;
export interface FileTensor {
  readonly shape: readonly number[];
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
  const sources = [...tensors];
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
    let crc = 0;
    for (const [, source] of sources) {
      const data = source.data();
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      crc = zlib.crc32(bytes, crc);
      writeAll(fd, bytes);
    }
    const at = json.indexOf('00000000', json.indexOf(`"${CHECKSUM}"`));
    writeAll(fd, Buffer.from(crc.toString(16).padStart(8, '0')), 8 + Buffer.byteLength(json.slice(0, at)));
  });
}

/**
 * Reads a file by mapping it: arrays are views of the mapping, paged in when touched.  A file that is truncated,
 * whose header does not fit its data, or whose checksum (where there is one) is wrong, is an error.
 *
 * @example
 * const { tensors, metadata } = readSafetensors('w.safetensors');
 */
export function readSafetensors(file: string, { verify = true } = {}): TensorFile {
  const buffer = native.mapFile(file);
  const corrupt = (what: string): never => {
    throw new DataError(`${file}: ${what}`, {
      code: 'ERR_FM_DATA',
      hint: 'the file is damaged or not a safetensors file; use an earlier checkpoint or copy it again',
    });
  };
  if (buffer.byteLength < 8) corrupt(`expected a safetensors header, got ${buffer.byteLength} bytes`);
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (length > buffer.byteLength - 8) corrupt(`expected a header of ${length} bytes, got a file of ${buffer.byteLength}`);
  let header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> = {};
  try {
    header = JSON.parse(Buffer.from(buffer, 8, length).toString());
  } catch (error) {
    corrupt(`its header is not JSON (${(error as Error).message})`);
  }
  const { __metadata__, ...entries } = header as typeof header & { __metadata__?: Record<string, string> };
  const metadata = __metadata__ ?? {};
  const tensors = new Map<string, FileTensor>();
  const dataStart = 8 + length;
  let end = 0;
  for (const [name, entry] of Object.entries(entries)) {
    const Type = types[entry?.dtype as TypeName];
    if (!Type) corrupt(`tensor ${name}: expected dtype ${Object.keys(types).join(', ')}, got ${entry?.dtype}`);
    const [from, to] = Array.isArray(entry.data_offsets) ? entry.data_offsets : [-1, -1];
    const count = Array.isArray(entry.shape) ? entry.shape.reduce((n, extent) => n * extent, 1) : -1;
    if (!(from >= 0 && to - from === count * Type.BYTES_PER_ELEMENT)) {
      corrupt(`tensor ${name}: shape [${entry.shape}] does not fit its ${to - from} bytes`);
    }
    if (dataStart + to > buffer.byteLength) {
      corrupt(`tensor ${name}: expected data up to byte ${dataStart + to}, got a file of ${buffer.byteLength}`);
    }
    const aligned = (dataStart + from) % Type.BYTES_PER_ELEMENT === 0;
    const data = aligned
      ? new Type(buffer, dataStart + from, count)
      : new Type(buffer.slice(dataStart + from, dataStart + to), 0, count);
    tensors.set(name, { shape: entry.shape, data });
    end = Math.max(end, to);
  }
  const stored = metadata[CHECKSUM];
  if (verify && stored !== undefined) {
    const found = crc32(new Uint8Array(buffer, dataStart, end));
    if (found !== stored) corrupt(`expected data with checksum ${stored}, got ${found}`);
  }
  return { tensors, metadata };
}

function crc32(bytes: Uint8Array): string {
  let crc = 0;
  for (let at = 0; at < bytes.length; at += 64 << 20) crc = zlib.crc32(bytes.subarray(at, at + (64 << 20)), crc);
  return crc.toString(16).padStart(8, '0');
}
