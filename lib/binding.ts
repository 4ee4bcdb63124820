/** The only door to the addon: finds it, loads it, declares its typed surface, and turns its errors into ours. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { FlashmarginError, fromNative } from './errors.js';

/** A tensor as the addon sees it. */
export type Handle = { readonly __tensor: unique symbol };
/** Of which JavaScript has arrays. */
export type HostDtype = 'float32' | 'float64' | 'int32' | 'uint8';
/** bfloat16 is for activations on a CUDA device: layers compute with it in float32, and their parameters are float32. */
export type Dtype = HostDtype | 'bfloat16';
export type HostArray = Float32Array | Float64Array | Int32Array | Uint8Array;

export interface CudaDeviceInfo {
  readonly name: string;
  readonly computeCapability: string;
  /** Bytes. */
  readonly memory: number;
  /** Which kernels the margin head takes there, and why. */
  readonly head: string;
}

/** A library of others that the CUDA library opens where it finds one. */
export interface CudaLibraryInfo {
  readonly name: string;
  readonly used: boolean;
  /** Empty where none was found. */
  readonly version: string;
  readonly path: string;
  /** What it computes, or why it does not. */
  readonly detail: string;
}

export interface ConvParams {
  readonly stride: number;
  readonly padding: number;
}
/** native/common/optimizers.h says what each field means. */
export interface OptimizerParams {
  readonly type: 'sgd' | 'adamw';
  readonly lr: number;
  readonly momentum?: number;
  readonly weightDecay?: number;
  readonly beta1?: number;
  readonly beta2?: number;
  readonly eps?: number;
  readonly step?: number;
  /** Of optimizerStep: what gradients are multiplied by. */
  readonly gradientFactor?: number;
}
/** native/common/margin.h says what each field means. */
export interface MarginParams {
  readonly method: string;
  readonly scale?: number;
  readonly margin?: number;
  readonly gradient?: 'exact' | 'detached';
  readonly overflow?: 'none' | 'hard' | 'easy' | 'clamp';
  readonly cosineEpsilon?: number;
  readonly easyAbove?: number;
  readonly angleEpsilon?: number;
  readonly angleLimit?: number;
  readonly targetEpsilon?: number;
  readonly projectWeightGradient?: boolean;
  readonly m1?: number;
  readonly m2?: number;
  readonly m3?: number;
  readonly lambda?: number;
  readonly negatives?: 'plain' | 'mvAdaptive' | 'mvFixed' | 'curricular' | 'filter';
  readonly t?: number;
  readonly filterAbove?: number;
  readonly scaleByNorm?: boolean;
  readonly subCenters?: number;
  readonly labelSmoothing?: number;
  readonly variant?: 'arc' | 'cos';
  readonly lowerNorm?: number;
  readonly upperNorm?: number;
  readonly lowerMargin?: number;
  readonly upperMargin?: number;
  readonly normPenalty?: number;
  readonly h?: number;
  readonly normMean?: number;
  readonly normStd?: number;
  readonly bias?: number;
  readonly positiveWeight?: number;
  readonly negativeWeight?: number;
  readonly power?: number;
}
/** Of operands: the head's matrix products, or a backbone's activations; sums and weights stay as they are. */
export type Precision = 'float32' | 'bfloat16';
export interface HeadOptions {
  readonly precision: Precision;
  /** Which cosines a step keeps for its second sweep: native/common/backend.h, keep_bytes. */
  readonly memory: 'lean' | 'fast' | number;
  /** What of a row's probability a step may leave out of its gradient: native/common/backend.h, gradient_filter. */
  readonly gradientFilter: number;
  /** The classes that take part instead of all, labels being places among them: native/common/backend.h, classes. */
  readonly classes?: Handle | undefined;
  /** With classes: whether the rows of others move, as by a gradient of 0. */
  readonly movesOthers?: boolean;
  /** What negativeSums gave for the same batch with the same options, and its scale. */
  readonly moments?: Handle | undefined;
  readonly cosines?: Handle | undefined;
  readonly momentsScale?: number;
}
export interface NativeNegativeSums {
  readonly lse: Handle;
  readonly moments: Handle | undefined;
  readonly cosines: Handle | undefined;
}
export interface NativeHeadStep {
  readonly loss: number;
  readonly regularizer: number;
  readonly correct: number;
  readonly labelled: number;
  readonly rowLoss: Handle;
  readonly lse: Handle;
  readonly dFeatures: Handle;
  readonly dMargins: Handle;
  readonly dScale: number;
  readonly dBias: number;
  readonly filtered: number;
}
export interface NativeHeadRows {
  readonly norm: Handle;
  readonly targetCos: Handle;
  readonly nearestCos: Handle;
  readonly hard: Handle;
  readonly center: Handle;
}

