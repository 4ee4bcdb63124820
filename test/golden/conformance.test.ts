import { describe, expect, it } from 'vitest';
import { filesByFamily, runsOf } from './conventions.js';

/** Files of each family; iresnet's take long and have a file of their own. */
const files = {
  adacos: 5,
  adaface: 4,
  adam_softmax: 3,
  align: 1,
  arcface: 14,
  combined: 9,
  cosface: 4,
  curricularface: 3,
  elasticface: 9,
  groupface: 2,
  iresnet: 2,
  magface: 5,
  mv: 11,
  partialfc: 4,
  sphereface: 8,
  subcenter: 5,
  trajectory: 2,
  verification: 1,
} as const;

it('every golden file is of a family here', () => {
  const found = Object.fromEntries([...filesByFamily].map(([family, { length }]) => [family, length]));
  expect(found).toEqual(files);
});

const elsewhere = ['iresnet', 'groupface'];
for (const family of Object.keys(files).filter((name) => !elsewhere.includes(name))) {
  describe(`${family} against the published code`, () => {
    it.each(runsOf(family))('%s in %s', (_, precision, each) => {
      const measurements = each.measure(precision, 'cpu');
      expect(Object.keys(measurements).length).toBeGreaterThan(0);
      for (const [quantity, { error, allowed }] of Object.entries(measurements)) {
        expect(error, quantity).toBeLessThanOrEqual(allowed);
      }
    });
  });
}
