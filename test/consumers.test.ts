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
