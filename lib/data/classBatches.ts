/**
 * The order of an epoch for losses on pairs: every batch has P classes, and of each K images in a run.
 *
 * Each class's images are shuffled and cut into groups of K, a last group filled up from the class's first images; the
 * groups are shuffled, and batches take P of them, of different classes.  A group whose class the batch has already
 * waits for the next one; the last batches of a set with few large classes are filled up with groups drawn again.
 */
import { checkLists, checkOptions, DataError, expected } from '../errors.js';
import { KeyedRandom, Purpose } from './keyedRandom.js';

export interface ClassBatches {
  /** P, classes a batch. */
  readonly classes: number;
  /** K, images of each. */
  readonly images: number;
}

/** Positions of the images of each class, classes and images in their order; those below 0 have no class. */
function byClass(labels: ArrayLike<number>): Uint32Array[] {
  const found = new Map<number, number[]>();
  for (let i = 0; i < labels.length; i++) {
    const label = labels[i] as number;
    if (label < 0) continue;
    const own = found.get(label);
    if (own) own.push(i);
    else found.set(label, [i]);
  }
  return [...found].sort(([a], [b]) => a - b).map(([, positions]) => Uint32Array.from(positions));
}

/** Throws unless it says how many classes and images a batch has. */
export function checkSampler(sampler: ClassBatches): void {
  checkOptions('sampler', sampler, ['classes', 'images']);
  const { classes, images } = sampler;
  for (const [name, size] of Object.entries({ classes, images }))
    expected(Number.isSafeInteger(size) && size >= 1, 'sampler', `${name} of at least 1`, size);
}

/** Plans epochs of a set of labels. */
export class ClassBatchPlan {
  readonly batchSize: number;
  readonly batchesPerEpoch: number;
  readonly #classes: readonly Uint32Array[];
  readonly #groups: Uint32Array;

  constructor(
    labels: ArrayLike<number>,
    readonly sampler: ClassBatches,
  ) {
    checkLists('sampler', { labels });
    checkSampler(sampler);
    const { classes: P, images: K } = sampler;
    this.#classes = byClass(labels);
    if (this.#classes.length < P) {
      throw new DataError(`sampler: expected at least ${P} classes, got a set of ${this.#classes.length}`, {
        code: 'ERR_FM_DATA',
        hint: 'lower sampler.classes',
      });
    }
    this.#groups = Uint32Array.from(
      this.#classes.flatMap((own, c) => new Array<number>(Math.ceil(own.length / K)).fill(c)),
    );
    this.batchSize = P * K;
    this.batchesPerEpoch = Math.floor(this.#groups.length / P);
  }

  /** Positions of an epoch, batch after batch: the same for the same seed and epoch. */
  order(seed: number, epoch: number): Uint32Array {
    const { classes: P, images: K } = this.sampler;
    const random = new KeyedRandom().reset(seed, Purpose.order, epoch);
    const shuffled = <T extends Uint32Array>(x: T): T => {
      for (let i = x.length - 1; i > 0; i--) {
        const j = random.below(i + 1);
        [x[i], x[j]] = [x[j] as number, x[i] as number];
      }
      return x;
    };
    const queue = shuffled(this.#groups.slice());
    const own = this.#classes.map((positions) => shuffled(positions.slice()));
    const used = new Uint32Array(own.length); // images of each class that are spoken for; goes round
    const out = new Uint32Array(this.batchesPerEpoch * this.batchSize);
    let written = 0;
    let next = 0;
    let waiting: number[] = [];
    for (let batch = 0; batch < this.batchesPerEpoch; batch++) {
      const chosen = new Set<number>();
      const rest: number[] = [];
      for (const c of waiting) {
        if (chosen.size < P && !chosen.has(c)) chosen.add(c);
        else rest.push(c);
      }
      while (chosen.size < P && next < queue.length) {
        const c = queue[next++] as number;
        if (chosen.has(c)) rest.push(c);
        else chosen.add(c);
      }
      while (chosen.size < P) chosen.add(random.below(own.length));
      waiting = rest;
      for (const c of chosen) {
        const positions = own[c] as Uint32Array;
        for (let i = 0; i < K; i++) {
          out[written++] = positions[(used[c] as number) % positions.length] as number;
          used[c] = (used[c] as number) + 1;
        }
      }
    }
    return out;
  }
}
