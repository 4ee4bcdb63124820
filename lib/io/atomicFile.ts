import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { checkPath, DataError, expected } from '../errors.js';

/**
 * Writes a file so that a reader, or a crash at any moment, finds the old content or the new one, never a part:
 * a temporary file in the same folder, flushed, then renamed.
 */
export function writeAtomically(file: string, write: (fd: number) => void): void {
  checkPath('writeAtomically', 'the path of a file', file);
  expected(typeof write === 'function', 'writeAtomically', 'a function that writes', write);
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    mkdirSync(path.dirname(file), { recursive: true });
    const fd = openSync(temporary, 'w');
    try {
      write(fd);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, file);
    const folder = openSync(path.dirname(file), 'r');
    fsyncSync(folder);
    closeSync(folder);
  } catch (error) {
    removeQuietly(temporary);
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    throw new DataError(`cannot write ${file}: ${(error as Error).message}`, {
      code: 'ERR_FM_DATA',
      hint: 'check that the folder is writable and the disk not full; the previous file, if any, is untouched',
      cause: error,
    });
  }
}

/** Removes what writers that were killed left in a folder of the files whose names are these. */
export function removeTemporaries(folder: string, files: RegExp): void {
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const file = /^(.*)\.\d+\.tmp$/.exec(name)?.[1];
    if (file !== undefined && files.test(file)) rmSync(path.join(folder, name), { force: true });
  }
}

/** The error that is on its way matters more. */
function removeQuietly(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {}
}

/** A text or binary file in one piece, atomically. */
export function writeFileAtomically(file: string, content: string | Uint8Array): void {
  const known = typeof content === 'string' || content instanceof Uint8Array;
  expected(known, 'writeFileAtomically', 'a text or a Uint8Array', content);
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  writeAtomically(file, (fd) => writeAll(fd, bytes));
}

/** Everything, in pieces that a single write can take. */
export function writeAll(fd: number, bytes: Uint8Array, position?: number): void {
  const piece = 64 << 20;
  for (let at = 0; at < bytes.byteLength; ) {
    const length = Math.min(piece, bytes.byteLength - at);
    at += writeSync(fd, bytes, at, length, position === undefined ? null : position + at);
  }
}
