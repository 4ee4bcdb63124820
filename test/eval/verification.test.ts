import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ArgumentRangeError, ShapeError } from '../../lib/errors.js';
import { fuseFlip } from '../../lib/eval/embeddings.js';
import { aucOfPairs, pairDistances, rocOfPairs, tarAtFarIjb, verifyPairs } from '../../lib/eval/verification.js';

/** What the official code and scikit-learn computed for 600 pairs; the file's own note says how. */
const golden = (() => {
  const file = readFileSync(join(import.meta.dirname, '../golden/verification.lfw10fold.safetensors'));
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + length)) as Record<
    string,
    { dtype: string; data_offsets: number[] }
  >;
  return (name: string): Float64Array => {
    const { dtype, data_offsets } = header[name];
    const bytes = Uint8Array.from(file.subarray(8 + length + data_offsets[0], 8 + length + data_offsets[1]));
    return dtype === 'I64'
      ? Float64Array.from(new BigInt64Array(bytes.buffer), Number)
      : new Float64Array(bytes.buffer);
  };
})();

const same = golden('issame');
const close = (got: ArrayLike<number>, wanted: ArrayLike<number>, tolerance = 1e-12) => {
  expect(got.length).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++) expect(Math.abs(got[i] - wanted[i])).toBeLessThanOrEqual(tolerance);
};

describe('the official evaluation', () => {
  const distances = pairDistances(golden('embeddings'), 32);
  const result = verifyPairs(distances, same);

  it('has these distances', () => close(distances, golden('distance')));

  it('has this accuracy, fold by fold', () => {
    close(result.accuracy.perFold, golden('accuracy_per_fold'));
    close([result.accuracy.mean, result.accuracy.std], golden('accuracy_mean_std'));
  });

  it('has this TAR at FAR 1e-3', () => {
    close([result.tarAtFar.tar, result.tarAtFar.std, result.tarAtFar.far], golden('val_std_far_at_1e-3'));
  });

  it('has these mean rates over the thresholds', () => {
    close(result.grid.tpr, golden('tpr'));
    close(result.grid.fpr, golden('fpr'));
  });

  it('has this ROC and area (scikit-learn), and TAR by the IJB rule', () => {
    const roc = rocOfPairs(golden('distance'), same);
    close(
      roc.map(({ far }) => far),
      golden('roc_fpr'),
    );
    close(
      roc.map(({ tar }) => tar),
      golden('roc_tpr'),
    );
    close([aucOfPairs(golden('distance'), same)], golden('auc'));
    close(
      tarAtFarIjb(roc, [...golden('far_targets')]).map(({ tar }) => tar),
      golden('tar_at_far_ijb'),
    );
  });
});

