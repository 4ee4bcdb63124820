import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { native } from '../binding.js';
import {
  type AugmentOptions,
  type Batch,
  BatchLoader,
  type ClassBatches,
  ClassBatchPlan,
  RecordDataset,
} from '../data/index.js';
import { checkOptions, checkPath, counted, DataError, expected, NonFiniteError } from '../errors.js';
import { removeTemporaries, writeFileAtomically } from '../io/atomicFile.js';
import {
  type CheckpointParts,
  checkpointFile,
  listCheckpoints,
  lockFolder,
  neededCheckpoint,
  pruneCheckpoints,
  restore,
  saveCheckpoint,
  setAsideCheckpoints,
} from '../io/index.js';
import { writeSafetensors } from '../io/safetensors.js';
import { CenterLoss } from '../losses/index.js';
import { Module } from '../nn/index.js';
import { Optimizer } from '../optim/optimizer.js';
import type { Tensor } from '../tensor.js';
import { configSchema } from './config.js';
import { type StepParts, trainStep } from './step.js';

/** One line of metrics.jsonl: means since the line before. */
export interface StepMetrics {
  /** Steps done. */
  readonly step: number;
  readonly totalSteps: number;
  /** From 1. */
  readonly epoch: number;
  readonly loss: number;
  readonly accuracy: number;
  /** What the head's gradientFilter left out, where it has one. */
  readonly filtered?: number;
  readonly lr: number;
  readonly imagesPerSecond: number;
  /** Share of the time spent in the head's forward, backward and update. */
  readonly headShare: number;
  /** Share of the time spent waiting for data. */
  readonly dataShare: number;
  /** Seconds of training so far, over all sessions of the run. */
  readonly seconds: number;
}

export interface TrainerOptions extends StepParts {
  /** The rate at each step, from 0. */
  readonly schedule: (step: number) => number;
  readonly dataset: RecordDataset;
  readonly batchSize: number;
  /** Batches of so many images of so many classes; their product is batchSize. */
  readonly sampler?: ClassBatches;
  readonly epochs: number;
  readonly seed?: number;
  readonly augment?: AugmentOptions;
  readonly workers?: number;
  readonly cacheBytes?: number;
  /** The run folder: metrics.jsonl and checkpoints/ go there.  Nothing is written without it. */
  readonly out?: string;
  /** Who has taken the folder already, if anyone. */
  readonly holder?: object;
  /** Written into every checkpoint; resuming with another one is an error. */
  readonly config?: unknown;
  readonly logEverySteps?: number;
  readonly checkpointEverySteps?: number;
  readonly keepCheckpoints?: number;
  /** Goes on from the newest whole checkpoint in `out`. */
  readonly resume?: boolean;
  /** Stops at the next step boundary, saves, and rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  readonly onMetrics?: (metrics: StepMetrics) => void;
  /** Hears of checkpoints that are damaged, and of what was resumed. */
  readonly onNote?: (message: string) => void;
}

const optionNames: readonly (keyof TrainerOptions)[] = [
  'backbone',
  'head',
  'centerLoss',
  'optimizer',
  'schedule',
  'dataset',
  'batchSize',
  'sampler',
  'epochs',
  'seed',
  'augment',
  'workers',
  'cacheBytes',
  'out',
  'holder',
  'config',
  'logEverySteps',
  'checkpointEverySteps',
  'keepCheckpoints',
  'resume',
  'signal',
  'onMetrics',
  'onNote',
];

export interface FitResult {
  readonly steps: number;
  /** Seconds of training, over all sessions of the run. */
  readonly seconds: number;
  readonly imagesPerSecond: number;
  readonly headShare: number;
}

const noSums = { loss: 0, accuracy: 0, filtered: 0, headSeconds: 0, waited: 0, seconds: 0, images: 0, steps: 0 };
type Sums = typeof noSums;

/** What a checkpoint says of the run's clock and metrics, beside its state. */
interface Progress {
  step: number;
  seconds: number;
  headSeconds: number;
  /** Over the steps since the last line of metrics. */
  sums: Sums;
}

type Test = readonly [holds: (x: unknown) => boolean, wanted: string];
const count: Test = [(x) => Number.isSafeInteger(x) && (x as number) >= 1, 'an integer of at least 1'];
const aFunction: Test = [(x) => typeof x === 'function', 'a function'];
const isHead = (x: unknown) =>
  ['stepSync', 'namedTensors'].every((name) => typeof (x as Record<string, unknown> | null)?.[name] === 'function');

