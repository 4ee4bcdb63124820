/** Devices by name: 'cpu', 'cuda' (= 'cuda:0'), 'cuda:1', …; 'auto' takes CUDA where there is one. */
import { native } from './binding.js';
import { DeviceError, expected, firstLine } from './errors.js';

/** What names a device, or asks for one. */
export const deviceNames = /^(cpu|auto|cuda(:\d+)?)$/;

/** The native index of a device name: −1 is the CPU. */
export function deviceIndex(device: string): number {
  if (device === 'cpu') return -1;
  if (device === 'auto') return automatic();
  const match = /^cuda(?::(\d+))?$/.exec(device);
  expected(match, 'device', "'auto', 'cpu', 'cuda' or 'cuda:<index>'", device);
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

/**
 * What 'auto' stands for: the first CUDA device where `job` runs on it, otherwise the CPU; and a sentence that says so.
 *
 * @example
 * const { device, sentence } = automaticDevice((device) => void new MarginHead({ device, numClasses: 10, embeddingSize: 8 }));
 */
export function automaticDevice(job: (device: string) => void = probe): { device: string; sentence: string } {
  const { cudaDevices, cuda, cudaList } = native.status();
  try {
    if (cudaDevices === 0) throw new DeviceError(cuda);
    job('cuda:0');
    return { device: 'cuda:0', sentence: `device 'auto' is cuda:0, ${cudaList[0]?.name}` };
  } catch (error) {
    return { device: 'cpu', sentence: `device 'auto' is the CPU: ${firstLine(error)}` };
  }
}

/** A first operation: memory, copies and a kernel. */
function probe(device: string): void {
  const x = native.fromArray(new Float32Array([3, 4]), [1, 2], deviceIndex(device));
  const { y, norm } = native.normalizeForward(x);
  native.readInto(y, new Float32Array(2));
  for (const each of [x, y, norm]) native.dispose(each);
}

let chosen: number | undefined;

/** Asked once a process; a fallback is a warning. */
function automatic(): number {
  if (chosen === undefined) {
    const { device, sentence } = automaticDevice();
    chosen = deviceIndex(device);
    if (chosen < 0) process.emitWarning(sentence, { type: 'FlashmarginDevice' });
  }
  return chosen;
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