/** What the addon exports; each function is documented in native/common/backend.h under its snake_case name. */
export interface Native extends NativeKernels, Queued<NativeKernels>, HeadCalls, Queued<HeadCalls> {
  fromArray(data: HostArray, shape: readonly number[], device: number): Handle;
  zeros(dtype: Dtype, shape: readonly number[], device: number): Handle;
  /** Contents are undefined.  counted: V8 hears of the memory, which a handle of a short life need not. */
  empty(dtype: Dtype, shape: readonly number[], device: number, counted?: boolean): Handle;
  /** The array's own memory: to be disposed before JavaScript runs on. */
  borrow(data: HostArray, shape: readonly number[]): Handle;
  /** From `first` on, data's length, of a tensor: from the array, or into it. */
  copyPart(x: Handle, first: number, data: HostArray, toArray: boolean): void;
  overlap(a: Handle, b: Handle): 'none' | 'same' | 'partly';
  readInto(x: Handle, out: HostArray): void;
  writeFrom(x: Handle, data: HostArray): void;
  /** Draws of N(0, std²) into a float32 tensor; the state, four words, moves on. */
  fillNormal(x: Handle, std: number, state: Int32Array): void;
  reshape(x: Handle, shape: readonly number[]): Handle;
  describe(x: Handle): { shape: number[]; dtype: Dtype };
  dispose(x: Handle): void;
  mapFile(path: string): ArrayBuffer;
  nearest(queries: Handle, gallery: Handle, k: number): { index: Handle; score: Handle };
  pairHistograms(
    embeddings: Float32Array,
    labels: Int32Array,
    dim: number,
    bins: number,
  ): { genuine: Float64Array; impostor: Float64Array };
  memory(): { used: number; cached: number; peak: number };
  status(): {
    isa: string;
    threads: number;
    onednn: string;
    cudaDevices: number;
    /** Why there is no CUDA device; empty where there is one. */
    cuda: string;
    /** CUDA's version, of the library and the newest that the driver knows; empty where there is none. */
    cudaRuntime: string;
    cudaDriver: string;
    cudaList: readonly CudaDeviceInfo[];
  };
  /** Which of the head's paths multiply bfloat16 on a CUDA device; warning: which are off because they are wrong there. */
  headPath(device: number): { chosen: string; warning: string };
  /** Looks for them at the first call, which takes a while. */
  cudaLibraries(): readonly CudaLibraryInfo[];
  /** What a library has no algorithm for, since this was last asked, and our own kernels compute on CUDA; or empty. */
  takeLeftToOwnKernels(): string;
  /** Operations that wait on the device's queue or run there. */
  queued(): number;
  setNumThreads(threads: number): void;
  emptyCache(): void;
  resetPeakMemory(): void;

