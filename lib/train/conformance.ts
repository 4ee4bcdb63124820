/**
 * Golden files: numbers that published implementations produced, against the real kernels.  A file is called
 * `<method>.<source>.<variant>.safetensors`; its tensors are X [N, D], W [C, D], labels, logits, ce, dX, dW, and its
 * metadata names hyper-parameters (`hp`) and what the source's own float32 run loses (`f32_error`).
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { backward } from '../autograd.js';
import { DataError, FlashmarginError } from '../errors.js';
import { plusMargins, stateRules } from '../heads/index.js';
import { type FileArray, readSafetensors } from '../io/index.js';
import {
  type Annealing,
  adacos,
  adacosScale,
  adaface,
  annealing,
  arcface,
  combined,
  cosface,
  curricularface,
  elasticface,
  featureNormScale,
  filteredNegatives,
  fixedAdacosScale,
  type Margin,
  type MarginOptions,
  magface,
  mvsoftmax,
  softmax,
  sphereface,
} from '../margins/index.js';
import { marginLogits, marginSoftmax, negativeLse, targetCosines } from '../ops/index.js';
import { parameter, type Tensor, tensor, tidy } from '../tensor.js';

/** By the part of the file's name that names the source. */
const conventions: Record<string, MarginOptions<'arcface'>> = {
  insightface: { gradient: 'detached', overflow: 'none' },
  insightface_mxnet: { overflow: 'none' },
  insightface_torch: {},
  svx: {},
  facexzoo: {},
  official: {},
  fixed: {},
  dynamic: {},
  clcarwin: {},
  pml_asoftmax: {},
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
  readonly filter?: number;
  readonly t?: number;
  readonly t0?: number;
  readonly fc_type?: string;
  readonly is_am?: boolean;
  readonly easy_margin?: boolean;
  readonly mv_weight?: number;
  readonly lambda_g?: number;
  readonly l_a?: number;
  readonly u_a?: number;
  readonly l_margin?: number;
  readonly u_margin?: number;
  readonly kind?: string;
  readonly std?: number;
  readonly plus?: boolean;
  readonly h?: number;
  readonly t_alpha?: number;
  readonly mean0?: number;
  readonly std0?: number;
  readonly lamda?: number;
  readonly it0?: number;
}

const radians = (degrees: number): number => (degrees * Math.PI) / 180;

/** Of SphereFace's λ, by source. */
const annealings: Record<string, Annealing> = {
  clcarwin: annealing({ base: 1500, gamma: 0.1 }),
  svx: annealing({ gamma: 1e-4, power: 2 }),
};

/** By the first part of the file's name. */
const families = {
  arcface: ({ s, m }, source) =>
    arcface({ ...conventions[source], scale: s, margin: source === 'pml' ? radians(m) : m }),
  // CosFace has no angle to overflow.
  cosface: ({ s, m }, source) => {
    const { gradient, cosineEpsilon, projectWeightGradient } = conventions[source] ?? {};
    return cosface({ gradient, cosineEpsilon, projectWeightGradient, scale: s, margin: m });
  },
  combined: ({ s, m1, m2, m3, filter }, source) => {
    // insightface's torch code never combines: an angle, or a cosine alone.
    const negatives = filter ? { negatives: filteredNegatives({ above: filter }) } : {};
    if (source !== 'insightface_torch') return combined({ ...conventions[source], scale: s, m1, m2, m3, ...negatives });
    if (m3 > 0) return cosface({ scale: s, margin: m3, ...negatives });
    return arcface({ ...conventions.insightface, scale: s, margin: m2, ...negatives });
  },
  sphereface: ({ s, m }, source) => {
    // cos(m·θ), not made monotone: what is called combined here.
    if (source === 'pytorch_adacos') return combined({ ...conventions[source], scale: s, m1: m, m2: 0, m3: 0 });
    const { gradient = 'exact', cosineEpsilon, projectWeightGradient } = conventions[source] ?? {};
    const byNorm = source === 'clcarwin' || source === 'pml_asoftmax';
    const scale = byNorm ? featureNormScale() : s;
    const lambda = annealings[source] ?? 0;
    return sphereface({ gradient, cosineEpsilon, projectWeightGradient, scale, margin: m, lambda });
  },
  adacos: (_, source, numClasses) =>
    source === 'dynamic' ? adacos({ scale: adacosScale() }) : softmax({ scale: fixedAdacosScale(numClasses) }),
  adam_softmax: ({ s }) => cosface({ scale: s }),
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
  subcenter: ({ s, m, m1, m2, m3 }, source) =>
    source === 'pml'
      ? arcface({ ...conventions.pml, scale: s, margin: radians(m), subCenters: 3 })
      : combined({ ...conventions[source], scale: s, m1, m2, m3, subCenters: 3 }),
  magface: ({ s, l_a, u_a, l_margin, u_margin, lambda_g, easy_margin }) =>
    magface({
      scale: s,
      lowerNorm: l_a,
      upperNorm: u_a,
      lowerMargin: l_margin,
      upperMargin: u_margin,
      normPenalty: lambda_g,
      overflow: easy_margin ? 'easy' : 'hard',
    }),
  elasticface: ({ s, m, kind, std, plus }) =>
    elasticface({
      scale: s,
      margin: m,
      variant: kind === 'cos' ? 'am' : 'arc',
      deviation: std,
      plus: plus ? 'official' : 'none',
    }),
  adaface: ({ s, m, h, t_alpha, mean0, std0 }) =>
    adaface({ scale: s, margin: m, h, normRate: t_alpha, normMean: mean0 ?? 20, normStd: std0 ?? 100 }),
} as const satisfies Record<string, (hp: Hyper, source: string, numClasses: number) => Margin>;

