import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BatchLoader, type BatchLoaderOptions, ClassBatchPlan, openDataset } from '../../lib/data/index.js';
import { DataError } from '../../lib/errors.js';

const kanji = openDataset(join(import.meta.dirname, '../../data/kanji28/test.rec'), { access: 'read' });

/** Sets of labels, some rows without one, and a sampler that fits. */
const plans = fc
  .record({
    labels: fc.array(fc.integer({ min: -1, max: 7 }), { minLength: 1, maxLength: 60 }),
    classes: fc.integer({ min: 1, max: 5 }),
    images: fc.integer({ min: 1, max: 4 }),
    seed: fc.nat(1000),
    epoch: fc.nat(5),
  })
  .filter(({ labels, classes }) => new Set(labels.filter((l) => l >= 0)).size >= classes);

describe('ClassBatchPlan', () => {
  it('gives every batch so many images of so many classes', () => {
    fc.assert(
      fc.property(plans, ({ labels, classes, images, seed, epoch }) => {
        const plan = new ClassBatchPlan(labels, { classes, images });
        const order = plan.order(seed, epoch);
        expect(order.length).toBe(plan.batchesPerEpoch * classes * images);
        expect(plan.batchesPerEpoch).toBeGreaterThan(0);
        for (let batch = 0; batch < plan.batchesPerEpoch; batch++) {
          const own = Array.from(order.subarray(batch * plan.batchSize, (batch + 1) * plan.batchSize));
          const counts = new Map<number, number>();
          for (const i of own) counts.set(labels[i] as number, (counts.get(labels[i] as number) ?? 0) + 1);
          expect([...counts.values()]).toEqual(new Array(classes).fill(images));
          expect([...counts.keys()]).not.toContain(-1);
          // An image comes twice only where its class has too few.
          for (const [label] of counts) {
            const distinct = new Set(own.filter((i) => labels[i] === label)).size;
            expect(distinct).toBe(Math.min(images, labels.filter((l) => l === label).length));
          }
        }
      }),
    );
  });

  it('is the same for the same seed and epoch, and another for others', () => {
    const labels = kanji.labels();
    const plan = new ClassBatchPlan(labels, { classes: 16, images: 4 });
    const of = (seed: number, epoch: number) => plan.order(seed, epoch).join();
    expect(new ClassBatchPlan(labels, { classes: 16, images: 4 }).order(3, 1).join()).toBe(of(3, 1));
    expect(new Set([of(3, 0), of(3, 1), of(4, 0)]).size).toBe(3);
  });

  it('visits every image of a balanced set once an epoch', () => {
    const labels = Int32Array.from({ length: 12 * 20 }, (_, i) => i % 20);
    const plan = new ClassBatchPlan(labels, { classes: 5, images: 4 });
    expect(plan.batchesPerEpoch).toBe(12);
    const order = plan.order(1, 0);
    // But for the last batches, which may lack classes that fit.
    expect(new Set(order).size).toBeGreaterThanOrEqual(0.9 * labels.length);
  });

  it('fills batches up where one class has nearly all images', () => {
    const labels = [...new Array(50).fill(0), 1, 2, 3];
    const plan = new ClassBatchPlan(labels, { classes: 4, images: 2 });
    const order = plan.order(0, 0);
    expect(plan.batchesPerEpoch).toBe(7);
    for (let i = 0; i < order.length; i += 8)
      expect(new Set(Array.from(order.subarray(i, i + 8), (at) => labels[at])).size).toBe(4);
  });

  it.each([
    [{ classes: 9, images: 1 }, /sampler: expected at least 9 classes, got a set of 2[\s\S]*lower sampler.classes/],
    [{ classes: 0, images: 1 }, /classes of at least 1, got 0/],
    [{ classes: 1, images: 1.5 }, /images of at least 1, got 1.5/],
  ])('refuses %o', (sampler, message) => {
    expect(() => new ClassBatchPlan([0, 0, 1, -1], sampler)).toThrow(message);
  });
});

describe('BatchLoader with a sampler', () => {
  const options: BatchLoaderOptions = {
    batchSize: 32,
    sampler: { classes: 8, images: 4 },
    seed: 5,
    workers: 0,
    cacheBytes: 0,
    augment: { shift: 2 },
    subset: Array.from({ length: 400 }, (_, i) => i),
  };
  const collect = async (overrides: Partial<BatchLoaderOptions> = {}) => {
    const lines: string[] = [];
    for await (const { images, labels, indices, epoch, batchIndex } of new BatchLoader(kanji, {
      ...options,
      ...overrides,
    })) {
      expect(new Set(labels).size).toBe(8);
      lines.push(`${epoch} ${batchIndex} ${indices.join()} ${Buffer.from(images).toString('base64')}`);
    }
    return lines;
  };

  it('keeps to the plan, the same for any number of threads and from any batch on', async () => {
    const whole = await collect({ epochs: 2 });
    expect(await collect({ epochs: 2, workers: 2 })).toEqual(whole);
    const perEpoch = whole.length / 2;
    for (const start of [
      { epoch: 0, batch: 3 },
      { epoch: 1, batch: 2 },
    ])
      expect(await collect({ epochs: 2, start })).toEqual(whole.slice(start.epoch * perEpoch + start.batch));
  });

  it('refuses another batch size, and an order that is not drawn', () => {
    expect(() => new BatchLoader(kanji, { ...options, batchSize: 30 })).toThrow(/batchSize 8 × 4, got 30/);
    expect(() => new BatchLoader(kanji, { ...options, shuffle: false })).toThrow(/shuffle with a sampler/);
    expect(() => new BatchLoader(kanji, { ...options, subset: [0, 1] })).toThrow(DataError);
  });
});
