// Rewrites the tables of README.md between <!-- table:NAME --> and <!-- end --> from the newest bench/results/*.jsonl
// that has the rows.  With --check: fails where a table is not what the results say.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

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

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const newest = (wanted) => rows.filter(wanted).at(-1);
/** The rows of the newest run (one commit and date) of a benchmark. */
function lastRun(bench) {
  const last = newest((row) => row.bench === bench);
  return rows.filter((row) => row.bench === bench && row.date === last?.date);
}
const markdown = (header, body) =>
  [header, header.map(() => '---'), ...body].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
const caption = (row) =>
  `${row.cpu}, ${row.cores} cores, Node ${row.node.slice(1)}; commit ${row.commit}, ${row.date.slice(0, 10)}`;

const tables = {
  head() {
    const run = lastRun('head');
    const timed = run.filter((row) => row.ms);
    const body = timed.map(({ N, D, C, threads, mode, ms, ratio, extraMiB }) => [
      `N ${N}, D ${D}, C ${C.toLocaleString('en')}`,
      threads,
      {
        gemm3: 'OpenBLAS, the three sgemm alone',
        mat: 'whole step, [N, C] logits held',
        ours: '**whole step, flashmargin**',
      }[mode],
      ms.toFixed(1),
      ratio.toFixed(3),
      mode === 'gemm3' ? '–' : extraMiB.toFixed(0),
    ]);
    const million = run.find((row) => row.C === 1_000_000);
    return `${markdown(['shape', 'threads', 'what', 'ms', '÷ sgemm', 'MiB beyond weight and velocity'], body)}\n\nAt C = 1,000,000: ${million.extraMiB.toFixed(0)} MiB. ${caption(run[0])}; medians of alternating pairs.`;
  },
  backbone() {
    const run = lastRun('backbone');
    const body = ['ours', 'torch 1.13'].flatMap((mode) => {
      const of = run.filter((row) => row.mode === mode);
      if (of.length === 0) return [];
      return [
        [
          mode === 'ours' ? '**flashmargin** (with the SGD update)' : `${mode} (without an update)`,
          median(of.map((row) => row.imagesPerSecond)).toFixed(2),
          Math.max(...of.map((row) => row.rssMiB)).toFixed(0),
        ],
      ];
    });
    return `${markdown(['iresnet18, 112 × 112, batch 8, 2 threads', 'images/s', 'peak RSS, MiB'], body)}\n\n${caption(run[0])}; median of ${run.length / body.length} alternating runs.`;
  },
  demo() {
    const main = newest((row) => row.bench === 'demo' && row.run === 'runs/demo');
    const softmax = newest((row) => row.bench === 'demo' && row.run === 'runs/softmax');
    const cells = (tiers) =>
      tiers.flatMap(({ name, tar, rank1 }) =>
        name === 'C' ? [rank1.toFixed(4)] : [...tar.map((p) => p.tar.toFixed(4)), rank1.toFixed(4)],
      );
    const body = [
      ['**ArcFace** s 24, m 0.3', ...cells(main.tiers)],
      ...(softmax ? [['normalised softmax s 24', ...cells(softmax.tiers)]] : []),
      ['raw pixels', ...cells(main.pixels.tiers)],
    ];
    const header = [
      '',
      'A: TAR@1e-3',
      'A: TAR@1e-4',
      'A: rank-1',
      'B: TAR@1e-3',
      'B: TAR@1e-4',
      'B: rank-1',
      'C: rank-1',
    ];
    const pairs = main.pairs
      .map(({ file, accuracy, std }) => `${file} ${(100 * accuracy).toFixed(2)} ± ${(100 * std).toFixed(2)} %`)
      .join(', ');
    return `${markdown(header, body)}\n\nTrained in ${main.seconds.toFixed(0)} s at ${main.imagesPerSecond.toFixed(0)} images/s and evaluated in ${main.evaluationSeconds.toFixed(0)} s; convolutions: ${main.convolutions.split(' (')[0]}. 10-fold accuracy: ${pairs}. ${caption(main)}; one seed.`;
  },
};

const readme = path.join(root, 'README.md');
const before = readFileSync(readme, 'utf8');
const after = before.replace(
  /(<!-- table:(\w+) -->\n)[\s\S]*?(<!-- end -->)/g,
  (_, open, name, close) => `${open}${tables[name]()}\n${close}`,
);
if (process.argv.includes('--check')) {
  if (before !== after) {
    console.error('README.md: a table is not what bench/results says; run node scripts/readme-tables.mjs');
    process.exit(1);
  }
} else writeFileSync(readme, after);
