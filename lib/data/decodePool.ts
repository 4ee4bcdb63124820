import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { DisposedError, FlashmarginError } from '../errors.js';
import { BatchFiller, type FillerOptions, type FillJob } from './batchFiller.js';
import { dataError } from './dataError.js';
import type { WorkerFailure, WorkerReply } from './decodeWorker.js';

/** Something that fills slots: threads, or the calling thread itself. */
export interface FillPool {
  fill(job: FillJob): Promise<void>;
  close(): Promise<void>;
}

/** Fills on the calling thread, one batch at a time, when it is asked for. */
export function inlinePool(options: FillerOptions): FillPool {
  const filler = new BatchFiller(options);
  return {
    fill: async (job) => filler.fill(job),
    close: async () => filler.close(),
  };
}

interface Pending {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly worker: Worker;
  readonly pending: Map<number, Pending>;
}

/** Threads that each read the set themselves and write into the shared slots. */
export class DecodePool implements FillPool {
  readonly #threads: readonly Thread[];
  #failure: Error | undefined;

  constructor(workers: number, options: FillerOptions) {
    const entry = workerEntry();
    this.#threads = Array.from({ length: workers }, () => this.#start(entry, options));
  }

  fill(job: FillJob): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const thread = this.#threads.reduce((a, b) => (b.pending.size < a.pending.size ? b : a));
    return new Promise<void>((resolve, reject) => {
      thread.pending.set(job.slot, { resolve, reject });
      // Only threads with work keep the process alive: a loader that is forgotten does not.
      thread.worker.ref();
      thread.worker.postMessage(job);
    });
  }

  async close(): Promise<void> {
    this.#fail(new DisposedError('BatchLoader: closed while a batch was being made', { code: 'ERR_FM_DISPOSED' }));
    for (const { worker } of this.#threads) worker.ref();
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #start(entry: string, options: FillerOptions): Thread {
    // Flags of the main thread such as --input-type or --import are not for this entry.
    const worker = new Worker(entry, { workerData: options, execArgv: [] });
    const thread: Thread = { worker, pending: new Map() };
    thread.worker.on('message', ({ slot, failure }: WorkerReply) => {
      const pending = thread.pending.get(slot);
      thread.pending.delete(slot);
      // Not while closing: the end of the thread is awaited then, and must keep the process.
      if (thread.pending.size === 0 && this.#failure === undefined) thread.worker.unref();
      if (failure === undefined) pending?.resolve();
      else pending?.reject(revive(failure));
    });
    thread.worker.on('error', (cause) => {
      this.#fail(
        new FlashmarginError(`decoding thread failed: ${(cause as Error).message}`, { code: 'ERR_FM_WORKER', cause }),
      );
    });
    thread.worker.on('exit', (code) => {
      this.#fail(new FlashmarginError(`decoding thread ended early, with code ${code}`, { code: 'ERR_FM_WORKER' }));
    });
    return thread;
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { pending } of this.#threads ?? []) {
      for (const { reject } of pending.values()) reject(this.#failure);
      pending.clear();
    }
  }
}

function revive({ message, code, stack }: WorkerFailure): Error {
  const error = code === 'ERR_FM_DATA' ? dataError(message) : new FlashmarginError(message, { code });
  if (stack !== undefined) error.stack = stack;
  return error;
}

/** The built worker beside this module, whether this runs from dist/, from a chunk of it, or from lib/ under a test. */
function workerEntry(): string {
  const candidates = [
    './data/decodeWorker.mjs',
    '../data/decodeWorker.mjs',
    './decodeWorker.mjs',
    '../../dist/data/decodeWorker.mjs',
  ];
  const found = candidates.map((path) => fileURLToPath(new URL(path, import.meta.url))).find(existsSync);
  if (found === undefined) {
    throw new FlashmarginError('BatchLoader: the decoding thread data/decodeWorker.mjs was not found in dist/', {
      code: 'ERR_FM_NO_WORKER',
      hint: 'npm run build:ts, or workers: 0 to decode on the calling thread',
    });
  }
  return found;
}
