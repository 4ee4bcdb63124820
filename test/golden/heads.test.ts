import { describe, expect, it } from 'vitest';
import { type GoldenErrors, goldenErrors, goldenTolerance } from '../../lib/train/conformance.js';
import { headCases } from './conventions.js';

const counts = { arcface: 14, cosface: 4, combined: 6, sphereface: 8, mv: 11, curricularface: 13 } as const;

for (const [method, count] of Object.entries(counts) as [keyof typeof counts, number][]) {
  const cases = headCases(method);
  describe(`${method} against the published code`, () => {
    it('has cases', () => expect(cases.length).toBe(count));

    describe.each(['float64', 'float32'] as const)('in %s', (precision) => {
      it.each(cases.map((c) => [c.name, c] as const))('%s', (_, c) => {
        const errors = goldenErrors(c, precision);
        const tolerance = goldenTolerance(c, precision);
        for (const key of Object.keys(errors) as (keyof GoldenErrors)[]) {
          expect(errors[key], key).toBeLessThan(tolerance[key]);
        }
      });
    });
  });
}
