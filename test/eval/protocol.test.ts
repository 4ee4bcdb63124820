import { describe, expect, it } from 'vitest';
import { ArgumentRangeError, ShapeError } from '../../lib/errors.js';
import { takeRows } from '../../lib/eval/embeddings.js';
import { identify } from '../../lib/eval/identification.js';
import { verifyAllPairs } from '../../lib/eval/pairs.js';
import { evaluateTiers } from '../../lib/eval/tiers.js';
import { aucOfPairs, rocOfPairs } from '../../lib/eval/verification.js';
import { clusters, plainHistograms, plainNearest } from './plain.js';

const counting = { countPairs: plainHistograms };
const searching = { nearest: plainNearest };
const plain = { ...counting, ...searching };

/** Cosine distances and equality of all unordered pairs. */
function everyPair(embeddings: Float32Array, labels: Int32Array, dim: number) {
  const distances: number[] = [];
  const same: number[] = [];
  for (let i = 0; i < labels.length; i++) {
    for (let j = i + 1; j < labels.length; j++) {
      let cos = 0;
      for (let d = 0; d < dim; d++) cos += embeddings[i * dim + d] * embeddings[j * dim + d];
      distances.push(1 - cos);
      same.push(Number(labels[i] === labels[j]));
    }
  }
  return { distances, same };
}

