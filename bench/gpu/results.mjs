// What a run of bench/gpu/run.sh left: read from its folder, and as bench/results/<date>-<gpu>.json.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';

const positive = z.number().positive();
const count = z.number().int().min(1);
const timed = { ms: positive, min: positive, max: positive, roundMs: z.array(positive).min(1), steps: count };

/** A row's fields, by its `bench`. */
const rowSchema = z.discriminatedUnion('bench', [
  z.looseObject({
    bench: z.literal('gpu-head'),
    stage: z.string(),
    peer: z.string(),
    path: z.string().optional(),
    graph: z.string().optional(),
    precision: z.enum(['float32', 'bfloat16']),
    N: count,
    D: count,
    C: count,
    K: count,
    extraMiB: z.number().optional(),
    ...timed,
  }),
  z.looseObject({
    bench: z.literal('gpu-backbone'),
    stage: z.string(),
    peer: z.string(),
    net: z.string(),
    precision: z.string(),
    netPrecision: z.string().optional(),
    N: count,
    C: count,
    imagesPerSecond: positive,
    ...timed,
  }),
  z.looseObject({ bench: z.literal('gpu-ceiling'), stage: z.string(), what: z.string(), ...timed }),
  z.looseObject({ bench: z.literal('gpu-train'), stage: z.string(), steps: count, imagesPerSecond: positive }),
  z.looseObject({ bench: z.literal('gpu-state'), stage: z.string(), when: z.string() }),
]);

export const stageStatuses = ['ok', 'failed', 'timeout', 'skipped'];

const runSchema = z.strictObject({
  date: z.iso.datetime(),
  commit: z.string().min(7),
  dry: z.literal(false, 'expected a run on a GPU, got a dry one: nothing of it was measured'),
  gpu: z.string().refine((name) => !/^none/.test(name), 'expected the name of a GPU: nvidia-smi named none'),
  driver: z.string().min(1),
  memoryMiB: z.string(),
  cpu: z.string(),
  cores: count,
  kernel: z.string(),
  node: z.string(),
  torch: z.string(),
  nvcc: z.string(),
  doctor: z.array(z.looseObject({ part: z.string(), state: z.string(), detail: z.string() })),
  stages: z
    .array(
      z.strictObject({
        stage: z.string(),
        status: z.enum(stageStatuses),
        s: z.number().min(0),
        limit: positive,
        dry: z.literal(false),
        passed: z.number().int().optional(),
        failed: z.number().int().optional(),
        skipped: z.number().int().optional(),
        note: z.string(),
      }),
    )
    .min(1),
  rows: z.array(rowSchema),
});

/** A run that holds together, or an error that names every place that does not. */
export function checkedRun(run, where) {
  const { data, error, success } = runSchema.safeParse(run);
  const problems = success
    ? data.rows
        .filter(({ stage }) => stage !== 'state' && !data.stages.some((each) => each.stage === stage))
        .map(({ stage }) => `rows: of a stage that did not run, ${stage}`)
    : error.issues.map(({ path: at, message }) => `${at.join('.') || '(top)'}: ${message}`);
  if (problems.length > 0) throw new Error(`${where}: ${problems.join('\n  ')}`);
  return data;
}

function read(folder, name, parse) {
  const file = path.join(folder, name);
  try {
    return parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Error(`${file}: ${error.message}`, { cause: error });
  }
}
const jsonLines = (text) =>
  text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));

/** The folder that run.sh wrote. */
export function readRun(folder) {
  const environment = read(folder, 'environment.json', JSON.parse);
  const doctor = readdirSync(folder).includes('doctor.json') ? read(folder, 'doctor.json', JSON.parse) : [];
  const stages = read(folder, 'stages.jsonl', jsonLines);
  const rows = read(folder, 'results.jsonl', jsonLines).map(({ dry: _, ...row }) => row);
  return checkedRun({ ...environment, doctor, stages, rows }, folder);
}

/** 2026-11-25-nvidia-h200.json */
export const fileNameOf = ({ date, gpu }) =>
  `${date.slice(0, 10)}-${gpu
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')}.json`;

/** The runs of bench/results, oldest first. */
export const importedRuns = (folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => checkedRun(read(folder, name, JSON.parse), name));
