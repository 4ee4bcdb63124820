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

/**
 * Losses of the same steps.  Rounding grows from step to step, to at most `late`: twelve such runs were within 1.2e-7 at
 * the first step and 4.7e-5 at the fifth, and AVX2 and AVX-512 differ there by up to 1.3e-5.
 */
function expectNear(there: ReturnType<typeof readMetrics>, here: ReturnType<typeof readMetrics>, late: number): void {
  expect(there).toHaveLength(here.length);
  for (const [i, { loss }] of there.entries()) {
    const wanted = here[i]?.loss as number;
    expect(Math.abs(loss - wanted) / wanted, `step ${i + 1}`).toBeLessThan(Math.min(late, 5e-7 * 4 ** i));
  }
}

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
    expectNear(there, here, 1e-3);

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

  it('replays the steps of a head, to the same bits', () => {
    const config = write('replayed', { evaluation: undefined });
    const run = (out: string, env: Readonly<Record<string, string>>) =>
      flashmargin(['train', config, '--out', at(out), '--device', 'cuda'], env);
    const replayed = run('replayed', { FLASHMARGIN_CUDA_GRAPH: 'on' });
    expect(replayed.status, replayed.stderr).toBe(0);
    expect(run('launched', { FLASHMARGIN_CUDA_GRAPH: 'off' }).status).toBe(0);
    expect(tensorsOf('replayed')).toEqual(tensorsOf('launched'));
    const failing = run('failing', { FLASHMARGIN_CUDA_GRAPH: 'on', FM_EMULATED_FAILURE: 'cudaGraphLaunch' });
    expect(failing.stderr).toMatch(
      /FLASHMARGIN_CUDA_GRAPH=on does not suit: cudaErrorIllegalAddress .*cudaGraphLaunch/,
    );
  });

  it('tells what cuDNN has no algorithm for', () => {
    const config = write('left', { evaluation: undefined, epochs: 1 });
    const cudnn = path.join(path.dirname(emulatedCuda as string), 'stubs/cudnn/libcudnn.so.9');
    const run = (suggestions: string) =>
      flashmargin(['train', config, '--device', 'cuda', '--overwrite'], {
        FLASHMARGIN_CUDA_OPS: '',
        FLASHMARGIN_CUDNN_PATH: cudnn,
        FM_STUB_SUGGESTIONS: suggestions,
      });
    const left = run('0');
    expect(left.status, left.stderr).toBe(0);
    expect(left.stderr).toMatch(
      /our own kernels compute \d+ shapes of convolutions and products, the first because cuDNN .* has no deterministic/,
    );
    expect(run('99').stderr).not.toContain('our own kernels');
  });

  it("tells what the head's filter left out", () => {
    const run = (name: string, gradientFilter: number, capability: string) => {
      const head = { precision: 'bfloat16', gradientFilter };
      const margin = { method: 'softmax', scale: 1 };
      const config = write(name, { head, margin, evaluation: undefined });
      const { stderr, status } = flashmargin(['train', config, '--device', 'cuda'], {
        FM_EMULATED_CAPABILITY: capability,
      });
      expect(status, stderr).toBe(0);
      return readMetrics(at(name)).map(({ filtered }) => filtered);
    };
    // A share that every tile is within: what is left is the targets' pull.
    expect(run('filtered', 0.9999, '90').every((share) => share === 1)).toBe(true);
    expect(run('without', 0.9999, '80').every((share) => share === 0)).toBe(true);
    expect(run('unfiltered', 0, '90').every((share) => share === undefined)).toBe(true);
  });

  it('trains with a share of the classes as the CPU does, and resumes with the same bits', () => {
    const head = { sampleRate: 0.5 };
    const config = write('sampled', { head, evaluation: undefined });
    expect(flashmargin(['train', config]).status).toBe(0);
    const cuda = flashmargin(['train', config, '--out', at('sampled-cuda'), '--device', 'cuda']);
    expect(cuda.status, cuda.stderr).toBe(0);
    expectNear(readMetrics(at('sampled-cuda')), readMetrics(at('sampled')), 1e-2);
    const whole = tensorsOf('sampled-cuda');
    expect(whole.get('head.sampledSteps')).toEqual([15]);
    const checkpoints = path.join(at('sampled-cuda'), 'checkpoints');
    rmSync(path.join(checkpoints, readdirSync(checkpoints).sort().at(-1) as string));
    const again = flashmargin(['train', config, '--out', at('sampled-cuda'), '--device', 'cuda', '--resume']);
    expect(again.status, again.stderr).toBe(0);
    expect(tensorsOf('sampled-cuda')).toEqual(whole);
  });

  it('trains with AdamW as the CPU does', () => {
    const config = write('adamw', { optimizer: { type: 'adamw', lr: 0.01, eps: 1e-4 }, evaluation: undefined });
    expect(flashmargin(['train', config]).status).toBe(0);
    const cuda = flashmargin(['train', config, '--out', at('adamw-cuda'), '--device', 'cuda']);
    expect(cuda.status, cuda.stderr).toBe(0);
    expectNear(readMetrics(at('adamw-cuda')), readMetrics(at('adamw')), 1e-2);
  });

  it.each([{ epochs: 4 }, { epochs: 1, groupFace: { groups: 3, hidden: 8 } }])(
    'trains in bfloat16 to about the loss of float32, with the same files: %j',
    { timeout: 120_000 },
    ({ epochs, ...more }) => {
      const name = (precision: string) => `${precision}-${epochs}`;
      const steps = 10 * epochs;
      const config = (precision: string) =>
        write(name(precision), {
          ...more,
          backbone: { ...small.backbone, precision },
          device: 'cuda',
          epochs,
          batchSize: 12,
          checkpoint: { everySteps: steps - 3, keep: 2 },
        });
      expect(flashmargin(['train', config('float32')]).status).toBe(0);
      const run = flashmargin(['train', config('bfloat16'), '--json']);
      expect(run.status, run.stderr).toBe(0);
      expect(run.stderr).toMatch(`trained ${steps} steps `);
      expect(run.stderr).toMatch(/, the backbone in bfloat16\n/);
      const { environment } = JSON.parse(run.stdout);
      expect(environment.backbone).toBe('bfloat16 activations, float32 weights');

      const [full, half] = [readMetrics(at(name('float32'))), readMetrics(at(name('bfloat16')))];
      expect(half).toHaveLength(steps);
      // Steps of a few pictures magnify the rounding of those before: the first is compared, and the mean of all.
      const mean = (run: typeof full) => run.reduce((sum, { loss }) => sum + loss, 0) / run.length;
      const [first, wanted] = [half[0]?.loss as number, full[0]?.loss as number];
      expect(first).not.toBe(wanted);
      expect(Math.abs(first - wanted) / wanted).toBeLessThan(0.01);
      expect(Math.abs(mean(half) - mean(full)) / mean(full)).toBeLessThan(0.1);
      if (epochs > 1) expect(mean(half.slice(-10)) / mean(half.slice(0, 10))).toBeLessThan(0.75);
      const [wide, narrow] = [tensorsOf(name('float32')), tensorsOf(name('bfloat16'))];
      expect([...narrow.keys()]).toEqual([...wide.keys()]);

      // A resumed run has the same bits, and the CPU reads what was trained.
      rmSync(path.join(at(name('bfloat16')), 'checkpoints', `step-${String(steps).padStart(8, '0')}.safetensors`));
      const again = flashmargin(['train', config('bfloat16'), '--resume'], { FM_EMULATED_SEED: '99' });
      expect(again.status, again.stderr).toBe(0);
      expect(tensorsOf(name('bfloat16'))).toEqual(narrow);
      const auc = (device: string) => {
        const options = ['--run', at(name('bfloat16')), '--rec', at('tiny.rec'), '--device', device, '--json'];
        const { stdout, stderr, status } = flashmargin(['eval', ...options]);
        expect(status, stderr).toBe(0);
        return JSON.parse(stdout).tiers[0].auc;
      };
      expect(auc('cuda')).toBeCloseTo(auc('cpu'), 1);
      const seen = flashmargin(['inspect', '--run', at(name('bfloat16')), '--images', '64', '--json']);
      expect(seen.status, seen.stderr).toBe(0);
    },
  );

  it('says that bfloat16 is for CUDA, before anything is written', () => {
    const backbone = { ...small.backbone, precision: 'bfloat16' };
    const refused = (config: string, args: string[], device: string) => {
      const { stderr, status } = flashmargin(['train', config, ...args], { FLASHMARGIN_CUDA: 'off' });
      expect(stderr).toMatch(
        `train: backbone.precision: expected float32 on device '${device}', got 'bfloat16', which needs a CUDA device\n` +
          "  fix: set device to 'cuda', or backbone.precision to float32",
      );
      expect(status).toBe(1);
    };
    refused(write('half-cpu', { backbone }), [], 'cpu');
    refused(write('half-over', { backbone, device: 'cuda' }), ['--device', 'cpu'], 'cpu');
    refused(write('half-auto', { backbone, device: 'auto' }), [], 'cpu');
    expect(readdirSync(folder).filter((name) => name.startsWith('half-') && !name.endsWith('.json'))).toEqual([]);
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
