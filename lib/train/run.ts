/** From a configuration to a trained, evaluated run folder. */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { noGrad } from '../autograd.js';
import { native } from '../binding.js';
import { checkAugment } from '../data/augment.js';
import { openDataset, type RecordDataset } from '../data/index.js';
import { automaticDevice, deviceIndex, deviceName } from '../device.js';
import { ConfigError, checkOptions, checkPath, counted, DataError, expected } from '../errors.js';
import { MarginHead, type MarginHeadOptions } from '../heads/index.js';
import { lockFolder, neededCheckpoint, readCheckpoint, restore, writeFileAtomically } from '../io/index.js';
import { CenterLoss, MetricHead } from '../losses/index.js';
import { type Backbone, type BackboneName, backbones, GroupedBackbone, GroupFace } from '../nn/index.js';
import { imageToFloat, normalize } from '../ops/index.js';
import { AdamW, type Optimizer, Sgd, schedule } from '../optim/index.js';
import { Random } from '../random.js';
import { tensor, tidy } from '../tensor.js';
import { type Config, type ConfigInput, resolveConfig } from './config.js';
import { checkEvaluation, type Evaluation, evaluate, tiersOfRun } from './evaluate.js';
import { marginOf } from './marginConfig.js';
import type { RunFacts } from './runReport.js';
import { trainStep } from './step.js';
import { type FitResult, fullBatches, runFiles, type StepMetrics, Trainer } from './trainer.js';

export interface TrainOptions {
  /** Goes on from the newest whole checkpoint in the run folder. */
  readonly resume?: boolean;
  /** Removes a run that is already in the folder. */
  readonly overwrite?: boolean;
  readonly signal?: AbortSignal;
  readonly onMetrics?: (metrics: StepMetrics) => void;
  readonly onNote?: (message: string) => void;
  /** Who has taken the folder with lockFolder() and keeps it after the training; by default the training alone does. */
  readonly holder?: object;
}

/** A finished run. */
export interface TrainedRun extends FitResult, RunFacts {
  readonly backbone: Backbone;
  readonly head: MarginHead | MetricHead;
}

/** Throws unless a device can do the whole job: one step and one evaluation of it, with fewer channels and classes. */
function rehearse(config: Config, set: Pick<RecordDataset, 'imageShape' | 'numClasses'>, device: string): void {
  const { imageShape, numClasses } = set;
  const few = { numClasses: Math.min(numClasses, 8) };
  const slim = { ...config.backbone, stemWidth: 8, widths: [8, 8, 8, 8] };
  const backbone = buildBackbone({ ...config, backbone: slim }, imageShape, device);
  const head = buildHead(config, few, backbone, device, { onAdvice: () => {} });
  const centerLoss = buildCenterLoss(config, few, backbone, device);
  const optimizer = buildOptimizer(config, backbone);
  const labels = Int32Array.from({ length: 8 }, (_, i) => (i >> 1) % few.numClasses);
  const random = new Random(0);
  const images = Uint8Array.from({ length: labels.length * imageShape.reduce((a, b) => a * b, 1) }, () =>
    Math.floor(256 * random.uniform()),
  );
  try {
    trainStep({ backbone, head, centerLoss, optimizer }, { images, labels }, imageShape, 1e-3);
    backbone.eval();
    const x = () => imageToFloat(tensor(images, [labels.length, ...imageShape], device));
    tidy(() => noGrad(() => normalize(backbone.forward(x()))).toArray());
  } finally {
    for (const each of [backbone, head, centerLoss, optimizer]) each?.dispose();
  }
}

/** A device by its name; 'auto' is CUDA where that can do the whole job. */
function trainingDevice(config: Config, dataset: RecordDataset, onNote: (message: string) => void): string {
  if (config.device !== 'auto') return deviceName(deviceIndex(config.device));
  const { device, sentence } = automaticDevice((device) => rehearse(config, dataset, device));
  onNote(sentence);
  return device;
}

/** Throws unless the backbone trains on this device in the precision that was asked for. */
function checkPrecision({ backbone: { precision } }: Config, device: string): void {
  if (deviceIndex(device) >= 0 || precision !== 'bfloat16') return;
  throw new ConfigError(
    `train: backbone.precision: expected float32 on device '${device}', got 'bfloat16', which needs a CUDA device`,
    { code: 'ERR_FM_CONFIG', hint: "set device to 'cuda', or backbone.precision to float32" },
  );
}

function checkImageShape(
  operation: string,
  shape: readonly number[],
): asserts shape is readonly [height: number, width: number, channels: number] {
  const sizes = Array.isArray(shape) && shape.length === 3 && shape.every((n) => Number.isSafeInteger(n) && n >= 1);
  expected(sizes, operation, 'imageShape [height, width, channels]', shape);
}