const needed: Readonly<Record<string, Test>> = {
  backbone: [(x) => x instanceof Module, 'such as nn.iresnetSmall()'],
  head: [isHead, 'such as a MarginHead'],
  optimizer: [(x) => x instanceof Optimizer, 'such as an optim.Sgd'],
  schedule: [aFunction[0], 'a function of the step'],
  dataset: [(x) => x instanceof RecordDataset, 'a set from openDataset()'],
  batchSize: count,
  epochs: count,
};
const optional: Readonly<Record<string, Test>> = {
  centerLoss: [(x) => x instanceof CenterLoss, 'a CenterLoss'],
  out: [(x) => typeof x === 'string' && x !== '', 'the path of a folder'],
  logEverySteps: count,
  checkpointEverySteps: count,
  keepCheckpoints: count,
  resume: [(x) => typeof x === 'boolean', 'true or false'],
  signal: [(x) => x instanceof AbortSignal, 'an AbortSignal'],
  onMetrics: aFunction,
  onNote: aFunction,
};

/** Throws unless all is there; options of the loader are its own to check, when training begins. */
function checkTrainer(options: TrainerOptions): void {
  checkOptions('Trainer', options, optionNames);
  for (const [name, [holds, wanted]] of Object.entries({ ...needed, ...optional })) {
    const value = options[name as keyof TrainerOptions];
    expected(holds(value) || (value === undefined && name in optional), 'Trainer', `${name}, ${wanted}`, value);
  }
}

/** What a run writes into its folder, beside checkpoints/. */
export const runFiles = /^(config\.json|metrics\.jsonl|summary\.json|report\.html|non-finite-step-\d+\.safetensors)$/;

/** Batches in an epoch; a last one that is not full is left out. */
export function fullBatches(dataset: RecordDataset, batchSize: number, sampler?: ClassBatches): number {
  if (sampler !== undefined) return new ClassBatchPlan(dataset.labels(), sampler).batchesPerEpoch;
  const images = dataset.size;
  if (images < batchSize) {
    throw new DataError(
      `train: expected at least one batch of ${batchSize}, got a set of ${counted(images, 'image')}`,
      {
        code: 'ERR_FM_DATA',
        hint: 'lower batchSize',
      },
    );
  }
  return Math.floor(images / batchSize);
}

/**
 * The loop: batch → backbone → head step → backward → optimizer, with checkpoints that go on bit for bit.
 *
 * @example
 * const trainer = new Trainer({ backbone, head, optimizer, schedule, dataset, batchSize: 256, epochs: 5, out: 'runs/a' });
 * const { imagesPerSecond } = await trainer.fit();
 */
export class Trainer {
  readonly #o: TrainerOptions;
  readonly batchesPerEpoch: number;
  readonly totalSteps: number;

  constructor(options: TrainerOptions) {
    checkTrainer(options);
    this.#o = options;
    this.batchesPerEpoch = fullBatches(options.dataset, options.batchSize, options.sampler);
    this.totalSteps = this.batchesPerEpoch * options.epochs;
  }

  /** Trains to the end of the last epoch. */
  async fit(): Promise<FitResult> {
    const { out, holder } = this.#o;
    const release = out ? lockFolder(out, holder) : () => {};
    try {
      return await this.#run();
    } finally {
      release();
    }
  }

