import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { readCheckpoint, saveCheckpoint, writeAtomically, writeFileAtomically } from '../../lib/io/index.js';
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
  ['a disposed tensor', (file) => saveCheckpoint(file, state, { head: gone() }), /^(?!cannot write).*was disposed/],
])('of %s nothing is written: the file that was there stays', (_, write, message) => {
  const file = path.join(folder, 'step-00000003.safetensors');
  saveCheckpoint(file, state, { head: weights() });
  const before = readFileSync(file);
  expect(() => write(file)).toThrow(message);
  expect(readFileSync(file)).toEqual(before);
  expect(readCheckpoint(file).state.step).toBe(3);
});

it('says of a folder that cannot be made what to check', () => {
  writeFileSync(path.join(folder, 'file'), '');
  expect(() => writeFileAtomically(path.join(folder, 'file', 'below'), 'text')).toThrow(
    /^cannot write .*file\/below: .*\n.*check that the folder is writable/s,
  );
});
