import { checkBooleans, checkLists, checkOptions, DisposedError, expected, within } from '../errors.js';
import { type AugmentOptions, checkAugment } from './augment.js';
import { type FillerOptions, makeCache, makeSlot, type Slot } from './batchFiller.js';
import { type ClassBatches, ClassBatchPlan, checkSampler } from './classBatches.js';
import { RecordDataset } from './dataset.js';
import { DecodePool, type FillPool, inlinePool } from './decodePool.js';
import { permutation } from './keyedRandom.js';

export interface BatchLoaderOptions {
  readonly batchSize: number;
  /** Order and augmentation follow from it. Default 0. */
  readonly seed?: number;
  /** So many classes a batch, and so many images of each; batchSize is their product, and every batch is full. */
  readonly sampler?: ClassBatches;
  /** A new order each epoch (default), or the set's own. */
  readonly shuffle?: boolean;
  /** Leaves out a last batch that is not full. Default false. */
  readonly dropLast?: boolean;
  readonly augment?: AugmentOptions;
  /** Uses only these positions of the set. */
  readonly subset?: ArrayLike<number>;
  /** Decoding threads; 0 decodes on the calling thread when a batch is asked for. Default 1. */
  readonly workers?: number;
  /** Batches made ahead. Default 4, and at least one more than `workers`. */
  readonly prefetch?: number;
  /** First batch, as a checkpoint names it. Default the first of epoch 0. */
  readonly start?: { readonly epoch: number; readonly batch: number };
  /** The epoch before which the stream ends. Default: after the epoch it starts in. */
  readonly epochs?: number;
  /** Keeps decoded images in shared memory if all of them fit in this many bytes. Default 512 MiB; 0 = never. */
  readonly cacheBytes?: number;
  /**
   * Hands out views of the ring instead of copies: a batch is then valid only until the next one is asked for, and
   * lies in shared memory.
   */
  readonly reuse?: boolean;
  /** Ends the stream with the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface Batch {
  /** uint8 [B, height, width, channels] */
  readonly images: Uint8Array;
  /** int32 [B] */
  readonly labels: Int32Array;
  /** Key of each image in its file, [B] */
  readonly keys: Float64Array;
  /** Position of each image in the set, [B] */
  readonly indices: Uint32Array;
  readonly epoch: number;
  readonly batchIndex: number;
}

/** Of threads that decode: beyond it they are never faster, and each is a V8 of its own. */
export const MOST_WORKERS = 64;

const optionNames = [
  'batchSize',
  'seed',
  'sampler',
  'shuffle',
  'dropLast',
  'augment',
  'subset',
  'workers',
  'prefetch',
  'start',
  'epochs',
  'cacheBytes',
  'reuse',
  'signal',
] as const satisfies readonly (keyof BatchLoaderOptions)[];

interface Planned {
  readonly slot: number;
  readonly epoch: number;
  readonly batchIndex: number;
  readonly count: number;
  readonly filled: Promise<void>;
}

/**
 * Batches of decoded and augmented images, made ahead by threads. The stream is the same for the same seed, whatever
 * the number of threads and wherever it is resumed; it can be run through once.
 *
 * @example
 * await using loader = new BatchLoader(openDataset('data/kanji28/train.rec'), {
 *   batchSize: 256, seed: 1, dropLast: true, epochs: 5, augment: { shift: 2 },
 * });
 * for await (const { images, labels, epoch, batchIndex } of loader) step(images, labels);
 */
export class BatchLoader implements AsyncIterableIterator<Batch> {
  /** Batches in a full epoch. */
  readonly batchesPerEpoch: number;
  readonly #options: Required<Pick<BatchLoaderOptions, 'batchSize' | 'seed' | 'shuffle' | 'workers' | 'reuse'>>;
  readonly #subset: ArrayLike<number> | undefined;
  readonly #classPlan: ClassBatchPlan | undefined;
  readonly #samples: number;
  readonly #slots: readonly Slot[];
  readonly #free: number[];
  readonly #queue: Planned[] = [];
  readonly #filler: FillerOptions;
  readonly #signal: AbortSignal | undefined;
  readonly #end: number;
  #pool: FillPool | undefined;
  #epoch: number;
  #batch: number;
  #order: Uint32Array | undefined;
  #lent = -1;
  #state: 'open' | 'ended' | 'closed' = 'open';

