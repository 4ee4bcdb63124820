/** Blocks of the gradient that a step leaves out, on device 'cuda' under the host emulation. */
import { describe, expect, it } from 'vitest';
import { MarginHead, type MarginHeadOptions } from '../../lib/heads/index.js';
import { cosface } from '../../lib/margins/index.js';
import { Random } from '../../lib/random.js';
import { resolveConfig } from '../../lib/train/index.js';
import { emulatedCuda } from '../emulatedCuda.js';

if (emulatedCuda) process.env.FLASHMARGIN_CUDA ??= emulatedCuda;
process.env.FM_EMULATED_CAPABILITY ??= '90';

const [N, C, D] = [20, 600, 24];
const random = new Random(5);
/** Every 256 classes lie around an axis of their own, and so do the rows of their classes. */
const around = (axis: number, spread: number) =>
  Array.from({ length: D }, (_, d) => (d === axis ? 1 : 0) + spread * (random.uniform() - 0.5));
const weight = Float32Array.from(Array.from({ length: C }, (_, j) => around(Math.floor(j / 256), 0.2)).flat());
const labels = Int32Array.from({ length: N }, (_, i) => i * 11); // all below 256
const features = Float32Array.from(Array.from({ length: N }, () => around(0, 0.2)).flat());

/** Largest difference over the largest of what was wanted. */
function distance(got: Float32Array, wanted: Float32Array): number {
  const largest = (values: Float32Array) => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  return largest(got.map((x, i) => x - (wanted[i] as number))) / largest(wanted);
}

function stepped(options: Partial<MarginHeadOptions>) {
  using head = new MarginHead({ numClasses: C, embeddingSize: D, margin: cosface(), ...options });
  head.weight.set(weight);
  const result = head.stepSync(features, labels, { lr: 0.1 });
  return { ...result, weight: head.weight.toArray() as Float32Array };
}

describe('gradientFilter', () => {
  it.skipIf(!emulatedCuda)('leaves out the blocks of classes that no row is near', () => {
    const gpu = { device: 'cuda', precision: 'bfloat16' } as const;
    const whole = stepped(gpu);
    const filtered = stepped({ ...gpu, gradientFilter: 1e-6 });
    expect(whole.filtered).toBe(0);
    expect(filtered.filtered).toBeCloseTo(2 / 3, 12);
    expect(filtered.loss).toBeCloseTo(whole.loss, 5);
    expect(distance(filtered.gradEmbeddings, whole.gradEmbeddings)).toBeLessThan(1e-3);
    expect(distance(filtered.weight, whole.weight)).toBeLessThan(1e-5);
  });

  it('leaves nothing out on the CPU, and in float32', () => {
    expect(stepped({ gradientFilter: 1e-6 }).filtered).toBe(0);
    expect(stepped({ gradientFilter: 1e-6 }).weight).toEqual(stepped({}).weight);
    if (emulatedCuda) expect(stepped({ gradientFilter: 1e-6, device: 'cuda' }).filtered).toBe(0);
  });

  it('says so where it can leave nothing out', () => {
    const told = (options: Partial<MarginHeadOptions>) => {
      const said: string[] = [];
      const head = { numClasses: C, embeddingSize: D, gradientFilter: 1e-6, precision: 'bfloat16' as const };
      new MarginHead({ ...head, ...options, onAdvice: (sentence) => said.push(sentence) }).dispose();
      return said.some((sentence) => sentence.startsWith('gradientFilter leaves nothing out here'));
    };
    expect(told({})).toBe(true);
    expect(told({ gradientFilter: 0 })).toBe(false);
    if (!emulatedCuda) return;
    expect(told({ device: 'cuda' })).toBe(false);
    expect(told({ device: 'cuda', precision: 'float32' })).toBe(true);
    expect(told({ device: 'cuda', margin: cosface({ labelSmoothing: 0.1 }) })).toBe(true);
  });

  it('is a share', () => {
    for (const gradientFilter of [-0.1, 1, Number.NaN, '1e-4'])
      expect(
        () => new MarginHead({ numClasses: 9, embeddingSize: 4, gradientFilter: gradientFilter as number }),
      ).toThrow(/^MarginHead: expected gradientFilter, a share of at least 0 and below 1, got/);
    const data = { train: 'a.rec' };
    expect(resolveConfig({ data }).head.gradientFilter).toBe(0);
    expect(() => resolveConfig({ data, head: { gradientFilter: 1 } })).toThrow(
      /head\.gradientFilter: expected a share of at least 0 and below 1, got 1/,
    );
  });
});
