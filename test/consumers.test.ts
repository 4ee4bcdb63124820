/** The package as others load it: ESM, CommonJS, worker threads, and without an addon. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'flashmargin-consumer-'));

/** Runs a file in a folder of its own that has the package under its name. */
function runs(name: string, source: string, env: NodeJS.ProcessEnv = process.env) {
  const file = path.join(folder, name);
  writeFileSync(file, source);
  execFileSync('mkdir', ['-p', path.join(folder, 'node_modules')]);
  spawnSync('ln', ['-sfn', root, path.join(folder, 'node_modules', 'flashmargin')]);
  const { stdout, stderr, status } = spawnSync(process.execPath, [file], { encoding: 'utf8', env });
  return { stdout: stdout.trim(), stderr, status };
}

const body = `
  const head = new MarginHead({ numClasses: 100, embeddingSize: 8, margin: arcface() });
  head.step(new Float32Array(16).fill(1), new Int32Array([3, 4]), { lr: 0.1 }).then(({ loss }) => console.log(loss > 0));
`;

describe('a consumer', () => {
  it('imports', () => {
    expect(runs('esm.mjs', `import { arcface, MarginHead } from 'flashmargin';${body}`)).toMatchObject({
      stdout: 'true',
      status: 0,
    });
  });

  it('requires', () => {
    expect(runs('cjs.cjs', `const { arcface, MarginHead } = require('flashmargin');${body}`)).toMatchObject({
      stdout: 'true',
      status: 0,
    });
  });

  it('loads it in eight worker threads, which may end', () => {
    const source = `
      import { Worker, isMainThread } from 'node:worker_threads';
      import { arcface, MarginHead } from 'flashmargin';
      if (isMainThread) {
        const exits = await Promise.all(Array.from({ length: 8 }, () => new Promise((resolve) => new Worker(new URL(import.meta.url)).on('exit', resolve))));
        console.log(exits.join());
      } else {
        const head = new MarginHead({ numClasses: 100, embeddingSize: 8, margin: arcface() });
        for (let i = 0; i < 5; i++) await head.step(new Float32Array(16).fill(1), new Int32Array([3, 4]), { lr: 0.1 });
      }`;
    expect(runs('workers.mjs', source)).toMatchObject({ stdout: '0,0,0,0,0,0,0,0', status: 0 });
  });

  it('survives a worker that is terminated in the middle of a step', () => {
    const source = `
      import { Worker, isMainThread } from 'node:worker_threads';
      import { arcface, MarginHead } from 'flashmargin';
      if (isMainThread) {
        for (let i = 0; i < 5; i++) {
          const worker = new Worker(new URL(import.meta.url));
          await new Promise((resolve) => worker.once('message', resolve));
          await new Promise((resolve) => setTimeout(resolve, 3 * i));
          await worker.terminate();
        }
        const head = new MarginHead({ numClasses: 10, embeddingSize: 8, margin: arcface() });
        console.log((await head.step(new Float32Array(8).fill(1), new Int32Array([3]), { lr: 0.1 })).loss > 0);
      } else {
        const { parentPort } = await import('node:worker_threads');
        const head = new MarginHead({ numClasses: 20000, embeddingSize: 128, margin: arcface() });
        const steps = Array.from({ length: 4 }, () => head.step(new Float32Array(64 * 128).fill(1), new Int32Array(64), { lr: 0.1 }));
        parentPort.postMessage('under way');
        await Promise.all(steps);
      }`;
    expect(runs('terminate.mjs', source)).toMatchObject({ stdout: 'true', status: 0 });
  });

  it('may change the number of threads while another thread computes', () => {
    const source = `
      import { Worker, isMainThread } from 'node:worker_threads';
      import { ops, setNumThreads, tensor, tidy } from 'flashmargin';
      if (isMainThread) {
        const worker = new Worker(new URL(import.meta.url));
        const ended = new Promise((resolve) => worker.on('exit', resolve));
        const timer = setInterval(() => { setNumThreads(1); setNumThreads(32); }, 0);
        console.log(await ended);
        clearInterval(timer);
      } else {
        const x = tensor(new Float32Array(8 * 16 * 16 * 8).fill(1), [8, 16, 16, 8]);
        const w = tensor(new Float32Array(16 * 8 * 9).fill(1), [16, 8, 3, 3]);
        for (let i = 0; i < 300; i++) tidy(() => ops.conv2d(x, w, { padding: 1 }));
      }`;
    expect(runs('race.mjs', source, { ...process.env, FLASHMARGIN_ONEDNN: 'off' })).toMatchObject({
      stdout: '0',
      status: 0,
    });
  });

  it('imports without an addon, and hears what was tried and what to type when it asks for one', () => {
    const env = { ...process.env, FLASHMARGIN_ADDON: '/nowhere/flashmargin.node' };
    const { stdout } = runs(
      'missing.mjs',
      `import { MarginHead } from 'flashmargin';
       try { new MarginHead({ numClasses: 2, embeddingSize: 2 }); } catch (error) { console.log(error.code + ' ' + error.message); }`,
      env,
    );
    expect(stdout).toMatch(/^ERR_FM_NO_ADDON no native addon for /);
    expect(stdout).toContain('/nowhere/flashmargin.node: Cannot find module');
    expect(stdout).toContain('npx flashmargin build');
  });
});
