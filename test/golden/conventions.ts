/** Which options stand for which published implementation. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type FileArray, readSafetensors } from '../../lib/io/index.js';
import type { Margin } from '../../lib/margins.js';

export const goldenFolder = fileURLToPath(new URL('.', import.meta.url));

/** By the part of the file's name that names the source. */
const conventions: Record<string, Partial<Margin>> = {
  insightface: { gradient: 'detached', overflow: 'none' },
  curricularface_repo: { gradient: 'exact', overflow: 'hard' },
  elasticface_repo: { gradient: 'exact', overflow: 'none' },
  pml: { gradient: 'exact', overflow: 'hard' },
  pytorch_adacos: { gradient: 'exact', overflow: 'none', targetEpsilon: 1e-7 },
  adaface_repo: { gradient: 'exact', overflow: 'clamp', cosineEpsilon: 1e-4, angleEpsilon: 1e-4 },
  opensphere: {
    gradient: 'detached',
    overflow: 'clamp',
    cosineEpsilon: 1e-5,
    angleEpsilon: 1e-5,
    // biome-ignore lint/suspicious/noApproximativeNumericConstant: the source's own rounding
    angleLimit: 3.14159,
    projectWeightGradient: false,
  },
};

export interface GoldenCase {
  readonly name: string;
  readonly margin: Margin;
  readonly tensors: ReadonlyMap<string, { shape: readonly number[]; data: FileArray }>;
  readonly metadata: Readonly<Record<string, string>>;
}

export function goldenFile(name: string): Pick<GoldenCase, 'tensors' | 'metadata'> {
  return readSafetensors(`${goldenFolder}${name}.safetensors`);
}

/** The head cases of a method, read from the folder. */
export function headCases(method: 'arcface' | 'cosface'): GoldenCase[] {
  return readdirSync(goldenFolder)
    .filter((file) => file.startsWith(`${method}.`) && file.endsWith('.safetensors'))
    .map((file) => {
      const name = file.replace('.safetensors', '');
      const { tensors, metadata } = goldenFile(name);
      const source = name.split('.')[1] as string;
      const { s, m } = JSON.parse(metadata.hp as string) as { s: number; m: number };
      const margin = source === 'pml' && method === 'arcface' ? (m * Math.PI) / 180 : m;
      const convention = conventions[source];
      if (!convention) throw new Error(`no convention is known for ${name}`);
      // CosFace has no angle to overflow.
      const own = method === 'cosface' ? { ...convention, overflow: 'none' as const } : convention;
      return { name, margin: { method, scale: s, margin, ...own }, tensors, metadata };
    });
}

export const f64 = (data: FileArray | undefined): Float64Array => data as Float64Array;
export const labelsOf = (data: FileArray | undefined): Int32Array => Int32Array.from(data as BigInt64Array, Number);

/** Largest |a − b|. */
export function worst(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let largest = a.length === b.length ? 0 : Number.POSITIVE_INFINITY;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs((a[i] as number) - (b[i] as number));
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

export const largest = (a: ArrayLike<number>): number => Array.from(a).reduce((m, x) => Math.max(m, Math.abs(x)), 0);

/** As the files define dX_rel: the largest ‖xᵢ‖·|Δ dXᵢ| over the largest ‖xᵢ‖·|dXᵢ|. */
export function rowRelative(
  ours: ArrayLike<number>,
  theirs: ArrayLike<number>,
  x: ArrayLike<number>,
  D: number,
): number {
  const rows = theirs.length / D;
  let error = 0;
  let size = 0;
  for (let i = 0; i < rows; i++) {
    const at = (a: ArrayLike<number>) => Array.from({ length: D }, (_, d) => a[i * D + d] as number);
    const norm = Math.hypot(...at(x));
    const [a, b] = [at(ours), at(theirs)];
    error = Math.max(error, norm * Math.hypot(...a.map((v, d) => v - (b[d] as number))));
    size = Math.max(size, norm * Math.hypot(...b));
  }
  return error / size;
}
