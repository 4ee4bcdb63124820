import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { checkPath, DataError } from '../errors.js';

/** Of this process, by lock file. */
const held = new Map<string, { readonly holder: object; readonly made: boolean; count: number }>();
let watched = false;

/** However the process ends, but for a kill. */
function releaseAtExit(): void {
  if (watched) return;
  watched = true;
  process.on('exit', () => {
    for (const file of held.keys()) rmSync(file, { force: true });
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

/** Makes the folder where there is none, and says whether. Node's own way never ends where a parent takes no folders. */
function makeFolder(folder: string): boolean {
  if (existsSync(folder)) return false;
  makeFolder(path.dirname(folder));
  try {
    mkdirSync(folder);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Writes the lock file, in the place of one whose process has died. */
function takeFile(folder: string, file: string): void {
  for (;;) {
    try {
      writeFileSync(file, String(process.pid), { flag: 'wx' });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const pid = Number(readFileSync(file, 'utf8'));
    if (pid === process.pid ? held.has(file) : pid > 0 && alive(pid)) {
      throw new DataError(`${folder}: process ${pid} is training into this folder`, {
        code: 'ERR_FM_DATA',
        hint: `wait for it or name another folder; if there is no such training, remove ${file}`,
      });
    }
    rmSync(file, { force: true });
  }
}

/**
 * Makes the folder and takes it for this training alone, or throws a DataError that names the process which has it.
 * The lock of a process that has died is taken over; a holder may take its own again.  Returns what gives it back.
 *
 * @example
 * const release = lockFolder('runs/a');
 */
export function lockFolder(folder: string, holder: object = {}): () => void {
  checkPath('lockFolder', 'the path of a folder', folder);
  const file = path.resolve(folder, '.lock');
  let own = held.get(file);
  if (own?.holder !== holder) {
    let made = false;
    try {
      made = makeFolder(path.dirname(file));
      takeFile(folder, file);
    } catch (error) {
      if (made) removeEmpty(path.dirname(file));
      if (error instanceof DataError) throw error;
      throw new DataError(`${folder}: cannot be written to: ${(error as Error).message}`, {
        code: 'ERR_FM_DATA',
        hint: 'name a folder that may be created and written, with --out or `out`',
        cause: error,
      });
    }
    own = { holder, made, count: 0 };
    held.set(file, own);
    releaseAtExit();
  }
  own.count++;
  let given = false;
  return () => {
    if (given || !own) return;
    given = true;
    if (--own.count > 0) return;
    held.delete(file);
    rmSync(file, { force: true });
    if (own.made) removeEmpty(path.dirname(file));
  };
}

/** A folder that nothing was written into was made for the lock alone. */
function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // It holds something.
  }
}
