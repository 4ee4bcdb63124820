/**
 * A reproducible generator: sfc32 (Doty-Humphrey, PractRand) keyed by a seed, a purpose, an epoch and a position. Each
 * key has its own stream, so what is drawn for a sample depends on neither threads nor on where a run was resumed.
 */
export class KeyedRandom {
  #a = 0;
  #b = 0;
  #c = 0;
  #counter = 1;

  /** All four are integers in [0, 2^53). */
  reset(seed: number, purpose: number, epoch = 0, position = 0): this {
    this.#a = seed | 0;
    this.#b = high(seed) ^ Math.imul(purpose + 1, 0x9e3779b1);
    this.#c = epoch | 0;
    this.#counter = 1;
    this.#discard(8);
    this.#a ^= position | 0;
    this.#b ^= high(position);
    this.#c ^= high(epoch);
    this.#discard(12);
    return this;
  }

  #discard(rounds: number): void {
    for (let i = 0; i < rounds; i++) this.uint32();
  }

  uint32(): number {
    const out = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + out) | 0;
    return out >>> 0;
  }

  /** Uniform in [0, 1), 32 bits. */
  uniform(): number {
    return this.uint32() / 2 ** 32;
  }

  /** Uniform in {0, …, n − 1}, 0 < n ≤ 2^32, without bias. */
  below(n: number): number {
    const limit = 2 ** 32 - (2 ** 32 % n);
    let draw = this.uint32();
    while (draw >= limit) draw = this.uint32();
    return draw % n;
  }

  /** Standard normal, by Box and Muller; two uniforms each. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }
}

const high = (value: number): number => Math.floor(value / 2 ** 32) | 0;

/** Keeps the streams of different uses of one seed apart. */
export const Purpose = { order: 0, augment: 1 } as const;

/** The order of an epoch: a permutation of 0 … n − 1 (Fisher and Yates), the same for the same seed and epoch. */
export function permutation(n: number, seed: number, epoch: number): Uint32Array {
  const order = new Uint32Array(n);
  const random = new KeyedRandom().reset(seed, Purpose.order, epoch);
  for (let i = 0; i < n; i++) {
    const j = random.below(i + 1);
    order[i] = order[j];
    order[j] = i;
  }
  return order;
}
