// Markdown tables by name, each from all the rows of bench/results.
import { aboutPeer, peerNames } from './peers.mjs';

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** Of each group, the rows of the newest run that has the group. */
function newest(rows, bench, groupOf = () => '') {
  const dates = new Map();
  const wanted = rows.filter((row) => row.bench === bench);
  for (const row of wanted) dates.set(groupOf(row), row.date);
  return wanted.filter((row) => row.date === dates.get(groupOf(row)));
}

const markdown = (header, body) =>
  [header, header.map(() => '---'), ...body].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

/** Where and when, and how busy the machine was before the run. */
function caption(rows) {
  const { cpu, cores, node } = rows.at(-1);
  const runs = [...new Set(rows.map(({ commit, date }) => `commit ${commit}, ${date.slice(0, 10)}`))];
  const loads = [...new Set(rows.map(({ loadBefore }) => loadBefore).filter((load) => load !== undefined))];
  const load = loads.length > 0 ? `; load average before: ${loads.join(', ')}` : '';
  return `${cpu}, ${cores} cores, Node ${node.slice(1)}; ${runs.join('; ')}${load}`;
}

const count = (n) => n.toLocaleString('en');
const shapeOf = ({ N, D, C }) => `N ${N}, D ${D}, C ${count(C)}`;
const groupOf = (row) => `${shapeOf(row)}, ${row.threads}`;
const times = (ratio, digits = 2) => (ratio >= 20 ? ratio.toFixed(0) : ratio.toFixed(digits));
const ms = (value) => (value >= 1000 ? count(Math.round(value)) : value.toPrecision(3));
const percent = (share) => `${(100 * share).toFixed(2)} %`;
const threads = (n) => `${n} thread${n > 1 ? 's' : ''}`;

const inTheReadme = ['ours', 'gemm3', 'mat', 'torch tuned', 'torch stock', 'tfjs wasm', 'tfjs cpu'];

const emphasised = (name) => (name === 'ours' ? `**${aboutPeer(name)}**` : aboutPeer(name));

const notMeasured = 'Not measured yet.';

