import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sampledClasses, shardOf } from '../../lib/heads/index.js';

describe('shards', () => {
  it('are even, the first ones a class larger', () => {
    expect([0, 1, 2, 3].map((rank) => shardOf(50, 4, rank))).toEqual([
      { start: 0, size: 13 },
      { start: 13, size: 13 },
      { start: 26, size: 12 },
      { start: 38, size: 12 },
    ]);
    expect(() => shardOf(50, 4, 4)).toThrow('expected a rank in [0, 4), got 4');
  });
});

describe('sampled classes', () => {
  it('are those of the batch and the largest draws, ascending', () => {
    expect([...sampledClasses([0.9, 0.1, 0.5, 0.7], [1], 2)]).toEqual([0, 1]);
    expect([...sampledClasses([0.9, 0.1, 0.5, 0.7], [1, 1, 2, 1], 2)]).toEqual([1, 2]);
    expect([...sampledClasses([0.9, 0.1, 0.5, 0.7], [], 2)]).toEqual([0, 3]);
  });
  it('are more than asked for where the batch has more', () => {
    expect([...sampledClasses([0.9, 0.1, 0.5, 0.7], [3, 1, 2], 2)]).toEqual([1, 2, 3]);
  });
  it('of equal draws are the lower ones', () => {
    expect([...sampledClasses([0.5, 0.5, 0.5, 0.5], [3], 3)]).toEqual([0, 1, 3]);
  });
  it('are the first of the classes sorted by what the published code sorts them by', () => {
    const shard = fc
      .integer({ min: 1, max: 60 })
      .chain((size) =>
        fc.tuple(
          fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { minLength: size, maxLength: size }),
          fc.array(fc.nat(size - 1), { maxLength: 20 }),
          fc.nat(size),
        ),
      );
    fc.assert(
      fc.property(shard, ([draws, labels, count]) => {
        const positives = [...new Set(labels)].sort((a, b) => a - b);
        const ranked = draws.map((draw, j) => [positives.includes(j) ? 2 : draw, j]);
        ranked.sort(([a, i], [b, j]) => b - a || i - j);
        const top = ranked.slice(0, count).map(([, j]) => j);
        const wanted = positives.length <= count ? top.sort((a, b) => a - b) : positives;
        expect([...sampledClasses(draws, labels, count)]).toEqual(wanted);
      }),
    );
  });
  it('names what is no draw', () => {
    expect(() => sampledClasses([Number.NaN, 0.2], [], 1)).toThrow(
      'sampledClasses: expected draws that are numbers, got NaN at class 0',
    );
    expect(() => sampledClasses(Float32Array.of(0.1, Number.NaN), [1], 1)).toThrow('got NaN at class 1');
    expect(() => sampledClasses([0.1, '0.2'] as never, [], 1)).toThrow("got '0.2' at class 1");
    expect([...sampledClasses([0.1, -Infinity, Infinity], [], 2)]).toEqual([0, 2]);
  });
  it('names what is out of range', () => {
    expect(() => sampledClasses([0.1, 0.2], [2], 1)).toThrow('expected classes in [0, 2), got 2');
    expect(() => sampledClasses([0.1, 0.2], [-1], 1)).toThrow('expected classes in [0, 2), got -1');
    expect(() => sampledClasses([0.1, 0.2], [], 3)).toThrow('expected a count in [0, 2 classes], got 3');
  });
});
