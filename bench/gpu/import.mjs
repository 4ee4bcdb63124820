// Takes a run of bench/gpu/run.sh into bench/results/<date>-<gpu>.json, once it holds together:
//   node bench/gpu/import.mjs FOLDER [--out FILE]
// Then `npm run bench:tables` writes the tables.
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { fileNameOf, readRun, stageStatuses } from './results.mjs';

const { values, positionals } = parseArgs({ allowPositionals: true, options: { out: { type: 'string' } } });
if (positionals.length !== 1) {
  console.error(
    'import.mjs: expected the folder that run.sh wrote\nusage: node bench/gpu/import.mjs FOLDER [--out FILE]',
  );
  process.exit(2);
}
try {
  const run = readRun(positionals[0]);
  const file = values.out ?? path.join(fileURLToPath(new URL('../results', import.meta.url)), fileNameOf(run));
  if (existsSync(file)) throw new Error(`${file} is already there: remove it, or name another with --out`);
  writeFileSync(file, `${JSON.stringify(run, null, 1)}\n`);
  const stages = stageStatuses.map(
    (status) => `${run.stages.filter((each) => each.status === status).length} ${status}`,
  );
  console.log(`${file}: ${run.gpu}, commit ${run.commit}; stages: ${stages.join(', ')}; ${run.rows.length} rows`);
} catch (error) {
  console.error(`import.mjs: ${error.message}`);
  process.exit(1);
}
