import { ArgumentRangeError, checkLists, checkObject, checkOptions } from '../errors.js';
import { checkLength, rowsOf, takeRows } from './embeddings.js';
import {
  type IdentificationOptions,
  type IdentificationResult,
  identificationOptions,
  identify,
  type WrongNeighbour,
} from './identification.js';
import { type AllPairsOptions, type AllPairsResult, allPairsOptions, verifyAllPairs } from './pairs.js';

/** The images of a test set in groups of different difficulty, as Kanji-28's `test.tsv` lists them. */
export interface TieredSet {
  /** [n, dim], unit rows */
  readonly embeddings: Float32Array;
  /** [n] */
  readonly labels: Int32Array;
  /** The source of each image, [n]; for Kanji-28 the type family. */
  readonly families: readonly string[];
  /** The group of each image, [n]. */
  readonly tiers: readonly string[];
}

export interface TierOptions extends AllPairsOptions, IdentificationOptions {
  /** The family whose images are the gallery. Default `'noto-sans-jp'`, Kanji-28's protocol. */
  readonly gallery?: string;
}

export interface TierResult {
  readonly tier: string;
  readonly images: number;
  /** Over all pairs of the tier's images. */
  readonly pairs: AllPairsResult;
  /** The tier's images outside the gallery family, against the gallery; rows are those of the whole set. */
  readonly identification: IdentificationResult;
}

/**
 * Kanji-28's protocol: for each tier, TAR@FAR over all pairs of its images, and identification against the images of
 * one family. Tiers come in alphabetical order.
 *
 * @example
 * const [a, b, c] = evaluateTiers({ embeddings, labels, families: set.column('family'), tiers: set.column('tier') }, 256);
 * a.pairs.tarAtFar[0].tar;            // TAR at FAR 1e-3
 * a.identification.rates[0].rate;     // rank-1
 */
export function evaluateTiers(set: TieredSet, dim: number, options: TierOptions = {}): readonly TierResult[] {
  checkObject('evaluateTiers', 'a set, { embeddings, labels, families, tiers }', set);
  checkOptions('evaluateTiers', options, ['gallery', ...allPairsOptions, ...identificationOptions]);
  const only = (names: readonly string[]) =>
    Object.fromEntries(Object.entries(options).filter(([name]) => names.includes(name)));
  const { labels, families, tiers } = set;
  checkLists('evaluateTiers', { labels, families, tiers });
  const { gallery = 'noto-sans-jp' } = options;
  const n = rowsOf(set.embeddings, dim, 'evaluateTiers');
  checkLength(set.labels.length, n, 'labels', 'evaluateTiers');
  checkLength(set.families.length, n, 'families', 'evaluateTiers');
  checkLength(set.tiers.length, n, 'tiers', 'evaluateTiers');
  const all = Array.from({ length: n }, (_, row) => row);
  const rowsWhere = (test: (row: number) => boolean) => all.filter(test);
  const select = (rows: readonly number[]) => ({
    embeddings: takeRows(set.embeddings, dim, rows),
    labels: Int32Array.from(rows, (row) => set.labels[row]),
  });
  const galleryRows = rowsWhere((row) => set.families[row] === gallery);
  if (galleryRows.length === 0) {
    throw new ArgumentRangeError(`evaluateTiers: expected images of the gallery family '${gallery}', got none`, {
      code: 'ERR_FM_RANGE',
    });
  }
  const galleryImages = select(galleryRows);
  return [...new Set(set.tiers)].sort().map((tier) => {
    const rows = rowsWhere((row) => set.tiers[row] === tier);
    const probeRows = rows.filter((row) => set.families[row] !== gallery);
    const images = select(rows);
    const found = identify(galleryImages, select(probeRows), dim, only(identificationOptions));
    const inSet = (neighbour: WrongNeighbour): WrongNeighbour => ({
      ...neighbour,
      probe: probeRows[neighbour.probe],
      gallery: galleryRows[neighbour.gallery],
    });
    return {
      tier,
      images: rows.length,
      pairs: verifyAllPairs(images.embeddings, images.labels, dim, only(allPairsOptions)),
      identification: { ...found, wrong: found.wrong.map(inSet) },
    };
  });
}
