import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DataError } from '../errors.js';

const held = new Set<string>();
let watched = false;

/** However the process ends, but for a kill. */
function releaseAtExit(): void {
  if (watched) return;
  watched = true;
  process.on('exit', () => {
    for (const file of held) rmSync(file, { force: true });
  });
}

/** True while a process of that id lives; one that may not be signalled lives too. */
function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/**
 * Makes the folder and takes it for this training alone, or throws a DataError that names the process which has it.
 * The lock of a process that has died is taken over.  Returns what gives it back.
 *
 * @example
 * const release = lockFolder('runs/a');
 */
export function lockFolder(folder: string): () => void {
  const file = path.resolve(folder, '.lock');
  const refuse = (pid: number): never => {
    throw new DataError(`${folder}: process ${pid} is training into this folder`, {
      code: 'ERR_FM_DATA',
      hint: `wait for it or name another folder; if there is no such training, remove ${file}`,
    });
  };
  try {
    mkdirSync(folder, { recursive: true });
    for (;;) {
      try {
        writeFileSync(file, String(process.pid), { flag: 'wx' });
        break;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        const pid = Number(readFileSync(file, 'utf8'));
        if (pid === process.pid ? held.has(file) : pid > 0 && alive(pid)) refuse(pid);
        rmSync(file, { force: true });
      }
    }
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(`${folder}: cannot be written to: ${(error as Error).message}`, {
      code: 'ERR_FM_DATA',
      hint: 'name a folder that may be created and written, with --out or `out`',
      cause: error,
    });
  }
  held.add(file);
  releaseAtExit();
  return () => {
    held.delete(file);
    rmSync(file, { force: true });
  };
}
