// Entry of a decoding thread: fills one slot of the ring per message, and answers with nothing or with the error.
import { parentPort, workerData } from 'node:worker_threads';
import { FlashmarginError } from '../errors.js';
import { BatchFiller, type FillerOptions, type FillJob } from './batchFiller.js';

/** An error as it crosses the thread boundary, where classes are lost. */
export interface WorkerFailure {
  readonly message: string;
  readonly code: string | undefined;
  readonly stack: string | undefined;
}

export interface WorkerReply {
  readonly slot: number;
  readonly failure: WorkerFailure | undefined;
}

let filler: BatchFiller | undefined;

parentPort?.on('message', (job: FillJob) => {
  let failure: WorkerFailure | undefined;
  try {
    filler ??= new BatchFiller(workerData as FillerOptions);
    filler.fill(job);
  } catch (thrown) {
    const error = thrown as Error;
    const code = error instanceof FlashmarginError ? error.code : undefined;
    failure = { message: error.message, code, stack: error.stack };
  }
  parentPort?.postMessage({ slot: job.slot, failure } satisfies WorkerReply);
});
