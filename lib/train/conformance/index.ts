/** Golden files, numbers that published implementations produced, against this package. */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { deviceIndex, deviceName } from '../../device.js';
import { ArgumentRangeError, checkOptions, checkPath, DataError, DeviceError, expected } from '../../errors.js';
import { alignCases } from './align.js';
import { type GoldenCase, GoldenFile, NotRun, type Precision, precisions } from './goldenFile.js';
import { groupFaceCases } from './groupFace.js';
import { headCases, isHead } from './heads.js';
import { iresnetCases } from './iresnet.js';
import type { Measurements } from './measure.js';
import { partialFcCases } from './partialFc.js';
import { trajectoryCases } from './trajectory.js';
import { verificationCases } from './verification.js';

export type { GoldenCase, Precision } from './goldenFile.js';
export type { Measurement, Measurements } from './measure.js';

/** Families beside those of heads; a number after `iresnet` is its depth. */
const others: Record<string, (file: GoldenFile) => GoldenCase[]> = {
  align: alignCases,
  groupface: groupFaceCases,
  iresnet: iresnetCases,
  partialfc: partialFcCases,
  trajectory: trajectoryCases,
  verification: verificationCases,
};

/** The cases of a golden file; throws NotRun where what it is about is not in this package. */
export function casesOf(file: GoldenFile): GoldenCase[] {
  if (isHead(file)) return headCases(file);
  const family = file.family.replace(/^iresnet\d+$/, 'iresnet');
  const cases = Object.hasOwn(others, family) ? others[family] : undefined;
  if (!cases) throw new NotRun(`no family here is called ${file.family}`);
  return cases(file);
}

/** A case's verdict in one precision. */
export interface ConformanceRow {
  readonly name: string;
  readonly family: string;
  /** Repository and file whose numbers they are. */
  readonly source: string;
  readonly precision: Precision;
  /** By quantity: our error, what is allowed, and what the source's own float32 run loses. */
  readonly measurements: Measurements;
  readonly passed: boolean;
}

export interface ConformanceOptions {
  /** Where tensors are made; 'cpu' by default. */
  readonly device?: string;
  /** Only files whose name has this in it; `*` is anything. */
  readonly only?: string;
  /** Only in this precision.  bfloat16 measures heads on a device by what the CPU loses in it. */
  readonly precision?: Precision;
}

export interface ConformanceResult {
  readonly rows: readonly ConformanceRow[];
  /** Not in this package, with the reason. */
  readonly skipped: readonly { readonly file: string; readonly reason: string }[];
  /** Files that could not be read or computed, with what went wrong. */
  readonly broken: readonly { readonly file: string; readonly reason: string }[];
}

/** Whether a measurement is within what is allowed; a value that is not a number is not. */
export const isWithin = (measurements: Measurements): boolean =>
  Object.values(measurements).every(({ error, allowed }) => error <= allowed);

const goldenFolder = 'name a folder of golden files, such as test/golden';

/** The golden files of a folder, by name. */
export function goldenFiles(folder: string, only = ''): string[] {
  checkPath('conformance', 'a folder of golden files', folder);
  let names: string[];
  try {
    names = readdirSync(folder).filter((file) => file.endsWith('.safetensors'));
  } catch (error) {
    throw new DataError(`conformance: ${folder} cannot be read: ${(error as Error).message}`, {
      code: 'ERR_FM_DATA',
      hint: goldenFolder,
      cause: error,
    });
  }
  if (names.length === 0) {
    throw new DataError(`conformance: ${folder} holds no .safetensors file`, {
      code: 'ERR_FM_DATA',
      hint: goldenFolder,
    });
  }
  const pattern = new RegExp(
    only
      .split('*')
      .map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
      .join('.*'),
  );
  const chosen = names.sort().filter((name) => pattern.test(name));
  if (chosen.length === 0) {
    throw new DataError(`conformance: no file of ${folder} has '${only}' in its name`, {
      code: 'ERR_FM_DATA',
      hint: `there are ${names.slice(0, 3).join(', ')}, …; * is anything`,
    });
  }
  return chosen;
}

/** The names of a folder's cases, which a table of them has to have. */
export const goldenCaseNames = (folder: string): string[] =>
  goldenFiles(folder).flatMap((file) => casesOf(GoldenFile.read(path.join(folder, file))).map(({ name }) => name));

function precisionsOf(of: GoldenCase, only?: Precision): readonly Precision[] {
  if (!only) return of.precisions;
  if (![...of.precisions, ...(of.onRequest ?? [])].includes(only)) throw new NotRun(`is not measured in ${only}`);
  return [only];
}

/**
 * Runs the golden files of a folder in the precisions they have.  A file that cannot be read or computed does not keep
 * the others from running.
 *
 * @example
 * const { rows, skipped, broken } = conformance('test/golden', { only: 'arcface.*hard' });
 * rows.every(({ passed }) => passed); // true
 */
export function conformance(folder: string, options: ConformanceOptions = {}): ConformanceResult {
  checkOptions('conformance', options, ['device', 'only', 'precision']);
  const { only, precision } = options;
  expected(only === undefined || typeof only === 'string', 'conformance', "only, a part of a file's name", only);
  const known = precision === undefined || precisions.includes(precision);
  expected(known, 'conformance', `precision ${precisions.map((each) => `'${each}'`).join(', ')}`, precision);
  const device = deviceName(deviceIndex(options.device ?? 'cpu')); // names what is wrong with it once, not file by file
  if (precision === 'bfloat16' && device === 'cpu') {
    throw new ArgumentRangeError("conformance: expected a device other than cpu for bfloat16, got 'cpu'", {
      code: 'ERR_FM_RANGE',
      hint: 'bfloat16 is judged by what the CPU loses in it: name a CUDA device, or float32 or float64 as the precision',
    });
  }
  const rows: ConformanceRow[] = [];
  const skipped: { file: string; reason: string }[] = [];
  const broken: { file: string; reason: string }[] = [];
  for (const file of goldenFiles(folder, only)) {
    try {
      for (const each of casesOf(GoldenFile.read(path.join(folder, file)))) {
        for (const one of precisionsOf(each, precision)) {
          const measurements = each.measure(one, device);
          if (Object.keys(measurements).length === 0) throw new NotRun('holds no number to compare with');
          const { name, family, source } = each;
          rows.push({ name, family, source, precision: one, measurements, passed: isWithin(measurements) });
        }
      }
    } catch (error) {
      const { message } = error as Error;
      if (error instanceof NotRun) skipped.push({ file, reason: message });
      else if (error instanceof DeviceError && / is not available on /.test(message))
        skipped.push({ file, reason: message });
      else broken.push({ file, reason: message });
    }
  }
  return { rows, skipped, broken };
}
