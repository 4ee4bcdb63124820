/** The golden files of this folder. */
import { fileURLToPath } from 'node:url';
import { type FileArray, readSafetensors } from '../../lib/io/index.js';
import type { Margin } from '../../lib/margins/index.js';
import { type GoldenCase, type GoldenFamily, goldenCases } from '../../lib/train/conformance.js';

export { rowRelative, worst } from '../../lib/train/conformance.js';

export const goldenFolder = fileURLToPath(new URL('.', import.meta.url));

export function goldenFile(name: string): Pick<GoldenCase, 'tensors' | 'metadata'> {
  return readSafetensors(`${goldenFolder}${name}.safetensors`);
}

/** The head cases of a method; each step of one with several by itself. */
export const headCases = (family: GoldenFamily): GoldenCase[] =>
  goldenCases(goldenFolder).cases.filter((c) => c.family === family);

/** CurricularFace's margin before the first step of a case: its state is 0 there. */
export const startOf = (name: string): Margin<'curricularface'> => {
  const first = headCases('curricularface').find((c) => c.name.startsWith(name)) as GoldenCase;
  const { t0 = 0 } = JSON.parse(first.metadata.hp as string) as { t0?: number };
  return { ...(first.margin as Margin<'curricularface'>), t: t0 };
};

export const f64 = (data: FileArray | undefined): Float64Array => data as Float64Array;
export const labelsOf = (data: FileArray | undefined): Int32Array => Int32Array.from(data as BigInt64Array, Number);
export const largest = (a: ArrayLike<number>): number => Array.from(a).reduce((m, x) => Math.max(m, Math.abs(x)), 0);
