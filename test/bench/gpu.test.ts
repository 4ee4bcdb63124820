/** bench/gpu: a dry run of everything that wants a GPU, and what becomes of a run's results. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const folder = mkdtempSync(path.join(tmpdir(), 'flashmargin-gpu-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (command: string, args: readonly string[], env: Record<string, string> = {}) =>
  spawnSync(command, args, { encoding: 'utf8', env: { ...process.env, ...env } });
const script = (...args: string[]) => run('bash', ['bench/gpu/run.sh', ...args]);
const lines = (file: string) =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe('run.sh', () => {
  it.each([
    [[], 'expected a folder to write to'],
    [['--wet', '/tmp/x'], "unknown option '--wet'"],
    [['/tmp/x', '/tmp/y'], "one folder, got '/tmp/x' and '/tmp/y'"],
    [['--only'], '--only needs names'],
    [['/proc/nowhere'], "cannot make the folder '/proc/nowhere'"],
  ])('refuses %j', (args, sentence) => {
    const { status, stderr } = script(...args);
    expect(stderr).toContain(sentence);
    expect(status).toBe(2);
  });

  it('says what to do where nothing is built', () => {
    const elsewhere = path.join(folder, 'bare/bench/gpu');
    mkdirSync(elsewhere, { recursive: true });
    writeFileSync(path.join(elsewhere, 'run.sh'), readFileSync('bench/gpu/run.sh'));
    const { status, stderr } = run('bash', [path.join(elsewhere, 'run.sh'), path.join(folder, 'out')]);
    expect(stderr).toContain('is not built: npm run build');
    expect(status).toBe(2);
  });

  it('says what to do where there is nothing to run without a GPU', () => {
    const fake = path.join(folder, 'unbuilt');
    for (const made of ['bench/gpu', 'dist/cli', 'build/Release'])
      mkdirSync(path.join(fake, made), { recursive: true });
    for (const made of ['dist/cli/main.mjs', 'build/Release/flashmargin.node'])
      writeFileSync(path.join(fake, made), '');
    writeFileSync(path.join(fake, 'bench/gpu/run.sh'), readFileSync('bench/gpu/run.sh'));
    const { status, stderr } = run('bash', [path.join(fake, 'bench/gpu/run.sh'), '--dry', path.join(folder, 'out')]);
    expect(stderr).toContain('no emulated CUDA library');
    expect(status).toBe(2);
  });

  it('stops a stage at its limit, and goes on', () => {
    // A Node that never ends in one stage and fails in the others.
    const fake = path.join(folder, 'fake');
    for (const made of ['bench/gpu', 'dist/cli', 'build/Release'])
      mkdirSync(path.join(fake, made), { recursive: true });
    writeFileSync(path.join(fake, 'dist/cli/main.mjs'), '');
    writeFileSync(path.join(fake, 'build/Release/flashmargin.node'), '');
    const text = readFileSync('bench/gpu/run.sh', 'utf8').replace('stage "$1" 40', 'stage "$1" 1');
    writeFileSync(path.join(fake, 'bench/gpu/run.sh'), text);
    const node = path.join(fake, 'bin');
    mkdirSync(node);
    writeFileSync(path.join(node, 'node'), '#!/bin/sh\n[ "$1" = --version ] || sleep 60\n');
    chmodSync(path.join(node, 'node'), 0o755);
    const out = path.join(folder, 'stopped');
    const { status } = run('bash', [path.join(fake, 'bench/gpu/run.sh'), '--dry', '--only', 'runs,native', out], {
      PATH: `${node}:${process.env.PATH}`,
      FLASHMARGIN_CUDA: '/nowhere/lib.so',
    });
    expect(status).toBe(1);
    expect(lines(path.join(out, 'stages.jsonl'))).toMatchObject([
      { stage: 'runs', status: 'timeout', note: 'stopped after 1 s' },
      { stage: 'native-cuda_head', status: 'skipped', note: expect.stringContaining('not available: ') },
      { stage: 'native-devices', status: 'skipped' },
    ]);
  });

  const built = 'build-emulated/gpu-tests';
  it.skipIf(!existsSync(built))(
    'goes through every stage without a GPU (needs bench/gpu/pack.sh --dry-programs)',
    { timeout: 300_000 },
    () => {
      const out = path.join(folder, 'dry');
      const { status, stdout } = script('--dry', out);
      expect(status, stdout).toBe(0);
      const stages = lines(path.join(out, 'stages.jsonl'));
      expect(stages.length).toBeGreaterThan(20);
      for (const each of stages) {
        expect(each).toMatchObject({ dry: true });
        expect(['ok', 'skipped'], JSON.stringify(each)).toContain(each.status);
        if (each.status === 'skipped') expect(each.note).toMatch(/^not available: ./);
      }
      const wanted = ['runs', 'native-devices', 'golden-hopper', 'fuzz-plain', 'fuzz-hopper', 'head-hopper-sampled'];
      const ok = stages.filter(({ status }) => status === 'ok').map(({ stage }) => stage);
      expect(ok).toEqual(expect.arrayContaining(wanted));
      expect(lines(path.join(out, 'results.jsonl')).length).toBeGreaterThan(0);
      expect(readdirSync(out).length).toBeLessThanOrEqual(8);
      expect(JSON.parse(readFileSync(path.join(out, 'environment.json'), 'utf8'))).toMatchObject({ dry: true });
      // What is not measured cannot become a result.
      const { status: imported, stderr } = run(process.execPath, ['bench/gpu/import.mjs', out]);
      expect(stderr).toContain('expected a run on a GPU, got a dry one');
      expect(imported).toBe(1);
    },
  );
});

describe('import.mjs', () => {
  const environment = {
    date: '2030-01-02T03:04:05Z',
    commit: 'abcdef0',
    dry: false,
    gpu: 'NVIDIA Test 1',
    driver: '580.1',
    memoryMiB: '1000',
    cpu: 'cpu',
    cores: 1,
    kernel: 'Linux',
    node: 'v20.0.0',
    torch: '2.0',
    nvcc: '',
  };
  const timed = { ms: 2, min: 1, max: 3, roundMs: [2, 2.1], steps: 20 };
  const shape = { N: 1024, D: 512, C: 1_000_000, K: 1, precision: 'bfloat16' };
  const head = { stage: 'head-plain', dry: false, bench: 'gpu-head', ...shape, ...timed };
  const network = { ...timed, bench: 'gpu-backbone', net: 'iresnet50', precision: 'bfloat16', N: 256, C: 10 };
  const rows = [
    { ...head, peer: 'ours', path: 'plain', extraMiB: 100 },
    { ...head, peer: 'torch eager', ms: 9, extraMiB: 9000 },
    ...['bfloat16', 'float32'].map((netPrecision) => ({
      ...network,
      stage: 'head-plain',
      dry: false,
      peer: 'ours',
      netPrecision,
      settings: { tf32: 'on' },
      imagesPerSecond: 1000,
    })),
  ];
  const stages = [
    { stage: 'head-plain', status: 'ok', s: 3, limit: 40, dry: false, note: '' },
    { stage: 'profile', status: 'skipped', s: 0, limit: 30, dry: false, note: 'not available: ncu is not installed' },
  ];

  function write(name: string, parts: { environment?: object; stages?: object[]; rows?: object[] }): string {
    const at = path.join(folder, name);
    mkdirSync(at);
    const text = (all: object[]) => all.map((each) => `${JSON.stringify(each)}\n`).join('');
    writeFileSync(path.join(at, 'environment.json'), JSON.stringify({ ...environment, ...parts.environment }));
    writeFileSync(path.join(at, 'stages.jsonl'), text(parts.stages ?? stages));
    writeFileSync(path.join(at, 'results.jsonl'), text(parts.rows ?? rows));
    return at;
  }
  const imported = (at: string, out = path.join(folder, `${path.basename(at)}.json`)) => ({
    ...run(process.execPath, ['bench/gpu/import.mjs', at, '--out', out]),
    out,
  });

  it('takes a run that holds together, once, and tables come of it', async () => {
    const at = write('good', {});
    const { status, stdout, stderr, out } = imported(at);
    expect(status, stderr).toBe(0);
    expect(stdout).toContain('1 ok, 0 failed, 0 timeout, 1 skipped');
    expect(imported(at).stderr).toContain('is already there');
    const from = (name: string) => import(pathToFileURL(path.resolve('bench/gpu', name)).href);
    const { checkedRun, fileNameOf } = await from('results.mjs');
    const { gpuTables } = await from('tables.mjs');
    const kept = checkedRun(JSON.parse(readFileSync(out, 'utf8')), out);
    expect(fileNameOf(kept)).toBe('2030-01-02-nvidia-test-1.json');
    expect(gpuTables.gpu([kept])).toContain('9.00 (4.50 ×)');
    expect(gpuTables.gpuHead([kept])).toContain('| 2.00 / 2.10 |');
    for (const precision of ['bfloat16', 'float32'])
      expect(gpuTables.gpuBackbone([kept])).toContain(`, network ${precision}, head bfloat16, tf32 on |`);
    expect(gpuTables.gpuStages([kept])).toContain('ncu is not installed');
    for (const table of Object.values<(runs: readonly unknown[]) => string>(gpuTables))
      expect(table([])).toContain('Not run on a GPU yet');
  });

  it.each([
    ['a dry run', { environment: { dry: true } }, 'got a dry one'],
    ['no GPU', { environment: { gpu: 'none' } }, 'nvidia-smi named none'],
    ['no stages', { stages: [] }, 'stages: '],
    ['an unknown status', { stages: [{ ...stages[0], status: 'fine' }] }, 'stages.0.status'],
    ['a row of no stage', { rows: [{ ...rows[0], stage: 'elsewhere' }] }, 'of a stage that did not run, elsewhere'],
    ['a time of 0', { rows: [{ ...rows[0], ms: 0 }] }, 'rows.0.ms'],
    ['an unknown benchmark', { rows: [{ ...rows[0], bench: 'mine' }] }, 'rows.0.bench'],
  ])('refuses %s', (name, parts, sentence) => {
    const { status, stderr, out } = imported(write(name.replaceAll(' ', '-'), parts));
    expect(stderr).toContain(sentence);
    expect(status).toBe(1);
    expect(existsSync(out)).toBe(false);
  });

  it('needs a folder', () => {
    expect(run(process.execPath, ['bench/gpu/import.mjs']).status).toBe(2);
    expect(run(process.execPath, ['bench/gpu/import.mjs', path.join(folder, 'nowhere')]).stderr).toContain('nowhere');
  });
});
