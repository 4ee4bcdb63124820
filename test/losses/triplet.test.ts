import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { mineTriplets, type Triplet, type TripletOptions, tripletLoss } from '../../lib/losses/index.js';
import { parameter, type Tensor, tensor, zeros } from '../../lib/tensor.js';
import { check } from '../differences.js';
import { distances, draw, float32, float64, type Rows, squared, unit } from './plain.js';

const labels = new Int32Array([0, 1, 0, 2, 1, -1, 0, 2]);
const rows = draw(8, 5, 3);

/** The mean of max(0, |a − p|² − |a − n|² + α) over given triplets, of unit rows. */
function plainLoss(raw: Rows, triplets: readonly Triplet[], margin: number, average: 'triplets' | 'active') {
  const e = unit(raw);
  const losses = triplets.map(([a, p, n]) => Math.max(0, squared(e, a, p) - squared(e, a, n) + margin));
  const counted = average === 'active' ? losses.filter((v) => v > 0).length : losses.length;
  return losses.reduce((sum, v) => sum + v, 0) / Math.max(1, counted);
}

/** Every (a, p, n) by three loops. */
function everyTriplet(own: Int32Array): Triplet[] {
  const out: Triplet[] = [];
  for (let a = 0; a < own.length; a++)
    for (let p = 0; p < own.length; p++)
      for (let n = 0; n < own.length; n++)
        if (a !== p && own[a] === own[p] && own[n] !== own[a] && [a, p, n].every((i) => (own[i] as number) >= 0))
          out.push([a, p, n]);
  return out;
}

describe('tripletLoss', () => {
  it.each(['triplets', 'active'] as const)('of all triplets is its formula, averaged over %s', (average) => {
    const all = everyTriplet(labels);
    const result = tripletLoss(float64(rows), labels, { mining: 'all', average });
    expect(result.loss.item()).toBeCloseTo(plainLoss(rows, all, 0.3, average), 12);
    expect(result.triplets).toBe(all.length);
    expect(result.active).toBeGreaterThan(0);
    expect(result.active).toBeLessThan(all.length);
    const single = tripletLoss(float32(rows), labels, { mining: 'all', average });
    expect(single.loss.item()).toBeCloseTo(plainLoss(rows, all, 0.3, average), 5);
  });

  it.each(['semi-hard', 'hard'] as const)('of %s triplets is the formula of what was mined', (mining) => {
    const mined = [...mineTriplets(distances(unit(rows)), labels, { mining, seed: 4 })];
    expect(mined.length).toBeGreaterThan(0);
    const result = tripletLoss(float64(rows), labels, { mining, seed: 4 });
    expect(result.loss.item()).toBeCloseTo(plainLoss(rows, mined, 0.3, 'triplets'), 12);
    expect(result.triplets).toBe(mined.length);
  });

  it.each([
    { mining: 'all' },
    { mining: 'all', average: 'active', margin: 0.8 },
    { mining: 'semi-hard', seed: 2 },
    { mining: 'hard' },
    { mining: 'all', normalize: false, margin: 3 },
  ] satisfies TripletOptions[])('has the gradient of finite differences %o', (options) => {
    const x = parameter(float64(rows));
    check(([features]) => tripletLoss(features as Tensor, labels, options).loss, [x], 1e-6);
  });

  it('has the gradients 2(n − p), 2(p − a), 2(a − n) of one active triplet', () => {
    const e: Rows = [
      [1, 0],
      [0.6, 0.8],
      [0, 1],
    ];
    const x = parameter(float64(e));
    backward(tripletLoss(x, new Int32Array([0, 0, 1]), { mining: 'all', margin: 2, normalize: false }).loss);
    // Both (0, 1, 2) and (1, 0, 2) are triplets: their mean.
    const [a, b, n] = e as [number[], number[], number[]];
    const wanted = [0, 1].map((d) => [
      (2 * (n[d]! - b[d]!) + 2 * (a[d]! - b[d]!)) / 2,
      (2 * (b[d]! - a[d]!) + 2 * (n[d]! - a[d]!)) / 2,
      (2 * (a[d]! - n[d]!) + 2 * (b[d]! - n[d]!)) / 2,
    ]);
    const grad = x.grad?.toArray() as Float64Array;
    for (const row of [0, 1, 2])
      for (const d of [0, 1]) expect(grad[row * 2 + d]).toBeCloseTo(wanted[d]?.[row] as number, 12);
  });

  it('is 0, without a gradient, where there is no triplet', () => {
    for (const own of [[0, 1, 2, 3, 4, 5, 6, 7], new Array(8).fill(0), new Array(8).fill(-1)]) {
      const x = parameter(float64(rows));
      const result = tripletLoss(x, Int32Array.from(own), { mining: 'all' });
      expect([result.loss.item(), result.triplets, result.active]).toEqual([0, 0, 0]);
      backward(result.loss);
      expect(Array.from(x.grad?.toArray() as Float64Array).every((g) => g === 0)).toBe(true);
    }
  });

  it('scales with nothing: longer features, or a permuted batch, have the same loss', () => {
    const loss = (own: Rows, l: Int32Array) => tripletLoss(float64(own), l, { mining: 'all' }).loss.item();
    const before = loss(rows, labels);
    expect(
      loss(
        rows.map((row) => row.map((v) => 7 * v)),
        labels,
      ),
    ).toBeCloseTo(before, 12);
    expect(loss([...rows].reverse(), labels.slice().reverse())).toBeCloseTo(before, 12);
  });

  it('counts as right the rows whose nearest other row is of their class', () => {
    const e: Rows = [
      [1, 0],
      [0.99, 0.1],
      [0, 1],
      [0.9, 0.3],
    ];
    // 0 and 1 find each other; 2's nearest is 3, of its class; 3's nearest is 1, of another.
    expect(tripletLoss(float64(e), new Int32Array([0, 0, 1, 1])).accuracy).toBe(0.75);
    expect(tripletLoss(float64(e), new Int32Array([0, 1, 2, 3])).accuracy).toBe(0);
  });

  it.each([
    [() => tripletLoss(zeros([2, 3]), new Int32Array(3)), /tripletLoss: expected 2 labels, got 3/],
    [() => tripletLoss(zeros([6]), new Int32Array(6)), /expected features \[N, D\], got \[6\]/],
    [() => tripletLoss(zeros([2, 3]), zeros([2])), /labels as Int32Array or int32 tensor/],
    [() => tripletLoss(zeros([2, 3]), new Int32Array(2), { margin: -1 }), /margin of at least 0, got -1/],
    [() => tripletLoss(zeros([2, 3]), new Int32Array(2), { mining: 'soft' as never }), /mining 'all', 'semi-hard'/],
    [
      () => tripletLoss(zeros([2, 3]), new Int32Array(2), { average: 'sum' as never }),
      /average 'triplets' or 'active'/,
    ],
    [() => tripletLoss(zeros([2, 3]), new Int32Array(2), { seed: 0.5 }), /seed, an integer of at least 0, got 0.5/],
    [
      () => tripletLoss(tensor(new Float32Array([1, 2, Number.NaN, 1]), [2, 2]), new Int32Array(2)),
      /row 0 or 1 of the features is not finite/,
    ],
  ])('refuses what makes no sense: %#', (f, message) => {
    expect(f).toThrow(message);
  });
});