  fill(x: Handle, value: number): void;
  cast(x: Handle, dtype: Dtype): Handle;
  normalizeForward(x: Handle): { y: Handle; norm: Handle };
  normalizeBackward(dy: Handle, y: Handle, norm: Handle): Handle;
  matmul(a: Handle, b: Handle, transposeA: boolean, transposeB: boolean): Handle;
  addBias(x: Handle, bias: Handle): Handle;
  sumRows(x: Handle): Handle;
  conv2dForward(x: Handle, weight: Handle, p: ConvParams): Handle;
  conv2dBackwardData(dy: Handle, weight: Handle, xShape: readonly number[], p: ConvParams): Handle;
  conv2dBackwardWeight(dy: Handle, x: Handle, weightShape: readonly number[], p: ConvParams): Handle;
  batchNormTrain(
    x: Handle,
    weight: Handle,
    bias: Handle,
    runningMean: Handle,
    runningVar: Handle,
    momentum: number,
    epsilon: number,
    slope?: Handle,
    shortcut?: Handle,
  ): { y: Handle; mean: Handle; invStd: Handle };
  batchNormEval(
    x: Handle,
    weight: Handle,
    bias: Handle,
    runningMean: Handle,
    runningVar: Handle,
    epsilon: number,
    slope?: Handle,
    shortcut?: Handle,
  ): { y: Handle; mean: Handle; invStd: Handle };
  batchNormBackward(
    dy: Handle,
    x: Handle,
    weight: Handle,
    bias: Handle,
    mean: Handle,
    invStd: Handle,
    batchStatistics: boolean,
    slope?: Handle,
  ): { dx: Handle; dWeight: Handle; dBias: Handle; dSlope?: Handle };
  preluForward(x: Handle, slope: Handle): Handle;
  preluBackward(dy: Handle, x: Handle, slope: Handle): { dx: Handle; dSlope: Handle };
  reluForward(x: Handle): Handle;
  reluBackward(dy: Handle, y: Handle): Handle;
  add(a: Handle, b: Handle): Handle;
  multiply(a: Handle, b: Handle): Handle;
  accumulate(into: Handle, x: Handle): void;
  scale(x: Handle, factor: number): Handle;
  affine(x: Handle, factor: number, offset: number): Handle;
  sqrtForward(x: Handle, epsilon: number): Handle;
  sqrtBackward(dy: Handle, y: Handle): Handle;
  sum(x: Handle): number;
  dot(a: Handle, b: Handle): number;
  sumOfSquares(xs: readonly Handle[]): number;
  dropout(x: Handle, rate: number, seed: number): Handle;
  imageToFloat(x: Handle): Handle;
  globalAvgPoolForward(x: Handle): Handle;
  globalAvgPoolBackward(dy: Handle, xShape: readonly number[]): Handle;
  flattenForward(x: Handle): Handle;
  flattenBackward(dy: Handle, xShape: readonly number[]): Handle;
  softmaxForward(x: Handle): Handle;
  softmaxBackward(dy: Handle, y: Handle): Handle;
  logSoftmaxForward(x: Handle): Handle;
  logSoftmaxBackward(dy: Handle, y: Handle): Handle;
  scatterAddRows(into: Handle, index: Handle, x: Handle): void;
  weightedSumForward(weights: Handle, x: Handle): Handle;
  weightedSumBackward(dy: Handle, weights: Handle, x: Handle): { dWeights: Handle; dx: Handle };
  squaredDistancesForward(x: Handle): Handle;
  squaredDistancesBackward(dy: Handle, x: Handle): Handle;
  checkMargin(p: MarginParams): void;
  marginSoftmaxForward(
    features: Handle,
    weight: Handle,
    labels: Handle,
    margins: Handle | undefined,
    p: MarginParams,
    precision: Precision,
  ): { loss: number; regularizer: number; rowLoss: Handle; lse: Handle; correct: number; labelled: number };
  marginSoftmaxBackward(
    features: Handle,
    weight: Handle,
    labels: Handle,
    margins: Handle | undefined,
    lse: Handle,
    dLoss: number,
    p: MarginParams,
    precision: Precision,
  ): { dFeatures: Handle; dWeight: Handle; dMargins: Handle; dScale: number; dBias: number };
  negativeLse(features: Handle, weight: Handle, labels: Handle, p: MarginParams, classes: Handle | undefined): Handle;
  negativeSums(
    features: Handle,
    weight: Handle,
    labels: Handle,
    p: MarginParams,
    options: HeadOptions,
  ): Promise<NativeNegativeSums>;
  negativeSumsSync(
    features: Handle,
    weight: Handle,
    labels: Handle,
    p: MarginParams,
    options: HeadOptions,
  ): NativeNegativeSums;
  inspectHead(
    features: Handle,
    weight: Handle,
    labels: Handle,
    margins: Handle | undefined,
    p: MarginParams,
  ): Promise<NativeHeadRows>;
  marginLogits(features: Handle, weight: Handle, labels: Handle, margins: Handle | undefined, p: MarginParams): Handle;
  headStep(
    features: Handle,
    weight: Handle,
    state: readonly Handle[],
    labels: Handle,
    margins: Handle | undefined,
    p: MarginParams,
    optimizer: OptimizerParams,
    options: HeadOptions,
  ): Promise<NativeHeadStep>;
  headStepSync(
    features: Handle,
    weight: Handle,
    state: readonly Handle[],
    labels: Handle,
    margins: Handle | undefined,
    p: MarginParams,
    optimizer: OptimizerParams,
    options: HeadOptions,
  ): NativeHeadStep;
  optimizerStep(weight: Handle, state: readonly Handle[], gradient: Handle, optimizer: OptimizerParams): void;
  allFinite(x: Handle): boolean;
}

