import { Command } from 'commander';
import { type ConformanceRow, conformance } from '../train/index.js';
import { table } from './tables.js';

const quantities = ['logits_abs', 'ce_rel', 'dX_rel', 'dW_rel', 'reg_rel', 'state_rel', 'dmargins_rel'] as const;

/** Our error, and in brackets what the source's own float32 run loses. */
function cell({ errors, source }: ConformanceRow, key: (typeof quantities)[number]): string {
  const theirs = source?.[key];
  const ours = errors[key];
  if (ours === undefined) return '';
  return ours.toExponential(1) + (theirs === undefined ? '' : ` (${theirs.toExponential(1)})`);
}

export function conformanceCommand(): Command {
  return new Command('conformance')
    .description('runs golden files of published implementations through the kernels, and prints the errors')
    .argument('<dir>', 'a folder of golden files, such as test/golden')
    .option('--json', 'machine-readable, on stdout')
    .action((dir: string, { json }: { json?: boolean }) => {
      const { rows, skipped } = conformance(dir);
      if (json) console.log(JSON.stringify({ rows, skipped }, null, 2));
      else {
        const lines = rows.map((row) => [
          row.name,
          row.precision,
          ...quantities.map((key) => cell(row, key)),
          row.passed ? 'ok' : 'FAILED',
        ]);
        console.log(table([['case', 'precision', 'logits', 'loss', 'dX', 'dW', 'regulariser', 'state', 'dm', ''], ...lines]));
        console.log('\nlargest errors, the loss and gradients relative; in brackets what the source loses in float32');
        for (const reason of new Set(skipped.map((each) => each.reason))) {
          const files = skipped
            .filter((each) => each.reason === reason)
            .map(({ file }) => file.replace('.safetensors', ''));
          console.log(`not run, ${reason}: ${files.join(', ')}`);
        }
      }
      const failed = rows.filter(({ passed }) => !passed).length;
      process.stderr.write(`${rows.length - failed} passed, ${failed} failed, ${skipped.length} files not run\n`);
      if (failed > 0) process.exit(1);
    });
}
