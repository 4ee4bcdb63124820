/**
 * A checkpoint is one safetensors file, `checkpoints/step-00001200.safetensors`: every tensor of the run under a
 * prefix, and a JSON description in the metadata.  Files appear whole or not at all.
 */
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { HostDtype } from '../binding.js';
import { ArgumentTypeError, checkIterable, checkObject, checkPath, counted, DataError, expected } from '../errors.js';
import { checkTensor, type Tensor } from '../tensor.js';
import { removeTemporaries } from './atomicFile.js';
import { type FileTensor, readSafetensors, writeSafetensors } from './safetensors.js';

const FORMAT = 'flashmargin-checkpoint-1';
const RUN_FOLDER = 'the folder of a run';
const CHECKPOINT = /^step-\d+\.safetensors$/;
const isCount = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0;

export interface CheckpointState {
  /** Steps done. */
  readonly step: number;
  /** Where the data stream goes on. */
  readonly epoch: number;
  readonly batch: number;
  /** The configuration of the run, as it was resolved. */
  readonly config: unknown;
}

/** Parts of a run by prefix: `backbone`, `optimizer`, `head`. */
export type CheckpointParts = Readonly<Record<string, Iterable<readonly [string, Tensor]>>>;

/** Writes a run's tensors and state as one file, atomically. */
export function saveCheckpoint(file: string, state: CheckpointState, parts: CheckpointParts): void {
  checkPath('saveCheckpoint', 'the path of a file', file);
  expected(typeof state === 'object' && state !== null, 'saveCheckpoint', 'the state of a run', state);
  for (const count of ['step', 'epoch', 'batch'] as const)
    expected(isCount(state[count]), 'saveCheckpoint', `state.${count}, an integer of at least 0`, state[count]);
  const entries = namedTensors('saveCheckpoint', parts).map(
    ([name, x]) => [name, { shape: x.shape, dtype: storedDtype(name, x), data: () => x.toArray() }] as const,
  );
  writeSafetensors(file, entries, { format: FORMAT, state: JSON.stringify(state) });
}

/** Every part's tensors under its prefix. */
function namedTensors(operation: string, parts: CheckpointParts): (readonly [string, Tensor])[] {
  checkObject(operation, 'tensors by name, of each part', parts);
  return Object.entries(parts).flatMap(([prefix, tensors]) => {
    const wanted = `parts.${prefix}, a name and a tensor each`;
    checkIterable(operation, wanted, tensors);
    return Array.from(tensors, (entry) => {
      expected(Array.isArray(entry), operation, wanted, entry);
      const [name, x] = entry as readonly [string, Tensor];
      checkTensor(operation, `${prefix}.${name}`, x);
      return [`${prefix}.${name}`, x] as const;
    });
  });
}

/** What a run goes on from has full precision. */
function storedDtype(name: string, { dtype }: Tensor): HostDtype {
  if (dtype !== 'bfloat16') return dtype;
  throw new ArgumentTypeError(`saveCheckpoint: expected ${name} of another dtype than bfloat16`, {
    code: 'ERR_FM_TYPE',
    hint: "keep it in float32: ops.cast(x, 'float32')",
  });
}

export interface Checkpoint {
  readonly file: string;
  readonly state: CheckpointState;
  readonly tensors: Map<string, FileTensor>;
}

/** Reads and verifies a checkpoint. */
export function readCheckpoint(file: string): Checkpoint {
  checkPath('readCheckpoint', 'the path of a checkpoint, as listCheckpoints(run) has them', file);
  const { tensors, metadata } = readSafetensors(file);
  if (metadata.format !== FORMAT) {
    throw new DataError(
      `${file}: expected a checkpoint (format ${FORMAT}), got ${metadata.format ?? 'another safetensors file'}`,
      {
        code: 'ERR_FM_DATA',
        hint: "name a file in a run's checkpoints folder",
      },
    );
  }
  return { file, tensors, state: readState(file, metadata.state) };
}

function readState(file: string, text: string | undefined): CheckpointState {
  let state: unknown;
  try {
    state = JSON.parse(text ?? '');
  } catch {
    state = undefined;
  }
  const { step, epoch, batch } = (state ?? {}) as Partial<CheckpointState>;
  if (![step, epoch, batch].every(isCount)) {
    throw new DataError(`${file}: expected the state of a run in its metadata, got ${text?.slice(0, 80) ?? 'none'}`, {
      code: 'ERR_FM_DATA',
      hint: 'use an earlier checkpoint',
    });
  }
  return state as CheckpointState;
}