describe('all pairs', () => {
  const { embeddings, labels } = clusters(150, 30, 8, 1.2);
  const result = verifyAllPairs(embeddings, labels, 8, { ...counting, fars: [1e-2, 1e-3, 0] });
  const { distances, same } = everyPair(embeddings, labels, 8);

  it('counts each pair once', () => {
    expect(result.genuinePairs + result.impostorPairs).toBe((150 * 149) / 2);
    expect(result.genuinePairs).toBe((30 * 5 * 4) / 2);
    for (const { genuine, impostor } of [result.histograms]) {
      expect(genuine.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
      expect(impostor.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
    }
  });

  it('agrees with sorting every pair', () => {
    const impostor = distances.filter((_, i) => same[i] === 0).sort((a, b) => a - b);
    const genuine = distances.filter((_, i) => same[i] === 1);
    for (const { target, far, tar, threshold } of result.tarAtFar) {
      const allowed = Math.floor(target * impostor.length);
      const limit = impostor[allowed];
      expect(far).toBe(allowed / impostor.length);
      expect(Math.abs(tar - genuine.filter((distance) => distance < limit).length / genuine.length)).toBeLessThan(
        1e-12,
      );
      expect(Math.abs(1 - threshold - limit)).toBeLessThan(4e-6);
    }
    expect(result.tarAtFar.at(-1)?.far).toBe(0);
    expect(result.auc).toBeCloseTo(aucOfPairs(distances, same), 5);
  });

  it('has a ROC that lies on the exact one', () => {
    const exact = rocOfPairs(distances, same);
    for (const { far, tar } of result.roc) {
      const least = Math.max(...exact.filter((point) => point.far <= far).map((point) => point.tar));
      expect(Math.abs(tar - least)).toBeLessThan(0.01);
    }
    const fars = result.roc.map(({ far }) => far);
    expect(fars).toEqual([...fars].sort((a, b) => a - b));
    expect(fars.at(-1)).toBe(1);
  });

  it('knows the extremes', () => {
    const apart = verifyAllPairs(Float32Array.of(1, 0, 1, 0, 0, 1, 0, 1), Int32Array.of(0, 0, 1, 1), 2, counting);
    expect(apart).toMatchObject({ genuinePairs: 2, impostorPairs: 4, auc: 1 });
    expect(apart.tarAtFar.map(({ tar }) => tar)).toEqual([1, 1]);
    const one = verifyAllPairs(Float32Array.of(1, 0), Int32Array.of(0), 2, counting);
    expect(one).toMatchObject({ genuinePairs: 0, impostorPairs: 0, auc: 0 });
  });

  it('refuses labels of another length', () => {
    expect(() => verifyAllPairs(embeddings, labels.subarray(1), 8, counting)).toThrow(
      'expected labels [150], got [149]',
    );
    expect(() => verifyAllPairs(embeddings, labels, 7, counting)).toThrow(ShapeError);
  });
});

it.each<[string, () => unknown, RegExp]>([
  [
    'verifyAllPairs of features that are not finite',
    () => verifyAllPairs(Float32Array.of(1, 0, Number.POSITIVE_INFINITY, 4), Int32Array.of(0, 1), 2, counting),
    /^verifyAllPairs: expected embeddings that are finite, got the norm Infinity at row 1/,
  ],
  [
    'verifyAllPairs with a misspelt option',
    () => verifyAllPairs(Float32Array.of(1, 0), Int32Array.of(0), 2, { far: [1e-3] } as never),
    /^verifyAllPairs: expected options fars, rocPoints, bars, countPairs, got 'far'/,
  ],
  [
    'verifyAllPairs at a rate of 5',
    () => verifyAllPairs(Float32Array.of(1, 0), Int32Array.of(0), 2, { ...counting, fars: [5] }),
    /^verifyAllPairs: expected false accept rates in \[0, 1\], got 5/,
  ],
  [
    'verifyAllPairs with no bars',
    () => verifyAllPairs(Float32Array.of(1, 0), Int32Array.of(0), 2, { ...counting, bars: 0 }),
    /^verifyAllPairs: expected bars, an integer of at least 1, got 0/,
  ],
  [
    'identify of features that are not finite',
    () => {
      const one = { embeddings: Float32Array.of(Number.NaN, 0), labels: Int32Array.of(0) };
      return identify(one, one, 2, searching);
    },
    /^identify: expected embeddings that are finite, got the norm NaN at row 0/,
  ],
  [
    'evaluateTiers with a misspelt option',
    () =>
      evaluateTiers({ embeddings: new Float32Array(0), labels: new Int32Array(0), families: [], tiers: [] }, 2, {
        rank: [1],
      } as never),
    /^evaluateTiers: expected options gallery, fars, rocPoints, bars, countPairs, ranks, wrong, device, nearest, got 'rank'/,
  ],
])('%s is refused', (_, call, message) => {
  expect(call).toThrow(ArgumentRangeError);
  expect(call).toThrow(message);
});

describe('identification', () => {
  // Unit vectors by angle; identities 0, 1, 2 at 0°, 40°, 90°.
  const at = (...degrees: number[]) =>
    Float32Array.from(degrees.flatMap((a) => [Math.cos((a * Math.PI) / 180), Math.sin((a * Math.PI) / 180)]));
  const gallery = { embeddings: at(0, 40, 90), labels: Int32Array.of(0, 1, 2) };

  it('counts the ranks, and leaves out strangers', () => {
    const probes = { embeddings: at(10, 30, 80, 50), labels: Int32Array.of(0, 0, 1, 7) };
    const result = identify(gallery, probes, 2, { ...searching, ranks: [1, 2, 3] });
    expect(result.probes).toBe(3);
    // 10° → 0 at once; 30° → 1, then 0; 80° → 2, then 1.
    expect(result.rates).toEqual([
      { rank: 1, rate: 1 / 3 },
      { rank: 2, rate: 1 },
      { rank: 3, rate: 1 },
    ]);
  });

  it('lists the wrong neighbours, the worst first', () => {
    const probes = { embeddings: at(10, 30, 80), labels: Int32Array.of(0, 0, 1) };
    const { wrong } = identify(gallery, probes, 2, searching);
    expect(wrong.map(({ probe, gallery: row }) => [probe, row])).toEqual([
      [2, 2],
      [1, 1],
      [0, 1],
    ]);
    const [worst] = wrong;
    expect(worst.score).toBeCloseTo(Math.cos((10 * Math.PI) / 180), 6);
    expect(worst.correctScore).toBeCloseTo(Math.cos((40 * Math.PI) / 180), 6);
    expect(identify(gallery, probes, 2, { ...searching, wrong: 1 }).wrong).toHaveLength(1);
  });

  it('works with a gallery of one, and refuses none', () => {
    const one = { embeddings: at(0), labels: Int32Array.of(0) };
    expect(identify(one, one, 2, searching).rates[0]).toEqual({ rank: 1, rate: 1 });
    expect(() => identify({ embeddings: at(), labels: new Int32Array(0) }, one, 2, searching)).toThrow(
      ArgumentRangeError,
    );
    expect(() => identify(one, one, 2, { ...searching, ranks: [0] })).toThrow(/ranks ≥ 1/);
  });
});

describe('tiers', () => {
  const { embeddings, labels } = clusters(60, 10, 6, 0.4);
  const families = Array.from(labels, (_, row) => ['noto-sans-jp', 'mincho', 'brush'][Math.floor(row / 10) % 3]);
  const tiers = families.map((family) => (family === 'brush' ? 'C' : 'A'));

  it('are evaluated each on their own, against one gallery', () => {
    const [a, c] = evaluateTiers({ embeddings, labels, families, tiers }, 6, plain);
    expect([a.tier, a.images, c.tier, c.images]).toEqual(['A', 40, 'C', 20]);
    const rows = families.flatMap((family, row) => (family === 'brush' ? [row] : []));
    const alone = verifyAllPairs(
      takeRows(embeddings, 6, rows),
      Int32Array.from(rows, (row) => labels[row]),
      6,
      counting,
    );
    expect(c.pairs).toEqual(alone);
    expect([a.identification.probes, c.identification.probes, c.identification.gallery]).toEqual([20, 20, 20]);
    for (const { probe, gallery } of c.identification.wrong) {
      expect([families[probe], families[gallery]]).toEqual(['brush', 'noto-sans-jp']);
      expect(labels[probe]).not.toBe(labels[gallery]);
    }
  });

  it('need their gallery', () => {
    expect(() => evaluateTiers({ embeddings, labels, families, tiers }, 6, { ...plain, gallery: 'arial' })).toThrow(
      "expected images of the gallery family 'arial', got none",
    );
  });
});
