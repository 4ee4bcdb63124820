import { describe, expect, it } from 'vitest';
import { native } from '../lib/binding.js';
import { normalArray, Random } from '../lib/random.js';

const bytes = ({ buffer }: Float32Array) => Buffer.from(buffer);

/** The same by the generator's single numbers. */
function plainNormal(n: number, std: number, rng: Random): Float32Array {
  const out = new Float32Array(n);
  for (let i = 0; i < n; i += 2) {
    const radius = std * Math.sqrt(-2 * Math.log(1 - rng.uniform()));
    const angle = 2 * Math.PI * rng.uniform();
    out[i] = radius * Math.cos(angle);
    out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

describe('normalArray', () => {
  it.each([
    [0, 0],
    [1, 0],
    [7, 1],
    [1000, 4294967295],
    [131_071, 2],
    [131_073, 3],
    [500_000, 2 ** 40 + 5],
  ])('%i draws of seed %i are those of the generator’s single numbers', (n, seed) => {
    const [rng, plain] = [new Random(seed), new Random(seed)];
    for (const std of [1, 0.01]) {
      expect(bytes(normalArray(n, std, rng)).equals(bytes(plainNormal(n, std, plain)))).toBe(true);
      expect(rng.state).toEqual(plain.state);
    }
  });

  it('gives the same bits for any number of threads', () => {
    const threads = native.status().threads;
    const run = (n: number) => {
      native.setNumThreads(n);
      return bytes(normalArray(300_001, 1, new Random(4)));
    };
    const one = run(1);
    for (const n of [2, 5]) expect(run(n).equals(one)).toBe(true);
    native.setNumThreads(threads);
  });
});
