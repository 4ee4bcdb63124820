import { headlineRates, isNumber, rate, sameRate } from './format.js';
import type { ReportData, StepMetrics, TierReport } from './reportData.js';

export type ChartFormat = 'integer' | 'number' | 'percent' | 'rate' | 'cosine' | 'lr';

/** A chart as plain data; `chartScript` turns it into uPlot's options in the page. */
export interface ChartSpec {
  readonly id: string;
  readonly height: number;
  readonly x: {
    readonly label: string;
    readonly values: readonly number[];
    readonly format: ChartFormat;
    readonly log?: boolean;
    readonly range?: readonly [number, number];
  };
  readonly axes: readonly {
    readonly label: string;
    readonly format: ChartFormat;
    readonly range?: readonly [number | null, number | null];
  }[];
  readonly series: readonly {
    readonly label: string;
    readonly values: readonly (number | null)[];
    /** Index into the page's palette. */
    readonly color: number;
    /** Index into `axes`. */
    readonly axis?: number;
    /** Only shown as a value in the legend. */
    readonly hidden?: boolean;
    /** `raw` is pale and thin, `area` is filled down to zero. */
    readonly look?: 'raw' | 'line' | 'area';
    readonly format?: ChartFormat;
  }[];
  /** Vertical lines. */
  readonly marks?: readonly { readonly x: number; readonly label: string }[];
  /** Series have points at different x: draw through the gaps and read the nearest point. */
  readonly scattered?: boolean;
}

/** More points than a chart has pixels only make the page larger. */
const MAX_POINTS = 2000;

export function trainingCharts(metrics: readonly StepMetrics[]): ChartSpec[] {
  const steps = metrics.filter((entry) => isNumber(entry.step)).sort((a, b) => a.step - b.step);
  if (steps.length === 0) return [];
  const column = (key: keyof StepMetrics) => steps.map((entry) => finite(entry[key]));
  const epochs = column('epoch');

  const curve = (id: string, axes: ChartSpec['axes'], lines: readonly ChartSpec['series'][number][]): ChartSpec => {
    const kept = thin(lines[0].values, MAX_POINTS);
    const pick = <T>(values: readonly T[]) => kept.map((i) => values[i]);
    const epoch = { label: 'epoch', values: epochs, color: 0, hidden: true, format: 'number' } as const;
    return {
      id,
      height: 240,
      x: { label: 'step', values: pick(steps.map((entry) => entry.step)), format: 'integer' },
      axes,
      series: [epoch, ...lines].map((line) => ({ ...line, values: pick(line.values) })),
    };
  };
  const rawAndSmooth = (label: string, values: readonly (number | null)[], color: number) => [
    { label, values, color, look: 'raw' } as const,
    { label: 'smoothed', values: smooth(values, smoothingSpan(steps.length)), color } as const,
  ];

  return [
    curve('loss', [{ label: 'loss', format: 'number' }], rawAndSmooth('loss', column('loss'), 0)),
    curve(
      'accuracy',
      [{ label: 'training accuracy', format: 'percent', range: [0, null] }],
      rawAndSmooth('accuracy', column('accuracy'), 2),
    ),
    curve(
      'lr',
      [{ label: 'learning rate', format: 'lr', range: [0, null] }],
      [{ label: 'learning rate', values: column('lr'), color: 3 }],
    ),
    curve(
      'speed',
      [
        { label: 'images / s', format: 'integer', range: [0, null] },
        { label: 'head’s share of the step', format: 'percent', range: [0, 1] },
      ],
      [
        { label: 'images / s', values: column('imagesPerSecond'), color: 4, axis: 0 },
        { label: 'head share', values: column('headShare'), color: 1, axis: 1 },
      ],
    ),
  ];
}

/** The ROC of all tiers over a logarithmic FAR; points with FAR 0 have no place on it. */
export function rocChart(tiers: readonly TierReport[]): ChartSpec | undefined {
  const curves = tiers.map((tier) => ({
    name: tier.name,
    points: new Map(
      tier.roc
        .filter((point) => isNumber(point.far) && point.far > 0 && isNumber(point.tar))
        .map((p) => [p.far, p.tar]),
    ),
  }));
  const fars = [...new Set(curves.flatMap((curve) => [...curve.points.keys()]))].sort((a, b) => a - b);
  if (fars.length === 0) return undefined;
  // Spelled rather than computed: 10 ** -4 falls short of 1e-4, and the axis would begin a decade below.
  const lowestDecade = Math.min(-1, Math.floor(Math.log10(fars[0])));
  const lowest = curves.flatMap((curve) => [...curve.points.values()]).reduce((a, b) => Math.min(a, b), 1);
  return {
    id: 'roc',
    height: 380,
    x: {
      label: 'FAR (logarithmic)',
      values: fars,
      format: 'rate',
      log: true,
      range: [Number(`1e${lowestDecade}`), 1],
    },
    axes: [
      {
        label: 'TAR',
        format: 'percent',
        range: [Math.max(0, Math.floor(lowest * 10 - 1e-9) / 10), 1],
      },
    ],
    series: curves.map((curve, i) => ({
      label: curve.name,
      values: fars.map((far) => curve.points.get(far) ?? null),
      color: i,
    })),
    scattered: true,
  };
}

