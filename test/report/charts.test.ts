import { createContext, runInContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { chartScript } from '../../lib/report/chartScript.js';
import {
  allCharts,
  type ChartSpec,
  histogramChart,
  rocChart,
  smooth,
  thin,
  trainingCharts,
} from '../../lib/report/charts.js';
import { scriptJson } from '../../lib/report/html.js';
import { sampleReport, sampleTier } from './sample.js';

describe('smooth', () => {
  it('leaves a straight line as it is, up to both ends', () => {
    const line = Array.from({ length: 40 }, (_, i) => 3 - 0.5 * i);
    for (const [i, value] of smooth(line, 7).entries()) expect(value).toBeCloseTo(line[i], 10);
  });

  it('keeps the mean of a step and shrinks noise', () => {
    const noise = Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? 1 : -1));
    expect(
      Math.max(
        ...smooth(noise, 9)
          .slice(4, -4)
          .map((value) => Math.abs(value ?? 1)),
      ),
    ).toBeCloseTo(1 / 9, 10);
  });

  it('keeps gaps and does not count them', () => {
    expect(smooth([2, null, 4], 3)).toEqual([2, null, 4]);
    expect(smooth([2, 3, null, 3, 4], 3)).toEqual([2, 2.5, null, 3.5, 4]);
  });
});

describe('thin', () => {
  it('keeps everything that fits', () => expect(thin([5, 4, 3], 3)).toEqual([0, 1, 2]));

  it('keeps every spike, in order, within the limit', () => {
    const values: (number | null)[] = Array.from({ length: 10_007 }, (_, i) => Math.sin(i / 500));
    values[1234] = 50;
    values[7003] = -50;
    values[0] = null;
    const kept = thin(values, 500);
    expect(kept.length).toBeLessThanOrEqual(500);
    expect(kept).toContain(1234);
    expect(kept).toContain(7003);
    expect(kept).toEqual([...kept].sort((a, b) => a - b));
  });
});

describe('specs', () => {
  it('sort the steps, and turn what is not finite into gaps', () => {
    const metrics = [
      { ...sampleReport.metrics[1], loss: Number.NaN },
      sampleReport.metrics[0],
      { ...sampleReport.metrics[2], loss: null as unknown as number },
    ];
    const [loss] = trainingCharts(metrics);
    expect(loss.x.values).toEqual([0, 10, 20]);
    expect(loss.series.find((line) => line.look === 'raw')?.values).toEqual([20, null, null]);
    expect(trainingCharts([])).toEqual([]);
  });

  it('put all tiers on the union of their rates, without FAR 0', () => {
    const other = { ...sampleTier, name: 'tier B', roc: [{ far: 1e-2, tar: 0.7 }] };
    const chart = rocChart([sampleTier, other]);
    expect(chart?.x.values).toEqual([1e-4, 1e-3, 1e-2, 1]);
    expect(chart?.x.range).toEqual([1e-4, 1]);
    expect(chart?.axes[0].range).toEqual([0.6, 1]);
    expect(chart?.series.map((line) => line.values)).toEqual([
      [0.8042, 0.9123, null, 1],
      [null, null, 0.7, null],
    ]);
    expect(rocChart([{ ...sampleTier, roc: [{ far: 0, tar: 1 }] }])).toBeUndefined();
    expect(rocChart([{ ...sampleTier, roc: [{ far: 1, tar: 1 }] }])).toMatchObject({
      x: { range: [0.1, 1] },
      axes: [{ range: [0.9, 1] }],
    });
  });

  it('mark the thresholds of the headline rates over the occupied cosines', () => {
    const chart = histogramChart(sampleTier, 0, [1e-3, 1e-4]);
    expect(chart?.marks).toEqual([
      { x: 0.41, label: 'FAR 10⁻³' },
      { x: 0.52, label: 'FAR 10⁻⁴' },
    ]);
    expect(chart?.x.range).toEqual([-0.3, 0.8]);
    expect(
      histogramChart({ ...sampleTier, histogram: { centers: [], genuine: [], impostor: [] } }, 0, []),
    ).toBeUndefined();
  });
});

interface UplotOptions {
  width: number;
  axes: { label: string; values: (u: unknown, splits: number[]) => string[] }[];
  series: { label: string; value: (u: unknown, value: number | null) => string }[];
  scales: Record<string, { distr?: number; range?: (u: unknown, low: number | null, high: number | null) => number[] }>;
  cursor: { dataIdx?: (u: { data: unknown[][] }, series: number, index: number) => number };
}

