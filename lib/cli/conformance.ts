import { Command, Option } from 'commander';
import {
  type ConformanceOptions,
  type ConformanceResult,
  type ConformanceRow,
  conformance,
  type Measurement,
} from '../train/index.js';
import { deviceOption, path } from './options.js';
import { table } from './tables.js';

/** Of heads, in the order of the table's columns. */
const headQuantities = {
  logits_abs: 'logits',
  ce_rel: 'loss',
  dX_rel: 'dX',
  dW_rel: 'dW',
  reg_rel: 'regulariser',
  state_rel: 'state',
  dmargins_rel: 'dm',
};

/** Our error, and in brackets what the source's own float32 run loses, of bfloat16 the CPU. */
function cell(measurement: Measurement | undefined, precision: string): string {
  if (!measurement) return '';
  const { error, source } = measurement;
  return (
    error.toExponential(1) + (precision !== 'float64' && source !== undefined ? ` (${source.toExponential(1)})` : '')
  );
}

/** A quantity beyond what is allowed. */
const beyond = ({ measurements }: ConformanceRow): string[] =>
  Object.entries(measurements)
    .filter(([, { error, allowed }]) => !(error <= allowed))
    .map(([key, { error, allowed }]) => `${key} ${error.toExponential(1)} > ${allowed.toExponential(1)}`);

const verdict = (row: ConformanceRow): string => (row.passed ? 'ok' : `FAILED: ${beyond(row).join(', ')}`);

function print({ rows, skipped, broken }: ConformanceResult): void {
  const ofHeads = rows.filter(({ measurements }) => 'dX_rel' in measurements && !('classes_abs' in measurements));
  const others = rows.filter((row) => !ofHeads.includes(row));
  if (ofHeads.length > 0) {
    const lines = ofHeads.map((row) => [
      row.name,
      row.precision,
      ...Object.keys(headQuantities).map((key) => cell(row.measurements[key], row.precision)),
      verdict(row),
    ]);
    console.log(table([['case', 'precision', ...Object.values(headQuantities), ''], ...lines]));
    console.log('');
  }
  if (others.length > 0) {
    const heads = table(others.map((row) => [row.name, row.precision, verdict(row)])).split('\n');
    others.forEach(({ measurements, precision }, i) => {
      const quantities = Object.entries(measurements).map(([key, of]) => `${key} ${cell(of, precision)}`);
      console.log(`${heads[i]}  ${quantities.join(', ')}`);
    });
    console.log('');
  }
  console.log(
    'largest errors, the loss and gradients relative; in brackets what the source loses in float32, or the CPU in bfloat16',
  );
  for (const reason of new Set(skipped.map((each) => each.reason))) {
    const files = skipped.filter((each) => each.reason === reason).map(({ file }) => file.replace('.safetensors', ''));
    console.log(`not run, ${reason}: ${files.join(', ')}`);
  }
  for (const { file, reason } of broken) console.log(`FAILED ${file}: ${reason}`);
}

export function conformanceCommand(): Command {
  return new Command('conformance')
    .description('runs golden files of published implementations through this package, and prints the errors')
    .argument('<dir>', 'a folder of golden files, such as test/golden', path)
    .addOption(deviceOption('where tensors are made: cpu, cuda, cuda:1 or auto').default('cpu'))
    .option('--only <pattern>', "only files whose name has this in it, such as 'arcface.*hard'")
    .addOption(new Option('--precision <precision>', 'only in this one').choices(['float64', 'float32', 'bfloat16']))
    .option('--json', 'machine-readable, on stdout')
    .action((dir: string, { json, ...options }: ConformanceOptions & { json?: boolean }) => {
      const result = conformance(dir, options);
      if (json) console.log(JSON.stringify(result, null, 2));
      else print(result);
      const passed = result.rows.filter((row) => row.passed).length;
      const failed = result.rows.length - passed + result.broken.length;
      process.stderr.write(`${passed} passed, ${failed} failed, ${result.skipped.length} files not run\n`);
      if (result.rows.length === 0) process.stderr.write('nothing was compared\n');
      if (failed > 0 || result.rows.length === 0) process.exit(1);
    });
}
