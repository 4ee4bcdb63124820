/**
 * Golden files: numbers that published implementations produced, against the real kernels.  A file is called
 * `<method>.<source>.<variant>.safetensors`; its tensors are X [N, D], W [C, D], labels, logits, ce, dX, dW, and its
 * metadata names hyper-parameters (`hp`) and what the source's own float32 run loses (`f32_error`).
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { backward } from '../autograd.js';
import { DataError, FlashmarginError } from '../errors.js';
import { type FileArray, readSafetensors } from '../io/index.js';
import {
  arcface,
  combined,
  cosface,
  curricularface,
  type Margin,
  type MarginOptions,
  mvsoftmax,
  sphereface,
} from '../margins.js';
import { marginLogits, marginSoftmax } from '../ops/index.js';
import { parameter, tensor, tidy } from '../tensor.js';

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

/** A method of golden files. */
export type GoldenFamily = keyof typeof families;

/** A case, or one step of a case that has several. */
export interface GoldenCase {
  readonly name: string;
  readonly family: GoldenFamily;
  readonly margin: Margin;
  readonly tensors: ReadonlyMap<string, { shape: readonly number[]; data: FileArray }>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Largest errors: of a logit, of the loss relative to it, of the gradients relative to their largest. */
export interface GoldenErrors {
  readonly logits_abs: number;
  readonly ce_rel: number;
  readonly dX_rel: number;
  readonly dW_rel: number;
}

/**
 * The cases of a folder that a method here computes, and the files that none does, with the reason.
 *
 * @example
 * const { cases, skipped } = goldenCases('test/golden');
 */
export function goldenCases(folder: string): { cases: GoldenCase[]; skipped: { file: string; reason: string }[] } {
  let names: string[];
  try {
    names = readdirSync(folder).filter((file) => file.endsWith('.safetensors'));
  } catch (error) {
    throw new DataError(`conformance: ${folder} cannot be read: ${(error as Error).message}`, {
      code: 'ERR_FM_DATA',
      cause: error,
    });
  }
  const cases: GoldenCase[] = [];
  const skipped: { file: string; reason: string }[] = [];
  for (const file of names.sort()) {
    const name = file.replace('.safetensors', '');
    const [family = '', source = ''] = name.split('.');
    const { tensors, metadata } = readSafetensors(path.join(folder, file));
    const missing = ['X', 'W', 'labels', 'logits', 'dX', 'dW'].filter((key) => !tensors.has(key));
    const beyond = Object.entries(notComputed).find(([part]) => name.includes(part))?.[1];
    const reason = !(family in families)
      ? `no method here is called ${family}`
      : (beyond ??
        (!conventions[source]
          ? `the conventions of ${source} are not known`
          : missing.length > 0
            ? `has no ${missing.join(', ')}`
            : undefined));
    if (reason) skipped.push({ file, reason });
    else cases.push(...casesOf(name, family as GoldenFamily, source, tensors, metadata));
  }
  return { cases, skipped };
}

/** What a case asks for beyond the options of its method, by a part of its name. */
const notComputed: Record<string, string> = {
  '.filter_': 'filters negatives between classes',
  '.clcarwin': 'scales logits by the norm of the feature',
  '.pml_asoftmax': 'scales logits by the norm of the feature',
};

function casesOf(
  name: string,
  family: GoldenFamily,
  source: string,
  tensors: GoldenCase['tensors'],
  metadata: GoldenCase['metadata'],
): GoldenCase[] {
  const margin = families[family](JSON.parse(metadata.hp as string) as Hyper, source);
  const steps = Number(metadata.steps ?? 1);
  if (steps === 1) return [{ name, family, margin, tensors, metadata }];
  return Array.from({ length: steps }, (_, step) => {
    const own = new Map([...tensors].map(([key, value]) => [key, key === 'W' ? value : sliced(value, step)]));
    const state = ['lambda', 't'].flatMap((key) => {
      const value = own.get(`state.${key}`);
      return value ? [[key, (value.data as Float64Array)[0] as number]] : [];
    });
    const at = { ...margin, ...Object.fromEntries(state) } as Margin;
    return { name: `${name}, step ${step}`, family, margin: at, tensors: own, metadata };
  });
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
function widened(data: Float64Array, D: number, column: 0 | 1): Float64Array {
  const rows = data.length / D;
  const out = new Float64Array(rows * (D + 2));
  for (let i = 0; i < rows; i++) {
    out.set(data.subarray(i * D, (i + 1) * D), i * (D + 2));
    out[i * (D + 2) + D + column] = 1e-5;
  }
  return out;
}
const narrowed = (data: ArrayLike<number>, D: number): Float64Array =>
  Float64Array.from(Array.from(data).filter((_, i) => i % (D + 2) < D));

/** Errors of our kernels in a precision, against the float64 numbers of the source. */
export function goldenErrors({ name, margin, tensors }: GoldenCase, precision: 'float32' | 'float64'): GoldenErrors {
  const { shape, data } = tensors.get('X') as { shape: readonly number[]; data: Float64Array };
  const W = tensors.get('W') as { shape: readonly number[]; data: Float64Array };
  const labels = Int32Array.from(tensors.get('labels')?.data as BigInt64Array, Number);
  const Typed = precision === 'float32' ? Float32Array : Float64Array;
  const [N, D] = shape as [number, number];
  const C = W.shape[0] as number;
  const wide = name.includes('_mxnet.');
  const columns = wide ? D + 2 : D;
  const of = (key: string) => tensors.get(key)?.data as Float64Array;
  return tidy(() => {
    const x = parameter(tensor(Typed.from(wide ? widened(data, D, 0) : data), [N, columns]));
    const w = parameter(tensor(Typed.from(wide ? widened(W.data, D, 1) : W.data), [C, columns]));
    try {
      const { loss } = marginSoftmax(x, w, labels, margin);
      backward(loss);
      const own = (gradient: ArrayLike<number>) => (wide ? narrowed(gradient, D) : gradient);
      const ce = (tensors.has('ce_exact') ? of('ce_exact') : of('ce'))[0] as number;
      return {
        logits_abs: worst(marginLogits(x, w, labels, margin).toArray(), of('logits')),
        ce_rel: Math.abs(loss.item() - ce) / Math.abs(ce),
        dX_rel: rowRelative(own(x.grad?.toArray() as Float64Array), of('dX'), data, D),
        dW_rel: worst(own(w.grad?.toArray() as Float64Array), of('dW')) / largest(of('dW')),
      };
    } finally {
      for (const made of [x, w]) {
        made.grad?.dispose();
        made.dispose();
      }
    }
  });
}

/**
 * What is fair: in float64 1e-9 of a logit and 1e-7 of a gradient (1e-5 where cosines are within 1e-6 of ±1); in
 * float32 twice what the source's own float32 run loses, or a few roundings.
 */
export function goldenTolerance({ name, metadata }: GoldenCase, precision: 'float32' | 'float64'): GoldenErrors {
  if (precision === 'float64') {
    const gradients = /\.hard/.test(name) ? 1e-5 : 1e-7;
    return { logits_abs: 1e-9, ce_rel: 1e-9, dX_rel: gradients, dW_rel: gradients };
  }
  const theirs = JSON.parse(metadata.f32_error ?? '{}') as Partial<GoldenErrors>;
  const least = { logits_abs: 2e-5, ce_rel: 1e-6, dX_rel: 5e-6, dW_rel: 5e-6 };
  const fair = (key: keyof GoldenErrors) => Math.max(least[key], 2 * (theirs[key] ?? 0));
  return { logits_abs: fair('logits_abs'), ce_rel: fair('ce_rel'), dX_rel: fair('dX_rel'), dW_rel: fair('dW_rel') };
}

/** A folder's verdict, case by case. */
export interface ConformanceRow {
  readonly name: string;
  readonly precision: 'float32' | 'float64';
  readonly errors: GoldenErrors;
  /** What the source's own float32 run loses; in float32 only. */
  readonly source?: Partial<GoldenErrors>;
  readonly passed: boolean;
}

/**
 * Runs golden files through the kernels in both precisions.
 *
 * @example
 * const { rows, skipped } = conformance('test/golden');
 * rows.every(({ passed }) => passed); // true
 */
export function conformance(folder: string): { rows: ConformanceRow[]; skipped: { file: string; reason: string }[] } {
  const { cases, skipped } = goldenCases(folder);
  if (cases.length === 0 && skipped.length === 0) {
    throw new FlashmarginError(`conformance: ${folder} holds no .safetensors file`, { code: 'ERR_FM_DATA' });
  }
  const rows = cases.flatMap((c) =>
    (['float64', 'float32'] as const).map((precision): ConformanceRow => {
      const errors = goldenErrors(c, precision);
      const tolerance = goldenTolerance(c, precision);
      const passed = (Object.keys(errors) as (keyof GoldenErrors)[]).every((key) => errors[key] <= tolerance[key]);
      const source =
        precision === 'float32' ? { source: JSON.parse(c.metadata.f32_error ?? '{}') as Partial<GoldenErrors> } : {};
      return { name: c.name, precision, errors, ...source, passed };
    }),
  );
  return { rows, skipped };
}

/** Largest |a − b|. */
export function worst(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let largest = a.length === b.length ? 0 : Number.POSITIVE_INFINITY;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs((a[i] as number) - (b[i] as number));
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

const largest = (a: ArrayLike<number>): number => Array.from(a).reduce((m, x) => Math.max(m, Math.abs(x)), 0);

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