/** Copies a checkpoint's tensors into those of a run; all must be there, with their shapes. */
export function restore(
  checkpoint: Checkpoint,
  parts: CheckpointParts,
  hint = 'resume with the configuration that the run was started with',
): void {
  expected(checkpoint?.tensors instanceof Map, 'restore', 'a checkpoint, as readCheckpoint returns it', checkpoint);
  const { file, tensors } = checkpoint;
  const pairs = namedTensors('restore', parts);
  const problems = pairs.flatMap(([name, x]) => {
    const entry = tensors.get(name);
    if (!entry) return [`missing ${name}`];
    const fits = entry.shape.join() === x.shape.join() && entry.dtype === x.dtype;
    return fits
      ? []
      : [`${name}: expected ${x.dtype} [${x.shape.join(', ')}], got ${entry.dtype} [${entry.shape.join(', ')}]`];
  });
  if (problems.length > 0) {
    throw new DataError(
      `${file}: ${counted(problems.length, 'tensor does', 'tensors do')} not fit this run\n  ${problems.slice(0, 8).join('\n  ')}`,
      { code: 'ERR_FM_DATA', hint },
    );
  }
  for (const [name, x] of pairs) x.set((tensors.get(name) as FileTensor).data as Float32Array);
}

/** The file of a run's checkpoint after so many steps. */
export function checkpointFile(folder: string, step: number): string {
  checkPath('checkpointFile', RUN_FOLDER, folder);
  expected(isCount(step), 'checkpointFile', 'step, an integer of at least 0', step);
  return path.join(folder, 'checkpoints', `step-${String(step).padStart(8, '0')}.safetensors`);
}

/** Checkpoints of a run, the newest first. */
export function listCheckpoints(folder: string): string[] {
  checkPath('listCheckpoints', RUN_FOLDER, folder);
  const inside = path.join(folder, 'checkpoints');
  if (!existsSync(inside)) return [];
  return readdirSync(inside)
    .filter((name) => CHECKPOINT.test(name))
    .sort()
    .reverse()
    .map((name) => path.join(inside, name));
}

/** The newest checkpoint that is whole; `onBad` hears of every one that is not. */
export function lastGoodCheckpoint(folder: string, onBad: (error: unknown) => void = () => {}): Checkpoint | undefined {
  checkPath('lastGoodCheckpoint', RUN_FOLDER, folder);
  for (const file of listCheckpoints(folder)) {
    try {
      return readCheckpoint(file);
    } catch (error) {
      onBad(error);
    }
  }
  return undefined;
}

/** The newest checkpoint that is whole, or a DataError that says whether there was one at all. */
export function neededCheckpoint(folder: string, onBad?: (error: unknown) => void): Checkpoint {
  checkPath('neededCheckpoint', RUN_FOLDER, folder);
  const checkpoint = lastGoodCheckpoint(folder, onBad);
  if (checkpoint) return checkpoint;
  const damaged = listCheckpoints(folder).length;
  throw new DataError(
    `${folder}: expected a whole checkpoint, got ${damaged === 0 ? 'none' : `${damaged}, of which none is whole`}`,
    {
      code: 'ERR_FM_DATA',
      hint:
        damaged === 0
          ? `train first: flashmargin train CONFIG --out ${folder} --resume`
          : `copy a whole one there, or train again: flashmargin train CONFIG --out ${folder} --overwrite`,
    },
  );
}

/** Renames the checkpoints after a step to `….damaged`: those that a resumed run passed over. */
export function setAsideCheckpoints(folder: string, after: number): void {
  checkPath('setAsideCheckpoints', RUN_FOLDER, folder);
  expected(isCount(after), 'setAsideCheckpoints', 'after, a step of at least 0', after);
  for (const file of listCheckpoints(folder))
    if (file > checkpointFile(folder, after)) renameSync(file, `${file}.damaged`);
}

/** Removes all but the newest `keep` checkpoints, and what writers that were killed left of theirs. */
export function pruneCheckpoints(folder: string, keep: number): void {
  checkPath('pruneCheckpoints', RUN_FOLDER, folder);
  expected(isCount(keep), 'pruneCheckpoints', 'keep, an integer of at least 0', keep);
  removeTemporaries(path.join(folder, 'checkpoints'), CHECKPOINT);
  for (const file of listCheckpoints(folder).slice(keep)) rmSync(file, { force: true });
}
