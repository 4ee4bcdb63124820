/** Runs on device 'cuda', which here is the CUDA library under the host emulation: by the command line and the API. */
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { readSafetensors } from '../../lib/io/safetensors.js';
import { readMetrics } from '../../lib/train/index.js';
import { emulatedCuda } from '../emulatedCuda.js';
import { scratchFolder, tinyConfig, writeTinySet } from './tinySet.js';

const folder = scratchFolder();
const cli = fileURLToPath(new URL('../../dist/cli/main.mjs', import.meta.url));
const at = (name: string) => path.join(folder, name);

function flashmargin(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { stdout, stderr, status } = spawnSync(process.execPath, [cli, ...args], {
    encoding: 'utf8',
    env: { ...process.env, FLASHMARGIN_CUDA: emulatedCuda, ...env },
  });
  return { stdout, stderr, status };
}

/** Every tensor of a run's newest checkpoint. */
function tensorsOf(run: string): Map<string, number[]> {
  const checkpoints = path.join(at(run), 'checkpoints');
  const last = readdirSync(checkpoints).sort().at(-1) as string;
  const { tensors } = readSafetensors(path.join(checkpoints, last));
  return new Map([...tensors].map(([name, { data }]) => [name, Array.from(data as Float32Array)]));
}

const small = {
  ...tinyConfig(folder),
  backbone: { name: 'iresnetSmall', embeddingSize: 8, stemWidth: 4, widths: [4, 8], dropout: 0.1 },
  epochs: 1,
  log: { everySteps: 1 },
  checkpoint: { everySteps: 6, keep: 9 },
  evaluation: { test: at('tiny.rec') },
};
const write = (name: string, config: object) => {
  writeFileSync(at(`${name}.json`), JSON.stringify({ ...small, out: at(name), ...config }));
  return at(`${name}.json`);
};

beforeAll(() => writeTinySet(at('tiny.rec')));

