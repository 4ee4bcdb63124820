// Markdown tables by name, each from the runs on GPUs in bench/results, oldest first.

const notRun = 'Not run on a GPU yet: there are no numbers to show.';

const count = (n) => n.toLocaleString('en');
const ms = (value) => (value >= 1000 ? count(Math.round(value)) : value.toPrecision(3));
const mib = (value) => (value === undefined ? '' : count(Math.round(value)));
const spread = ({ roundMs }) => roundMs.map(ms).join(' / ');

const markdown = (header, body) =>
  [header, header.map(() => '---'), ...body].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

const caption = ({ gpu, driver, commit, date, torch, node }) =>
  `${gpu}, driver ${driver}; torch ${torch || 'none'}, Node ${node.replace(/^v/, '')}; commit ${commit}, ${date.slice(0, 10)}.`;

const about = {
  'torch eager': 'torch, [N, C] logits held, bfloat16 autocast',
  'torch compile': 'the same under torch.compile',
  'torch chunked': 'torch, chunks of classes, logits not held',
  'torch triton': 'Triton, logits computed again',
  'torch filtered': 'the same, small tiles left out (not exact)',
  'cuBLAS gemm3': 'cuBLAS, the three products alone',
};
const nameOf = ({ peer, path, precision, keep, filtered, sample, graph }) =>
  peer === 'ours'
    ? `**flashmargin**, ${path} path, ${precision}${keep ? `, ${keep} of the terms kept` : ''}${filtered === undefined ? '' : `, learned features, ${(100 * filtered).toFixed(0)} % of the tiles left out`}${sample ? `, ${100 * sample} % of the classes in a step` : ''}${graph === 'off' ? ', without a CUDA graph' : ''}`
    : (about[peer] ?? peer);
const settingsOf = ({ settings = {}, precision, netPrecision = 'float32' }) =>
  `, network ${netPrecision}, head ${precision}${Object.entries(settings)
    .map(([name, value]) => `, ${name} ${value}`)
    .join('')}`;
const shapeOf = ({ N, D, C, K }) => `N ${N}, D ${D}, C ${count(C)}${K > 1 ? `, K ${K}` : ''}`;
/** The newest run of each GPU that has rows of a kind. */
function newest(runs, bench) {
  const having = runs.filter(({ rows }) => rows.some((row) => row.bench === bench));
  return [...new Map(having.map((run) => [run.gpu, run])).values()];
}
const rowsOf = ({ rows }, bench) => rows.filter((row) => row.bench === bench);

/** A part for each GPU, or the sentence that there is none. */
const forEachGpu = (bench, part) => (runs) => {
  const chosen = newest(runs, bench);
  return chosen.length === 0 ? notRun : chosen.map((run) => `${part(run)}\n\n${caption(run)}`).join('\n\n');
};

export const gpuTables = {
  /** README: our fastest path and each peer, shapes across. */
  gpu: forEachGpu('gpu-head', (run) => {
    const rows = rowsOf(run, 'gpu-head').filter(
      ({ N, D, K, keep, filter, sample }) => N === 1024 && D === 512 && K === 1 && !keep && !filter && !sample,
    );
    const classes = [...new Set(rows.map(({ C }) => C))].sort((a, b) => a - b);
    // Of our paths, the fastest.
    const slowestFirst = rows.filter(({ peer }) => peer === 'ours').toSorted((a, b) => b.ms - a.ms);
    const ours = new Map(slowestFirst.map((row) => [row.C, row]));
    const peers = ['ours', ...new Set(rows.map(({ peer }) => peer).filter((peer) => peer !== 'ours'))];
    const rowOf = (peer, C) => (peer === 'ours' ? ours.get(C) : rows.find((row) => row.peer === peer && row.C === C));
    const cell = (peer, C) => {
      const row = rowOf(peer, C);
      const mine = ours.get(C);
      if (!row) return '';
      return peer === 'ours' || !mine ? `${ms(row.ms)}` : `${ms(row.ms)} (${(row.ms / mine.ms).toFixed(2)} ×)`;
    };
    const million = classes.includes(1_000_000) ? 1_000_000 : classes.at(-1);
    const header = [
      'ms (× flashmargin), N 1024, D 512',
      ...classes.map((C) => `C ${count(C)}`),
      `MiB beyond, C ${count(million)}`,
    ];
    const body = peers.map((peer) => [
      peer === 'ours' ? '**flashmargin**, the whole step' : (about[peer] ?? peer),
      ...classes.map((C) => cell(peer, C)),
      mib(rowOf(peer, million)?.extraMiB),
    ]);
    return markdown(header, body);
  }),

  gpuHead: forEachGpu('gpu-head', (run) => {
    const body = rowsOf(run, 'gpu-head')
      .toSorted((a, b) => a.C * a.K - b.C * b.K || a.N - b.N)
      .map((row) => [
        shapeOf(row),
        nameOf(row),
        ms(row.ms),
        spread(row),
        `${ms(row.min)} … ${ms(row.max)}`,
        row.tflops?.toPrecision(3) ?? '',
        mib(row.extraMiB),
      ]);
    const ceilings = rowsOf(run, 'gpu-ceiling').map(({ what, tflops, tbps }) =>
      tflops ? `${what}: ${tflops.toFixed(0)} TFLOP/s` : `${what}: ${tbps.toFixed(2)} TB/s`,
    );
    const header = ['shape', 'what', 'ms', 'medians of the rounds', 'from … to', 'TFLOP/s of 6·N·C·K·D', 'MiB beyond'];
    return [markdown(header, body), ...(ceilings.length > 0 ? [`${ceilings.join('; ')}.`] : [])].join('\n\n');
  }),

  gpuBackbone: forEachGpu('gpu-backbone', (run) =>
    markdown(
      ['network and head', 'what', 'images/s', 'ms', 'medians of the rounds'],
      rowsOf(run, 'gpu-backbone').map((row) => [
        `${row.net}, batch ${row.N}, C ${count(row.C)}`,
        row.peer === 'ours' ? `**flashmargin**${settingsOf(row)}` : `${row.peer}, ${row.precision}`,
        count(Math.round(row.imagesPerSecond)),
        ms(row.ms),
        spread(row),
      ]),
    ),
  ),

  /** What ran, what did not, and why: of the newest run of each GPU. */
  gpuStages(runs) {
    const chosen = [...new Map(runs.map((run) => [run.gpu, run])).values()];
    if (chosen.length === 0) return notRun;
    return chosen
      .map((run) => {
        const body = run.stages.map(({ stage, status, s, passed, failed, note }) => [
          stage,
          status,
          passed === undefined ? '' : `${passed} passed, ${failed} failed`,
          s.toFixed(0),
          note.replaceAll('|', '\\|'),
        ]);
        return `${markdown(['stage', '', 'checks', 's', ''], body)}\n\n${caption(run)}`;
      })
      .join('\n\n');
  },
};