  constructor(
    readonly dataset: RecordDataset,
    options: BatchLoaderOptions,
  ) {
    expected(dataset instanceof RecordDataset, 'BatchLoader', 'a set from openDataset()', dataset);
    checkOptions('BatchLoader', options, optionNames);
    const { batchSize, seed = 0, shuffle = true, dropLast = false, augment, workers = 1, reuse = false } = options;
    const { cacheBytes = 512 * 2 ** 20, start = { epoch: 0, batch: 0 } } = options;
    const natural = (value: number) => Number.isSafeInteger(value) && value >= 0;
    expected(natural(batchSize) && batchSize > 0, 'BatchLoader', 'batchSize ≥ 1', batchSize);
    expected(natural(seed), 'BatchLoader', 'seed, an integer in [0, 2^53)', seed);
    expected(natural(workers) && workers <= MOST_WORKERS, 'BatchLoader', `workers in [0, ${MOST_WORKERS}]`, workers);
    const { epochs } = options;
    expected(epochs === undefined || natural(epochs), 'BatchLoader', 'epochs, an integer of at least 0', epochs);
    expected(within(cacheBytes, 0, Number.POSITIVE_INFINITY), 'BatchLoader', 'cacheBytes of at least 0', cacheBytes);
    checkBooleans('BatchLoader', { shuffle, dropLast, reuse });
    const { signal } = options;
    expected(signal === undefined || signal instanceof AbortSignal, 'BatchLoader', 'signal, an AbortSignal', signal);
    checkOptions('BatchLoader', start, ['epoch', 'batch'], 'start');
    if (options.subset !== undefined) checkLists('BatchLoader', { subset: options.subset });
    if (augment !== undefined) checkAugment(augment, dataset.imageShape);
    this.#subset = options.subset;
    const samples = options.subset?.length ?? dataset.size;
    if (options.sampler !== undefined) {
      checkSampler(options.sampler);
      const { classes, images } = options.sampler;
      expected(batchSize === classes * images, 'BatchLoader', `batchSize ${classes} × ${images}`, batchSize);
      expected(shuffle, 'BatchLoader', 'shuffle with a sampler', shuffle);
      const labels = dataset.labels();
      const own = options.subset ? Int32Array.from(options.subset, (i) => labels[i] as number) : labels;
      this.#classPlan = new ClassBatchPlan(own, options.sampler);
    }
    this.#samples = this.#classPlan ? this.#classPlan.batchesPerEpoch * batchSize : samples;
    this.batchesPerEpoch = dropLast ? Math.floor(this.#samples / batchSize) : Math.ceil(this.#samples / batchSize);
    expected(this.batchesPerEpoch > 0, 'BatchLoader', `at least ${dropLast ? batchSize : 1} images`, this.#samples);
    expected(natural(start.epoch), 'BatchLoader', 'start.epoch ≥ 0', start.epoch);
    expected(
      natural(start.batch) && start.batch <= this.batchesPerEpoch,
      'BatchLoader',
      `start.batch in [0, ${this.batchesPerEpoch}]`,
      start.batch,
    );
    for (let i = 0; i < (this.#subset?.length ?? 0); i++) {
      const at = this.#subset?.[i] as number;
      expected(natural(at) && at < dataset.size, 'BatchLoader', `positions in [0, ${dataset.size}) in subset`, at);
    }
    const prefetch = options.prefetch ?? Math.max(4, workers + 1);
    expected(natural(prefetch) && prefetch > 0, 'BatchLoader', 'prefetch ≥ 1', prefetch);

    const [height, width, channels] = dataset.imageShape;
    const imageBytes = height * width * channels;
    // One slot more than is made ahead: the one that the caller holds.
    this.#slots = Array.from({ length: workers === 0 ? 1 : prefetch + 1 }, () => makeSlot(batchSize, imageBytes));
    this.#free = this.#slots.map((_, slot) => slot);
    const cache = dataset.size * imageBytes <= cacheBytes ? makeCache(dataset.size, imageBytes) : undefined;
    this.#filler = { dataset: dataset.handle, slots: this.#slots, cache, augment, seed };
    this.#options = { batchSize, seed, shuffle, workers, reuse };
    this.#epoch = start.epoch;
    this.#batch = start.batch;
    this.#end = epochs ?? start.epoch + 1;
    this.#signal = signal;
    this.#signal?.addEventListener('abort', this.#abort, { once: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Batch, undefined>> {
    this.#signal?.throwIfAborted();
    if (this.#state === 'ended') return { done: true, value: undefined };
    if (this.#state === 'closed') throw new DisposedError('BatchLoader: was closed', { code: 'ERR_FM_DISPOSED' });
    try {
      if (this.#lent >= 0) this.#free.push(this.#lent);
      this.#lent = -1;
      this.#plan();
      const planned = this.#queue.shift();
      if (planned === undefined) {
        await this.#finish('ended');
        return { done: true, value: undefined };
      }
      await planned.filled;
      this.#signal?.throwIfAborted();
      const value = this.#batchOf(planned);
      if (this.#options.workers > 0) this.#plan();
      return { done: false, value };
    } catch (error) {
      await this.#finish('closed');
      this.#signal?.throwIfAborted();
      throw error;
    }
  }

  /** Ends the stream early, as leaving a `for await` loop does. */
  async return(): Promise<IteratorResult<Batch, undefined>> {
    await this.#finish('ended');
    return { done: true, value: undefined };
  }

  /** Stops the threads; a batch that is being awaited is rejected. */
  async close(): Promise<void> {
    if (this.#state === 'open') await this.#finish('closed');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  readonly #abort = (): void => {
    void this.close();
  };

  /** Hands work to the threads while slots are free. */
  #plan(): void {
    const { batchSize, workers } = this.#options;
    while (this.#free.length > 0 && this.#state === 'open') {
      if (this.#batch >= this.batchesPerEpoch) {
        this.#epoch++;
        this.#batch = 0;
        this.#order = undefined;
      }
      if (this.#epoch >= this.#end) return;
      this.#pool ??= workers === 0 ? inlinePool(this.#filler) : new DecodePool(workers, this.#filler);
      const slot = this.#free.pop() as number;
      const position = this.#batch * batchSize;
      const count = Math.min(batchSize, this.#samples - position);
      this.#writeIndices(this.#slots[slot].indices, position, count);
      const filled = this.#pool.fill({ slot, epoch: this.#epoch, position, count });
      // Awaited in order later; a failure of a batch further ahead is not an unhandled one.
      filled.catch(() => {});
      this.#queue.push({ slot, epoch: this.#epoch, batchIndex: this.#batch++, count, filled });
    }
  }

  #writeIndices(indices: Uint32Array, position: number, count: number): void {
    const { shuffle, seed } = this.#options;
    if (this.#classPlan) this.#order ??= this.#classPlan.order(seed, this.#epoch);
    else if (shuffle) this.#order ??= permutation(this.#samples, seed, this.#epoch);
    for (let b = 0; b < count; b++) {
      const at = this.#order?.[position + b] ?? position + b;
      indices[b] = this.#subset?.[at] ?? at;
    }
  }

  #batchOf({ slot, epoch, batchIndex, count }: Planned): Batch {
    const { reuse } = this.#options;
    const [height, width, channels] = this.dataset.imageShape;
    const all = this.#slots[slot];
    const bytes = count * height * width * channels;
    const indices = reuse ? all.indices.subarray(0, count) : new Uint32Array(all.indices.subarray(0, count));
    const batch = {
      // The constructor copies out of shared memory; slice() would stay in it.
      images: reuse ? all.images.subarray(0, bytes) : new Uint8Array(all.images.subarray(0, bytes)),
      labels: reuse ? all.labels.subarray(0, count) : new Int32Array(all.labels.subarray(0, count)),
      keys: Float64Array.from(indices, (i) => this.dataset.key(i)),
      indices,
      epoch,
      batchIndex,
    };
    if (reuse) this.#lent = slot;
    else this.#free.push(slot);
    return batch;
  }

  async #finish(state: 'ended' | 'closed'): Promise<void> {
    this.#state = state;
    this.#signal?.removeEventListener('abort', this.#abort);
    const pool = this.#pool;
    this.#pool = undefined;
    this.#queue.length = 0;
    await pool?.close();
  }
}
