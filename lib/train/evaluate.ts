/** What a trained backbone is worth: embeddings of a test set and of pair files, and the published rules on them. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { noGrad } from '../autograd.js';
import { BatchLoader, openDataset, openPairSet, type RecordDataset } from '../data/index.js';
import { ConfigError, checkBooleans, checkLists, checkOptions, checkPath, DataError, expected } from '../errors.js';
import {
  evaluateTiers,
  fuseFlip,
  pairDistances,
  type TierResult,
  type VerificationResult,
  verifyAllPairs,
  verifyPairs,
} from '../eval/index.js';
import { Module } from '../nn/index.js';
import { imageToFloat, normalize } from '../ops/index.js';
import { tensor, tidy } from '../tensor.js';

export interface EvaluationRequest {
  /** A RecordIO set of identities that training never saw. */
  readonly test?: string;
  /** Pair files (.bin). */
  readonly pairs?: readonly string[];
  /** The family whose images are the gallery for rank-1; the set's .tsv has a `family` column then. */
  readonly gallery?: string;
  /** Adds the features of the mirrored image. */
  readonly flip?: boolean;
  /** Also scores raw pixels. */
  readonly pixels?: boolean;
}

/** A tier; identification is there where a gallery was named. */
export type TierScores = Omit<TierResult, 'identification'> & Partial<Pick<TierResult, 'identification'>>;

export interface PairScores extends VerificationResult {
  readonly file: string;
}

export interface Evaluation {
  readonly test?: string;
  readonly tiers: readonly TierScores[];
  readonly pairs: readonly PairScores[];
  /** The same tiers by raw pixels. */
  readonly pixels?: readonly TierScores[];
  readonly seconds: number;
}

const BATCH = 256;

type Images = {
  readonly count: number;
  readonly shape: readonly [number, number, number];
  batch(first: number, count: number): Uint8Array;
};

/** Unit embeddings [n, D] of images, in evaluation mode. */
function embedImages(backbone: Module & { embeddingSize: number }, images: Images, device: string): Float32Array {
  const D = backbone.embeddingSize;
  const out = new Float32Array(images.count * D);
  for (let first = 0; first < images.count; first += BATCH) {
    const count = Math.min(BATCH, images.count - first);
    tidy(() =>
      noGrad(() => {
        const x = tensor(images.batch(first, count), [count, ...images.shape], device);
        out.set(normalize(backbone.forward(imageToFloat(x))).toArray() as Float32Array, first * D);
      }),
    );
  }
  return out;
}

function withFlip(
  backbone: Module & { embeddingSize: number },
  images: Images,
  { flip, device }: { flip: boolean; device: string },
): Float32Array {
  const wasTraining = backbone.training;
  backbone.eval();
  try {
    const plain = embedImages(backbone, images, device);
    if (!flip) return plain;
    const mirrored = {
      ...images,
      batch: (first: number, count: number) => mirror(images.batch(first, count), images.shape),
    };
    return fuseFlip(plain, embedImages(backbone, mirrored, device), backbone.embeddingSize);
  } finally {
    backbone.train(wasTraining);
  }
}

/** Left and right exchanged; images [n, H, W, C]. */
function mirror(images: Uint8Array, [, width, channels]: readonly [number, number, number]): Uint8Array {
  const out = new Uint8Array(images.length);
  for (let pixel = 0; pixel < images.length / channels; pixel++) {
    const column = pixel % width;
    const from = pixel - column + (width - 1 - column);
    for (let c = 0; c < channels; c++) out[pixel * channels + c] = images[from * channels + c] as number;
  }
  return out;
}

/** All images of a set, decoded in its own order. */
async function decodeAll(dataset: RecordDataset): Promise<Images> {
  const shape = dataset.imageShape;
  const bytes = shape[0] * shape[1] * shape[2];
  const all = new Uint8Array(dataset.size * bytes);
  const loader = new BatchLoader(dataset, { batchSize: BATCH, shuffle: false, cacheBytes: 0, reuse: true });
  for await (const { images, batchIndex } of loader) all.set(images, batchIndex * BATCH * bytes);
  return { count: dataset.size, shape, batch: (first, count) => all.subarray(first * bytes, (first + count) * bytes) };
}

