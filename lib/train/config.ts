/** The configuration of a run: what a file may say, its defaults, and errors that name the path of each problem. */
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { createJiti } from 'jiti';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { MOST_WORKERS } from '../data/loader.js';
import { deviceNames } from '../device.js';
import { ConfigError, checkPath, counted, expected } from '../errors.js';
import { backbones } from '../nn/index.js';
import { expecting, inOurWords, problems, wants } from './configProblems.js';
import { centerLossSchema, checkLosses, groupFaceSchema, lossSchema, samplerSchema } from './lossConfig.js';
import { headSchema, marginSchema } from './marginConfig.js';
import { optimizerSchema } from './optimizerConfig.js';

const names = <T extends string>(table: Readonly<Record<T, unknown>>) => Object.keys(table) as [T, ...T[]];
const count = z.number().int().min(1);
const natural = z.number().int().min(0);
const channels = z.number().int().min(1).max(65_536);
const place = (what: string) => z.string(expecting(what)).min(1, expecting(what));
/** Beyond it threads are never faster. */
const MOST_THREADS = 256;

const fields = z.strictObject({
  /** Where the run is written. */
  out: place('the path of a folder').default('runs/run'),
  data: z.strictObject({
    /** A RecordIO set, with its .idx and .property beside it. */
    train: place('the path of a .rec file'),
    shift: natural.default(0),
    flip: z.boolean().default(false),
    affine: z
      .strictObject({ std: z.number().positive().max(1), probability: z.number().min(0).max(1).default(0.5) })
      .optional(),
    /** Every batch has so many images of so many classes. */
    sampler: samplerSchema.optional(),
    workers: natural.max(MOST_WORKERS, expecting(`at most ${MOST_WORKERS} decoding threads`)).default(1),
    /** Decoded images are kept in memory where all fit in this. */
    cacheMiB: natural.default(512),
  }),
  backbone: z
    .strictObject({
      name: z.enum(names(backbones)).default('iresnetSmall'),
      embeddingSize: channels.optional(),
      stemWidth: channels.optional(),
      widths: z.array(channels).min(1).max(4).optional(),
      dropout: z.number().min(0).max(0.95).optional(),
      /** Of activations and of what convolutions multiply; bfloat16 is for CUDA devices. */
      precision: z.enum(['float32', 'bfloat16']).default('float32'),
    })
    .prefault({}),
  /** Instance and group representations behind the backbone. */
  groupFace: groupFaceSchema.optional(),
  margin: marginSchema.prefault({}),
  /** A loss on pairs of the batch, in the place of `margin`. */
  loss: lossSchema.optional(),
  /** Beside `margin`. */
  centerLoss: centerLossSchema.optional(),
  /** How the head computes: MarginHead's precision, memory, gradientFilter, sampleRate and unsampledCenters. */
  head: headSchema.prefault({}),
  optimizer: optimizerSchema.prefault({}),
  schedule: z
    .strictObject({
      name: z.enum(['constant', 'poly', 'cosine', 'step']).default('poly'),
      warmupSteps: natural.default(0),
      power: z.number().positive().default(1),
      /** Epochs at which the rate is multiplied by gamma: of `step` alone. */
      milestones: z.array(z.number().positive()).default([]),
      gamma: z.number().positive().max(1).default(0.1),
    })
    .prefault({}),
  epochs: count.default(20),
  batchSize: count.default(128),
  seed: natural.default(0),
  device: z.string().regex(deviceNames, expecting("'cpu', 'cuda', 'cuda:<index>' or 'auto'")).default('cpu'),
  /** 0: one a core. */
  threads: natural.max(MOST_THREADS, expecting(`at most ${MOST_THREADS} threads, or 0 for one a core`)).default(0),
  log: z.strictObject({ everySteps: count.default(20) }).prefault({}),
  checkpoint: z.strictObject({ everySteps: count.default(500), keep: count.default(2) }).prefault({}),
  evaluation: z
    .strictObject({
      test: place('the path of a .rec file').optional(),
      pairs: z.array(place('the path of a .bin file')).default([]),
      gallery: z.string().optional(),
      flip: z.boolean().default(false),
      /** Also scores raw pixels, as a floor to compare with. */
      pixels: z.boolean().default(false),
      /** Other run folders whose results stand beside this one's in the report. */
      compareWith: z.array(place('the path of a run folder')).default([]),
    })
    .optional(),
});

