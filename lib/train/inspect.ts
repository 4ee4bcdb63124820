/** What the head of a run says about images: head.inspect() over batches of a set. */
import { noGrad } from '../autograd.js';
import { BatchLoader, openDataset } from '../data/index.js';
import { ConfigError, checkLists, checkObject, checkOptions, checkPath, DataError } from '../errors.js';
import type { HeadInspection, Histogram, MarginHead } from '../heads/index.js';
import { neededCheckpoint, restore } from '../io/index.js';
import { imageToFloat } from '../ops/index.js';
import { tensor, tidy } from '../tensor.js';
import { buildBackbone, buildHead, readRunConfig } from './run.js';

export interface RunInspection extends Omit<HeadInspection, 'rows' | 'norms'> {
  readonly step: number;
  readonly method: string;
  /** Centers a class. */
  readonly K: number;
  /** The head's running numbers, those of one value. */
  readonly state: Readonly<Record<string, number>>;
  readonly norms: { readonly mean: number; readonly least: number; readonly largest: number };
  /** Images of classes that have several centers, nearest to another center than their class's most chosen. */
  readonly offCenter: number;
}

const BATCH = 256;

/**
 * Looks at images of the set that a run was trained on (or another of the same classes) through the run's newest
 * checkpoint, in evaluation mode: angles to their own class and to the nearest other, norms, hard negatives, centers.
 *
 * @example
 * const { targetAngles, hardShare } = await inspectRun('runs/demo', { images: 1024 });
 */
export async function inspectRun(
  run: string,
  options: { rec?: string; images?: number; onBad?: (error: unknown) => void } = {},
): Promise<RunInspection> {
  checkPath('inspectRun', 'the folder of a run', run);
  checkOptions('inspectRun', options, ['rec', 'images', 'onBad']);
  const { rec, images = 2048, onBad = () => {} } = options;
  const config = readRunConfig(run);
  if (config.loss) {
    throw new ConfigError(`inspect: ${run} was trained with ${config.loss.kind}, which has no class centers`, {
      code: 'ERR_FM_CONFIG',
      hint: 'name a run that was trained with a margin',
    });
  }
  const checkpoint = neededCheckpoint(run, onBad);
  const dataset = openDataset(rec ?? config.data.train);
  const backbone = buildBackbone(config, dataset.imageShape);
  const head = buildHead(config, dataset, backbone, 'cpu') as MarginHead;
  try {
    const classes = (checkpoint.tensors.get('head.weight')?.shape[0] ?? 0) / head.subCenters;
    if (dataset.numClasses !== classes) {
      throw new DataError(
        `inspect: expected a set of ${classes} classes, those of ${run}, got ${dataset.numClasses} in ${dataset.name}`,
        { code: 'ERR_FM_DATA', hint: `give a set of the very classes that ${config.data.train} had` },
      );
    }
    const parts = { backbone: backbone.namedTensors(), head: head.namedTensors() };
    restore(checkpoint, parts, `give a set of images like those of ${config.data.train}`);
    backbone.eval();
    const features: Float32Array[] = [];
    const labels: number[] = [];
    const loader = new BatchLoader(dataset, { batchSize: BATCH, shuffle: true, seed: config.seed, cacheBytes: 0 });
    for await (const batch of loader) {
      const count = Math.min(batch.labels.length, images - labels.length);
      features.push(
        tidy(() =>
          noGrad(() => {
            const x = tensor(batch.images, [batch.labels.length, ...dataset.imageShape]);
            const all = backbone.forward(imageToFloat(x)).toArray() as Float32Array;
            return all.slice(0, count * backbone.embeddingSize);
          }),
        ),
      );
      labels.push(...batch.labels.subarray(0, count));
      if (labels.length >= images) break;
    }
    const rows = new Float32Array(labels.length * backbone.embeddingSize);
    features.reduce((at, part) => {
      rows.set(part, at);
      return at + part.length;
    }, 0);
    const { rows: perRow, norms: _, ...seen } = await head.inspect(rows, Int32Array.from(labels));
    const norms = Array.from(perRow.norm).filter((norm) => !Number.isNaN(norm));
    const off = [...seen.subCenters.values()].reduce(
      (sum, { counts, dominant }) => sum + counts.reduce((a, b) => a + b, 0) - (counts[dominant] as number),
      0,
    );
    return {
      ...seen,
      step: checkpoint.state.step,
      method: head.margin.method,
      K: head.subCenters,
      state: Object.fromEntries(
        [...head.state].filter(([, values]) => values.size === 1).map(([name, values]) => [name, values.item()]),
      ),
      norms: {
        mean: norms.reduce((a, b) => a + b, 0) / Math.max(1, norms.length),
        least: norms.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY),
        largest: norms.reduce((a, b) => Math.max(a, b), 0),
      },
      offCenter: off,
    };
  } finally {
    dataset.close();
    backbone.dispose();
    head.dispose();
  }
}

/** The middle of a histogram: the angle below which half of its rows are. */
export function median(histogram: Histogram): number {
  checkObject('median', 'a histogram, { edges, counts }', histogram);
  const { edges, counts } = histogram;
  checkLists('median', { edges, counts });
  const half = counts.reduce((a, b) => a + b, 0) / 2;
  let below = 0;
  for (const [i, count] of counts.entries()) {
    if (below + count >= half && count > 0) {
      const [low, high] = [edges[i] as number, edges[i + 1] as number];
      return low + ((half - below) / count) * (high - low);
    }
    below += count;
  }
  return Number.NaN;
}