/** What a head calls beside its step, at once where it is little work. */
interface HeadCalls {
  gatherRows(x: Handle, index: Handle): Handle;
  targetCosines(features: Handle, weight: Handle, labels: Handle, subCenters: number): Handle;
  /** native/cpu/class_sample.h.  On the CPU. */
  sampleClasses(
    labels: Handle,
    numClasses: number,
    count: number,
    seed: number,
    step: number,
  ): { classes: Handle; labels: Handle };
  /** native/cpu/class_margins.h. */
  classMarginsStep(
    margins: Handle,
    state: readonly Handle[],
    labels: Handle,
    gradients: Handle,
    common: number,
    optimizer: OptimizerParams,
  ): void;
}

/** The separate kernels; each has its twin on the device's queue, of its name + Async. */
export interface NativeKernels {
  normalizeInto(x: Handle, y: Handle, norm: Handle): void;
  normalizeBackwardInto(dy: Handle | undefined, y: Handle, norm: Handle, dNorm: Handle | undefined, dx: Handle): void;
  cosineLogitsForward(features: Handle, weight: Handle, cosines: Handle): void;
  cosineLogitsBackward(
    dCosines: Handle,
    features: Handle,
    weight: Handle,
    project: boolean,
    dFeatures: Handle | undefined,
    dWeight: Handle | undefined,
  ): void;
  subCenterMaxForward(cosines: Handle, subCenters: number, largest: Handle, centers: Handle): void;
  subCenterMaxBackward(dLargest: Handle, centers: Handle, subCenters: number, dCosines: Handle): void;
  marginTransformForward(
    cosines: Handle,
    labels: Handle,
    margins: Handle | undefined,
    norms: Handle | undefined,
    p: MarginParams,
    logits: Handle,
  ): void;
  marginTransformBackward(
    dLogits: Handle,
    cosines: Handle,
    labels: Handle,
    margins: Handle | undefined,
    norms: Handle | undefined,
    p: MarginParams,
    dCosines: Handle,
    dMargins: Handle | undefined,
    dNorms: Handle | undefined,
  ): { dScale: number; dBias: number };
  curricularReweightForward(cosines: Handle, labels: Handle, t: number, margin: number, reweighted: Handle): void;
  curricularReweightBackward(
    dReweighted: Handle,
    cosines: Handle,
    labels: Handle,
    t: number,
    margin: number,
    dCosines: Handle,
  ): void;
  softmaxCrossEntropyForward(
    logits: Handle,
    labels: Handle,
    labelSmoothing: number,
    rowLoss: Handle,
    lse: Handle,
  ): number;
  softmaxCrossEntropyBackward(
    logits: Handle,
    labels: Handle,
    labelSmoothing: number,
    dLoss: number,
    dLogits: Handle,
  ): void;
  binaryCrossEntropyForward(
    logits: Handle,
    labels: Handle,
    positiveWeight: number,
    negativeWeight: number,
    rowLoss: Handle,
  ): number;
  binaryCrossEntropyBackward(
    logits: Handle,
    labels: Handle,
    positiveWeight: number,
    negativeWeight: number,
    dLoss: number,
    dLogits: Handle,
  ): void;
  normRegularizerForward(norms: Handle, labels: Handle, p: MarginParams): number;
  normRegularizerBackward(norms: Handle, labels: Handle, p: MarginParams, dLoss: number, dNorms: Handle): void;
}

