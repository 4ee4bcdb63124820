/** The benchmarks at tiny sizes: every runner runs, says which peers are missing, and writes rows that hold together. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { margins } from '../../lib/margins/index.js';

type Row = Record<string, unknown> & { bench: string };

const folder = mkdtempSync(path.join(tmpdir(), 'flashmargin-bench-'));
let rows: Row[];
let said: string;

beforeAll(async () => {
  const out = path.join(folder, 'rows.jsonl');
  const script = path.resolve('scripts/bench.mjs');
  said = (await promisify(execFile)(process.execPath, [script, '--smoke', '--out', out])).stderr;
  rows = readFileSync(out, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);
}, 400_000); // half a minute where nothing else runs
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const of = (bench: string) => rows.filter((row) => row.bench === bench);

describe('benchmarks, tiny', () => {
  it('names machine, commit and load in every row, and has positive times', () => {
    for (const row of rows) {
      expect(row).toMatchObject({ cpu: expect.any(String), commit: expect.any(String), load: expect.any(Number) });
      if (row.bench !== 'eventLoop' && !row.skipped) expect(row.ms, JSON.stringify(row)).toBeGreaterThan(0);
    }
  });

  it('compares the head with every peer that is installed, which computes the same', () => {
    const ours = of('peers').find(({ peer }) => peer === 'ours');
    expect(ours).toMatchObject({ perOurs: 1, N: 8, D: 32, C: 400 });
    for (const row of of('peers')) {
      expect(row.skipped, String(row.peer)).toBeUndefined();
      expect(row.extraMiB, String(row.peer)).toBeGreaterThan(0);
      const { agreement } = row as { agreement?: Record<string, number> };
      for (const by of Object.values(agreement ?? {})) expect(by).toBeLessThanOrEqual(row.tolerance as number);
    }
  });

  it('accounts for each peer: a row, or a sentence that says what it needs', () => {
    for (const name of ['native', 'gemm3', 'mat', 'torch tuned', 'torch stock', 'tfjs wasm', 'tfjs cpu']) {
      const present = of('peers').some(({ peer }) => peer === name);
      expect(present || said.includes(`${name}: `), name).toBe(true);
    }
    expect(of('micro').length > 0 || said.includes('npm ci --prefix bench/optional')).toBe(true);
  });

  it('times each margin against ArcFace', () => {
    const timed = of('margins').map(({ margin }) => margin);
    for (const name of Object.keys(margins)) if (name !== 'arcface') expect(timed).toContain(name);
  });

  it('splits a step into the native call and the rest, and watches the event loop', () => {
    for (const row of of('overhead')) {
      expect(row.nativeMs).toBeGreaterThan(0);
      expect(row.overheadMs).toBeGreaterThan(0);
    }
    expect(of('eventLoop').map(({ method }) => method)).toContain('idle');
  });

  it('has rows of the other runners', () => {
    for (const bench of ['modes', 'scale', 'backbone']) expect(of(bench).length, bench).toBeGreaterThan(0);
  });
});