/** Pixels as unit vectors about grey: what a network has to beat. */
function pixelEmbeddings(images: Images): Float32Array {
  const D = images.shape[0] * images.shape[1] * images.shape[2];
  const out = new Float32Array(images.count * D);
  for (let i = 0; i < images.count; i++) {
    const row = images.batch(i, 1);
    const mean = row.reduce((sum, v) => sum + v, 0) / D;
    const norm = Math.sqrt(row.reduce((sum, v) => sum + (v - mean) ** 2, 0)) || 1;
    for (let d = 0; d < D; d++) out[i * D + d] = ((row[d] as number) - mean) / norm;
  }
  return out;
}

/** What the scores of a set are of, by image; families where a gallery is asked for. */
interface Groups {
  readonly labels: Int32Array;
  readonly tiers: readonly string[];
  readonly families?: readonly string[];
}

/** Throws where a label or the .tsv is wrong, or no image is of the gallery's family. */
function groupsOf(dataset: RecordDataset, gallery: string | undefined): Groups {
  const labels = dataset.labels();
  const tiers = dataset.column('tier') ?? Array.from(labels, () => 'all');
  return gallery === undefined ? { labels, tiers } : { labels, tiers, families: familiesOf(dataset, gallery) };
}

function familiesOf(dataset: RecordDataset, gallery: string): readonly string[] {
  const families = dataset.column('family');
  if (!families) {
    throw new ConfigError(`evaluation: gallery '${gallery}' needs a .tsv with a family column beside ${dataset.name}`, {
      code: 'ERR_FM_CONFIG',
      hint: 'leave the gallery out',
    });
  }
  if (!families.includes(gallery)) {
    const known = [...new Set(families)].sort().join(', ');
    throw new ConfigError(`evaluation: no image of ${dataset.name} is of family '${gallery}'; there are ${known}`, {
      code: 'ERR_FM_CONFIG',
    });
  }
  return families;
}

/** Throws what is wrong with the sets and runs that an evaluation names, before hours of training or embedding. */
export function checkEvaluation({ test, pairs = [], gallery }: EvaluationRequest): void {
  if (test !== undefined) {
    const dataset = openDataset(test);
    try {
      groupsOf(dataset, gallery);
    } finally {
      dataset.close();
    }
  }
  for (const file of pairs) openPairSet(file);
}

function scoreTiers(
  embeddings: Float32Array,
  dim: number,
  { labels, tiers, families }: Groups,
  gallery: string | undefined,
  device: string,
): readonly TierScores[] {
  if (families) {
    return evaluateTiers({ embeddings, labels, families, tiers }, dim, { gallery, wrong: 24, device });
  }
  return [...new Set(tiers)].sort().map((tier) => {
    const rows = Array.from(labels.keys()).filter((row) => tiers[row] === tier);
    const picked = new Float32Array(rows.length * dim);
    rows.forEach((row, i) => {
      picked.set(embeddings.subarray(row * dim, (row + 1) * dim), i * dim);
    });
    return {
      tier,
      images: rows.length,
      pairs: verifyAllPairs(
        picked,
        Int32Array.from(rows, (row) => labels[row] as number),
        dim,
      ),
    };
  });
}

/**
 * Evaluates a backbone: all-pairs TAR@FAR and rank-1 on a test set, 10-fold accuracy on pair files.
 *
 * @example
 * const { tiers } = await evaluate(backbone, { test: 'data/kanji28/test.rec', gallery: 'noto-sans-jp' });
 */
