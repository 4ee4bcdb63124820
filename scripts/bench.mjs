// Benchmarks with their environment, appended to bench/results/<date>.jsonl; docs/benchmarks.md says what each needs.
//   npm run bench                        all that is timed (see `minutes`)
//   npm run bench -- peers micro         some of them
//   npm run bench -- --list              their names
//   --smoke                              everything at tiny sizes, in seconds: do the runners still run?
//   --out FILE                           instead of bench/results/<date>.jsonl
//   --memory GIB                         what peers may take together (12)
//   --classes C, --threads T             one size or thread count of those that a benchmark has
// Then `npm run bench:tables` writes the tables and the plot.
import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync } from 'node:fs';
import { cpus, loadavg, totalmem } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));

const benches = {
  peers: { about: "the head's step against OpenBLAS, a materialising twin, torch and tfjs", minutes: 14 },
  modes: { about: 'other shapes, sub-centers, bfloat16 and fast mode against the ordinary head', minutes: 5 },
  margins: { about: 'each margin against ArcFace', minutes: 3 },
  overhead: { about: 'what TypeScript adds, and how long the event loop waits', minutes: 2 },
  micro: { about: 'operations and the head against pure tfjs, by benchmark.js', minutes: 3 },
  scale: { about: 'time and memory as the classes grow, for the plot', minutes: 10 },
  backbone: { about: 'iresnet18 against torch', minutes: 2 },
  head: { about: 'the native step alone, with OpenBLAS in one process', minutes: 4, byName: true },
  conv: { about: 'each convolution, own kernels and oneDNN; printed only', minutes: 2, byName: true },
  demo: { about: 'copies runs/demo/summary.json and runs/softmax into the results', minutes: 0, byName: true },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    smoke: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    out: { type: 'string' },
    memory: { type: 'string', default: '12' },
    classes: { type: 'string' },
    threads: { type: 'string' },
  },
});
if (values.list) {
  for (const [name, { about, minutes, byName }] of Object.entries(benches))
    console.log(`${name.padEnd(10)} ${String(minutes).padStart(3)} min  ${about}${byName ? ' (by name only)' : ''}`);
  process.exit(0);
}
const chosen = positionals.length > 0 ? positionals : Object.keys(benches).filter((name) => !benches[name].byName);
for (const name of chosen) {
  if (benches[name]) continue;
  console.error(`bench: no benchmark '${name}'; there are ${Object.keys(benches).join(', ')}`);
  process.exit(2);
}

// A process each: what one leaves in memory or takes from the addon is none of the next one's business.
if (chosen.length > 1) {
  const script = fileURLToPath(import.meta.url);
  const options = Object.entries(values)
    .filter(([, value]) => value !== false)
    .map(([name, value]) => (value === true ? `--${name}` : `--${name}=${value}`));
  const failed = chosen.filter(
    (name) => spawnSync(process.execPath, [script, name, ...options], { stdio: 'inherit' }).status !== 0,
  );
  if (failed.length > 0) console.error(`bench: failed in ${failed.join(', ')}`);
  process.exit(failed.length > 0 ? 1 : 0);
}

const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
const environment = {
  date: new Date().toISOString(),
  commit:
    git('rev-parse', '--short', 'HEAD') +
    (git('status', '--porcelain', '--', 'lib', 'src', 'native') && ' with changes'),
  cpu: cpus()[0]?.model.trim(),
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  node: process.version,
  loadBefore: Number(loadavg()[0].toFixed(2)),
};
const file = values.out ?? path.join(root, 'bench/results', `${environment.date.slice(0, 10)}.jsonl`);
mkdirSync(path.dirname(path.resolve(file)), { recursive: true });

/** Four digits are more than any of these numbers has. */
const short = (_, value) =>
  typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value;

const context = {
  root,
  smoke: values.smoke,
  budget: Number(values.memory) * 2 ** 30,
  only: { C: Number(values.classes) || undefined, threads: Number(values.threads) || undefined },
  record(row) {
    appendFileSync(file, `${JSON.stringify({ ...row, load: loadavg()[0], ...environment }, short)}\n`);
    console.log(JSON.stringify(row, short));
  },
  /** What a reader should know, such as a peer that is not installed. */
  say: (text) => console.error(text),
};

const { run } = await import(`../bench/runners/${chosen[0]}.mjs`);
await run(context);
