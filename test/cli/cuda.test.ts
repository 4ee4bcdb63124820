/** What the command line says of a GPU, here the CUDA library under the host emulation, and of one that is not there. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { emulatedCuda } from '../emulatedCuda.js';
import { goldenFolder } from '../golden/conventions.js';

const cli = fileURLToPath(new URL('../../dist/cli/main.mjs', import.meta.url));

function flashmargin(args: readonly string[], env: Readonly<Record<string, string | undefined>> = {}) {
  const { stdout, stderr, status } = spawnSync(process.execPath, [cli, ...args], {
    encoding: 'utf8',
    env: { ...process.env, FLASHMARGIN_CUDA: emulatedCuda, ...env },
  });
  return { stdout, stderr, status };
}

describe.skipIf(!emulatedCuda)("device 'cuda', emulated, on the command line", () => {
  it('doctor names the GPU, its driver and capability, and what the head takes there, and why', () => {
    const { stdout, status } = flashmargin(['doctor']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^cuda +ok +CUDA 13\.0, driver for CUDA 13\.0$/m);
    for (const device of [0, 1])
      expect(stdout).toMatch(
        new RegExp(`^cuda:${device} +ok +Emulated GPU, compute capability 8\\.0, 1\\.0 GiB; head: .{20,}`, 'm'),
      );
  });

  it.each([
    ['no driver', { FM_EMULATED_DRIVER: '0' }, /no NVIDIA driver was found .*install one that supports CUDA 13/],
    [
      'an old driver',
      { FM_EMULATED_DRIVER: '12040' },
      /cudaErrorInsufficientDriver \(CUDA driver version is insufficient.*in cudaGetDeviceCount.*install an NVIDIA driver/,
    ],
    ['no GPU', { FM_EMULATED_DEVICES: '0' }, /cudaErrorNoDevice .*check nvidia-smi and CUDA_VISIBLE_DEVICES/],
    [
      'a library that is not there',
      { FLASHMARGIN_CUDA: '/nowhere/lib.so' },
      /names \/nowhere\/lib\.so, which cannot be/,
    ],
    ['a file that is no library', { FLASHMARGIN_CUDA: cli }, /opening the CUDA library failed: /],
    ['CUDA switched off', { FLASHMARGIN_CUDA: 'off' }, /switched off by FLASHMARGIN_CUDA=off/],
  ])('doctor and a strict device say so of %s', (_, env, sentence) => {
    const { stdout, status } = flashmargin(['doctor'], env);
    expect(status).toBe(0);
    expect(stdout).toMatch(new RegExp(`^cuda +off +.*${sentence.source}`, 'm'));
    const strict = flashmargin(['conformance', goldenFolder, '--device', 'cuda'], env);
    expect(strict.status).toBe(1);
    expect(strict.stderr).toMatch(new RegExp(`device 'cuda': .*${sentence.source}`));
    expect(strict.stderr).toMatch(/fix: use device 'cpu'/);
  });

  it('runs golden files there', () => {
    const { stdout, stderr, status } = flashmargin([
      ...['conformance', goldenFolder, '--device', 'cuda', '--only', 'arcface.*small', '--json'],
    ]);
    expect(status, stderr).toBe(0);
    const { rows, skipped } = JSON.parse(stdout);
    expect(rows.length).toBeGreaterThan(8);
    expect(skipped).toEqual([]);
  });
});
