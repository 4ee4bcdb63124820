// Rewrites the tables of README.md, docs/benchmarks.md and docs/gpu.md between <!-- table:NAME --> and <!-- end --> from
// the newest rows of bench/results/*.jsonl, and from its *.json, a run on a GPU each.  With --check: fails where a table,
// or docs/benchmarks.svg, is not what the results say.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDrawnFrom } from '../bench/drawn.mjs';
import { importedRuns } from '../bench/gpu/results.mjs';
import { gpuTables } from '../bench/gpu/tables.mjs';
import { tables } from '../bench/tables.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = path.join(root, 'bench/results');
const rows = readdirSync(folder)
  .filter((name) => name.endsWith('.jsonl'))
  .sort()
  .flatMap((name) =>
    readFileSync(path.join(folder, name), 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line)),
  );

const gpuRuns = importedRuns(folder);
const tableOf = (name) => (name in gpuTables ? gpuTables[name](gpuRuns) : tables[name](rows));

const check = process.argv.includes('--check');
let stale = false;
for (const name of ['README.md', 'docs/benchmarks.md', 'docs/gpu.md']) {
  const file = path.join(root, name);
  const before = readFileSync(file, 'utf8');
  const after = before.replace(
    /(<!-- table:(\w+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_, open, table, close) => `${open}${tableOf(table)}\n${close}`,
  );
  if (before === after) continue;
  stale = true;
  if (check) console.error(`${name}: a table is not what bench/results says; run npm run bench:tables`);
  else writeFileSync(file, after);
}
if (check && !isDrawnFrom(path.join(root, 'docs/benchmarks.svg'), rows)) {
  stale = true;
  console.error('docs/benchmarks.svg: is not drawn from bench/results; run npm run bench:tables');
}
if (check && stale) process.exit(1);