/** The backbone that a configuration describes, for images of a set; in float32 on the CPU, whatever it trains in. */
export function buildBackbone(config: Config, imageShape: readonly number[], device = 'cpu'): Backbone {
  const resolved = Object.hasOwn(backbones, config?.backbone?.name ?? '') && Number.isSafeInteger(config.seed);
  expected(resolved, 'buildBackbone', 'a configuration, as resolveConfig() returns it', config);
  checkImageShape('buildBackbone', imageShape);
  const [height, width, channels] = imageShape;
  if (height !== width) {
    throw new ConfigError(`backbone: expected square images, got ${height}×${width}`, {
      code: 'ERR_FM_CONFIG',
      hint: 'align and crop the set first',
    });
  }
  const { name, ...options } = config.backbone;
  if (deviceIndex(device) < 0) options.precision = 'float32';
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const rng = new Random(config.seed);
  const backbone = backbones[name as BackboneName]({ ...given, imageSize: height, channels, device, rng });
  if (!config.groupFace) return backbone;
  const features = backbone.embeddingSize;
  return new GroupedBackbone(backbone, new GroupFace({ ...config.groupFace, features, device, rng }));
}

/** Makes way for a run: refuses a folder that holds one, or with `overwrite` removes it. */
function claimFolder(config: Config, { resume, overwrite }: TrainOptions): void {
  const { out } = config;
  if (resume && overwrite)
    throw new ConfigError('train: expected resume or overwrite, got both', { code: 'ERR_FM_CONFIG' });
  if (resume || !existsSync(path.join(out, 'config.json'))) return;
  if (!overwrite) {
    throw new DataError(`train: ${out} already holds a run`, {
      code: 'ERR_FM_DATA',
      hint: '--resume goes on with it, --overwrite removes it, --out names another folder',
    });
  }
  for (const name of readdirSync(out))
    if (name === 'checkpoints' || runFiles.test(name)) rmSync(path.join(out, name), { recursive: true, force: true });
}

/**
 * Trains from a configuration; writes config.json, metrics.jsonl and checkpoints into `config.out`.
 *
 * @example
 * const run = await train({ data: { train: 'data/kanji28/train.rec', shift: 2 }, epochs: 5, out: 'runs/first' });
 */
export async function train(input: ConfigInput | Config, options: TrainOptions = {}): Promise<TrainedRun> {
  checkOptions('train', options, ['resume', 'overwrite', 'signal', 'onMetrics', 'onNote', 'holder']);
  const { resume = false, overwrite = false } = options;
  expected(typeof resume === 'boolean', 'train', 'resume true or false', resume);
  expected(typeof overwrite === 'boolean', 'train', 'overwrite true or false', overwrite);
  const config = resolveConfig(input);
  const onNote = options.onNote ?? (() => {});
  if (config.threads > 0) native.setNumThreads(config.threads);
  if (config.device !== 'auto') checkPrecision(config, config.device); // a device that is not there is said first
  const { holder = {} } = options;
  const dataset = openDataset(config.data.train);
  let release = () => {};
  try {
    if (config.evaluation) checkEvaluation(config.evaluation);
    for (const run of config.evaluation?.compareWith ?? []) tiersOfRun(run);
    const device = trainingDevice(config, dataset, onNote);
    checkPrecision(config, device);
    const backbone = buildBackbone(config, dataset.imageShape, device);
    const head = buildHead(config, dataset, backbone, device);
    const optimizer = buildOptimizer(config, backbone);
    const batchesPerEpoch = fullBatches(dataset, config.batchSize, config.data.sampler);
    const { name, milestones, ...shape } = config.schedule;
    const totalSteps = batchesPerEpoch * config.epochs;
    if (shape.warmupSteps > totalSteps) {
      throw new ConfigError(
        `train: schedule.warmupSteps: expected at most ${totalSteps}, the steps of ${counted(config.epochs, 'epoch')}, got ${shape.warmupSteps}`,
        { code: 'ERR_FM_CONFIG', hint: 'lower schedule.warmupSteps, or raise epochs' },
      );
    }
    const augment = { shift: config.data.shift, flip: config.data.flip, affine: config.data.affine };
    checkAugment(augment, dataset.imageShape, 'data');
    const trainer = new Trainer({
      backbone,
      head,
      centerLoss: buildCenterLoss(config, dataset, backbone, device),
      optimizer,
      schedule: schedule(name, {
        ...shape,
        base: config.optimizer.lr,
        totalSteps,
        milestones: milestones.map((epoch) => Math.round(epoch * batchesPerEpoch)),
      }),
      dataset,
      batchSize: config.batchSize,
      sampler: config.data.sampler,
      epochs: config.epochs,
      seed: config.seed,
      augment,
      workers: config.data.workers,
      cacheBytes: config.data.cacheMiB * 2 ** 20,
      out: config.out,
      config,
      logEverySteps: config.log.everySteps,
      checkpointEverySteps: config.checkpoint.everySteps,
      keepCheckpoints: config.checkpoint.keep,
      resume,
      signal: options.signal,
      onMetrics: options.onMetrics,
      onNote,
      holder,
    });
    release = lockFolder(config.out, holder); // nobody else is in there, and it can be written to
    claimFolder(config, options); // everything else has been checked: what is there may go now
    const file = path.join(config.out, 'config.json');
    if (resume && existsSync(file)) readRunConfig(config.out);
    else writeFileAtomically(file, `${JSON.stringify(config, null, 2)}\n`);
    const result = await trainer.fit();
    optimizer.dispose();
    const facts = { parameters: backbone.parameterCount(), identities: dataset.numClasses, images: dataset.size };
    return { ...result, ...facts, out: config.out, config, backbone, head };
  } finally {
    release();
    dataset.close();
  }
}

