/** What head.inspect() tells of a batch. */
import type { NativeHeadRows } from '../binding.js';
import { type HostArray, Tensor } from '../tensor.js';

export interface Histogram {
  /** Of bin i: from edges[i] to edges[i + 1]. */
  readonly edges: readonly number[];
  readonly counts: readonly number[];
}

export interface HeadInspection {
  /** Rows with a target; all else is of these. */
  readonly labelled: number;
  /** Angles between features and their own class, in degrees; 36 bins of 5°. */
  readonly targetAngles: Histogram;
  /** The same to the nearest other class. */
  readonly nearestAngles: Histogram;
  /** Norms of the features; 20 bins. */
  readonly norms: Histogram;
  /** Share of all other classes whose cosine is above the target's φ. */
  readonly hardShare: number;
  /** Share of the rows that have such a class. */
  readonly hardRows: number;
  /** By label that occurs: how many of its rows are nearest to each of its K centers, and which is the most chosen. */
  readonly subCenters: ReadonlyMap<number, { readonly counts: readonly number[]; readonly dominant: number }>;
  /** Per row, NaN without a target: what the histograms are of. */
  readonly rows: {
    readonly norm: Float64Array;
    readonly targetCosine: Float64Array;
    readonly nearestCosine: Float64Array;
  };
}

function histogram(values: readonly number[], low: number, high: number, bins: number): Histogram {
  const width = (high - low) / bins || 1;
  const counts = new Array<number>(bins).fill(0);
  for (const value of values) {
    const bin = Math.min(bins - 1, Math.max(0, Math.floor((value - low) / width)));
    counts[bin] = (counts[bin] as number) + 1;
  }
  return { edges: Array.from({ length: bins + 1 }, (_, i) => low + i * width), counts };
}

const degrees = (cos: number): number => (Math.acos(Math.min(1, Math.max(-1, cos))) * 180) / Math.PI;

/** Takes the rows' handles over. */
export function inspection(
  { norm, targetCos, nearestCos, hard, center }: NativeHeadRows,
  labels: Int32Array,
  numClasses: number,
  subCenters: number,
): HeadInspection {
  const read = (handle: NativeHeadRows['norm']): HostArray => {
    const tensor = new Tensor(handle);
    const values = tensor.toArray();
    tensor.dispose();
    return values;
  };
  const [norms, targets, nearest, hardCounts, centers] = [norm, targetCos, nearestCos, hard, center].map(read) as [
    HostArray,
    HostArray,
    HostArray,
    HostArray,
    HostArray,
  ];
  const rows = Array.from(labels.keys()).filter((i) => (labels[i] as number) >= 0);
  const at = (values: HostArray) => rows.map((i) => values[i] as number);
  const chosen = new Map<number, number[]>();
  for (const i of rows) {
    const label = labels[i] as number;
    const counts = chosen.get(label) ?? new Array<number>(subCenters).fill(0);
    counts[centers[i] as number] = (counts[centers[i] as number] as number) + 1;
    chosen.set(label, counts);
  }
  const hardOfRows = at(hardCounts);
  const known = (values: HostArray) =>
    Float64Array.from(values, (value, i) => ((labels[i] as number) >= 0 ? value : Number.NaN));
  const ofNorms = at(norms);
  const largest = ofNorms.reduce((most, x) => Math.max(most, x), 0);
  return {
    labelled: rows.length,
    targetAngles: histogram(at(targets).map(degrees), 0, 180, 36),
    nearestAngles: histogram(numClasses > 1 ? at(nearest).map(degrees) : [], 0, 180, 36),
    norms: histogram(ofNorms, 0, largest || 1, 20),
    hardShare: rows.length * (numClasses - 1) > 0 ? sum(hardOfRows) / (rows.length * (numClasses - 1)) : 0,
    hardRows: rows.length > 0 ? hardOfRows.filter((count) => count > 0).length / rows.length : 0,
    subCenters: new Map(
      [...chosen].map(([label, counts]) => [label, { counts, dominant: counts.indexOf(Math.max(...counts)) }]),
    ),
    rows: { norm: known(norms), targetCosine: known(targets), nearestCosine: known(nearest) },
  };
}

const sum = (values: readonly number[]): number => values.reduce((total, x) => total + x, 0);