/** Milestones are of a schedule that has them, and come to pass. */
function checkSchedule(
  { schedule: { name, milestones }, epochs }: z.infer<typeof fields>,
  context: z.RefinementCtx,
): void {
  const rules: readonly [holds: boolean, wanted: string, remedy: string][] = [
    [
      name !== 'step' || milestones.length > 0,
      'the epochs at which the rate falls, such as [10, 15]',
      'set them, or another schedule.name',
    ],
    [
      name === 'step' || milestones.length === 0,
      `none beside schedule.name ${name}`,
      'remove them, or set schedule.name to step',
    ],
    [
      milestones.every((epoch, i) => epoch > (milestones[i - 1] ?? 0)),
      'ascending epochs',
      'name each once, the smallest first',
    ],
    [
      milestones.every((epoch) => epoch < epochs),
      `epochs below ${epochs}, where the run ends`,
      'lower them, or raise epochs',
    ],
  ];
  const broken = rules.find(([holds]) => !holds);
  if (!broken) return;
  const [, wanted, remedy] = broken;
  const message = `${wants(wanted, milestones)}: ${remedy}`;
  context.addIssue({ code: 'custom', path: ['schedule', 'milestones'], message });
}

export const configSchema = fields.superRefine((config, context) => {
  if (context.issues.length > 0) return; // what parts ask of each other waits until each is right
  checkLosses(config, context);
  checkSchedule(config, context);
});

/** A resolved configuration: every default filled in. */
export type Config = z.infer<typeof configSchema>;
/** What a user writes: only `data.train` is required. */
export type ConfigInput = z.input<typeof configSchema>;

/** Helps an editor with the type of a TypeScript configuration. */
export function defineConfig(config: ConfigInput): ConfigInput {
  return config;
}

/**
 * Fills in defaults, or throws a ConfigError with one line a problem.
 *
 * @example
 * const config = resolveConfig({ data: { train: 'data/kanji28/train.rec' }, epochs: 5 });
 */
export function resolveConfig(input: unknown, where = 'config'): Config {
  expected(typeof where === 'string', 'resolveConfig', 'where, what the input is called', where);
  const result = configSchema.safeParse(input, { error: inOurWords });
  if (result.success) return result.data;
  const lines = problems(result.error.issues);
  throw new ConfigError([`${where}: ${counted(lines.length, 'problem')}`, ...lines].join('\n  '), {
    code: 'ERR_FM_CONFIG',
  });
}

const readText = (parse: (text: string) => unknown) => (file: string) => parse(readFileSync(file, 'utf8'));
const readModule = (file: string) => createJiti(import.meta.url).import(path.resolve(file), { default: true });

/** How a configuration is read, by the end of its name. */
const readers: Readonly<Record<string, (file: string) => unknown>> = {
  '.yaml': readText(parseYaml),
  '.yml': readText(parseYaml),
  '.json': readText(JSON.parse),
  '.ts': readModule,
  '.mts': readModule,
  '.js': readModule,
  '.mjs': readModule,
};

/** Reads a .yaml, .json or .ts file, or one of their like; paths inside are relative to the working folder. */
export async function loadConfig(file: string): Promise<Config> {
  checkPath('loadConfig', 'the path of a configuration', file);
  const wrong = (what: string, hint: string, cause?: unknown) =>
    new ConfigError(`config: ${what}`, { code: 'ERR_FM_CONFIG', hint, cause });
  const known = `name a file that ends in ${Object.keys(readers).join(', ')}`;
  const found = statSync(file, { throwIfNoEntry: false });
  if (!found) throw wrong(`${path.resolve(file)} does not exist`, known);
  if (found.isDirectory()) throw wrong(`expected a file, got the folder ${file}`, known);
  const read = readers[path.extname(file)];
  if (!read) throw wrong(`expected a file of a kind that is read, got ${file}`, known);
  const example = `write a configuration, such as data: { train: X.rec }, into a file that ends in ${Object.keys(readers).join(', ')}`;
  let input: unknown;
  try {
    input = found.size > 0 ? await read(file) : undefined;
  } catch (error) {
    throw wrong(`${file} cannot be read: ${(error as Error).message}`, example, error);
  }
  if (input === null || input === undefined) throw wrong(`expected a configuration in ${file}, got nothing`, example);
  return resolveConfig(input, file);
}