/** The optimizer of a run's backbone before training. */
function buildOptimizer(config: Config, backbone: Backbone): Optimizer {
  const { type, lr: _, headWeightDecay: __, ...options } = config.optimizer;
  const parameters = backbone.namedParameters();
  return type === 'adamw' ? new AdamW(parameters, options) : new Sgd(parameters, options);
}

function buildCenterLoss(
  config: Config,
  { numClasses }: Pick<RecordDataset, 'numClasses'>,
  { embeddingSize }: Backbone,
  device: string,
) {
  return config.centerLoss && new CenterLoss({ ...config.centerLoss, numClasses, embeddingSize, device });
}

/** A run's head before training. */
export function buildHead(
  config: Config,
  { numClasses }: Pick<RecordDataset, 'numClasses'>,
  backbone: Backbone,
  device: string,
  options: Pick<MarginHeadOptions, 'onAdvice'> = {},
): MarginHead | MetricHead {
  if (config.loss) return new MetricHead({ loss: config.loss, seed: config.seed, device });
  const { type, lr: _, weightDecay, headWeightDecay, clipNorm: __, ...numbers } = config.optimizer;
  return new MarginHead({
    numClasses,
    embeddingSize: backbone.embeddingSize,
    margin: marginOf(config.margin),
    device,
    seed: config.seed + 1, // not the backbone's draws again
    optimizer: type,
    ...numbers,
    weightDecay: headWeightDecay ?? weightDecay,
    ...config.head,
    ...options,
  });
}

/** The evaluation that the run's configuration asks for, if any. */
export async function evaluateRun(
  run: TrainedRun,
  onNote: (message: string) => void = () => {},
): Promise<Evaluation | undefined> {
  const { config, backbone, head } = run ?? {};
  expected(config && backbone && head, 'evaluateRun', 'a run, as train() returns it', run);
  return config.evaluation && evaluate(backbone, config.evaluation, { device: head.device, onNote });
}

/** The backbone of a run or of one checkpoint, in evaluation mode. */
export function loadBackbone(
  from: { run?: string; checkpoint?: string },
  imageShape: readonly number[],
  onBad: (error: unknown) => void = () => {},
  device = 'cpu',
): { backbone: Backbone; config: Config; step: number } {
  checkOptions('loadBackbone', from, ['run', 'checkpoint']);
  const { run, checkpoint } = from;
  expected(run !== undefined || checkpoint !== undefined, 'loadBackbone', 'a run or a checkpoint', from);
  checkImageShape('loadBackbone', imageShape);
  if (run !== undefined) configOfRun('loadBackbone', run);
  const loaded = checkpoint === undefined ? neededCheckpoint(run as string, onBad) : readCheckpoint(checkpoint);
  const config = resolveConfig(loaded.state.config, `${loaded.file}: config`);
  const backbone = buildBackbone(config, imageShape, device);
  restore(loaded, { backbone: backbone.namedTensors() });
  return { backbone: backbone.eval(), config, step: loaded.state.step };
}

/** The file with a run folder's configuration. */
function configOfRun(operation: string, run: string): string {
  checkPath(operation, 'the folder of a run', run);
  const file = path.join(run, 'config.json');
  if (existsSync(file)) return file;
  throw new DataError(`${run}: is not a run folder (no config.json)`, {
    code: 'ERR_FM_DATA',
    hint: 'name the folder that `flashmargin train` wrote',
  });
}

/** The configuration of a run folder. */
export function readRunConfig(run: string): Config {
  const file = configOfRun('readRunConfig', run);
  let input: unknown;
  try {
    input = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new DataError(`${file}: cannot be read: ${(error as Error).message}`, {
      code: 'ERR_FM_DATA',
      hint: 'remove it: `flashmargin train CONFIG --resume`, with the configuration of the run, writes it again',
      cause: error,
    });
  }
  return resolveConfig(input, file);
}
