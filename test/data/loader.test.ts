import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { openDataset, type RecordDataset } from '../../lib/data/dataset.js';
import { permutation } from '../../lib/data/keyedRandom.js';
import { type Batch, BatchLoader, type BatchLoaderOptions } from '../../lib/data/loader.js';
import { RecordWriter } from '../../lib/data/recordWriter.js';
import { ArgumentRangeError, DataError, DisposedError } from '../../lib/errors.js';

const folder = mkdtempSync(join(tmpdir(), 'flashmargin-loader-'));
afterAll(() => rmSync(folder, { recursive: true }));

const kanji = openDataset(join(import.meta.dirname, '../../data/kanji28/test.rec'), { access: 'read' });

/** The first 103 images of Kanji-28's test set. */
const small: RecordDataset = (() => {
  const path = join(folder, 'small.rec');
  const writer = new RecordWriter(path);
  for (let i = 0; i < 103; i++) writer.add(kanji.label(i), kanji.encoded(i));
  writer.finish();
  return openDataset(path, { access: 'read' });
})();

const augment = { shift: 2, flip: true, affine: { std: 0.06, probability: 0.5 } };

async function collect(dataset: RecordDataset, options: BatchLoaderOptions): Promise<Batch[]> {
  const batches: Batch[] = [];
  for await (const batch of new BatchLoader(dataset, options)) batches.push(batch);
  return batches;
}

/** One line a batch, with all that it holds. */
const digests = (batches: readonly Batch[]) =>
  batches.map(({ epoch, batchIndex, images, labels, keys, indices }) => {
    const hash = createHash('sha256');
    for (const array of [images, labels, keys, indices]) hash.update(array);
    return `${epoch} ${batchIndex} ${labels.length} ${hash.digest('hex')}`;
  });

/** Threads of this process, as the kernel counts them. */
const threads = () => Number(/Threads:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);

describe('the stream', () => {
  it('visits each image once an epoch, in an order of its own', async () => {
    const batches = await collect(small, { batchSize: 10, seed: 3, epochs: 2, workers: 0 });
    expect(batches.map(({ labels }) => labels.length)).toEqual([...Array(10).fill(10), 3, ...Array(10).fill(10), 3]);
    const order = (epoch: number) =>
      batches.filter((batch) => batch.epoch === epoch).flatMap(({ indices }) => [...indices]);
    expect(new Set(order(0)).size).toBe(103);
    expect(order(0)).toEqual([...permutation(103, 3, 0)]);
    expect(order(1)).not.toEqual(order(0));
  });

  it('delivers the images, labels and keys of its indices', async () => {
    for (const batch of await collect(small, { batchSize: 50, workers: 1 })) {
      batch.indices.forEach((i, b) => {
        expect(batch.images.subarray(b * 1024, (b + 1) * 1024)).toEqual(small.image(i));
        expect([batch.labels[b], batch.keys[b]]).toEqual([small.label(i), small.key(i)]);
      });
    }
  });

  it('is the same for any number of threads, with and without the cache', async () => {
    const options = { batchSize: 16, seed: 7, epochs: 2, augment };
    const expected = digests(await collect(small, { ...options, workers: 0, cacheBytes: 0 }));
    for (const workers of [0, 1, 3]) {
      for (const cacheBytes of [0, undefined]) {
        expect(digests(await collect(small, { ...options, workers, cacheBytes }))).toEqual(expected);
      }
    }
    const other = digests(await collect(small, { ...options, seed: 8, workers: 0 }));
    expect(other.some((digest) => expected.includes(digest))).toBe(false);
  });

  it('continues from any batch as if it had never stopped', async () => {
    const options = { batchSize: 16, seed: 5, epochs: 3, augment, workers: 0 };
    const whole = digests(await collect(small, options));
    await fc.assert(
      fc.asyncProperty(fc.nat(2), fc.nat(7), async (epoch, batch) => {
        const rest = await collect(small, { ...options, start: { epoch, batch } });
        expect(digests(rest)).toEqual(whole.slice(epoch * 7 + batch));
      }),
      { numRuns: 12 },
    );
  });

  it('keeps to a subset and to the set’s own order when asked', async () => {
    const batches = await collect(small, { batchSize: 2, shuffle: false, subset: [9, 4, 7], workers: 0 });
    expect(batches.map(({ indices }) => [...indices])).toEqual([[9, 4], [7]]);
    expect(await collect(small, { batchSize: 2, dropLast: true, subset: [9, 4, 7], workers: 0 })).toHaveLength(1);
  });

  it('lends the ring itself on request', async () => {
    const copies = await collect(small, { batchSize: 16, seed: 2, augment });
    let at = 0;
    for await (const batch of new BatchLoader(small, { batchSize: 16, seed: 2, augment, reuse: true, prefetch: 1 })) {
      expect(batch.images.buffer).toBeInstanceOf(SharedArrayBuffer);
      expect(Array.from(batch.images)).toEqual(Array.from(copies[at].images));
      expect(Array.from(batch.labels)).toEqual(Array.from(copies[at++].labels));
    }
    expect(at).toBe(copies.length);
    expect(copies[0].images.buffer).toBeInstanceOf(ArrayBuffer);
  });
});

