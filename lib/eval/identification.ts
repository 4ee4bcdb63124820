import { ArgumentRangeError, checkLists, checkObject, checkOptions, expected } from '../errors.js';
import { checkLength, dot, finiteRowsOf } from './embeddings.js';
import { type Neighbours, nearest as nearestOn } from './nearest.js';

export type Nearest = (queries: Float32Array, gallery: Float32Array, dim: number, k: number) => Neighbours;

export interface LabelledEmbeddings {
  /** [n, dim], unit rows */
  readonly embeddings: Float32Array;
  /** [n] */
  readonly labels: Int32Array;
}

export interface IdentificationOptions {
  /** Ranks to report. Default 1 and 5. */
  readonly ranks?: readonly number[];
  /** How many of the strongest wrong neighbours to return. Default 50. */
  readonly wrong?: number;
  /** Where the search runs. Default `'cpu'`. */
  readonly device?: string;
  readonly nearest?: Nearest;
}

export const identificationOptions = [
  'ranks',
  'wrong',
  'device',
  'nearest',
] as const satisfies readonly (keyof IdentificationOptions)[];

/** A gallery image of another identity that a probe is close to. */
export interface WrongNeighbour {
  /** Row of the probe. */
  readonly probe: number;
  /** Row of the gallery. */
  readonly gallery: number;
  /** Its cosine to the probe. */
  readonly score: number;
  /** The best cosine of the probe's own identity. */
  readonly correctScore: number;
}

export interface IdentificationResult {
  readonly rule: string;
  /** Probes whose identity is in the gallery. */
  readonly probes: number;
  readonly gallery: number;
  /** Share of probes whose identity is among the nearest `rank` gallery images. */
  readonly rates: readonly { readonly rank: number; readonly rate: number }[];
  /** By how far the wrong neighbour beats the probe's own identity, largest first. */
  readonly wrong: readonly WrongNeighbour[];
}

/**
 * Closed-set identification: which gallery identity is nearest to each probe. Probes whose label the gallery lacks are
 * left out.
 *
 * @example
 * const { rates } = identify({ embeddings: g, labels: gLabels }, { embeddings: p, labels: pLabels }, 256);
 * rates[0];   // { rank: 1, rate: 0.9952 }
 */
export function identify(
  gallery: LabelledEmbeddings,
  probes: LabelledEmbeddings,
  dim: number,
  options: IdentificationOptions = {},
): IdentificationResult {
  checkOptions('identify', options, identificationOptions);
  const { ranks = [1, 5], wrong = 50 } = options;
  checkLists('identify', { ranks });
  expected(Number.isSafeInteger(wrong) && wrong >= 0, 'identify', 'wrong, an integer of at least 0', wrong);
  const nearest = options.nearest ?? ((...args: Parameters<Nearest>) => nearestOn(...args, options.device));
  expected(typeof nearest === 'function', 'identify', 'nearest, a function', nearest);
  for (const [set, what] of [
    [gallery, 'gallery labels'],
    [probes, 'probe labels'],
  ] as const) {
    checkObject('identify', 'a gallery and probes, { embeddings, labels }', set);
    checkLists('identify', { [what]: set.labels });
    checkLength(set.labels.length, finiteRowsOf(set.embeddings, dim, 'identify'), what, 'identify');
  }
  const size = gallery.labels.length;
  if (size === 0 || ranks.some((rank) => !Number.isInteger(rank) || rank < 1)) {
    throw new ArgumentRangeError(
      `identify: expected a gallery and ranks ≥ 1, got ${size} images and ranks [${ranks.join(', ')}]`,
      {
        code: 'ERR_FM_RANGE',
      },
    );
  }
  const rowsOfLabel = groupRows(gallery.labels);
  // One more than the largest rank, so that a wrong neighbour is seen behind the right one.
  const k = Math.min(size, Math.max(...ranks, 2));
  const found = nearest(probes.embeddings, gallery.embeddings, dim, k);
  const hits = new Map(ranks.map((rank) => [rank, 0]));
  const neighbours: WrongNeighbour[] = [];
  let counted = 0;
  probes.labels.forEach((label, probe) => {
    const own = rowsOfLabel.get(label);
    if (own === undefined) return;
    counted++;
    const row = found.index.subarray(probe * k, (probe + 1) * k);
    const place = row.findIndex((at) => at >= 0 && gallery.labels[at] === label);
    for (const rank of ranks) if (place >= 0 && place < rank) hits.set(rank, (hits.get(rank) as number) + 1);
    const stranger = row.findIndex((at) => at >= 0 && gallery.labels[at] !== label);
    if (stranger < 0) return;
    const correctScore = Math.max(...own.map((at) => dot(probes.embeddings, probe, gallery.embeddings, at, dim)));
    neighbours.push({ probe, gallery: row[stranger], score: found.score[probe * k + stranger], correctScore });
  });
  const lead = ({ score, correctScore }: WrongNeighbour) => score - correctScore;
  return {
    rule: 'closed set: a probe is right at rank r where its identity is among the r nearest gallery images by cosine; probes without an image of their identity in the gallery are left out',
    probes: counted,
    gallery: size,
    rates: ranks.map((rank) => ({ rank, rate: counted === 0 ? 0 : (hits.get(rank) as number) / counted })),
    wrong: neighbours.sort((a, b) => lead(b) - lead(a)).slice(0, wrong),
  };
}

function groupRows(labels: Int32Array): ReadonlyMap<number, readonly number[]> {
  const rows = new Map<number, number[]>();
  labels.forEach((label, row) => {
    const known = rows.get(label);
    if (known === undefined) rows.set(label, [row]);
    else known.push(row);
  });
  return rows;
}
