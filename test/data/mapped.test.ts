import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openDataset } from '../../lib/data/dataset.js';
import { BatchLoader } from '../../lib/data/loader.js';
import { DataError } from '../../lib/errors.js';

const folder = mkdtempSync(join(tmpdir(), 'flashmargin-mapped-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(import.meta.dirname, '../../data/kanji28/test.rec');
const mapped = openDataset(path);
const read = openDataset(path, { access: 'read' });

describe('a mapped set', () => {
  it('holds what a read one holds', () => {
    expect(mapped.labels()).toEqual(read.labels());
    for (let i = 0; i < read.size; i += 997) expect(mapped.image(i)).toEqual(read.image(i));
  });

  it('is mapped by the decoding threads too', async () => {
    const options = {
      batchSize: 64,
      subset: Array.from({ length: 256 }, (_, i) => i * 100),
      workers: 2,
      cacheBytes: 0,
    };
    const stream = async (set: typeof mapped) => {
      const images: Buffer[] = [];
      for await (const batch of new BatchLoader(set, options)) images.push(Buffer.from(batch.images));
      return Buffer.concat(images);
    };
    expect((await stream(mapped)).equals(await stream(read))).toBe(true);
  });

  it.each([
    ['empty', 0],
    ['cut', 1000],
  ])('is refused when the file is %s', (name, bytes) => {
    const copy = join(folder, `${name}.rec`);
    writeFileSync(copy, readFileSync(path).subarray(0, bytes));
    expect(() => openDataset(copy)).toThrow(DataError);
    expect(() => openDataset(copy)).toThrow(new RegExp(`${name}.rec`));
  });

  it('is refused when there is no file', () => {
    expect(() => openDataset('/nowhere/train.rec')).toThrow(/\/nowhere\/train.rec: cannot be opened/);
  });
});