describe('the order', () => {
  it('is a permutation, a different one for each seed and epoch', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), fc.maxSafeNat(), fc.nat(1000), (n, seed, epoch) => {
        const order = permutation(n, seed, epoch);
        expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
        if (n > 20) {
          expect(permutation(n, seed, epoch + 1)).not.toEqual(order);
          expect(permutation(n, seed + 1, epoch)).not.toEqual(order);
        }
      }),
    );
  });

  it('puts each element everywhere equally often', () => {
    const counts = new Float64Array(36);
    for (let epoch = 0; epoch < 6000; epoch++)
      for (const [at, value] of permutation(6, 1, epoch).entries()) counts[value * 6 + at]++;
    const chiSquared = counts.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
    // 25 degrees of freedom: 60 is exceeded once in 10⁴ seeds.
    expect(chiSquared).toBeLessThan(60);
  });
});

describe('the end of a stream', () => {
  it('leaves no threads, whether it is read to the end, left, closed or aborted', async () => {
    await collect(small, { batchSize: 16, workers: 2 });
    const before = threads();
    await collect(small, { batchSize: 16, workers: 2 });
    for await (const _ of new BatchLoader(small, { batchSize: 16, workers: 2 })) break;
    {
      await using loader = new BatchLoader(small, { batchSize: 16, workers: 2 });
      await loader.next();
    }
    const controller = new AbortController();
    const aborted = new BatchLoader(small, { batchSize: 16, workers: 2, signal: controller.signal });
    await aborted.next();
    const rejected = expect(aborted.next().then(() => aborted.next().then(() => aborted.next()))).rejects.toThrow(
      'enough',
    );
    controller.abort(new Error('enough'));
    await rejected;
    await expect(aborted.next()).rejects.toThrow('enough');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(threads()).toBeLessThanOrEqual(before);
  });

  it('rejects the batch that is awaited when it is closed', async () => {
    const loader = new BatchLoader(kanji, { batchSize: 4096, workers: 1 });
    const rejected = expect(loader.next()).rejects.toThrow(DisposedError);
    await loader.close();
    await rejected;
    await expect(loader.next()).rejects.toThrow(/was closed/);
    await loader.close();
  });

  it('needs no thread for a stream that is never read', async () => {
    const before = threads();
    const loader = new BatchLoader(small, { batchSize: 4, workers: 2 });
    expect(threads()).toBe(before);
    await loader.close();
  });
});

it('a forgotten loader does not keep the process alive', () => {
  const program = `
    import { createJiti } from 'jiti';
    const lib = (file) => createJiti(import.meta.url).import(file);
    const { openDataset } = await lib('./lib/data/dataset.ts');
    const { BatchLoader } = await lib('./lib/data/loader.ts');
    const set = openDataset(${JSON.stringify(join(folder, 'small.rec'))}, { access: 'read' });
    const { value } = await new BatchLoader(set, { batchSize: 2, workers: 1 }).next();
    console.log(value.labels.length);`;
  const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    cwd: join(import.meta.dirname, '../..'),
    encoding: 'utf8',
    timeout: 30_000,
  });
  expect([status, stdout.trim()]).toEqual([0, '2']);
});

