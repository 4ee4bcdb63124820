import { constants } from 'node:buffer';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { basename } from 'node:path';
import { dataError, remedies } from './dataError.js';

/** How a file's bytes are reached: a read-only mapping, or one `pread` per access. */
export type FileAccess = 'map' | 'read';

/** Maps a whole file read-only; `native.mapFile` of the addon. */
export type MapFile = (path: string) => ArrayBuffer;

/** Random access to the bytes of a file that may be larger than memory. */
export interface ByteSource {
  readonly path: string;
  /** File size in bytes when it was opened. */
  readonly size: number;
  /** The bytes [offset, offset + length), valid until the next `read` of this source. */
  read(offset: number, length: number): Uint8Array;
  close(): void;
}

// Small reads are served from a window, so that a record's header and body cost one system call.
const WINDOW_BYTES = 16 * 1024;

class FileSource implements ByteSource {
  readonly size: number;
  #fd: number;
  #window: Buffer = Buffer.allocUnsafeSlow(WINDOW_BYTES);
  #windowStart = 0;
  #windowLength = 0;

  constructor(readonly path: string) {
    this.#fd = openForReading(path);
    this.size = fstatSync(this.#fd).size;
  }

  read(offset: number, length: number): Uint8Array {
    checkRange(this, offset, length);
    const skip = offset - this.#windowStart;
    if (skip < 0 || skip + length > this.#windowLength) this.#fill(offset, length);
    const from = offset - this.#windowStart;
    return this.#window.subarray(from, from + length);
  }

  #fill(offset: number, length: number): void {
    if (length > this.#window.length) this.#window = Buffer.allocUnsafeSlow(length + (length >> 2));
    const wanted = Math.min(this.size - offset, Math.max(length, WINDOW_BYTES));
    this.#windowStart = offset;
    this.#windowLength = 0;
    while (this.#windowLength < wanted) {
      const got = readSync(
        this.#fd,
        this.#window,
        this.#windowLength,
        wanted - this.#windowLength,
        offset + this.#windowLength,
      );
      if (got === 0) break;
      this.#windowLength += got;
    }
    if (this.#windowLength < length) {
      throw dataError(
        `${basename(this.path)}: expected ${length} bytes at byte ${offset}, got ${this.#windowLength}: the file shrank while it was open`,
        remedies.copy,
      );
    }
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

class MappedSource implements ByteSource {
  readonly size: number;
  #buffer: ArrayBuffer;

  constructor(
    readonly path: string,
    mapFile: MapFile,
  ) {
    this.#buffer = mapFile(path);
    this.size = this.#buffer.byteLength;
  }

  read(offset: number, length: number): Uint8Array {
    checkRange(this, offset, length);
    return new Uint8Array(this.#buffer, offset, length);
  }

  close(): void {
    this.#buffer = new ArrayBuffer(0);
  }
}

/**
 * Opens a file for random access: mapped where a mapping function is given, with `pread` otherwise, and where the file
 * is larger than an ArrayBuffer of foreign memory may be (4 GiB in Node 20).
 */
export function openSource(path: string, mapFile?: MapFile): ByteSource {
  const read = new FileSource(path);
  if (mapFile === undefined || read.size > constants.MAX_LENGTH) return read;
  read.close();
  return new MappedSource(path, mapFile);
}

function openForReading(path: string): number {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (cause) {
    throw dataError(`${path}: cannot be opened for reading: ${(cause as Error).message}`, remedies.path, cause);
  }
  if (fstatSync(file).isFile()) return file;
  closeSync(file);
  throw dataError(`${path}: expected a file, got a folder or a device`, remedies.path);
}

function checkRange(source: ByteSource, offset: number, length: number): void {
  if (offset < 0 || offset + length > source.size) {
    throw dataError(
      `${basename(source.path)}: expected ${length} bytes at byte ${offset}, but the file has ${source.size} bytes: it is truncated`,
      remedies.copy,
    );
  }
}
