import { describe, expect, it } from 'vitest';
import { recipeNumbers } from '../../lib/train/conformance/iresnet.js';
import { goldenFile, runsOf, worst } from './conventions.js';

describe('iresnet against the published code', () => {
  it('draws what the recipe draws', () => {
    const file = goldenFile('iresnet18.recipe');
    const drawn = [0, 1, 2, 10_000, 10_001].flatMap((layer) => [...recipeNumbers(layer, 8, file.number('seed'))]);
    expect(worst(drawn, file.values('recipe_first8'))).toBeLessThan(1e-12);
  });

  it.each(runsOf('iresnet'))('%s in %s', { timeout: 240_000 }, (_, precision, each) => {
    const measurements = each.measure(precision, 'cpu');
    for (const [quantity, { error, allowed }] of Object.entries(measurements)) {
      expect(error, quantity).toBeLessThanOrEqual(allowed);
    }
  });
});