const all = {
  /** Peers down, shapes across; C up to 100,000.  Where the peers were not measured so far, the native step alone. */
  head(rows) {
    const measured = newest(rows, 'peers', groupOf);
    if (!measured.some(({ C, ms }) => C === 100_000 && ms !== undefined)) return this.native(rows);
    const run = measured.filter((row) => row.C <= 100_000);
    const groups = [...new Set(run.map(groupOf))].map((group) => run.filter((row) => groupOf(row) === group));
    const timed = measured.filter((row) => row.peer === 'ours' && row.extraMiB !== undefined);
    const largest = timed.reduce((a, b) => (b.C > a.C ? b : a));
    const cell = (row) => {
      if (row?.ms === undefined) return '';
      return row.peer === 'ours' ? ms(row.ms) : `${ms(row.ms)} (${times(row.perOurs)} ×)`;
    };
    const memory = (name) => {
      const found = run.filter((row) => row.peer === name && row.C === 100_000 && row.extraMiB !== undefined);
      return found.length > 0 && name !== 'gemm3' ? Math.max(...found.map((row) => row.extraMiB)).toFixed(0) : '';
    };
    const header = [
      'ms (× flashmargin)',
      ...groups.map(([row]) => `${shapeOf(row)}, ${threads(row.threads)}`),
      'MiB beyond weight and velocity, C 100,000',
    ];
    const body = inTheReadme
      .filter((name) => run.some((row) => row.peer === name && row.ms !== undefined))
      .map((name) => [
        emphasised(name),
        ...groups.map((group) => cell(group.find((row) => row.peer === name))),
        memory(name),
      ]);
    return `${markdown(header, body)}\n\nAt C = ${count(largest.C)}: ${largest.extraMiB.toFixed(0)} MiB. ${caption(run)}; medians of alternating rounds.`;
  },

  /** bench/native/head_bench.cpp */
  native(rows) {
    const run = newest(rows, 'head');
    const about = { gemm3: aboutPeer('gemm3'), mat: aboutPeer('mat') };
    const body = run
      .filter((row) => row.ms !== undefined)
      .map((row) => [
        shapeOf(row),
        row.threads,
        about[row.mode] ?? `**${row.mode === 'ours' ? aboutPeer('native') : row.mode}**`,
        row.ms.toFixed(1),
        row.ratio.toFixed(3),
        row.mode === 'gemm3' ? '' : row.extraMiB.toFixed(0),
      ]);
    const million = run.find((row) => row.C === 1_000_000);
    const header = ['shape', 'threads', 'what', 'ms', '÷ sgemm', 'MiB beyond weight and velocity'];
    const note = million ? `At C = 1,000,000: ${million.extraMiB.toFixed(0)} MiB. ` : '';
    return `${markdown(header, body)}\n\n${note}${caption(run)}; medians of alternating pairs.`;
  },

  /** Every peer at every shape. */
  peers(rows) {
    const run = newest(rows, 'peers', groupOf);
    const order = ({ threads, C, peer }) => threads * 1e12 + C * 100 + peerNames.indexOf(peer);
    const body = run
      .filter((row) => row.ms !== undefined)
      .sort((a, b) => order(a) - order(b))
      .map((row) => [
        shapeOf(row),
        row.threads,
        emphasised(row.peer),
        ms(row.ms),
        `${ms(row.min)} … ${ms(row.max)}`,
        times(row.perOurs),
        row.perGemm3 === undefined ? '' : times(row.perGemm3),
        row.peer === 'gemm3' ? '' : row.extraMiB.toFixed(0),
        row.rounds,
      ]);
    const skipped = run
      .filter((row) => row.skipped)
      .map((row) => `${aboutPeer(row.peer)} at ${shapeOf(row)}, ${threads(row.threads)}: ${row.skipped}.`);
    const versions = [...new Set(run.map(({ version }) => version).filter(Boolean))].join(', ');
    const header = ['shape', 'threads', 'what', 'ms', 'from … to', '÷ ours', '÷ sgemm', 'MiB beyond', 'rounds'];
    return [markdown(header, body), ...skipped, `${versions}. ${caption(run)}.`].join('\n\n');
  },

  modes(rows) {
    const run = newest(rows, 'modes', ({ mode }) => mode);
    const header = [
      'what',
      'shape',
      'against',
      'ms',
      '÷ against',
      '÷ against, a multiply-add',
      '÷ sgemm',
      'MiB beyond',
    ];
    const body = run.map((row) => [
      row.mode,
      `${shapeOf(row)}${row.options?.subCenters ? `, K ${row.options.subCenters}` : ''}`,
      shapeOf(row.base),
      ms(row.ms),
      times(row.perOurs),
      times(row.perWork, 3),
      row.perGemm3 === undefined ? '' : times(row.perGemm3),
      row.extraMiB.toFixed(0),
    ]);
    return `${markdown(header, body)}\n\n${threads(run[0].threads)}. ${caption(run)}; medians of alternating rounds.`;
  },

  margins(rows) {
    const run = newest(rows, 'margins', ({ margin }) => margin);
    const body = run.map((row) => [row.margin, ms(row.ms), ms(row.arcfaceMs), row.perArcface.toFixed(3)]);
    return `${markdown(['margin', 'ms', 'ArcFace, ms', '÷ ArcFace'], body)}\n\n${shapeOf(run[0])}, ${threads(run[0].threads)}, ${run[0].rounds} pairs. ${caption(run)}.`;
  },

  overhead(rows) {
    const run = newest(rows, 'overhead');
    const header = ['call', 'margin', 'threads', 'ms', 'of which native', 'the rest, ms', 'the rest ÷ native'];
    const body = run.map((row) => [
      row.call,
      row.method,
      row.threads,
      ms(row.ms),
      ms(row.nativeMs),
      row.overheadMs.toFixed(3),
      percent(row.overhead),
    ]);
    return `${markdown(header, body)}\n\n${shapeOf(run[0])}; medians of ${run[0].rounds}. ${caption(run)}.`;
  },

  eventLoop(rows) {
    const run = newest(rows, 'eventLoop');
    const header = [
      'margin',
      'threads',
      'step, ms',
      'in the call, ms at most',
      'between ticks, ms: 99 of 100 below',
      'at most',
      'at most, less waiting for a core',
    ];
    const body = run.map((row) => [
      row.method === 'idle' ? '(no step)' : row.method,
      row.threads,
      row.ms === undefined ? '' : ms(row.ms),
      row.callMaxMs?.toFixed(2) ?? '',
      row.gapP99Ms.toFixed(2),
      row.gapMaxMs.toFixed(2),
      row.gapOwnMaxMs.toFixed(2),
    ]);
    const shape = run.find(({ C }) => C);
    return `${markdown(header, body)}\n\n${shapeOf(shape)}, ${shape.steps} steps while a timer ticks every millisecond. ${caption(run)}.`;
  },

  micro(rows) {
    const run = newest(rows, 'micro', ({ peer, op }) => `${peer} ${op}`);
    const body = run.map((row) => [
      row.op,
      row.peer,
      shapeOf(row),
      `${ms(row.theirMs)} ± ${row.theirRme.toFixed(1)} %`,
      `${ms(row.ms)} ± ${row.rme.toFixed(1)} %`,
      times(row.ratio, 1),
      row.agreement.toExponential(0),
    ]);
    const header = ['what', 'peer', 'shape', 'peer, ms', 'flashmargin, ms', '×', 'largest difference'];
    return `${markdown(header, body)}\n\n1 thread each; benchmark.js, median and relative margin of error. ${caption(run)}.`;
  },

  backbone(rows) {
    const run = newest(rows, 'backbone');
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
    return `${markdown(['iresnet18, 112 × 112, batch 8, 2 threads', 'images/s', 'peak RSS, MiB'], body)}\n\n${caption(run)}; median of ${run.length / body.length} alternating runs.`;
  },

  demo(rows) {
    const [main, softmax] = ['runs/demo', 'runs/softmax'].map((folder) =>
      rows.filter((row) => row.bench === 'demo' && row.run === folder).at(-1),
    );
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
    return `${markdown(header, body)}\n\nTrained in ${main.seconds.toFixed(0)} s at ${main.imagesPerSecond.toFixed(0)} images/s and evaluated in ${main.evaluationSeconds.toFixed(0)} s; convolutions: ${main.convolutions.split(' (')[0]}. 10-fold accuracy: ${pairs}. ${caption([main])}; one seed.`;
  },
};

/** What each table is made of, where it is not the benchmark of its name. */
const sources = { head: 'head', native: 'head' };

export const tables = Object.fromEntries(
  Object.keys(all).map((name) => [
    name,
    (rows) => (rows.some(({ bench }) => bench === (sources[name] ?? name)) ? all[name](rows) : notMeasured),
  ]),
);
