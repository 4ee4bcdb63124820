/** Devices by name: 'cpu', 'cuda' (= 'cuda:0'), 'cuda:1', …; 'auto' takes CUDA where there is one. */
import { native } from './binding.js';
import { DeviceError, expected } from './errors.js';

/** The native index of a device name: −1 is the CPU. */
export function deviceIndex(device: string): number {
  if (device === 'cpu') return -1;
  const match = /^cuda(?::(\d+))?$/.exec(device);
  expected(match, 'device', "'cpu', 'cuda' or 'cuda:<index>'", device);
  const index = Number(match[1] ?? 0);
  const { cudaDevices, cuda } = native.status();
  if (index >= cudaDevices) {
    throw new DeviceError(
      `device '${device}': ${cudaDevices ? `only ${cudaDevices} CUDA device(s) were found` : cuda}`,
      {
        code: 'ERR_FM_DEVICE',
        hint: "use device 'cpu', or 'auto' to fall back by itself; `flashmargin doctor` says what was looked for",
      },
    );
  }
  return index;
}

/** The name of a native device index. */
export function deviceName(index: number): string {
  return index < 0 ? 'cpu' : `cuda:${index}`;
}

/**
 * Threads that the CPU's operations use, from 1; by default one a core, or FLASHMARGIN_THREADS.  No result depends on
 * it.
 *
 * @example
 * setNumThreads(1);
 */
export function setNumThreads(threads: number): void {
  native.setNumThreads(threads);
}
