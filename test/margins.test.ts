import { describe, expect, it } from 'vitest';
import { ArgumentRangeError } from '../lib/errors.js';
import { nextT } from '../lib/heads/index.js';
import {
  arcface,
  combined,
  cosface,
  curricularface,
  type Margin,
  margins,
  mvsoftmax,
  normface,
  optionsOf,
  softmax,
  sphereface,
} from '../lib/margins/index.js';

describe('presets', () => {
  // NormFace; CosFace and ArcFace as in their papers; insightface's arcface_mxnet; OpenSphere; SV-X-Softmax and
  // CurricularFace as their authors' code.
  it.each([
    [softmax(), { method: 'softmax', scale: 64 }],
    [normface(), { method: 'softmax', scale: 64 }],
    [cosface(), { method: 'cosface', scale: 64, margin: 0.35 }],
    [arcface(), { method: 'arcface', scale: 64, margin: 0.5 }],
    [combined(), { method: 'combined', scale: 64, m1: 1, m2: 0.3, m3: 0.2, overflow: 'none' }],
    [sphereface(), { method: 'sphereface', scale: 30, margin: 1.7, lambda: 0, gradient: 'detached' }],
    [
      mvsoftmax(),
      {
        method: 'mvsoftmax',
        scale: 32,
        margin: 0.35,
        t: 0.2,
        variant: 'am',
        negatives: 'adaptive',
        overflow: 'easy',
      },
    ],
    [curricularface(), { method: 'curricularface', scale: 64, margin: 0.5, t: 0, tRate: 0.01 }],
  ] as [Margin, object][])('%o is the published one', (margin, published) => expect(margin).toEqual(published));

  it('covers every method', () => {
    expect(Object.keys(margins).sort()).toEqual(
      ['softmax', 'cosface', 'arcface', 'combined', 'sphereface', 'mvsoftmax', 'curricularface'].sort(),
    );
  });

  it("takes its own options and no other method's", () => {
    expect(combined({ m1: 1.2 }).m1).toBe(1.2);
    expect(sphereface({ gradient: undefined }).gradient).toBe('detached');
    // @ts-expect-error
    expect(() => arcface({ m1: 1.2 })).toThrow(/arcface: expected options scale, margin, .*, got 'm1'/);
    // @ts-expect-error
    expect(() => cosface({ t: 0.2 })).toThrow(ArgumentRangeError);
    // @ts-expect-error
    expect(() => softmax({ margin: 0.2 })).toThrow(/softmax/);
    // @ts-expect-error
    expect(() => sphereface({ overflow: 'hard' })).toThrow(/sphereface/);
    // @ts-expect-error
    expect(() => mvsoftmax({ tRate: 0.1 })).toThrow(/mvsoftmax/);
    // @ts-expect-error
    const other: Margin = { method: 'cosface', scale: 64, margin: 0.35, lambda: 5 };
    expect(optionsOf(other.method)).not.toContain('lambda');
  });
});

describe("CurricularFace's t", () => {
  const margin = curricularface({ tRate: 0.25 });

  it('moves towards the mean over rows that have a target', () => {
    expect(nextT(margin, 0.4, [0.8, 0.5, 0.2], [3, -1, 0])).toBeCloseTo(0.25 * 0.5 + 0.75 * 0.4, 15);
  });
  it('stays where no row has one', () => expect(nextT(margin, 0.4, [0, 0], [-1, -1])).toBe(0.4));
});
