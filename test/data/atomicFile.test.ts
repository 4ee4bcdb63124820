import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import {
  readCheckpoint,
  restore,
  saveCheckpoint,
  setAsideCheckpoints,
  writeAtomically,
  writeFileAtomically,
  writeSafetensors,
} from '../../lib/io/index.js';
import { tensor } from '../../lib/tensor.js';

const folder = mkdtempSync(path.join(tmpdir(), 'flashmargin-'));
afterAll(() => rmSync(folder, { recursive: true }));

const state = { step: 3, epoch: 0, batch: 3, config: {} };
const weights = () => [['w', tensor(Float32Array.of(1, 2), [2])]] as const;
const gone = () => {
  const [[name, x]] = weights();
  x.dispose();
  return [[name, x]] as const;
};

const source = () => ['w', { shape: [2], dtype: 'float32', data: () => new Float32Array(2) }] as const;
const written = (file: string, wrong: object) => writeSafetensors(file, [['w', { ...source()[1], ...wrong } as never]]);

it.each<[string, (file: string) => void, RegExp]>([
  [
    'a number',
    (file) => writeFileAtomically(file, 3 as never),
    /^writeFileAtomically: expected a text or a Uint8Array/,
  ],
  [
    'a list',
    (file) => writeFileAtomically(file, [65] as never),
    /^writeFileAtomically: expected a text or a Uint8Array/,
  ],
  [
    'no writer',
    (file) => writeAtomically(file, undefined as never),
    /^writeAtomically: expected a function that writes/,
  ],
  ['no state', (file) => saveCheckpoint(file, {} as never, {}), /^saveCheckpoint: expected state\.step, an integer/],
  [
    'no tensors',
    (file) => saveCheckpoint(file, state, { head: 3 as never }),
    /^saveCheckpoint: expected parts\.head, a name and a tensor each, got 3/,
  ],
  [
    'what is no tensor',
    (file) => saveCheckpoint(file, state, { head: [['w', 3 as never]] }),
    /^saveCheckpoint: expected head\.w as a tensor, got 3/,
  ],
  ['a text', (file) => writeSafetensors(file, 'ab' as never), /^writeSafetensors: expected tensors, a name and/],
  ['an entry', (file) => writeSafetensors(file, ['ab'] as never), /^writeSafetensors: expected tensors, a name and/],
  ['no source', (file) => writeSafetensors(file, [['w', 7]] as never), /expected w as \{ shape, dtype, data \}, got 7/],
  ['no shape', (file) => writeSafetensors(file, [['w', {}]] as never), /the shape of w, .* got undefined/],
  ['a dtype', (file) => written(file, { dtype: 'bfloat16' }), /the dtype of w, one of .* got 'bfloat16'/],
  [
    'data',
    (file) => written(file, { data: new Float32Array(2) }),
    /data of w, a function that returns it, got Float32/,
  ],
  [
    'too much data',
    (file) => written(file, { data: () => new Float32Array(3) }),
    /data of w, Float32Array of 2, got .* 3/,
  ],
  [
    'other data',
    (file) => written(file, { data: () => new Int32Array(2) }),
    /data of w, Float32Array of 2, got Int32A/,
  ],
  ['one name twice', (file) => writeSafetensors(file, [source(), source()]), /tensors of different names, got 'w'/],
  ['a number as metadata', (file) => writeSafetensors(file, [], { step: 3 as never }), /metadata\.step, a text, got 3/],
  ['a disposed tensor', (file) => saveCheckpoint(file, state, { head: gone() }), /^(?!cannot write).*was disposed/],
])('of %s nothing is written: the file that was there stays', (_, write, message) => {
  const file = path.join(folder, 'step-00000003.safetensors');
  saveCheckpoint(file, state, { head: weights() });
  const before = readFileSync(file);
  expect(() => write(file)).toThrow(message);
  expect(readFileSync(file)).toEqual(before);
  expect(readCheckpoint(file).state.step).toBe(3);
});

it('restores into tensors alone, and says its own name of a step that is none', () => {
  const file = path.join(folder, 'step-00000004.safetensors');
  saveCheckpoint(file, state, { head: weights() });
  const checkpoint = readCheckpoint(file);
  expect(() => restore(checkpoint, { head: 3 as never })).toThrow(
    /^restore: expected parts\.head, a name and a tensor/,
  );
  expect(() => restore(checkpoint, { head: [['w', {} as never]] })).toThrow(/^restore: expected head\.w as a tensor/);
  expect(() => restore(checkpoint, { body: weights() })).toThrow(
    /: 1 tensor does not fit this run\n {2}missing body\.w/,
  );
  expect(() => setAsideCheckpoints(folder, undefined as never)).toThrow(/^setAsideCheckpoints: expected after, a step/);
});

it('says of a folder that cannot be made what to check', () => {
  writeFileSync(path.join(folder, 'file'), '');
  expect(() => writeFileAtomically(path.join(folder, 'file', 'below'), 'text')).toThrow(
    /^cannot write .*file\/below: .*\n.*check that the folder is writable/s,
  );
});