/** A method of golden files. */
export type GoldenFamily = keyof typeof families;

/** A case, or one step of a case that has several. */
export interface GoldenCase {
  readonly name: string;
  readonly family: GoldenFamily;
  readonly margin: Margin;
  /** What the head's running numbers are before it, by their names here. */
  readonly before: Readonly<Record<string, number>>;
  readonly tensors: ReadonlyMap<string, { shape: readonly number[]; data: FileArray }>;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Largest errors: of a logit; of the loss, the regulariser and the running numbers relative to them; of the gradients
 * relative to their largest.
 */
export interface GoldenErrors {
  readonly logits_abs: number;
  readonly ce_rel: number;
  readonly dX_rel: number;
  readonly dW_rel: number;
  /** Of methods that have such. */
  readonly reg_rel?: number;
  readonly state_rel?: number;
  readonly dmargins_rel?: number;
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
    const reason = !(family in families)
      ? `no method here is called ${family}`
      : !conventions[source]
        ? `the conventions of ${source} are not known`
        : missing.length > 0
          ? `has no ${missing.join(', ')}`
          : undefined;
    if (reason) skipped.push({ file, reason });
    else cases.push(...casesOf(name, family as GoldenFamily, source, tensors, metadata));
  }
  return { cases, skipped };
}

/** The head's running numbers by the names that the files give them. */
const stateNames: Record<string, string> = {
  t: 't',
  s: 'scale',
  lambda: 'lambda',
  batch_mean: 'normMean',
  batch_std: 'normStd',
};

function casesOf(
  name: string,
  family: GoldenFamily,
  source: string,
  tensors: GoldenCase['tensors'],
  metadata: GoldenCase['metadata'],
): GoldenCase[] {
  const numClasses = tensors.get('W')?.shape[0] as number;
  const margin = families[family](JSON.parse(metadata.hp as string) as Hyper, source, numClasses);
  const steps = Number(metadata.steps ?? 1);
  const { it0 = 0 } = JSON.parse(metadata.hp as string) as Hyper;
  const start = startOf(margin, numClasses);
  const before: GoldenCase['before'] = { ...start, ...('steps' in start ? { steps: it0 } : {}) };
  if (steps === 1) return [{ name, family, margin, before, tensors, metadata }];
  return Array.from({ length: steps }, (_, step) => {
    const own = new Map([...tensors].map(([key, value]) => [key, key === 'W' ? value : sliced(value, step)]));
    const previous = Object.entries(stateNames).flatMap(([key, ours]) => {
      const value = step > 0 ? tensors.get(`state.${key}`)?.data : undefined;
      return value ? [[ours, value[step - 1] as number]] : [];
    });
    return {
      name: `${name}, step ${step}`,
      family,
      margin,
      before: {
        ...before,
        ...Object.fromEntries(previous),
        ...(before.steps === undefined ? {} : { steps: before.steps + step }),
      },
      tensors: own,
      metadata,
    };
  });
}

