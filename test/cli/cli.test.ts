/** The command line as a user meets it: exit codes, streams, and what it says when something is wrong. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { listCheckpoints, lockFolder } from '../../lib/io/index.js';
import { emulatedCuda } from '../emulatedCuda.js';
import { scratchFolder, tinyConfig, writeTinySet } from '../train/tinySet.js';

const folder = scratchFolder();
const cli = fileURLToPath(new URL('../../dist/cli/main.mjs', import.meta.url));
const at = (name: string) => path.join(folder, name);

function flashmargin(...args: string[]) {
  const { stdout, stderr, status } = spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8' });
  return { stdout, stderr, status };
}

beforeAll(() => {
  writeTinySet(at('tiny.rec'));
  writeFileSync(at('good.json'), JSON.stringify({ ...tinyConfig(folder), evaluation: { test: at('tiny.rec') } }));
});

describe('flashmargin', () => {
  it('trains, prints the table on stdout and talk on stderr, and writes the run', () => {
    const { stdout, stderr, status } = flashmargin('train', at('good.json'));
    expect(status, stderr).toBe(0);
    expect(stdout).toMatch(/^tier +images +TAR@0\.001 +TAR@0\.0001 +rank-1/);
    expect(stderr).toMatch(/step 45\/45 {2}epoch 3 {2}loss .* lr .* images\/s {2}head \d+% {2}ETA/);
    for (const name of ['config.json', 'metrics.jsonl', 'summary.json', 'report.html'])
      expect(existsSync(path.join(at('run'), name))).toBe(true);
    expect(JSON.parse(readFileSync(path.join(at('run'), 'summary.json'), 'utf8'))).toMatchObject({
      steps: 45,
      identities: 12,
      tiers: [{ name: 'all' }],
    });
  });

  it('evaluates a run, for machines too', () => {
    const { stdout, status } = flashmargin('eval', '--run', at('run'), '--rec', at('tiny.rec'), '--json');
    expect(status).toBe(0);
    const { step, tiers } = JSON.parse(stdout);
    expect(step).toBe(45);
    expect(tiers[0].auc).toBeGreaterThan(0.5);
  });

  it.each([
    ['SIGTERM', 143, 'terminated'],
    ['SIGHUP', 129, 'the terminal was closed'],
    ['a closed pipe', 141, ''],
  ])('%s: saves, gives the folder back, and goes on', async (how, code, words) => {
    const out = at(`stopped-${code}`);
    const config = { ...tinyConfig(folder, `stopped-${code}`), epochs: 10_000, log: { everySteps: 1 } };
    writeFileSync(at('long.json'), JSON.stringify(config));
    const running = spawn(process.execPath, [cli, 'train', at('long.json')], { stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = new Promise<number | null>((resolve) => running.on('exit', resolve));
    let talk = '';
    running.stderr.on('data', (chunk) => {
      talk += chunk;
    });
    const metrics = path.join(out, 'metrics.jsonl');
    const lines = () => (existsSync(metrics) ? readFileSync(metrics, 'utf8').trim().split('\n').length : 0);
    while (lines() < 3 && running.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 20));
    if (how.startsWith('SIG')) running.kill(how as NodeJS.Signals);
    else running.stderr.destroy();
    expect(await ended).toBe(code);
    expect(talk).toContain(words);
    expect(existsSync(path.join(out, '.lock'))).toBe(false);
    const saved = Number(/step-(\d+)/.exec(listCheckpoints(out)[0] as string)?.[1]);
    expect(saved).toBeGreaterThanOrEqual(3);
    expect(saved).toBe(lines());
  });

  it('keeps its folder to the end of the report', () => {
    const holder = {};
    const release = lockFolder(at('run'), holder);
    try {
      const { status, stderr } = flashmargin('train', at('good.json'), '--overwrite');
      expect([status, stderr]).toEqual([1, expect.stringMatching(/process \d+ is training into this folder/)]);
      expect(() => lockFolder(at('run'))).toThrow(/is training into this folder/);
      lockFolder(at('run'), holder)(); // taken again by its holder
      expect(existsSync(path.join(at('run'), '.lock'))).toBe(true);
    } finally {
      release();
    }
    expect(existsSync(path.join(at('run'), '.lock'))).toBe(false);
  });

  it('ends where no folder can be made, and leaves none that it does not need', () => {
    const { status, stderr } = flashmargin('train', at('good.json'), '--out', '/proc/nosuch/run');
    expect([status, stderr]).toEqual([1, expect.stringMatching(/cannot be written to/)]);
    const refused = flashmargin('train', at('good.json'), '--out', at('unused'), '--resume', '--overwrite');
    expect(refused.status).toBe(2);
    expect(existsSync(at('unused'))).toBe(false);
  });

  it('looks at a run through its head', () => {
    const composed = {
      ...tinyConfig(folder, 'composed'),
      margin: { method: 'adaface', scale: 16, subCenters: 2 },
      optimizer: { type: 'adamw', lr: 0.01 },
    };
    writeFileSync(at('composed.json'), JSON.stringify(composed));
    expect(flashmargin('train', at('composed.json')).status).toBe(0);
    const { stdout, stderr, status } = flashmargin('inspect', '--run', at('composed'), '--images', '100', '--json');
    expect(status, stderr).toBe(0);
    const seen = JSON.parse(stdout);
    expect(seen).toMatchObject({ step: 45, method: 'adaface', K: 2, labelled: 100 });
    expect(Object.keys(seen.state)).toEqual(['steps', 'normMean', 'normStd']);
    const sum = (counts: number[]) => counts.reduce((a, b) => a + b, 0);
    expect([sum(seen.targetAngles.counts), sum(seen.nearestAngles.counts)]).toEqual([100, 100]);
    expect(Object.keys(seen.subCenters)).toHaveLength(12);
    const talk = flashmargin('inspect', '--run', at('composed')).stdout;
    expect(talk).toMatch(/median angle to the own class +\d+\.\d°/);
    expect(talk).toMatch(/\nsteps +45\nnormMean +\d+\.\d+\n/);
    expect(talk).toMatch(/main center +\d+\.\d\d %/);
    writeTinySet(at('fewer.rec'), { classes: 11 });
    expect(flashmargin('inspect', '--run', at('composed'), '--rec', at('fewer.rec'))).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(
        /inspect: expected a set of 12 classes, .*, got 11 in fewer\.rec\n {2}fix: give a set/,
      ),
    });
    expect(flashmargin('inspect', '--run', at('nowhere')).stderr).toMatch(/is not a run folder/);
  });

  it('runs golden files through the kernels', () => {
    const golden = fileURLToPath(new URL('../golden', import.meta.url));
    const { stdout, stderr, status } = flashmargin('conformance', golden, '--only', 'arc*small');
    expect(status, stdout).toBe(0);
    expect(stdout).toMatch(/arcface\.insightface\.small +float64 .* ok\n/);
    expect(stdout).toMatch(/elasticface\.official\.arc_plus\.small +float32 .* ok\n/);
    expect(stderr).toMatch(/\d+ passed, 0 failed, 0 files not run/);
    const { rows } = JSON.parse(flashmargin('conformance', golden, '--only', 'pml.hard', '--json').stdout);
    expect(rows.map(({ name, precision, passed }: Record<string, unknown>) => [name, precision, passed])).toEqual([
      ['arcface.pml.hard', 'float64', true],
      ['arcface.pml.hard', 'float32', true],
    ]);
    expect(rows[0].measurements.dX_rel).toMatchObject({ error: expect.any(Number), allowed: 1e-5 });
    expect(flashmargin('conformance', golden, '--only', 'nothing').stderr).toMatch(/has 'nothing' in its name/);
    expect(flashmargin('conformance', golden, '--device', 'gpu').stderr).toMatch(
      /option '--device <device>' argument 'gpu' is invalid\. Expected 'cpu', 'cuda'/,
    );
    expect(flashmargin('conformance', golden, '--device', 'cuda:99')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/device 'cuda:99': /),
    });
  });

  it('measures golden files in one precision', () => {
    const golden = fileURLToPath(new URL('../golden', import.meta.url));
    const inPrecision = (precision: string, only: string) =>
      flashmargin('conformance', golden, '--only', only, '--precision', precision, '--json');
    const { rows } = JSON.parse(inPrecision('float32', 'pml.hard').stdout);
    expect(rows.map(({ precision }: { precision: string }) => precision)).toEqual(['float32']);
    // There is nothing to compare the CPU's own bfloat16 with.
    for (const device of [[], ['--device', 'auto']])
      expect(flashmargin('conformance', golden, '--precision', 'bfloat16', ...device)).toMatchObject({
        status: 1,
        stderr: expect.stringMatching(
          /expected a device other than cpu for bfloat16, got 'cpu'\n {2}fix: bfloat16 is judged by what the CPU loses/,
        ),
      });
    expect(inPrecision('float16', 'pml.hard')).toMatchObject({ status: 2 });
    expect(JSON.parse(inPrecision('float32', 'align').stdout).skipped).toEqual([
      { file: 'align.similarity.safetensors', reason: 'is not measured in float32' },
    ]);
  });

  it('notices golden numbers that are not those of the kernels', () => {
    const golden = fileURLToPath(new URL('../golden/arcface.insightface.small.safetensors', import.meta.url));
    const bytes = readFileSync(golden);
    const header = bytes.readBigUInt64LE(0);
    const { logits } = JSON.parse(bytes.subarray(8, 8 + Number(header)).toString());
    const first = 8 + Number(header) + logits.data_offsets[0];
    bytes.writeDoubleLE(bytes.readDoubleLE(first) + 1e-3, first);
    const wrong = scratchFolder();
    writeFileSync(path.join(wrong, 'arcface.insightface.small.safetensors'), bytes);
    const { stdout, status } = flashmargin('conformance', wrong);
    expect(stdout).toMatch(/FAILED/);
    expect(status).toBe(1);
    expect(flashmargin('conformance', at('nowhere')).stderr).toMatch(/nowhere cannot be read/);
  });

  it('says what it found', () => {
    const { stdout, status } = flashmargin('doctor', '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout).map(({ part }: { part: string }) => part)).toEqual([
      'addon',
      'node',
      'cpu',
      'bfloat16',
      'onednn',
      'cuda',
    ]);
  });

  it.skipIf(!emulatedCuda)('says which libraries a GPU would use, and why not', () => {
    const { stdout } = spawnSync(process.execPath, [cli, 'doctor', '--json'], {
      encoding: 'utf8',
      env: {
        ...process.env,
        FLASHMARGIN_CUDA: emulatedCuda,
        FLASHMARGIN_CUDA_OPS: '',
        FLASHMARGIN_CUDNN_PATH: '/nowhere',
        FLASHMARGIN_CUBLASLT_PATH: folder,
        FLASHMARGIN_NCCL_PATH: '/nowhere',
      },
    });
    const findings = JSON.parse(stdout) as { part: string; state: string; detail: string }[];
    const of = (name: string) => findings.find(({ part }) => part === name);
    expect(of('cudnn')).toMatchObject({
      state: 'off',
      detail: 'FLASHMARGIN_CUDNN_PATH names /nowhere, which cannot be read',
    });
    expect(of('cublaslt')?.detail).toContain('which has no libcublasLt.so.13');
    expect(of('nccl')?.state).toBe('off');
  });

  it.each([
    ['a command that is none', ['trian'], 2, /unknown command 'trian'[\s\S]*train/],
    ['an option that is none', ['train', at('good.json'), '--resum'], 2, /unknown option '--resum'/],
    ['no configuration', ['train'], 2, /missing required argument 'config'/],
    ['a configuration that is not there', ['train', at('none.yaml')], 1, /none\.yaml does not exist/],
    ['a run that is there', ['train', at('good.json')], 1, /already holds a run\n {2}fix: --resume/],
    ['nothing to evaluate', ['eval', '--run', at('run')], 2, /expected --rec FILE, --pairs FILE/],
    ['nothing to evaluate with', ['eval', '--rec', at('tiny.rec')], 2, /--run DIR or --checkpoint FILE/],
    [
      'a gallery of pairs',
      ['eval', '--run', at('run'), '--pairs', at('x.bin'), '--gallery', 'noto'],
      2,
      /expected --rec FILE with --gallery/,
    ],
    [
      'to go on and to begin again',
      ['train', at('good.json'), '--resume', '--overwrite'],
      2,
      /'--overwrite' cannot be used with option '--resume'/,
    ],
    [
      'a number that is none',
      ['inspect', '--run', at('run'), '--images', 'abc'],
      2,
      /'--images <n>' argument 'abc' is invalid\. Expected an integer of at least 1/,
    ],
    ['no images', ['inspect', '--run', at('run'), '--images', '0'], 2, /argument '0' is invalid/],
    [
      'an empty folder name',
      ['train', at('good.json'), '--out', ''],
      2,
      /'--out <dir>' argument '' is invalid\. Expected a path/,
    ],
    [
      'a device that is none',
      ['train', at('good.json'), '--device', 'gpu'],
      2,
      /'--device <device>' argument 'gpu' is invalid\. Expected 'cpu', 'cuda', [\s\S]*add --help/,
    ],
    ['a report of nothing', ['report', ''], 2, /value '' is invalid for argument 'run'\. Expected a path/],
    [
      'a set that is a folder',
      ['eval', '--run', at('run'), '--rec', folder],
      1,
      /expected a file, got a folder.*\n {2}fix: /,
    ],
    ['a configuration that is a folder', ['train', folder], 1, /expected a file, got the folder .*\n {2}fix: /],
    ['a report of no run', ['report', folder], 1, /not a run folder/],
    [
      'both a run and a checkpoint',
      ['eval', '--run', at('run'), '--checkpoint', at('x'), '--rec', at('tiny.rec')],
      2,
      /'--checkpoint <file>' cannot be used with option '--run <dir>'/,
    ],
    [
      'a checkpoint that is a folder',
      ['eval', '--checkpoint', folder, '--rec', at('tiny.rec')],
      1,
      /cannot be read.*\n {2}fix: /,
    ],
    ['a folder that is no run', ['eval', '--run', folder, '--rec', at('tiny.rec')], 1, /not a run folder/],
    [
      'a gallery without families',
      ['eval', '--run', at('run'), '--rec', at('tiny.rec'), '--gallery', 'noto'],
      1,
      /needs a \.tsv with a family column/,
    ],
    [
      'a set that is not there',
      ['eval', '--run', at('run'), '--rec', at('none.rec')],
      1,
      /none\.rec.*\n {2}fix: name a/,
    ],
  ])('refuses %s', (_, args, code, message) => {
    const { stderr, stdout, status } = flashmargin(...args);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/unexpected error|^ +at .*\.mjs/m);
    expect(status).toBe(code);
    expect(stdout).toBe('');
  });

  it.each([
    [
      'bad key',
      (config: Record<string, unknown>) => ({ ...config, epocs: 2 }),
      /epocs: unknown key; did you mean 'epochs'/,
    ],
    [
      'missing data',
      (config: Record<string, unknown>) => ({ ...config, out: at('x1'), data: { train: at('none.rec') } }),
      /none\.rec/,
    ],
    [
      'cuda',
      (config: Record<string, unknown>) => ({ ...config, out: at('x2'), device: 'cuda:7' }),
      /device 'cuda:7': .*\n {2}fix: use device 'cpu'/,
    ],
    [
      'a long warm-up',
      (config: Record<string, unknown>) => ({ ...config, out: at('x4'), schedule: { warmupSteps: 100 } }),
      /schedule\.warmupSteps: expected at most 45, .* got 100\n {2}fix: lower/,
    ],
    [
      'batch too large',
      (config: Record<string, unknown>) => ({ ...config, out: at('x3'), batchSize: 1000 }),
      /at least one batch of 1000, got a set of 120/,
    ],
  ])('a configuration with %s', (name, change, message) => {
    const file = at(`${name.replace(' ', '-')}.json`);
    writeFileSync(file, JSON.stringify(change(JSON.parse(readFileSync(at('good.json'), 'utf8')))));
    const { stderr, status } = flashmargin('train', file);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/unexpected error/);
    expect(status).toBe(1);
  });

  it.each([0, 1])('fails with a message when training fails, with %i decoding threads', (workers) => {
    const config = JSON.parse(readFileSync(at('good.json'), 'utf8'));
    const file = at(`explodes-${workers}.json`);
    writeFileSync(
      file,
      JSON.stringify({
        ...config,
        out: at(`explodes-${workers}`),
        optimizer: { lr: 1e30 },
        schedule: {},
        data: { ...config.data, workers },
      }),
    );
    for (let i = 0; i < 3; i++) {
      const { stderr, status } = flashmargin('train', file, '--overwrite');
      expect(stderr).toMatch(/not finite/);
      expect(status).toBe(1);
    }
  });

  it('says what is wrong with its environment', () => {
    for (const [name, value] of [
      ['FLASHMARGIN_THREADS', 'abc'],
      ['FLASHMARGIN_THREADS', '0'],
      ['FLASHMARGIN_ISA', 'sse9'],
    ] as const) {
      const { stdout, status } = spawnSync(process.execPath, [cli, 'doctor'], {
        encoding: 'utf8',
        env: { ...process.env, [name]: value },
      });
      expect(stdout).toContain(`${name}: expected`);
      expect(stdout).toContain(`got '${value}'`);
      expect(status).toBe(0);
    }
  });

  it('refuses a damaged set and writes nothing', () => {
    writeTinySet(at('cut.rec'));
    truncateSync(at('cut.rec'), 3000);
    writeFileSync(at('cut.json'), JSON.stringify({ ...tinyConfig(folder, 'cut-run'), data: { train: at('cut.rec') } }));
    const { stderr, status } = flashmargin('train', at('cut.json'));
    expect(stderr).toMatch(/cut\.rec/);
    expect(stderr).toMatch(/expected|truncated/);
    expect(status).toBe(1);
    expect(existsSync(path.join(at('cut-run'), 'checkpoints'))).toBe(false);
  });
});