/** Runs the page's script against a uPlot that only remembers what it was given. */
function run(specs: readonly ChartSpec[]) {
  const made: { options: UplotOptions; data: unknown[][]; place: { id: string } }[] = [];
  class Chart {
    width: number;
    static rangeNum = (low: number, high: number) => [low, high];
    constructor(options: UplotOptions, data: unknown[][], place: { id: string }) {
      this.width = options.width;
      made.push({ options, data, place });
    }
    destroy() {}
    setSize() {}
  }
  const listeners: Record<string, () => void> = {};
  const classes = new Set<string>();
  const page = {
    document: {
      documentElement: {
        classList: { add: (name: string) => classes.add(name), remove: (name: string) => classes.delete(name) },
      },
      getElementById: (id: string) => ({ id, clientWidth: 640, textContent: scriptJson(specs) }),
      querySelector: () => ({}),
    },
    getComputedStyle: () => ({ getPropertyValue: () => ' #123456 ' }),
    matchMedia: () => ({ addEventListener() {} }),
    addEventListener: (name: string, call: () => void) => {
      listeners[name] = call;
    },
    ResizeObserver: class {
      observe() {}
    },
    devicePixelRatio: 1,
    uPlot: Chart,
  };
  runInContext(chartScript, createContext(page));
  return { made, listeners, classes };
}

describe('chartScript', () => {
  const { made, listeners, classes } = run(allCharts(sampleReport));
  const chart = (id: string) => {
    const found = made.find(({ place }) => place.id === `chart-${id}`);
    if (!found) throw new Error(`no chart ${id}`);
    return found;
  };

  it('gives every chart its data, a label for each axis and each line', () => {
    expect(made.map(({ place }) => place.id)).toEqual(
      ['loss', 'accuracy', 'lr', 'speed', 'roc', 'histogram-0', 'histogram-1'].map((id) => `chart-${id}`),
    );
    for (const { options, data } of made) {
      expect(options.series.length).toBe(data.length);
      expect(new Set(data.map((column) => column.length)).size).toBe(1);
      for (const { label } of [...options.axes, ...options.series]) expect(label).not.toBe('');
    }
  });

  it('writes values and ticks for people', () => {
    const [far, tierA] = chart('roc').options.series;
    expect(far.value(null, 1e-4)).toBe('10⁻⁴');
    expect(far.value(null, 7.5e-5)).toBe('7.5·10⁻⁵');
    expect(tierA.value(null, 0.9123)).toBe('91.23 %');
    expect(tierA.value(null, null)).toBe('–');
    expect(chart('roc').options.axes[0].values(null, [1e-5, 2e-5, 0.1, 1])).toEqual(['10⁻⁵', '', '0.1', '1']);
    expect(chart('lr').options.series[2].value(null, 5e-5)).toBe('5.00e-5');
    expect(chart('roc').options.scales.x.distr).toBe(3);
  });

  it('reads the nearest point of a line that has none under the pointer', () => {
    const dataIdx = chart('roc').options.cursor.dataIdx;
    expect(dataIdx?.({ data: [[], [null, 0.5, null, null, 0.9]] }, 1, 3)).toBe(4);
    expect(dataIdx?.({ data: [[], [null, 0.5, null, null, null]] }, 1, 4)).toBe(1);
    expect(dataIdx?.({ data: [[], [null, null]] }, 1, 1)).toBe(1);
  });

  it('has a range for one value, for none, and no share above 1', () => {
    const { y0 } = chart('loss').options.scales;
    const [low, high] = y0.range?.(null, 5, 5) ?? [];
    expect(low).toBeLessThan(5);
    expect(high).toBeGreaterThan(5);
    expect(y0.range?.(null, null, null)).toEqual([0, 1]);
    expect(chart('accuracy').options.scales.y0.range?.(null, 1, 1)).toEqual([0, 1]);
  });

  it('draws again for paper, in the light colours', () => {
    const before = made.length;
    listeners.beforeprint();
    expect([...classes]).toEqual(['light']);
    listeners.afterprint();
    expect([...classes]).toEqual([]);
    expect(made.length).toBe(3 * before);
  });
});
