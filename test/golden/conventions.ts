/** Which options stand for which published implementation. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type FileArray, readSafetensors } from '../../lib/io/index.js';
import {
  arcface,
  combined,
  cosface,
  curricularface,
  type Margin,
  type MarginOptions,
  mvsoftmax,
  sphereface,
} from '../../lib/margins.js';

export const goldenFolder = fileURLToPath(new URL('.', import.meta.url));

/** By the part of the file's name that names the source. */
const conventions: Record<string, MarginOptions<'arcface'>> = {
  insightface: { gradient: 'detached', overflow: 'none' },
  insightface_mxnet: { overflow: 'none' },
  svx: {},
  facexzoo: {},
  official: {},
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

interface Hyper {
  readonly s: number;
  readonly m: number;
  readonly m1: number;
  readonly m2: number;
  readonly m3: number;
  readonly t?: number;
  readonly t0?: number;
  readonly fc_type?: string;
  readonly is_am?: boolean;
  readonly easy_margin?: boolean;
  readonly mv_weight?: number;
}

/** By the first part of the file's name. */
const families = {
  arcface: ({ s, m }, source) =>
    arcface({ ...conventions[source], scale: s, margin: source === 'pml' ? (m * Math.PI) / 180 : m }),
  // CosFace has no angle to overflow.
  cosface: ({ s, m }, source) => {
    const { gradient, cosineEpsilon, projectWeightGradient } = conventions[source] ?? {};
    return cosface({ gradient, cosineEpsilon, projectWeightGradient, scale: s, margin: m });
  },
  combined: ({ s, m1, m2, m3 }, source) => combined({ ...conventions[source], scale: s, m1, m2, m3 }),
  sphereface: ({ s, m }, source) => {
    // cos(m·θ), not made monotone: what is called combined here.
    if (source === 'pytorch_adacos') return combined({ ...conventions[source], scale: s, m1: m, m2: 0, m3: 0 });
    const { gradient = 'exact', cosineEpsilon, projectWeightGradient } = conventions[source] ?? {};
    return sphereface({ gradient, cosineEpsilon, projectWeightGradient, scale: s, margin: m });
  },
  mv: ({ s, m, t, fc_type, is_am, easy_margin, mv_weight }) => {
    const variant = fc_type === 'MV-AM' || is_am ? 'am' : 'arc';
    if (t !== undefined) return mvsoftmax({ scale: s, margin: m, variant, t, overflow: easy_margin ? 'easy' : 'none' });
    return mvsoftmax({
      scale: s,
      margin: m,
      variant,
      t: (mv_weight as number) - 1,
      easyAbove: variant === 'am' ? m : 0,
    });
  },
  curricularface: ({ s, m, t0 }) => curricularface({ scale: s, margin: m, t: t0 ?? 0 }),
} as const satisfies Record<string, (hp: Hyper, source: string) => Margin>;

export type Family = keyof typeof families;

export interface GoldenCase {
  readonly name: string;
  readonly margin: Margin;
  readonly tensors: ReadonlyMap<string, { shape: readonly number[]; data: FileArray }>;
  readonly metadata: Readonly<Record<string, string>>;
}

export function goldenFile(name: string): Pick<GoldenCase, 'tensors' | 'metadata'> {
  return readSafetensors(`${goldenFolder}${name}.safetensors`);
}

/** The head cases of a method, read from the folder; each step of one with several by itself. */
export function headCases(family: Family): GoldenCase[] {
  return readdirSync(goldenFolder)
    .filter((file) => file.startsWith(`${family}.`) && file.endsWith('.safetensors'))
    .flatMap((file): GoldenCase[] => {
      const name = file.replace('.safetensors', '');
      const { tensors, metadata } = goldenFile(name);
      const source = name.split('.')[1] as string;
      if (!conventions[source]) throw new Error(`no convention is known for ${name}`);
      const margin = families[family](JSON.parse(metadata.hp as string) as Hyper, source);
      const steps = Number(metadata.steps);
      if (steps === 1) return [{ name, margin, tensors, metadata }];
      return Array.from({ length: steps }, (_, step) => {
        const own = new Map([...tensors].map(([key, value]) => [key, key === 'W' ? value : sliced(value, step)]));
        const state = ['lambda', 't'].flatMap((key) => {
          const value = own.get(`state.${key}`);
          return value ? [[key, (value.data as Float64Array)[0] as number]] : [];
        });
        const at = { ...margin, ...Object.fromEntries(state) } as Margin;
        return { name: `${name}, step ${step}`, margin: at, tensors: own, metadata };
      });
    });
}

/** CurricularFace's margin before the first step of a case. */
export function startOf(name: string): Margin<'curricularface'> {
  return families.curricularface(JSON.parse(goldenFile(name).metadata.hp as string) as Hyper);
}

/** One step of a tensor whose first axis is the step. */
function sliced({ shape, data }: { shape: readonly number[]; data: FileArray }, step: number) {
  const size = data.length / (shape[0] as number);
  return { shape: shape.slice(1), data: data.slice(step * size, (step + 1) * size) as FileArray };
}

/**
 * MXNet's norm is √(‖x‖² + 1e-10): that of a row with two more columns, 1e-5 in one of them.  Features and class
 * centers have it in different columns, so that their products are unchanged.
 */
export function widened(data: Float64Array, D: number, column: 0 | 1): Float64Array {
  const rows = data.length / D;
  const out = new Float64Array(rows * (D + 2));
  for (let i = 0; i < rows; i++) {
    out.set(data.subarray(i * D, (i + 1) * D), i * (D + 2));
    out[i * (D + 2) + D + column] = 1e-5;
  }
  return out;
}
export const narrowed = (data: ArrayLike<number>, D: number): Float64Array =>
  Float64Array.from(Array.from(data).filter((_, i) => i % (D + 2) < D));

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
