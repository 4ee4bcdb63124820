/** The golden files on device 'cuda', here the CUDA library under the host emulation; iresnet's would take minutes there. */
import { describe, expect, it } from 'vitest';
import { emulatedCuda } from '../emulatedCuda.js';
import { filesByFamily, runsOf } from './conventions.js';

if (emulatedCuda) process.env.FLASHMARGIN_CUDA ??= emulatedCuda;

/** align and verification are computed on the host alone. */
const elsewhere = ['iresnet', 'align', 'verification'];

for (const family of [...filesByFamily.keys()].filter((name) => !elsewhere.includes(name))) {
  describe.skipIf(!emulatedCuda)(`${family} on device 'cuda', emulated, against the published code`, () => {
    it.each(runsOf(family))('%s in %s', (_, precision, each) => {
      const measurements = each.measure(precision, 'cuda');
      expect(Object.keys(measurements).length).toBeGreaterThan(0);
      for (const [quantity, { error, allowed }] of Object.entries(measurements)) {
        expect(error, quantity).toBeLessThanOrEqual(allowed);
      }
    });
  });
}
