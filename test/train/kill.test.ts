/** kill -9 at any moment leaves a run that goes on, and ends with the bits of an undisturbed one. */
import { spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { listCheckpoints, readCheckpoint } from '../../lib/io/index.js';
import { Random } from '../../lib/random.js';
import { scratchFolder, tinyConfig, writeTinySet } from './tinySet.js';

const folder = scratchFolder();
const cli = fileURLToPath(new URL('../../dist/cli/main.mjs', import.meta.url));
const file = path.join(folder, 'config.json');

beforeAll(() => {
  writeTinySet(path.join(folder, 'tiny.rec'));
  // A checkpoint after every second step: most kills fall into the writing of one.
  const config = { ...tinyConfig(folder), epochs: 40, checkpoint: { everySteps: 2, keep: 2 } };
  writeFileSync(file, JSON.stringify(config));
});

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

function run(
  args: readonly string[],
  kill?: { after: number; signal: NodeJS.Signals; whenReady: boolean },
): Promise<Ended> {
  const child = spawn(process.execPath, [cli, 'train', file, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  let armed = false;
  const arm = () => {
    if (!kill || armed) return;
    armed = true;
    setTimeout(() => child.kill(kill.signal), kill.after);
  };
  if (kill && !kill.whenReady) arm();
  child.stderr.on('data', (text: Buffer) => {
    stderr += text;
    if (/step +\d+\/|resuming|starting/.test(stderr)) arm();
  });
  return new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal, stderr })));
}

function finalBytes(out: string): Buffer {
  const { tensors, state } = readCheckpoint(listCheckpoints(out)[0] as string);
  expect(state.step).toBe(600);
  return Buffer.concat(
    [...tensors.values()].map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength)),
  );
}

describe('a run that is killed', () => {
  it('goes on from 20 random kills to the same bits', { timeout: 240_000 }, async () => {
    const undisturbed = path.join(folder, 'undisturbed');
    expect((await run(['--out', undisturbed])).code).toBe(0);
    const out = path.join(folder, 'killed');
    const rng = new Random(20);
    let kills = 0;
    for (let i = 0; i < 20; i++) {
      // Half while the process starts, half while it trains.
      const whenReady = i % 2 === 1;
      const { code, signal } = await run(['--out', out, '--resume'], {
        after: whenReady ? 250 * rng.uniform() : 100 + 500 * rng.uniform(),
        signal: 'SIGKILL',
        whenReady,
      });
      if (signal === 'SIGKILL') kills++;
      else expect(code).toBe(0);
      for (const checkpoint of listCheckpoints(out)) readCheckpoint(checkpoint); // whole, every one
    }
    expect(kills).toBeGreaterThanOrEqual(10);
    const { code, stderr } = await run(['--out', out, '--resume']);
    expect(stderr).not.toMatch(/damaged/);
    expect(code).toBe(0);
    expect(finalBytes(out).equals(finalBytes(undisturbed))).toBe(true);
    expect(existsSync(path.join(out, 'summary.json'))).toBe(true);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('saves on %s, says how to go on, and exits with %i', { timeout: 240_000 }, async (signal, exitCode) => {
    const out = path.join(folder, signal);
    const ended = await run(['--out', out], { after: 30, signal, whenReady: true });
    expect(ended.code).toBe(exitCode);
    expect(ended.stderr).toMatch(/saved: go on with --resume/);
    expect((await run(['--out', out, '--resume'])).code).toBe(0);
    expect(finalBytes(out).equals(finalBytes(path.join(folder, 'undisturbed')))).toBe(true);
  });
});