describe.skipIf(!emulatedCuda)("device 'cuda', emulated", () => {
  it('trains as the CPU does, evaluates, and resumes with the same bits', () => {
    const config = write('cpu', {});
    expect(flashmargin(['train', config]).status).toBe(0);
    const cuda = flashmargin(['train', config, '--out', at('cuda'), '--device', 'cuda', '--json']);
    expect(cuda.status, cuda.stderr).toBe(0);
    const summary = JSON.parse(cuda.stdout);
    expect(summary).toMatchObject({ steps: 15, tiers: [{ name: 'all' }] });

    const [here, there] = [readMetrics(at('cpu')), readMetrics(at('cuda'))];
    expect(there).toHaveLength(15);
    // Rounding grows from step to step.
    for (const [i, { loss }] of there.entries()) {
      const wanted = here[i]?.loss as number;
      expect(Math.abs(loss - wanted) / wanted, `step ${i + 1}`).toBeLessThan(i < 5 ? 1e-5 : 1e-3);
    }

    // From the last checkpoint but one, with the threads of each block in another order.
    const whole = tensorsOf('cuda');
    rmSync(path.join(at('cuda'), 'checkpoints', 'step-00000015.safetensors'));
    const again = ['train', config, '--out', at('cuda'), '--device', 'cuda', '--resume'];
    const resumed = flashmargin(again, { FM_EMULATED_SEED: '99' });
    expect(resumed.stderr).toMatch(/resuming from .*step-00000012/);
    expect(resumed.status).toBe(0);
    expect(tensorsOf('cuda')).toEqual(whole);

    // The checkpoint of either device is read by the other.
    const evaluated = (device: string) => {
      const { stdout, stderr, status } = flashmargin([
        'eval',
        '--run',
        at('cuda'),
        '--rec',
        at('tiny.rec'),
        '--device',
        device,
        '--json',
      ]);
      expect(status, stderr).toBe(0);
      return JSON.parse(stdout).tiers[0];
    };
    const [onCpu, onCuda] = [evaluated('cpu'), evaluated('cuda')];
    expect(onCuda.auc).toBeCloseTo(onCpu.auc, 3);
    expect(summary.tiers[0].auc).toBeCloseTo(onCuda.auc, 6);
  });

  it('trains with AdamW as the CPU does', () => {
    const config = write('adamw', { optimizer: { type: 'adamw', lr: 0.01, eps: 1e-4 }, evaluation: undefined });
    expect(flashmargin(['train', config]).status).toBe(0);
    const cuda = flashmargin(['train', config, '--out', at('adamw-cuda'), '--device', 'cuda']);
    expect(cuda.status, cuda.stderr).toBe(0);
    const here = readMetrics(at('adamw'));
    for (const [i, { loss }] of readMetrics(at('adamw-cuda')).entries()) {
      const wanted = here[i]?.loss as number;
      expect(Math.abs(loss - wanted) / wanted, `step ${i + 1}`).toBeLessThan(i < 5 ? 1e-5 : 1e-2);
    }
  });

  it("takes the device that 'auto' finds, and says which", () => {
    const config = write('auto', { device: 'auto', batchSize: 40, schedule: {}, evaluation: undefined });
    const run = (env: Record<string, string>) => flashmargin(['train', config, '--overwrite'], env);
    const found = run({});
    expect(found.stderr).toMatch(/device 'auto' is cuda:0, Emulated GPU\n/);
    expect(found.status, found.stderr).toBe(0);
    const cannot = run({ FM_EMULATED_FAILURE: 'cudaLaunchKernelEx' });
    expect(cannot.stderr).toMatch(/device 'auto' is the CPU: .*cudaErrorIllegalAddress/);
    expect(cannot.status).toBe(0);
    const tight = run({ FM_EMULATED_MEMORY: '10000' });
    expect(tight.stderr).toMatch(/device 'auto' is the CPU: .*cudaErrorMemoryAllocation/);
    const off = run({ FLASHMARGIN_CUDA: 'off' });
    expect(off.stderr).toMatch(/device 'auto' is the CPU: CUDA is switched off by FLASHMARGIN_CUDA=off\n/);
    expect(off.status).toBe(0);
  });

  it("is strict where 'cuda' is asked for", () => {
    const config = write('strict', { device: 'cuda' });
    const broken = flashmargin(['train', config], { FM_EMULATED_FAILURE: 'cudaLaunchKernelEx' });
    expect(broken.stderr).toMatch(/cudaErrorIllegalAddress/);
    expect(broken.status).toBe(1);
    const off = flashmargin(['train', config, '--overwrite'], { FLASHMARGIN_CUDA: 'off' });
    expect(off.stderr).toMatch(
      /device 'cuda': CUDA is switched off by FLASHMARGIN_CUDA=off\n {2}fix: use device 'cpu'/,
    );
    expect(off.status).toBe(1);
  });

  it("is 'auto' for tensors and heads too", () => {
    const code = `
      const { MarginHead, tensor } = require(${JSON.stringify(fileURLToPath(new URL('../../dist/index.cjs', import.meta.url)))});
      const head = new MarginHead({ numClasses: 5, embeddingSize: 4, device: 'auto' });
      const { loss } = head.stepSync(new Float32Array(8).fill(1), Int32Array.of(0, 1), { lr: 0.1 });
      console.log(head.device, tensor(new Float32Array(2), [2], 'auto').device, loss > 0);`;
    const run = (FLASHMARGIN_CUDA: string | undefined) =>
      spawnSync(process.execPath, ['-e', code], { encoding: 'utf8', env: { ...process.env, FLASHMARGIN_CUDA } });
    expect(run(emulatedCuda).stdout).toBe('cuda:0 cuda:0 true\n');
    const off = run('off');
    expect(off.stdout).toBe('cpu cpu true\n');
    expect(off.stderr.match(/FlashmarginDevice/g)).toHaveLength(1);
  });
});
