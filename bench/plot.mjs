// Draws docs/benchmarks.svg, time and memory of a step against the number of classes, from bench/results:
//   node bench/plot.mjs        needs npm ci --prefix bench/optional --ignore-scripts
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { fingerprint, scaleRows } from './drawn.mjs';
import { aboutPeer } from './peers.mjs';

const require = createRequire(new URL('optional/package.json', import.meta.url));
try {
  require.resolve('vega-lite');
} catch {
  console.error('plot: vega-lite is not installed: npm ci --prefix bench/optional --ignore-scripts');
  process.exit(1);
}
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const [vega, vegaLite] = await Promise.all([load('vega'), load('vega-lite')]);

const folder = new URL('results/', import.meta.url);
const all = readdirSync(folder)
  .filter((name) => name.endsWith('.jsonl'))
  .sort()
  .flatMap((name) => readFileSync(new URL(name, folder), 'utf8').split('\n').filter(Boolean).map(JSON.parse));
const rows = scaleRows(all);
const names = {
  ours: 'flashmargin',
  mat: '[N, C] logits held (OpenBLAS)',
  'torch tuned': 'torch, malloc tuned',
  'tfjs wasm': 'tfjs, wasm',
};
const colours = { ours: '#0b62a4', mat: '#7a7a7a', 'torch tuned': '#d1591c', 'tfjs wasm': '#8a3ffc' };
const domain = Object.values(names);
const data = rows.map(({ peer, C, ms, extraMiB }) => ({
  peer: names[peer] ?? aboutPeer(peer),
  C,
  ms,
  extraMiB: Math.max(extraMiB, 1),
}));
const [{ N, D, threads }] = rows;

const panel = (field, title) => ({
  title: { text: title, anchor: 'start', fontSize: 14 },
  width: 400,
  height: 300,
  mark: { type: 'line', point: { size: 40 }, strokeWidth: 2 },
  encoding: {
    x: {
      field: 'C',
      type: 'quantitative',
      scale: { type: 'log', nice: false },
      axis: { title: 'classes', format: '~s', values: [1e3, 1e4, 1e5, 1e6, 4e6] },
    },
    y: {
      field,
      type: 'quantitative',
      scale: { type: 'log' },
      axis: { title: null, format: ',', values: [0.1, 1, 10, 100, 1e3, 1e4, 1e5] },
    },
    color: {
      field: 'peer',
      type: 'nominal',
      scale: { domain, range: Object.values(colours) },
      legend: {
        title: null,
        orient: 'bottom',
        labelFontSize: 12,
        symbolType: 'stroke',
        symbolStrokeWidth: 3,
        labelLimit: 300,
      },
    },
  },
});
const spec = {
  background: 'white',
  padding: 12,
  data: { values: data },
  hconcat: [
    panel('ms', `One step, ms (N ${N}, D ${D}, ${threads} thread)`),
    panel('extraMiB', 'Peak memory beyond weight and velocity, MiB'),
  ],
  config: {
    font: 'sans-serif',
    axis: { labelFontSize: 12, titleFontSize: 12, gridColor: '#e4e4e4' },
    view: { stroke: null },
  },
};
const view = new vega.View(vega.parse(vegaLite.compile(spec).spec), { renderer: 'none' });
const svg = await view.toSVG();
const file = new URL('../docs/benchmarks.svg', import.meta.url);
writeFileSync(file, `${svg}\n<!-- rows ${fingerprint(all)} -->\n`);
console.log(`docs/benchmarks.svg: ${rows.length} points`);