export function histogramChart(tier: TierReport, index: number, rates: readonly number[]): ChartSpec | undefined {
  const { centers, genuine, impostor } = tier.histogram;
  if (centers.length === 0) return undefined;
  const over = (values: readonly number[]) => centers.map((_, i) => finite(values[i]));
  return {
    id: `histogram-${index}`,
    height: 240,
    x: { label: 'cosine', values: centers, format: 'cosine', range: occupied(centers, genuine, impostor) },
    axes: [{ label: 'density', format: 'number', range: [0, null] }],
    series: [
      { label: 'genuine', values: over(genuine), color: 2, look: 'area' },
      { label: 'impostor', values: over(impostor), color: 1, look: 'area' },
    ],
    marks: tier.tar
      .filter((point) => isNumber(point.threshold) && rates.some((far) => sameRate(far, point.far)))
      .map((point) => ({ x: point.threshold, label: `FAR ${rate(point.far)}` })),
  };
}

/** Where the densities are not zero, widened to tenths. */
function occupied(
  centers: readonly number[],
  genuine: readonly number[],
  impostor: readonly number[],
): readonly [number, number] {
  const peak = [...genuine, ...impostor].reduce((most, value) => (isNumber(value) ? Math.max(most, value) : most), 0);
  const used = centers.filter((_, i) => Math.max(genuine[i] || 0, impostor[i] || 0) > 1e-4 * peak);
  const [low, high] = used.length > 1 ? [used[0], used[used.length - 1]] : [-1, 1];
  return [Math.floor(low * 10) / 10, Math.ceil(high * 10) / 10];
}

export function allCharts(data: ReportData): ChartSpec[] {
  const rates = headlineRates(data.tiers);
  const histograms = data.tiers.map((tier, i) => histogramChart(tier, i, rates));
  return [...trainingCharts(data.metrics), rocChart(data.tiers), ...histograms].filter((chart) => chart !== undefined);
}

/** Logged steps that one smoothed value averages: 2 % of the run, and odd, so that it lies in their middle. */
export const smoothingSpan = (points: number): number => 2 * Math.round(points / 100) + 1;

/** Mean over the `span` values around each, fewer towards the ends; gaps stay gaps and count nowhere. */
export function smooth(values: readonly (number | null)[], span: number): (number | null)[] {
  const sums = [0];
  const counts = [0];
  for (const [i, value] of values.entries()) {
    sums.push(sums[i] + (value ?? 0));
    counts.push(counts[i] + (value === null ? 0 : 1));
  }
  return values.map((value, i) => {
    // The same reach to both sides, or the ends of a slope would be drawn flatter than they are.
    const reach = Math.min((span - 1) / 2, i, values.length - 1 - i);
    const [from, to] = [i - reach, i + reach + 1];
    return value === null ? null : (sums[to] - sums[from]) / (counts[to] - counts[from]);
  });
}

/** Ascending indices of at most `limit` values: the lowest and the highest of each stretch, so that no spike is lost. */
export function thin(values: readonly (number | null)[], limit: number): number[] {
  if (values.length <= limit) return values.map((_, i) => i);
  const stretches = Math.floor(limit / 2);
  const kept = new Set<number>();
  for (let s = 0; s < stretches; s++) {
    const end = Math.floor(((s + 1) * values.length) / stretches);
    let low = Math.floor((s * values.length) / stretches);
    let high = low;
    for (let i = low + 1; i < end; i++) {
      if (below(values[i], values[low])) low = i;
      if (below(values[high], values[i])) high = i;
    }
    kept.add(low).add(high);
  }
  return [...kept].sort((a, b) => a - b);
}

const below = (a: number | null, b: number | null): boolean => a !== null && (b === null || a < b);

const finite = (value: unknown): number | null => (isNumber(value) ? value : null);
