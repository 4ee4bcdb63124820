// Trains examples/kanji28.yaml on a device and compares what came out with what the CPU reached (bench/results, `demo`).
//   node bench/gpu/train.mjs [--device cuda] [--precision bfloat16] [--tiny] --out FOLDER
// --tiny: some images and one epoch, compared with the same on the CPU.
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { data, evaluateRun, loadConfig, summaryTiers, train } from 'flashmargin';
import { unavailable } from './unavailable.mjs';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' },
    precision: { type: 'string', default: 'bfloat16' },
    tiny: { type: 'boolean', default: false },
    out: { type: 'string' },
  },
});
const { device, precision, tiny, out } = values;
if (!out) {
  console.error('train.mjs: expected --out FOLDER');
  process.exit(2);
}
mkdirSync(out, { recursive: true });
const root = fileURLToPath(new URL('../..', import.meta.url));

/** Rank-1 and TAR@1e-3 of the tiers, and how far below the CPU's they may be: other roundings, as another seed would. */
const compared = { A: 0.01, B: 0.01, C: 0.06 };

function cpuTiers() {
  const folder = path.join(root, 'bench/results');
  const rows = readdirSync(folder)
    .filter((name) => name.endsWith('.jsonl'))
    .sort()
    .flatMap((name) => readFileSync(path.join(folder, name), 'utf8').split('\n').filter(Boolean))
    .map((line) => JSON.parse(line));
  return rows.filter(({ bench, run }) => bench === 'demo' && run === 'runs/demo').at(-1).tiers;
}

const scores = (tiers) =>
  Object.fromEntries(
    tiers.map(({ name, rank1, tar }) => [name, { rank1, tar3: tar.find(({ far }) => far === 1e-3)?.tar }]),
  );

async function fullRun() {
  process.chdir(root); // the configuration's paths
  const config = await loadConfig('examples/kanji28.yaml');
  const { test, gallery } = config.evaluation;
  const run = await train(
    {
      ...config,
      device,
      out,
      head: { precision },
      data: { ...config.data, workers: 8 },
      evaluation: { test, gallery },
    },
    { overwrite: true },
  );
  const { tiers } = await evaluateRun(run);
  const [got, wanted] = [scores(summaryTiers(tiers)), scores(cpuTiers())];
  const below = Object.entries(compared).filter(([name, slack]) => !(got[name].rank1 >= wanted[name].rank1 - slack));
  report(run, { tiers: got, cpu: wanted });
  for (const [name] of below)
    console.log(`FAILED: tier ${name}: rank-1 ${got[name].rank1}, on the CPU ${wanted[name].rank1}`);
  return below.length === 0;
}

const report = ({ steps, seconds, imagesPerSecond, headShare }, more) =>
  console.log(
    JSON.stringify({ bench: 'gpu-train', device, precision, steps, seconds, imagesPerSecond, headShare, ...more }),
  );

async function tinyRun() {
  const rec = path.join(out, 'tiny.rec');
  const whole = path.join(root, 'data/kanji28/train');
  const reader = new data.RecordReader(`${whole}.rec`, { idx: `${whole}.idx` });
  const writer = new data.RecordWriter(rec, { layout: 'flat' });
  for (let key = 1; key <= 48; key++) {
    const { labels, body } = reader.record(key);
    writer.add(labels[0], body);
  }
  writer.finish();
  reader.close();
  const losses = {};
  for (const where of new Set([device, 'cpu'])) {
    const seen = [];
    const run = await train(
      {
        device: where,
        out: path.join(out, where),
        data: { train: rec, workers: 0 },
        backbone: { name: 'iresnetSmall', stemWidth: 4, widths: [4, 8], embeddingSize: 16 },
        margin: { method: 'arcface', scale: 16, margin: 0.2 },
        head: { precision: where === 'cpu' ? 'float32' : precision },
        optimizer: { lr: 0.05 },
        epochs: 1,
        batchSize: 8,
        log: { everySteps: 1 },
      },
      { overwrite: true, onMetrics: ({ loss }) => seen.push(loss) },
    );
    losses[where] = seen;
    if (where === device) report(run, { tiny: true });
  }
  const off = Math.max(...losses.cpu.map((loss, i) => Math.abs(loss - losses[device][i])));
  console.log(`losses of ${losses.cpu.length} steps: off by ${off}`);
  return losses.cpu.length > 0 && off < 0.05 * losses.cpu[0];
}

try {
  if (!(await (tiny ? tinyRun() : fullRun()))) process.exitCode = 1;
} catch (error) {
  unavailable(error);
  throw error;
} finally {
  rmSync(path.join(out, 'checkpoints'), { recursive: true, force: true });
}