describe('mineTriplets', () => {
  const batch = fc.record({
    seed: fc.nat(10_000),
    labels: fc.array(fc.integer({ min: -1, max: 3 }), { minLength: 1, maxLength: 14 }).map((l) => Int32Array.from(l)),
    margin: fc.double({ min: 0, max: 2, noNaN: true }),
  });
  const of = ({ labels, seed }: { labels: Int32Array; seed: number }) =>
    distances(unit(draw(labels.length, 4, seed % 97)));

  it('names triplets alone: two of one class and one of another, all labelled', () => {
    fc.assert(
      fc.property(batch, fc.constantFrom('all', 'semi-hard', 'hard' as const), (b, mining) => {
        for (const [a, p, n] of mineTriplets(of(b), b.labels, { margin: b.margin, mining })) {
          expect(a).not.toBe(p);
          expect(b.labels[a]).toBe(b.labels[p]);
          expect(b.labels[n]).not.toBe(b.labels[a]);
          expect(Math.min(...[a, p, n].map((i) => b.labels[i] as number))).toBeGreaterThanOrEqual(0);
        }
      }),
    );
  });

  it('all: every one, once', () => {
    fc.assert(
      fc.property(batch, (b) => {
        expect([...mineTriplets(of(b), b.labels, { mining: 'all' })]).toEqual(everyTriplet(b.labels));
      }),
    );
  });

  it('semi-hard: within the margin, at most one for an anchor and positive, and one wherever there is one', () => {
    fc.assert(
      fc.property(batch, (b) => {
        const d = of(b);
        const N = b.labels.length;
        const fits = ([a, p, n]: Triplet) =>
          (d[a * N + n] as number) > (d[a * N + p] as number) &&
          (d[a * N + n] as number) < (d[a * N + p] as number) + b.margin;
        const mined = [...mineTriplets(d, b.labels, { margin: b.margin, seed: b.seed, mining: 'semi-hard' })];
        expect(mined.every(fits)).toBe(true);
        const pairs = (list: readonly Triplet[]) => [...new Set(list.map(([a, p]) => `${a} ${p}`))];
        expect(mined.map(([a, p]) => `${a} ${p}`)).toEqual(pairs(everyTriplet(b.labels).filter(fits)));
      }),
    );
  });

  it('hard: the farthest positive and the nearest negative of each anchor that has both', () => {
    fc.assert(
      fc.property(batch, (b) => {
        const d = of(b);
        const N = b.labels.length;
        const mined = [...mineTriplets(d, b.labels, { mining: 'hard' })];
        const all = everyTriplet(b.labels);
        expect(mined.map(([a]) => a)).toEqual([...new Set(all.map(([a]) => a))]);
        for (const [a, p, n] of mined)
          for (const [, q, m] of all.filter(([other]) => other === a)) {
            expect(d[a * N + p]).toBeGreaterThanOrEqual(d[a * N + q] as number);
            expect(d[a * N + n]).toBeLessThanOrEqual(d[a * N + m] as number);
          }
      }),
    );
  });

  it('chooses the same for the same seed, and in time every one that fits', () => {
    const d = distances(unit(rows));
    const mined = (seed: number) => JSON.stringify([...mineTriplets(d, labels, { margin: 2, seed })]);
    expect(mined(5)).toBe(mined(5));
    const seen = new Set(
      Array.from({ length: 200 }, (_, seed) => [...mineTriplets(d, labels, { margin: 2, seed })].map(String)).flat(),
    );
    const N = labels.length;
    const fits = everyTriplet(labels).filter(
      ([a, p, n]) =>
        (d[a * N + n] as number) > (d[a * N + p] as number) && (d[a * N + n] as number) < (d[a * N + p] as number) + 2,
    );
    expect(seen.size).toBe(fits.length);
  });
});
