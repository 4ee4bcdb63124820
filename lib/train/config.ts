/** The configuration of a run: what a file may say, its defaults, and errors that name the path of each problem. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createJiti } from 'jiti';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { ConfigError } from '../errors.js';
import { backbones } from '../nn/index.js';
import { centerLossSchema, checkLosses, groupFaceSchema, lossSchema, samplerSchema } from './lossConfig.js';
import { headSchema, marginSchema } from './marginConfig.js';

const names = <T extends string>(table: Readonly<Record<T, unknown>>) => Object.keys(table) as [T, ...T[]];
const count = z.number().int().min(1);
const natural = z.number().int().min(0);
const channels = z.number().int().min(1).max(65_536);

const fields = z.strictObject({
  /** Where the run is written. */
  out: z.string().default('runs/run'),
  data: z.strictObject({
    /** A RecordIO set, with its .idx and .property beside it. */
    train: z.string(),
    shift: natural.default(0),
    flip: z.boolean().default(false),
    affine: z
      .strictObject({ std: z.number().positive(), probability: z.number().min(0).max(1).default(0.5) })
      .optional(),
    /** Every batch has so many images of so many classes. */
    sampler: samplerSchema.optional(),
    workers: natural.default(1),
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
    })
    .prefault({}),
  /** Instance and group representations behind the backbone. */
  groupFace: groupFaceSchema.optional(),
  margin: marginSchema.prefault({}),
  /** A loss on pairs of the batch, in the place of `margin`. */
  loss: lossSchema.optional(),
  /** Beside `margin`. */
  centerLoss: centerLossSchema.optional(),
  /** How the head computes: MarginHead's precision and memory. */
  head: headSchema.prefault({}),
  optimizer: z
    .strictObject({
      lr: z.number().positive().default(0.1),
      momentum: z.number().min(0).max(1).default(0.9),
      weightDecay: z.number().min(0).default(5e-4),
      /** Of the head; the backbone's by default. */
      headWeightDecay: z.number().min(0).optional(),
    })
    .prefault({}),
  schedule: z
    .strictObject({
      name: z.enum(['constant', 'poly', 'cosine', 'step']).default('poly'),
      warmupSteps: natural.default(0),
      power: z.number().positive().default(1),
      /** Epochs at which the rate is multiplied by gamma. */
      milestones: z.array(z.number().positive()).default([]),
      gamma: z.number().positive().max(1).default(0.1),
    })
    .prefault({}),
  epochs: count.default(20),
  batchSize: count.default(128),
  seed: natural.default(0),
  device: z
    .string()
    .regex(/^(cpu|auto|cuda(:\d+)?)$/, "expected 'cpu', 'cuda', 'cuda:<index>' or 'auto'")
    .default('cpu'),
  /** 0: one a core. */
  threads: natural.default(0),
  log: z.strictObject({ everySteps: count.default(20) }).prefault({}),
  checkpoint: z.strictObject({ everySteps: count.default(500), keep: count.default(2) }).prefault({}),
  evaluation: z
    .strictObject({
      test: z.string().optional(),
      pairs: z.array(z.string()).default([]),
      gallery: z.string().optional(),
      flip: z.boolean().default(false),
      /** Also scores raw pixels, as a floor to compare with. */
      pixels: z.boolean().default(false),
      /** Other run folders whose results stand beside this one's in the report. */
      compareWith: z.array(z.string()).default([]),
    })
    .optional(),
});

export const configSchema = fields.superRefine(checkLosses);

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
  const result = configSchema.safeParse(input);
  if (result.success) return result.data;
  throw new ConfigError(
    `${where}: ${result.error.issues.length === 1 ? '1 problem' : `${result.error.issues.length} problems`}\n${problems(result.error, input)}`,
    {
      code: 'ERR_FM_CONFIG',
    },
  );
}

function problems(error: z.ZodError, input: unknown): string {
  return error.issues
    .map((issue) => {
      const at = issue.path.map(String).join('.');
      if (issue.code === 'unrecognized_keys') {
        const known = keysAt(issue.path);
        return issue.keys
          .map((key) => `  ${[...issue.path.map(String), key].join('.')}: unknown key${suggestion(key, known)}`)
          .join('\n');
      }
      const known = issue.code === 'invalid_value' ? issue.values.map(String) : [];
      const given = issue.path.reduce((value, key) => (value as Record<PropertyKey, unknown>)?.[key], input);
      if (known.length > 1 && typeof given === 'string')
        return `  ${at}: expected one of ${known.join(', ')}, got '${given}'${nearest(given, known)}`;
      return `  ${at || '(top)'}: ${issue.message}`;
    })
    .join('\n');
}

/** The keys that the schema knows at a path. */
function keysAt(at: readonly PropertyKey[]): string[] {
  let schema: unknown = configSchema;
  const unwrap = (s: unknown): unknown => {
    const inner = (s as { def?: { innerType?: unknown } }).def?.innerType;
    return inner ? unwrap(inner) : s;
  };
  for (const key of at) schema = (unwrap(schema) as { shape?: Record<string, unknown> }).shape?.[String(key)];
  return Object.keys((unwrap(schema) as { shape?: Record<string, unknown> } | undefined)?.shape ?? {});
}

const suggestion = (key: string, known: readonly string[]): string =>
  nearest(key, known) || (known.length > 0 ? `; known here: ${known.join(', ')}` : '');

/** The name that was probably meant. */
function nearest(key: string, known: readonly string[]): string {
  const near = known
    .map((name) => [distance(key.toLowerCase(), name.toLowerCase()), name] as const)
    .sort(([a], [b]) => a - b)[0];
  return near && near[0] <= Math.max(2, key.length / 3) ? `; did you mean '${near[1]}'?` : '';
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(
        (row[j] as number) + 1,
        (next[j - 1] as number) + 1,
        (row[j - 1] as number) + Number(a[i - 1] !== b[j - 1]),
      );
    }
    row = next;
  }
  return row[b.length] as number;
}

/** Reads a .ts, .js, .json, .yaml or .yml file; paths inside are relative to the working folder. */
export async function loadConfig(file: string): Promise<Config> {
  if (!existsSync(file)) {
    throw new ConfigError(`config: ${path.resolve(file)} does not exist`, {
      code: 'ERR_FM_CONFIG',
      hint: 'give the path of a .ts, .json or .yaml file',
    });
  }
  let input: unknown;
  try {
    if (/\.ya?ml$/.test(file)) input = parseYaml(readFileSync(file, 'utf8'));
    else if (file.endsWith('.json')) input = JSON.parse(readFileSync(file, 'utf8'));
    else input = await createJiti(import.meta.url).import(path.resolve(file), { default: true });
  } catch (error) {
    throw new ConfigError(`${file}: cannot be read: ${(error as Error).message}`, {
      code: 'ERR_FM_CONFIG',
      cause: error,
    });
  }
  return resolveConfig(input, file);
}
