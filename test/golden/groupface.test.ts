/** GroupFace against the one public implementation, whose activations are its own. */
import { describe, expect, it } from 'vitest';
import { runsOf } from './conventions.js';

describe('GroupFace against the published code', () => {
  it('has cases', () => expect(runsOf('groupface')).toHaveLength(4));

  it.each(runsOf('groupface'))('%s in %s', (_, precision, each) => {
    const measurements = each.measure(precision, 'cpu');
    expect(Object.keys(measurements)).toHaveLength(7);
    for (const [quantity, { error, allowed }] of Object.entries(measurements)) {
      expect(error, quantity).toBeLessThanOrEqual(allowed);
    }
  });
});
