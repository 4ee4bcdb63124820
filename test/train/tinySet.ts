/** A made set of noisy glyphs that a small network learns in seconds. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { RecordWriter } from '../../lib/data/recordWriter.js';
import { Random } from '../../lib/random.js';
import { encodePng } from '../../lib/report/index.js';
import type { ConfigInput } from '../../lib/train/index.js';

export function scratchFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'flashmargin-test-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** classes × perClass images of 16 × 16: a random pattern a class, with noise. */
export function writeTinySet(file: string, { classes = 12, perClass = 10, size = 16, seed = 3 } = {}): void {
  const rng = new Random(seed);
  const writer = new RecordWriter(file);
  for (let label = 0; label < classes; label++) {
    const pattern = Uint8Array.from({ length: size * size }, () => (rng.uniform() < 0.5 ? 60 : 190));
    for (let i = 0; i < perClass; i++) {
      const image = pattern.map((v) => v + Math.floor(40 * rng.uniform()));
      writer.add(label, Buffer.from(encodePng(image, size, size, 1).split(',')[1] as string, 'base64'));
    }
  }
  writer.finish();
}

/** A configuration of a run on it; some 45 steps. */
export function tinyConfig(folder: string, out = 'run'): ConfigInput {
  return {
    out: path.join(folder, out),
    data: { train: path.join(folder, 'tiny.rec'), shift: 1, workers: 0 },
    backbone: { name: 'iresnetSmall', embeddingSize: 16, stemWidth: 8, widths: [8, 16], dropout: 0.1 },
    margin: { method: 'arcface', scale: 16, margin: 0.2 },
    optimizer: { lr: 0.05 },
    schedule: { name: 'poly', warmupSteps: 5 },
    epochs: 3,
    batchSize: 8,
    seed: 7,
    log: { everySteps: 5 },
    checkpoint: { everySteps: 10, keep: 2 },
  };
}