export async function evaluate(
  backbone: Module & { embeddingSize: number },
  request: EvaluationRequest,
  where: { device?: string; onNote?: (message: string) => void } = {},
): Promise<Evaluation> {
  expected(backbone instanceof Module, 'evaluate', 'a backbone, such as nn.iresnetSmall()', backbone);
  // Of a configuration's `evaluation`, compareWith is the report's.
  checkOptions('evaluate', request, ['test', 'pairs', 'gallery', 'flip', 'pixels', 'compareWith']);
  checkOptions('evaluate', where, ['device', 'onNote']);
  const { device = 'cpu', onNote = () => {} } = where;
  const { test, pairs: files, gallery, flip, pixels: scored } = request;
  if (test !== undefined) checkPath('evaluate', 'test, the path of a .rec file', test);
  if (files !== undefined) checkLists('evaluate', { pairs: files });
  expected(gallery === undefined || typeof gallery === 'string', 'evaluate', 'gallery, a family', gallery);
  checkBooleans('evaluate', { flip, pixels: scored });
  expected(typeof onNote === 'function', 'evaluate', 'onNote, a function', onNote);
  const began = performance.now();
  const options = { flip: request.flip ?? false, device };
  const dim = backbone.embeddingSize;
  let tiers: readonly TierScores[] = [];
  let pixels: readonly TierScores[] | undefined;
  for (const file of request.pairs ?? []) openPairSet(file); // before the long part
  if (request.test !== undefined) {
    const dataset = openDataset(request.test);
    try {
      const groups = groupsOf(dataset, request.gallery);
      onNote(`embedding ${dataset.size} images of ${dataset.name}`);
      const images = await decodeAll(dataset);
      tiers = scoreTiers(withFlip(backbone, images, options), dim, groups, request.gallery, device);
      if (request.pixels) {
        const size = images.shape[0] * images.shape[1] * images.shape[2];
        pixels = scoreTiers(pixelEmbeddings(images), size, groups, request.gallery, device);
      }
    } finally {
      dataset.close();
    }
  }
  const pairs = (request.pairs ?? []).map((file): PairScores => {
    const set = openPairSet(file);
    onNote(`embedding ${set.size} pairs of ${path.basename(file)}`);
    const images = {
      count: 2 * set.size,
      shape: set.imageShape,
      batch: (first: number, count: number) => set.images(first, count),
    };
    return { file, ...verifyPairs(pairDistances(withFlip(backbone, images, options), dim), set.same) };
  });
  return {
    ...(request.test === undefined ? {} : { test: request.test }),
    tiers,
    pairs,
    ...(pixels ? { pixels } : {}),
    seconds: (performance.now() - began) / 1000,
  };
}

/** Tiers of another run's summary.json, to stand beside this one; undefined where there is none. */
export function tiersOfRun(run: string): { name: string; tiers: SummaryTier[] } | undefined {
  const file = path.join(run, 'summary.json');
  if (!existsSync(file)) return undefined;
  try {
    const { title, tiers } = JSON.parse(readFileSync(file, 'utf8')) as { title: string; tiers: SummaryTier[] };
    return { name: title, tiers };
  } catch (error) {
    throw new DataError(`${file}: cannot be read: ${(error as Error).message}`, {
      code: 'ERR_FM_DATA',
      hint: `write it again: flashmargin report ${run}`,
      cause: error,
    });
  }
}

/** A tier as summary.json has it. */
export interface SummaryTier {
  readonly name: string;
  readonly images: number;
  readonly genuinePairs: number;
  readonly impostorPairs: number;
  readonly tar: readonly { readonly far: number; readonly tar: number; readonly threshold: number }[];
  readonly auc: number;
  readonly rank1?: number;
  readonly rank5?: number;
}

/** The numbers of each tier, without curves and pictures. */
export function summaryTiers(tiers: readonly TierScores[]): SummaryTier[] {
  checkLists('summaryTiers', { tiers });
  for (const tier of tiers)
    expected(Array.isArray(tier?.pairs?.tarAtFar), 'summaryTiers', 'tiers, as evaluate() returns them', tier);
  return tiers.map(({ tier, images, pairs, identification }) => {
    const rate = (rank: number) => identification?.rates.find((r) => r.rank === rank)?.rate;
    return {
      name: tier,
      images,
      genuinePairs: pairs.genuinePairs,
      impostorPairs: pairs.impostorPairs,
      tar: pairs.tarAtFar.map(({ target, tar, threshold }) => ({ far: target, tar, threshold })),
      auc: pairs.auc,
      rank1: rate(1),
      rank5: rate(5),
    };
  });
}