  async #run(): Promise<FitResult> {
    const { out, signal, dataset, batchSize, checkpointEverySteps = 500 } = this.#o;
    const progress = this.#begin();
    const loader = new BatchLoader(dataset, {
      batchSize,
      sampler: this.#o.sampler,
      seed: this.#o.seed ?? 0,
      dropLast: true,
      epochs: this.#o.epochs,
      augment: this.#o.augment,
      workers: this.#o.workers ?? 1,
      cacheBytes: this.#o.cacheBytes,
      reuse: true,
      start: { epoch: Math.floor(progress.step / this.batchesPerEpoch), batch: progress.step % this.batchesPerEpoch },
    });
    const window = new Window(progress, Boolean(this.#o.head.gradientFilter));
    let untold = this.#o.head.device !== 'cpu';
    if (untold) native.takeLeftToOwnKernels(); // a rehearsal's, or another training's
    try {
      if (out && progress.step === 0 && listCheckpoints(out).length === 0) this.#save(progress);
      this.#o.backbone.train();
      while (progress.step < this.totalSteps) {
        if (signal?.aborted) {
          this.#save(progress);
          throw signal.reason;
        }
        const began = performance.now();
        const { value: batch } = await loader.next();
        const waited = performance.now() - began;
        const lr = this.#o.schedule(progress.step);
        const { loss, accuracy, filtered, headSeconds } = trainStep(
          this.#o,
          batch as Batch,
          dataset.imageShape,
          lr,
          (error, features) => this.#nonFinite(error, batch as Batch, features, progress.step),
        );
        progress.step++;
        window.add({
          loss,
          accuracy,
          filtered,
          headSeconds,
          waited: waited / 1000,
          seconds: (performance.now() - began) / 1000,
          images: batchSize,
        });
        if (untold) this.#tellOfShapes();
        untold = false;
        if (progress.step % (this.#o.logEverySteps ?? 20) === 0 || progress.step === this.totalSteps) {
          this.#report(window.flush(this.totalSteps, this.batchesPerEpoch, lr));
        }
        if (progress.step % checkpointEverySteps === 0 && progress.step < this.totalSteps) this.#save(progress);
        await new Promise(setImmediate); // lets signals and timers in
      }
    } finally {
      await loader.close();
    }
    this.#save(progress);
    return {
      steps: progress.step,
      seconds: progress.seconds,
      imagesPerSecond: (progress.step * batchSize) / progress.seconds,
      headShare: progress.headSeconds / progress.seconds,
    };
  }

  /** What a library has no algorithm for is known once a step has asked. */
  #tellOfShapes(): void {
    const left = native.takeLeftToOwnKernels();
    if (left !== '') this.#o.onNote?.(left);
  }

  /** Saves the batch, and says which rows are to blame. */
  #nonFinite(error: NonFiniteError, batch: Batch, features: Tensor, step: number): NonFiniteError {
    const D = features.shape[1] as number;
    const values = features.toArray();
    const rows = Array.from({ length: features.shape[0] as number }, (_, i) => ({
      row: i,
      norm: Math.hypot(...values.subarray(i * D, (i + 1) * D)),
      key: batch.keys[i] as number,
    }));
    const bad = rows.filter(({ norm }) => !Number.isFinite(norm));
    const finite = rows.map(({ norm }) => norm).filter(Number.isFinite);
    const listed = bad.slice(0, 8).map(({ row, norm, key }) => `row ${row} (key ${key}, norm ${norm})`);
    const file = this.#o.out && path.join(this.#o.out, `non-finite-step-${step}.safetensors`);
    if (file) {
      writeSafetensors(file, [
        [
          'images',
          {
            shape: [batch.labels.length, ...this.#o.dataset.imageShape],
            dtype: 'uint8',
            data: () => new Uint8Array(batch.images),
          },
        ],
        ['labels', { shape: [batch.labels.length], dtype: 'int32', data: () => new Int32Array(batch.labels) }],
        ['keys', { shape: [batch.labels.length], dtype: 'float64', data: () => new Float64Array(batch.keys) }],
        ['features', { shape: features.shape, dtype: 'float32', data: () => values as Float32Array }],
      ]);
    }
    const norms =
      finite.length > 0
        ? `; norms of the other rows ${Math.min(...finite).toPrecision(4)} to ${Math.max(...finite).toPrecision(4)}`
        : '';
    return new NonFiniteError(
      `step ${step}: ${bad.length > 0 ? `${bad.length} of ${rows.length} features are not finite: ${listed.join(', ')}${norms}` : error.what}` +
        `${file ? `\n  the batch is in ${file}` : ''}`,
      {
        code: 'ERR_FM_NON_FINITE',
        hint: 'lower optimizer.lr or raise schedule.warmupSteps and train again, into another folder or with overwrite',
        cause: error,
      },
    );
  }

  /** Everything that a resumed run needs, by prefix. */
  parts(): CheckpointParts {
    const { backbone, head, optimizer, centerLoss } = this.#o;
    return {
      backbone: backbone.namedTensors(),
      optimizer: optimizer.namedState(),
      head: head.namedTensors(),
      ...(centerLoss ? { centerLoss: centerLoss.namedTensors() } : {}),
    };
  }

  #save({ step, seconds, headSeconds, sums }: Progress): void {
    const { out, config, keepCheckpoints = 2 } = this.#o;
    if (!out) return;
    for (const [part, tensors] of Object.entries(this.parts())) {
      for (const [name, x] of tensors) {
        if (x.dtype === 'int32' || native.allFinite(x.handle)) continue;
        throw new NonFiniteError(`step ${step}: ${part}.${name} is not finite; no checkpoint was written`, {
          code: 'ERR_FM_NON_FINITE',
          hint: 'lower optimizer.lr or raise schedule.warmupSteps and train again, into another folder or with overwrite',
        });
      }
    }
    const state = {
      step,
      epoch: Math.floor(step / this.batchesPerEpoch),
      batch: step % this.batchesPerEpoch,
      config,
      optimizer: this.#o.optimizer.type,
      seconds,
      headSeconds,
      sums,
    };
    saveCheckpoint(checkpointFile(out, step), state, this.parts());
    pruneCheckpoints(out, keepCheckpoints);
  }