describe('a damaged image', () => {
  const damaged = (() => {
    const path = join(folder, 'damaged.rec');
    const bytes = readFileSync(join(folder, 'small.rec'));
    const idat = bytes.indexOf('IDAT', bytes.length >> 1);
    bytes.fill(0xff, idat + 8, idat + 24);
    writeFileSync(path, bytes);
    copyFileSync(join(folder, 'small.idx'), join(folder, 'damaged.idx'));
    copyFileSync(join(folder, 'small.property'), join(folder, 'damaged.property'));
    return openDataset(path, { access: 'read' });
  })();

  it.each([0, 2])('ends the stream with the file, the key and the reason (%i threads)', async (workers) => {
    const reading = collect(damaged, { batchSize: 16, workers });
    await expect(reading).rejects.toThrow(/damaged.rec key \d+: the PNG is damaged: a chunk is corrupt/);
    await expect(collect(damaged, { batchSize: 16, workers })).rejects.toBeInstanceOf(DataError);
  });

  it('is not met where it is not asked for', async () => {
    expect(await collect(damaged, { batchSize: 16, workers: 0, subset: [0, 1, 2] })).toHaveLength(1);
  });
});

it.each([
  [{ batchSize: 0 }, 'expected batchSize ≥ 1, got 0'],
  [{ batchSize: 2.5 }, 'expected batchSize ≥ 1, got 2.5'],
  [{ batchSize: 8, seed: -1 }, 'expected seed, an integer in [0, 2^53), got -1'],
  [{ batchSize: 8, workers: -1 }, 'expected workers in [0, 64], got -1'],
  [{ batchSize: 8, prefetch: 0 }, 'expected prefetch ≥ 1, got 0'],
  [{ batchSize: 104, dropLast: true }, 'expected at least 104 images, got 103'],
  [{ batchSize: 8, start: { epoch: 0, batch: 14 } }, 'expected start.batch in [0, 13], got 14'],
  [
    { batchSize: 8, augment: { shift: 0.5 } },
    'augment.shift: expected a whole number of pixels in [0, 32), the side of the images, got 0.5',
  ],
  [{ batchSize: 8, augment: { affine: { std: 0.1, probability: 2 } } }, 'expected a number in [0, 1], got 2'],
  [
    { batchSize: 8, augment: { affine: { std: 1e308, probability: 1 } } },
    'augment.affine.std: expected a number in [0, 1], got 1e+308',
  ],
  [
    { batchSize: 8, augment: { affine: { std: '0.5' as never, probability: 1 } } },
    "augment.affine.std: expected a number in [0, 1], got '0.5'",
  ],
  [{ batchSize: 8, augment: { border: 256 } }, "expected 'replicate' or a value in [0, 255], got 256"],
  [{ batchSize: 8, augment: { flip: 'no' as never } }, "augment.flip: expected true or false, got 'no'"],
  [{ batchSize: 8, shuffle: 'no' as never }, "expected shuffle true or false, got 'no'"],
  [{ batchSize: 8, signal: 'stop' as never }, "expected signal, an AbortSignal, got 'stop'"],
  [{ batchSize: 8, sampler: 0 as never }, 'sampler: expected options, an object, got 0'],
  [{ batchSize: 8, epochs: 1.5 }, 'expected epochs, an integer of at least 0, got 1.5'],
  [{ batchSize: 8, cacheBytes: '1' as never }, "expected cacheBytes of at least 0, got '1'"],
  [{ batchSize: 8, cacheBytes: Number.NaN }, 'expected cacheBytes of at least 0, got NaN'],
  [{ batchSize: 8, start: { epoch: 0 } as never }, 'expected start.batch in [0, 13], got undefined'],
  [{ batchSize: 8, subset: 'all' as never }, "expected subset, an array, got 'all'"],
  [{ batchSize: 8, subset: [0, 103] }, 'expected positions in [0, 103) in subset, got 103'],
])('refuses %j', (options, message) => {
  expect(() => new BatchLoader(small, options)).toThrow(message);
  expect(() => new BatchLoader(small, options)).toThrow(ArgumentRangeError);
});
