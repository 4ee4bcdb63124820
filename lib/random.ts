import { type Handle, native } from './binding.js';
import { expected } from './errors.js';

/**
 * A seeded generator (xoshiro128**, Blackman & Vigna 2018) whose whole state is four words, so that a checkpoint can
 * hold it.
 *
 * @example
 * const rng = new Random(7);
 * rng.uniform(); // in [0, 1)
 */
export class Random {
  #state: Uint32Array;

  constructor(seed: number) {
    expected(Number.isSafeInteger(seed) && seed >= 0, 'Random', 'a seed, an integer of at least 0', seed);
    // SplitMix32 spreads a small seed over the state.
    let z = (seed ^ (seed / 2 ** 32)) >>> 0;
    this.#state = Uint32Array.from({ length: 4 }, () => {
      z = (z + 0x9e3779b9) >>> 0;
      let t = z ^ (z >>> 16);
      t = Math.imul(t, 0x21f0aaad);
      t ^= t >>> 15;
      t = Math.imul(t, 0x735a2d97);
      return (t ^ (t >>> 15)) >>> 0;
    });
  }

  get state(): number[] {
    return [...this.#state];
  }
  set state(words: readonly number[]) {
    expected(Array.isArray(words) && words.length === 4, 'Random', 'a state of four words', words);
    this.#state = Uint32Array.from(words);
  }

  /** 32 random bits. */
  uint32(): number {
    const s = this.#state as unknown as [number, number, number, number];
    const x = Math.imul(s[1], 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return result;
  }

  /** Uniform in [0, 1), 53 bits. */
  uniform(): number {
    return ((this.uint32() >>> 5) * 2 ** 26 + (this.uint32() >>> 6)) / 2 ** 53;
  }

  /** Standard normal, by Box and Muller. */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }
}

/** Draws of N(0, std²) into a float32 tensor: in pairs by Box and Muller, of an odd number the last alone. */
export function fillNormal(x: Handle, std: number, rng: Random): void {
  const words = Int32Array.from(rng.state);
  native.fillNormal(x, std, words);
  rng.state = [...words];
}

/** n draws of N(0, std²). */
export function normalArray(n: number, std: number, rng: Random): Float32Array {
  const out = new Float32Array(n);
  const borrowed = native.borrow(out, [n]);
  try {
    fillNormal(borrowed, std, rng);
  } finally {
    native.dispose(borrowed);
  }
  return out;
}

/** n draws, uniform in [−bound, bound). */
export function uniformArray(n: number, bound: number, rng: Random): Float32Array {
  const out = new Float32Array(n);
  for (let i = 0; i < n; i++) out[i] = (2 * rng.uniform() - 1) * bound;
  return out;
}

/** 32 bits, a pure function of three keys below 2^53: any draw by itself, in any order. */
function counterBits(seed: number, step: number, index: number): number {
  let h = 0x9e3779b9;
  for (const key of [seed, step, index]) {
    for (const word of [key | 0, Math.floor(key / 2 ** 32) | 0]) {
      h = Math.imul(h ^ word, 0x85ebca6b);
      h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
      h ^= h >>> 16;
    }
  }
  return h >>> 0;
}

/** Standard normal by Box and Muller, the same for the same keys. */
export function counterNormal(seed: number, step: number, index: number): number {
  const radius = Math.sqrt(-2 * Math.log((counterBits(seed, step, 2 * index) + 0.5) / 2 ** 32));
  return radius * Math.cos(2 * Math.PI * (counterBits(seed, step, 2 * index + 1) / 2 ** 32));
}
