import { type ChartSpec, smoothingSpan } from './charts.js';
import { compact, count, decimal, duration, headlineRates, isNumber, MISSING, percent, rate, tarAt } from './format.js';
import { type Html, type HtmlValue, html } from './html.js';
import type { ReportData, ReportImage, TierReport, WrongNeighbour } from './reportData.js';

export interface Section {
  readonly id: string;
  readonly title: string;
  readonly body: Html;
}

/** The report's sections, without those that have nothing to show. */
export function sections(data: ReportData, charts: readonly ChartSpec[]): Section[] {
  const drawn = new Set(charts.map((chart) => chart.id));
  return [
    { id: 'summary', title: 'Summary', body: summary(data) },
    data.baselines.length > 0 && data.tiers.length > 0 && comparison(data),
    drawn.has('loss') && training(data),
    data.tiers.length > 0 && verification(data, drawn),
    data.tiers.some((_, i) => drawn.has(`histogram-${i}`)) && distributions(data, drawn),
    data.tiers.some((tier) => tier.wrong.length > 0) && neighbours(data),
    { id: 'setup', title: 'Configuration and environment', body: setup(data) },
  ].filter((section): section is Section => section !== false);
}

function summary(data: ReportData): Html {
  const { summary: run } = data;
  const facts: [name: string, value: string][] = [
    ['training time', duration(run.trainSeconds)],
    ['images / s', count(run.imagesPerSecond)],
    ['epochs', isNumber(run.epochs) ? run.epochs.toLocaleString('en-US', { maximumFractionDigits: 2 }) : MISSING],
    ['steps', count(run.steps)],
    ['training images', count(run.images)],
    ['training identities', count(run.identities)],
    ['parameters', compact(run.parameters)],
    ['head’s share of the step', percent(run.headShare, 1)],
  ];
  const rates = headlineRates(data.tiers);
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
<div class="grid">${data.tiers.map((tier, i) => tierCard(tier, i, rates))}</div>`;
}

function tierCard(tier: TierReport, index: number, rates: readonly number[]): Html {
  const { accuracy } = tier;
  const numbers: [name: string, value: Html | string][] = [
    ...rates.map((far): [string, string] => [`TAR @ FAR ${rate(far)}`, percent(tarAt(tier.tar, far))]),
    ['rank-1 identification', percent(tier.rank1)],
  ];
  if (accuracy) {
    const spread = isNumber(accuracy.std) ? html` <small>± ${(100 * accuracy.std).toFixed(2)}</small>` : '';
    numbers.push([accuracyName(accuracy), html`${percent(accuracy.mean)}${spread}`]);
  }
  return html`<article class="card tier" style="--tier: var(--c${index % 6})">
<h3>${tier.name}</h3>
<div class="muted">${tier.description}</div>
<dl class="numbers">${numbers.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
<div class="foot rule">
<p>${count(tier.images)} images of ${count(tier.identities)} identities · ${count(tier.genuinePairs)} genuine and ${count(tier.impostorPairs)} impostor pairs</p>
<p><b>TAR, rank-1:</b> ${tier.rule}</p>
${accuracy && html`<p><b>Accuracy:</b> ${accuracy.rule}</p>`}
</div>
</article>`;
}

function comparison(data: ReportData): Section {
  const rates = headlineRates(data.tiers);
  const columns = [...rates.map((far) => `TAR @ ${rate(far)}`), 'rank-1'];
  const rows = [
    ...data.baselines.map((baseline) => ({ name: baseline.name, tiers: baseline.tiers, ours: false })),
    { name: 'this model', tiers: data.tiers, ours: true },
  ].map(({ name, ours, tiers }) => ({
    name,
    ours,
    values: data.tiers.flatMap((tier) => {
      const found = tiers.find((candidate) => candidate.name === tier.name);
      return [...rates.map((far) => tarAt(found?.tar ?? [], far)), found?.rank1 ?? Number.NaN];
    }),
  }));
  const best = rows[0].values.map((_, i) =>
    rows.reduce((most, row) => (isNumber(row.values[i]) ? Math.max(most, row.values[i]) : most), -Infinity),
  );
  const cell = (value: number, i: number) => {
    const classes = [i % columns.length === 0 && 'start', value === best[i] && 'best'].filter(Boolean).join(' ');
    return html`<td class="${classes}">${decimal(100 * value, 2)}</td>`;
  };
  const head = columns.map((name, i) => html`<th${i === 0 && html` class="start"`}>${name}</th>`);
  const body = html`<p class="muted">All rows are scored by each tier’s rule as stated above, in percent; the best number of a column is bold.</p>
<div class="card scroll"><table>
<thead><tr><th></th>${data.tiers.map((tier) => html`<th class="start" colspan="${columns.length}">${tier.name}</th>`)}</tr>
<tr><th>embedding</th>${data.tiers.map(() => head)}</tr></thead>
<tbody>${rows.map((row) => html`<tr${row.ours && html` class="ours"`}><td>${row.name}</td>${row.values.map(cell)}</tr>\n`)}</tbody>
</table></div>`;
  return { id: 'comparison', title: 'Comparison', body };
}

function training(data: ReportData): Section {
  const lost = data.metrics.filter((entry) => !isNumber(entry.loss)).length;
  const span = smoothingSpan(data.metrics.length);
  const smoothed = `Pale: the logged values. Line: the mean over ${count(span)} logged ${span === 1 ? 'step' : 'steps'}.`;
  const body = html`<div class="grid two">
${figure('loss', 'Loss', smoothed + (lost > 0 ? ` Logged steps without a finite loss: ${count(lost)}.` : ''))}
${figure('accuracy', 'Training accuracy', `Top-1 over the training classes that take part. ${smoothed}`)}
${figure('lr', 'Learning rate', 'As applied at each step.')}
${figure('speed', 'Throughput', 'Left: training images a second. Right: the head’s share of the step’s time.')}
</div>`;
  return { id: 'training', title: 'Training', body };
}

function verification(data: ReportData, drawn: ReadonlySet<string>): Section {
  const points = data.tiers.flatMap((tier) =>
    tier.tar.map((point, i) => ({ tier, point, first: i === 0, decided: point.far * tier.impostorPairs })),
  );
  const rough = points.some((entry) => entry.decided < 10);
  const folded = data.tiers.flatMap(({ name, accuracy }) => (accuracy ? [{ name, accuracy }] : []));
  const operating = html`<h3>Operating points</h3>
${table(
  ['tier', 'FAR', 'TAR', 'threshold (cosine)', 'impostors accepted', 'area under ROC'],
  points.map(({ tier, point, first, decided }) => [
    first && tier.name,
    rate(point.far),
    percent(point.tar),
    decimal(point.threshold, 4),
    isNumber(decided) ? `≈ ${count(decided)}${decided < 10 ? ' *' : ''}` : MISSING,
    first && decimal(tier.auc, 5),
  ]),
)}
${rough && html`<p class="note muted">* Fewer than ten impostor pairs decide this threshold: read its TAR as rough.</p>`}`;
  const folds = html`<h3>Pair accuracy by fold</h3>
${table(
  ['tier', 'folds', 'mean', 'std', 'lowest', 'highest', 'rule'],
  folded.map(({ name, accuracy }) => [
    name,
    accuracy.folds.length,
    percent(accuracy.mean),
    percent(accuracy.std),
    ...extremes(accuracy.folds).map((value) => percent(value)),
    html`<div class="prose">${accuracy.rule}</div>`,
  ]),
)}`;
  const body = html`<div class="grid" style="grid-template-columns: 100%">
${drawn.has('roc') && figure('roc', 'ROC', 'TAR: share of genuine pairs accepted; FAR: share of impostor pairs accepted. Up and left is better. A value under the pointer is that of the tier’s nearest point. Pairs as in each tier’s rule.')}
${points.length > 0 && html`<div class="card">${operating}</div>`}
${folded.length > 0 && html`<div class="card">${folds}</div>`}
</div>`;
  return { id: 'verification', title: 'Verification', body };
}

const table = (
  head: readonly string[],
  rows: readonly (readonly HtmlValue[])[],
): Html => html`<div class="scroll"><table>
<thead><tr>${head.map((name) => html`<th>${name}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>\n`)}</tbody>
</table></div>`;

const extremes = (values: readonly number[]): number[] => {
  const sorted = values.filter(isNumber).sort((a, b) => a - b);
  return [sorted[0] ?? Number.NaN, sorted.at(-1) ?? Number.NaN];
};

function distributions(data: ReportData, drawn: ReadonlySet<string>): Section {
  const body = html`<p class="muted">Densities of the cosine over genuine and impostor pairs, each with area 1. Dashed: the tier’s thresholds at the FAR of its headline numbers.</p>
<div class="grid two">${data.tiers.map((tier, i) => drawn.has(`histogram-${i}`) && figure(`histogram-${i}`, tier.name, `${count(tier.genuinePairs)} genuine and ${count(tier.impostorPairs)} impostor pairs.`))}</div>`;
  return { id: 'distributions', title: 'Score distributions', body };
}

function neighbours(data: ReportData): Section {
  const body = html`<p class="muted">Probes whose nearest gallery image shows another identity: the probe, that neighbour, and by how much the neighbour’s cosine exceeds the right identity’s.</p>
${data.tiers.map(
  (tier) =>
    tier.wrong.length > 0 &&
    html`<h3>${tier.name} <span class="muted">rank-1 ${percent(tier.rank1)}</span></h3>
<div class="pairs">${tier.wrong.map(pair)}</div>`,
)}`;
  return { id: 'neighbours', title: 'Nearest wrong neighbours', body };
}

const pair = ({ probe, neighbour, score, best }: WrongNeighbour): Html => html`<div class="card pair">
<div class="pictures">${picture('probe', probe)}${picture('neighbour', neighbour)}</div>
<dl class="scores"><dt>neighbour</dt><dd>${decimal(score)}</dd><dt>right identity</dt><dd>${decimal(best)}</dd><dt>difference</dt><dd>${decimal(score - best)}</dd></dl>
</div>`;

const DATA_URI = /^data:image\/png;base64,[A-Za-z0-9+/]+={0,2}$/;

const picture = (role: string, image: ReportImage): Html => html`<figure>
${
  DATA_URI.test(image.png ?? '')
    ? html`<img src="${image.png}" alt="${role}: ${image.caption}">`
    : html`<div class="lost">no picture</div>`
}
<figcaption><b>${role}</b> label ${image.label}<br>${image.caption}</figcaption>
</figure>`;

function setup(data: ReportData): Html {
  const environment = Object.entries(data.environment);
  return html`<div class="card">
${
  environment.length > 0 &&
  html`<h3>Environment</h3>
<dl class="environment">${environment.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`
}
<details><summary>Configuration</summary><pre>${configText(data.config)}</pre></details>
</div>`;
}

/** Indented JSON in which numbers that JSON lacks are spelled out. */
const configText = (config: unknown): string =>
  JSON.stringify(
    config,
    (_, value: unknown) =>
      typeof value === 'bigint' || (typeof value === 'number' && !Number.isFinite(value)) ? String(value) : value,
    2,
  ) ?? MISSING;

const accuracyName = (accuracy: NonNullable<TierReport['accuracy']>): string =>
  accuracy.folds.length > 0 ? `${accuracy.folds.length}-fold accuracy` : 'pair accuracy';

const figure = (id: string, title: string, caption: string): Html => html`<figure class="card">
<h3>${title}</h3>
<div class="chart" id="chart-${id}" role="img" aria-label="${title}"></div>
<figcaption>${caption}</figcaption>
</figure>`;