  /** A fresh start, or the newest whole checkpoint. */
  #begin(): Progress {
    const { out, resume, config, onNote = () => {} } = this.#o;
    const fresh = { step: 0, seconds: 0, headSeconds: 0, sums: { ...noSums } };
    if (!out) return fresh;
    removeTemporaries(out, runFiles);
    if (!resume) {
      if (listCheckpoints(out).length === 0) return fresh;
      throw new DataError(`train: ${out} already holds checkpoints`, {
        code: 'ERR_FM_DATA',
        hint: 'resume goes on from them; otherwise name another folder or remove them',
      });
    }
    if (listCheckpoints(out).length === 0) {
      onNote(`no checkpoint in ${out} yet: starting from the beginning`);
      trimMetrics(out, 0);
      return fresh;
    }
    const checkpoint = neededCheckpoint(out, (error) =>
      onNote(`skipping a damaged checkpoint: ${(error as Error).message}`),
    );
    const { optimizer = 'sgd' } = checkpoint.state as { optimizer?: string };
    if (optimizer !== this.#o.optimizer.type) {
      throw new DataError(
        `${checkpoint.file}: expected a checkpoint of optimizer ${this.#o.optimizer.type}, got one of ${optimizer}`,
        { code: 'ERR_FM_DATA', hint: `resume with optimizer.type ${optimizer}, or start a new run in another folder` },
      );
    }
    const different = differences(withDefaults(checkpoint.state.config), withDefaults(config));
    if (different.length > 0) {
      throw new DataError(
        `${checkpoint.file}: was made with another configuration; different at ${different.slice(0, 6).join(', ')}`,
        {
          code: 'ERR_FM_DATA',
          hint: 'resume with the configuration in config.json of the run, or start a new run in another folder',
        },
      );
    }
    restore(checkpoint, this.parts());
    // An older version saved no sums.
    const { step, seconds, headSeconds, sums = {} } = checkpoint.state as typeof checkpoint.state & Progress;
    setAsideCheckpoints(out, step);
    trimMetrics(out, step);
    onNote(`resuming from ${checkpoint.file}: step ${step} of ${this.totalSteps}`);
    return { step, seconds, headSeconds, sums: { ...noSums, ...sums } };
  }

  #report(metrics: StepMetrics): void {
    const { out, onMetrics } = this.#o;
    if (out) appendFileSync(path.join(out, 'metrics.jsonl'), `${JSON.stringify(metrics)}\n`);
    onMetrics?.(metrics);
  }
}

/** What is added up from line to line of the metrics. */
class Window {
  readonly #progress: Progress;

  /** Whether lines tell what the head left out. */
  readonly #filters: boolean;

  constructor(progress: Progress, filters: boolean) {
    this.#progress = progress;
    this.#filters = filters;
  }

  add(step: Omit<Sums, 'steps'>): void {
    const { sums } = this.#progress;
    for (const [name, value] of Object.entries({ ...step, steps: 1 })) sums[name as keyof Sums] += value;
    this.#progress.seconds += step.seconds;
    this.#progress.headSeconds += step.headSeconds;
  }

  flush(totalSteps: number, batchesPerEpoch: number, lr: number): StepMetrics {
    const { step, seconds, sums: s } = this.#progress;
    this.#progress.sums = { ...noSums };
    return {
      step,
      totalSteps,
      epoch: Math.floor((step - 1) / batchesPerEpoch) + 1,
      loss: s.loss / s.steps,
      accuracy: s.accuracy / s.steps,
      ...(this.#filters && { filtered: s.filtered / s.steps }),
      lr,
      imagesPerSecond: s.images / s.seconds,
      headShare: s.headSeconds / s.seconds,
      dataShare: s.waited / s.seconds,
      seconds,
    };
  }
}

/** The lines of a run's metrics.jsonl; a last line that a crash cut short is left out. */
export function readMetrics(out: string): StepMetrics[] {
  checkPath('readMetrics', 'the folder of a run', out);
  const file = path.join(out, 'metrics.jsonl');
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return line ? [JSON.parse(line) as StepMetrics] : [];
      } catch {
        return []; // a line that a crash cut short
      }
    });
}

/** Drops what was logged after the step that training resumes from. */
function trimMetrics(out: string, step: number): void {
  const lines = readMetrics(out).filter((line) => line.step <= step);
  if (existsSync(path.join(out, 'metrics.jsonl'))) {
    writeFileAtomically(path.join(out, 'metrics.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  }
}

/** What an older version saved, with what has come since. */
function withDefaults(config: unknown): unknown {
  const { success, data } = configSchema.safeParse(config);
  return success ? data : config;
}

/** The paths at which two configurations differ, leaving out what does not change the numbers. */
function differences(a: unknown, b: unknown, at = ''): string[] {
  if (['out', 'threads', 'log', 'checkpoint', 'evaluation', 'data.workers', 'data.cacheMiB'].includes(at)) return [];
  const isObject = (x: unknown): x is Record<string, unknown> => typeof x === 'object' && x !== null;
  if (!isObject(a) || !isObject(b)) return a === b ? [] : [at || '(top)'];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) =>
    differences(a[key], b[key], at ? `${at}.${key}` : key),
  );
}
