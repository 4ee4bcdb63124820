import { type AugmentOptions, drawPlacement, placeImage } from './augment.js';
import { type DatasetHandle, RecordDataset } from './dataset.js';
import { KeyedRandom } from './keyedRandom.js';

/** Decoded images of a whole set, shared between threads. */
export interface ImageCache {
  /** uint8 [size, height, width, channels] */
  readonly images: Uint8Array<SharedArrayBuffer>;
  readonly labels: Int32Array<SharedArrayBuffer>;
  /** 1 where the image and its label are there. */
  readonly ready: Uint8Array<SharedArrayBuffer>;
}

/** One place of the ring: filled by a decoding thread, emptied by the loader. */
export interface Slot {
  /** uint8 [batchSize, height, width, channels] */
  readonly images: Uint8Array<SharedArrayBuffer>;
  readonly labels: Int32Array<SharedArrayBuffer>;
  /** Positions in the set of the images to put here. */
  readonly indices: Uint32Array<SharedArrayBuffer>;
}

export interface FillerOptions {
  readonly dataset: DatasetHandle;
  readonly slots: readonly Slot[];
  readonly cache: ImageCache | undefined;
  readonly augment: AugmentOptions | undefined;
  readonly seed: number;
}

export interface FillJob {
  readonly slot: number;
  readonly epoch: number;
  /** Place in the epoch's order of the first image; augmentation is drawn from it. */
  readonly position: number;
  readonly count: number;
}

export function makeCache(size: number, imageBytes: number): ImageCache {
  return {
    images: new Uint8Array(new SharedArrayBuffer(size * imageBytes)),
    labels: new Int32Array(new SharedArrayBuffer(size * 4)),
    ready: new Uint8Array(new SharedArrayBuffer(size)),
  };
}

export function makeSlot(batchSize: number, imageBytes: number): Slot {
  return {
    images: new Uint8Array(new SharedArrayBuffer(batchSize * imageBytes)),
    labels: new Int32Array(new SharedArrayBuffer(batchSize * 4)),
    indices: new Uint32Array(new SharedArrayBuffer(batchSize * 4)),
  };
}

/** Decodes and augments the images of a batch into its slot; the same bytes whichever thread runs it. */
export class BatchFiller {
  readonly #dataset: RecordDataset;
  readonly #imageBytes: number;
  readonly #decoded: Uint8Array;
  readonly #random = new KeyedRandom();

  constructor(private readonly options: FillerOptions) {
    this.#dataset = new RecordDataset(options.dataset);
    const [height, width, channels] = options.dataset.imageShape;
    this.#imageBytes = height * width * channels;
    this.#decoded = new Uint8Array(this.#imageBytes);
  }

  fill({ slot, epoch, position, count }: FillJob): void {
    const { images, labels, indices } = this.options.slots[slot];
    for (let b = 0; b < count; b++) {
      labels[b] = this.#fillOne(indices[b], images, b * this.#imageBytes, epoch, position + b);
    }
  }

  close(): void {
    this.#dataset.close();
  }

  #fillOne(i: number, out: Uint8Array, offset: number, epoch: number, position: number): number {
    const { cache, augment, seed } = this.options;
    if (augment === undefined) {
      if (cache === undefined) return this.#dataset.read(i, out, offset);
      const label = this.#cached(cache, i);
      const start = i * this.#imageBytes;
      out.set(cache.images.subarray(start, start + this.#imageBytes), offset);
      return label;
    }
    const label = cache === undefined ? this.#dataset.read(i, this.#decoded, 0) : this.#cached(cache, i);
    const placement = drawPlacement(augment, this.#random, seed, epoch, position);
    const source = cache === undefined ? this.#decoded : cache.images;
    const start = cache === undefined ? 0 : i * this.#imageBytes;
    placeImage(source, start, out, offset, this.#dataset.imageShape, placement, augment.border);
    return label;
  }

  // Two threads may decode the same image at once; both write the same bytes.
  #cached(cache: ImageCache, i: number): number {
    if (Atomics.load(cache.ready, i) === 0) {
      cache.labels[i] = this.#dataset.read(i, cache.images, i * this.#imageBytes);
      Atomics.store(cache.ready, i, 1);
    }
    return cache.labels[i];
  }
}