/** A head's running numbers before its first step. */
function startOf(margin: Margin, numClasses: number): Record<string, number> {
  const rules = stateRules(margin, numClasses, fixedAdacosScale(numClasses), 0);
  const single = rules.flatMap(({ initial }) => Object.entries(initial).filter(([, values]) => values.length === 1));
  return Object.fromEntries(single.map(([name, values]) => [name, values[0] as number]));
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
export function goldenErrors(
  { name, family, margin, before, tensors }: GoldenCase,
  precision: 'float32' | 'float64',
): GoldenErrors {
  const { shape, data } = tensors.get('X') as { shape: readonly number[]; data: Float64Array };
  const W = tensors.get('W') as { shape: readonly number[]; data: Float64Array };
  const labels = Int32Array.from(tensors.get('labels')?.data as BigInt64Array, Number);
  const Typed = precision === 'float32' ? Float32Array : Float64Array;
  const [N, D] = shape as [number, number];
  const C = W.shape[0] as number;
  const { subCenters = 1 } = margin;
  const wide = name.includes('_mxnet.');
  const columns = wide ? D + 2 : D;
  const of = (key: string) => tensors.get(key)?.data as Float64Array;
  return tidy(() => {
    const x = parameter(tensor(Typed.from(wide ? widened(data, D, 0) : data), [N, columns]));
    const w = parameter(tensor(Typed.from(wide ? widened(W.data, D, 1) : W.data), [C * subCenters, columns]));
    const cosines = () => targetCosines(x, w, labels, { subCenters }).toArray();
    const given = marginsOfRows(margin, tensors, labels, cosines);
    const margins = given && parameter(tensor(Typed.from(given), [N]));
    try {
      const { state, after } = preparedState(margin, before, { x, w, labels, subCenters, numClasses: C });
      const options = { state, ...(margins ? { margins } : {}) };
      const { loss, regularizer } = marginSoftmax(x, w, labels, margin, options);
      backward(loss);
      const own = (gradient: ArrayLike<number>) => (wide ? narrowed(gradient, D) : gradient);
      const total = family === 'magface' ? 'loss' : tensors.has('ce_exact') ? 'ce_exact' : 'ce';
      const ce = of(total)[0] as number;
      const states = Object.entries(stateNames).flatMap(([key, ours]) =>
        tensors.has(`state.${key}`) && after[ours] !== undefined
          ? [relative(after[ours], of(`state.${key}`)[0] as number)]
          : [],
      );
      return {
        logits_abs: worst(marginLogits(x, w, labels, margin, options).toArray(), of('logits')),
        ce_rel: relative(loss.item(), ce),
        dX_rel: rowRelative(own(x.grad?.toArray() as Float64Array), of('dX'), data, D),
        dW_rel: worst(own(w.grad?.toArray() as Float64Array), of('dW')) / largest(of('dW')),
        ...(family === 'magface' ? { reg_rel: relative(regularizer, of('reg')[0] as number) } : {}),
        ...(states.length > 0 ? { state_rel: Math.max(...states) } : {}),
        ...(tensors.has('dmargins')
          ? {
              dmargins_rel:
                worst(classGradients(margins?.grad?.toArray() ?? [], labels, C, tensors), of('dmargins')) /
                largest(of('dmargins')),
            }
          : {}),
      };
    } finally {
      for (const made of [x, w, margins]) {
        made?.grad?.dispose();
        made?.dispose();
      }
    }
  });
}

const relative = (a: number, b: number): number => Math.abs(a - b) / Math.max(Math.abs(b), 1e-300);

/** Each row's own margin, where the case gives such: AdaM's by class, ElasticFace's as drawn. */
function marginsOfRows(
  margin: Margin,
  tensors: GoldenCase['tensors'],
  labels: Int32Array,
  cosines: () => ArrayLike<number>,
): Float64Array | undefined {
  const ofClasses = tensors.get('margins')?.data as Float64Array | undefined;
  if (ofClasses) return Float64Array.from(labels, (label) => Math.min(1, Math.max(0, ofClasses[label] as number)));
  const drawn = tensors.get('margins_drawn')?.data as Float64Array | undefined;
  if (margin.method !== 'elasticface' || !drawn) return undefined;
  return margin.plus === 'none' ? drawn : plusMargins(drawn, cosines(), margin.plus);
}

/** AdaM's gradient by class, with that of its reward. */
function classGradients(ofRows: ArrayLike<number>, labels: Int32Array, C: number, tensors: GoldenCase['tensors']) {
  const margins = tensors.get('margins')?.data as Float64Array;
  const reg = (tensors.get('reg')?.data as Float64Array)[0] as number;
  // reg = lamda·(1 − mean), by which the file tells lamda.
  const mean = margins.reduce((sum, m) => sum + Math.min(1, Math.max(0, m)), 0) / C;
  const out = new Float64Array(C).fill(-reg / (1 - mean) / C);
  labels.forEach((label, i) => {
    out[label] = (out[label] as number) + (ofRows[i] as number);
  });
  return out;
}

/** The head's own rules on the batch: the kernels' running numbers, and all of them by name afterwards. */
function preparedState(
  margin: Margin,
  before: GoldenCase['before'],
  {
    x,
    w,
    labels,
    subCenters,
    numClasses,
  }: { x: Tensor; w: Tensor; labels: Int32Array; subCenters: number; numClasses: number },
): { state: Record<string, number>; after: Record<string, number> } {
  const rules = stateRules(margin, numClasses, fixedAdacosScale(numClasses), 0);
  const values = Object.fromEntries(Object.entries(before).map(([key, value]) => [key, new Float64Array([value])]));
  const batch = {
    labels,
    targetCosines: targetCosines(x, w, labels, { subCenters }).toArray(),
    norms: rowNorms(x),
    ...(before.scale === undefined
      ? {}
      : { negativeLse: negativeLse(x, w, labels, { scale: before.scale, subCenters }).toArray() }),
  };
  const state: Record<string, number> = {};
  for (const rule of rules) {
    if (Object.keys(rule.initial).every((name) => name in values)) {
      Object.assign(state, rule.prepare(batch, values).state);
    }
  }
  return { state, after: state };
}

function rowNorms(x: Tensor): Float64Array {
  const [N, D] = x.shape as [number, number];
  const data = x.toArray();
  return Float64Array.from({ length: N }, (_, i) => Math.hypot(...data.subarray(i * D, (i + 1) * D)));
}

/** For every quantity of GoldenErrors. */
export type GoldenTolerance = { readonly [K in keyof GoldenErrors]-?: number };

/**
 * What is fair: in float64 1e-9 of a logit and 1e-7 of a gradient (1e-5 where cosines are within 1e-6 of ±1); in
 * float32 twice what the source's own float32 run loses, or a few roundings.
 */
export function goldenTolerance({ name, metadata }: GoldenCase, precision: 'float32' | 'float64'): GoldenTolerance {
  if (precision === 'float64') {
    const gradients = /\.hard/.test(name) ? 1e-5 : 1e-7;
    return {
      logits_abs: 1e-9,
      ce_rel: 1e-9,
      dX_rel: gradients,
      dW_rel: gradients,
      reg_rel: 1e-9,
      state_rel: 1e-9,
      dmargins_rel: gradients,
    };
  }
  const theirs = JSON.parse(metadata.f32_error ?? '{}') as Partial<GoldenErrors>;
  const least = {
    logits_abs: 2e-5,
    ce_rel: 1e-6,
    dX_rel: 5e-6,
    dW_rel: 5e-6,
    reg_rel: 1e-6,
    state_rel: 1e-6,
    dmargins_rel: 5e-6,
  };
  const fair = (key: keyof typeof least) => [key, Math.max(least[key], 2 * (theirs[key] ?? 0))] as const;
  return Object.fromEntries((Object.keys(least) as (keyof typeof least)[]).map(fair)) as unknown as GoldenTolerance;
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
      const passed = (Object.keys(errors) as (keyof GoldenErrors)[]).every((key) => (errors[key] as number) <= tolerance[key]);
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