/** The same names + Async, returning promises. */
type Queued<T> = {
  [K in keyof T & string as `${K}Async`]: T[K] extends (...args: infer A) => infer R
    ? (...args: A) => Promise<R>
    : never;
};

const require = createRequire(import.meta.url);

/** The folder of package.json, from lib/ as from dist/. */
export const packageRoot = (() => {
  let folder = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(folder, 'package.json')) && folder !== path.dirname(folder))
    folder = path.dirname(folder);
  return folder;
})();

function loadAddon(): Native {
  const tried: string[] = [];
  const attempts: readonly (readonly [string, () => unknown])[] = process.env.FLASHMARGIN_ADDON
    ? [[process.env.FLASHMARGIN_ADDON, () => require(path.resolve(process.env.FLASHMARGIN_ADDON as string))]]
    : [
        [
          `bindings('flashmargin') under ${packageRoot}`,
          () => require('bindings')({ bindings: 'flashmargin', module_root: packageRoot }),
        ],
        [
          `@flashmargin/${process.platform}-${process.arch}`,
          () => require(`@flashmargin/${process.platform}-${process.arch}`),
        ],
      ];
  for (const [name, load] of attempts) {
    try {
      const addon = load() as Native;
      if (typeof addon?.status !== 'function') throw new Error('is not the flashmargin addon');
      return addon;
    } catch (error) {
      tried.push(`${name}: ${String((error as Error).message).split('\n')[0]}`);
    }
  }
  throw new FlashmarginError(
    `no native addon for ${process.platform}-${process.arch} could be loaded; tried\n  ${tried.join('\n  ')}`,
    {
      code: 'ERR_FM_NO_ADDON',
      hint: `npx flashmargin build   (in a clone: npm run build:native); needs g++, make and cmake`,
    },
  );
}

type Call = (...args: unknown[]) => unknown;

/** With FLASHMARGIN_PROFILE=1: time and calls of each native function, on stderr when the process ends. */
function profiled(calls: Record<string, Call>): Record<string, Call> {
  const spent = new Map(Object.keys(calls).map((name) => [name, { ms: 0, calls: 0 }]));
  process.on('exit', () => {
    const rows = [...spent].filter(([, { calls }]) => calls > 0).sort(([, a], [, b]) => b.ms - a.ms);
    for (const [name, { ms, calls }] of rows)
      process.stderr.write(`${name.padEnd(24)} ${ms.toFixed(0).padStart(9)} ms ${String(calls).padStart(9)} calls\n`);
  });
  const timed = ([name, f]: [string, Call]): [string, Call] => [
    name,
    (...args) => {
      const began = performance.now();
      try {
        return f(...args);
      } finally {
        const entry = spent.get(name) as { ms: number; calls: number };
        entry.ms += performance.now() - began;
        entry.calls++;
      }
    },
  ];
  return Object.fromEntries(Object.entries(calls).map(timed));
}

function wrapped(addon: Native): Native {
  const out: Record<string, unknown> = {};
  const calls = { ...addon } as unknown as Record<string, Call>;
  for (const [name, f] of Object.entries(process.env.FLASHMARGIN_PROFILE ? profiled(calls) : calls)) {
    out[name] = (...args: unknown[]): unknown => {
      try {
        const result = f(...args);
        return result instanceof Promise
          ? result.catch((error: unknown) => {
              throw fromNative(error);
            })
          : result;
      } catch (error) {
        throw fromNative(error);
      }
    };
  }
  return out as unknown as Native;
}

let loaded: Native | undefined;

/** The addon, loaded on first use, so that importing the package never throws. */
export const native: Native = new Proxy({} as Native, {
  get: (_, name) => {
    loaded ??= wrapped(loadAddon());
    return Reflect.get(loaded, name);
  },
});