describe('the rules', () => {
  it('choose the threshold of a fold on the other folds alone', () => {
    // Each fold's own best threshold differs; folds of 2 pairs.
    const distances = [0.2, 0.4, 0.2, 0.4, 1.2, 1.4];
    const { accuracy } = verifyPairs(distances, [1, 0, 1, 0, 1, 0], { folds: 3 });
    expect([...accuracy.perFold]).toEqual([1, 1, 0.5]);
    // First best of the grid: 0.21 accepts 0.2 and not 0.4.
    expect(accuracy.thresholds[2]).toBeCloseTo(0.21, 12);
  });

  it('count a distance equal to a threshold as different', () => {
    // 35 · 0.01 is one ulp above 0.35 in float64, and numpy.arange has that product.
    const { grid } = verifyPairs([0.5, 0.5], [1, 1], { folds: 2 });
    expect([grid.tpr[50], grid.tpr[51]]).toEqual([0, 1]);
    const rounded = verifyPairs([0.35, 0.35], [1, 1], { folds: 2 });
    expect(rounded.grid.tpr[35]).toBe(1);
  });

  it('give TAR 0 where no threshold reaches the FAR', () => {
    const { tarAtFar } = verifyPairs([0.1, 4, 0.1, 4], [1, 0, 1, 0], { folds: 2 });
    expect(tarAtFar).toMatchObject({ tar: 0, far: 0, std: 0 });
  });

  it('do not see the order within a fold', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.double({ min: 0, max: 4, noNaN: true }), fc.boolean()), { minLength: 20, maxLength: 20 }),
        (pairs) => {
          const of = (list: typeof pairs) =>
            verifyPairs(
              list.map(([d]) => d),
              list.map(([, s]) => Number(s)),
              { folds: 2 },
            );
          const mirrored = [...pairs.slice(0, 10).reverse(), ...pairs.slice(10).reverse()];
          expect(of(mirrored)).toEqual(of(pairs));
        },
      ),
    );
  });

  it('have an area that is the share of rightly ordered pairs', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(5), fc.boolean()), { minLength: 2, maxLength: 30 }), (pairs) => {
        const genuine = pairs.filter(([, s]) => s).map(([d]) => d);
        const impostor = pairs.filter(([, s]) => !s).map(([d]) => d);
        let right = 0;
        for (const g of genuine) for (const i of impostor) right += g < i ? 1 : g === i ? 0.5 : 0;
        const wanted = genuine.length * impostor.length === 0 ? 0 : right / (genuine.length * impostor.length);
        expect(
          aucOfPairs(
            pairs.map(([d]) => d),
            pairs.map(([, s]) => Number(s)),
          ),
        ).toBeCloseTo(wanted, 12);
      }),
    );
  });
});

it('fuses two views into one unit embedding', () => {
  const fused = fuseFlip(Float32Array.of(1, 0, 3, 4), Float32Array.of(0, 1, 3, 4), 2);
  close(fused, [Math.SQRT1_2, Math.SQRT1_2, 0.6, 0.8], 1e-7);
  expect([...fuseFlip(Float32Array.of(1, 0), Float32Array.of(-1, 0), 2)]).toEqual([0, 0]);
});

describe('misuse', () => {
  it('names the shapes', () => {
    expect(() => verifyPairs([1, 2], [1])).toThrow('verifyPairs: expected same [2], got [1]');
    expect(() => pairDistances(new Float32Array(7), 2)).toThrow(ShapeError);
    expect(() => fuseFlip(new Float32Array(4), new Float32Array(2), 2)).toThrow(ShapeError);
  });
  it.each<[string, () => unknown, RegExp]>([
    [
      'a distance that is no number',
      () => verifyPairs([1, Number.NaN], [1, 0], { folds: 2 }),
      /distances, numbers, got NaN at 1/,
    ],
    [
      'truths that are no numbers',
      () => aucOfPairs([1, 2], [true, false] as never),
      /0 for pairs of two identities, got true at 0/,
    ],
    [
      'a rate above 1',
      () => verifyPairs([1, 2], [1, 0], { folds: 2, far: 2 }),
      /false accept rates in \[0, 1\], got 2/,
    ],
    [
      'features that are not finite',
      () => pairDistances(Float32Array.of(1, 0, Number.NaN, 4), 2),
      /expected embeddings, numbers, got NaN at 2/,
    ],
    ['half a pair', () => pairDistances(Float32Array.of(1, 0, 0, 1, 1, 0), 2), /two rows a pair, got 3/],
    [
      'a ROC without a point',
      () => tarAtFarIjb([], [1e-3]),
      /a ROC of one point or more, as rocOfPairs\(\) returns it/,
    ],
    ['a ROC of numbers', () => tarAtFarIjb([0.5] as never, [1e-3]), /a ROC of one point or more/],
    ['targets that are no rates', () => tarAtFarIjb(rocOfPairs([1, 2], [1, 0]), [-1]), /rates in \[0, 1\], got -1/],
  ])('names %s', (_, call, message) => {
    expect(call).toThrow(ArgumentRangeError);
    expect(call).toThrow(message);
  });
  it('names the folds', () => {
    expect(() => verifyPairs([1, 2], [1, 0])).toThrow('expected folds in [2, 2 pairs], got 10');
    expect(() => verifyPairs([1, 2], [1, 0], { folds: 1 })).toThrow(ArgumentRangeError);
  });
});
