import { describe, expect, it } from 'vitest';
import { identify } from '../../lib/eval/identification.js';
import { verifyAllPairs } from '../../lib/eval/pairs.js';
import { clusters, plainHistograms, plainNearest } from './plain.js';

describe('the addon agrees with its plain twin', () => {
  const dim = 24;
  const { embeddings, labels } = clusters(301, 37, dim, 1.5);

  it('on all pairs', () => {
    const fast = verifyAllPairs(embeddings, labels, dim);
    const plain = verifyAllPairs(embeddings, labels, dim, { countPairs: plainHistograms });
    expect([fast.genuinePairs, fast.impostorPairs]).toEqual([plain.genuinePairs, plain.impostorPairs]);
    expect(fast.auc).toBeCloseTo(plain.auc, 6);
    // A float32 dot product may fall into a neighbouring bin: one pair more or less at the threshold.
    fast.tarAtFar.forEach(({ tar, threshold }, i) => {
      expect(Math.abs(tar - plain.tarAtFar[i].tar)).toBeLessThanOrEqual(1 / plain.genuinePairs);
      expect(Math.abs(threshold - plain.tarAtFar[i].threshold)).toBeLessThan(8e-6);
    });
  });

  it('on identification', () => {
    const gallery = { embeddings: embeddings.slice(0, 37 * dim), labels: labels.slice(0, 37) };
    const probes = { embeddings: embeddings.slice(37 * dim), labels: labels.slice(37) };
    const fast = identify(gallery, probes, dim);
    const plain = identify(gallery, probes, dim, { nearest: plainNearest });
    expect(fast.rates).toEqual(plain.rates);
    expect(fast.wrong.slice(0, 5).map(({ probe }) => probe)).toEqual(plain.wrong.slice(0, 5).map(({ probe }) => probe));
    expect(fast.rates[0].rate).toBeLessThan(1);
  });
});
