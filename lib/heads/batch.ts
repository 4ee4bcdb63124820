/** What the rules of a head ask of a batch, from the kernels. */
import { type Handle, type HeadOptions, type MarginParams, native } from '../binding.js';
import { type HostArray, Tensor, tensor, tidy } from '../tensor.js';
import type { BatchFacts, Fact } from './state.js';

/** Of a sweep over the classes that a batch's facts took: what saves its step one. */
export type Sums = Pick<HeadOptions, 'moments' | 'cosines' | 'momentsScale'>;
/** Freed when a call has ended. */
export type Handles = (Handle | undefined)[];

/** The classes that take part in a step, and the batch's targets as places among them. */
export interface Sample {
  readonly classes: Handle;
  readonly targets: Handle;
}
export type Batch = BatchFacts & { readonly sums: Sums; readonly sample: Sample | undefined };

/** What the answers depend on. */
export interface BatchHead {
  readonly numClasses: number;
  readonly embeddingSize: number;
  readonly subCenters: number;
  readonly weight: Handle;
  /** [C], where the method has margins by class. */
  readonly margins: Tensor | undefined;
  /** AdaCos's sum is over plain cosines, at the scale of the step before. */
  readonly plainSoftmax: () => MarginParams & { readonly scale: number };
  readonly options: HeadOptions;
  readonly device: number;
  /** Where not all classes take part in a step: how many do, and what they are drawn from. */
  readonly sampling: { readonly count: number; readonly seed: number; readonly step: number } | undefined;
}

/** The values of a result, which is freed. */
function taken(handle: Handle): HostArray {
  const result = new Tensor(handle);
  try {
    return result.toArray();
  } finally {
    result.dispose();
  }
}

function labelsOf(targets: Handle): Int32Array {
  const labels = new Int32Array(native.describe(targets).shape[0] as number);
  native.readInto(targets, labels);
  return labels;
}

type Awaitable<T> = T | Promise<T>;
type NativeSample = ReturnType<typeof native.sampleClasses>;
type SampleCall<R> = (...args: Parameters<typeof native.sampleClasses>) => R;

function sampled<R>(call: SampleCall<R>, { numClasses, sampling }: BatchHead, labels: Int32Array): R | undefined {
  if (!sampling) return undefined;
  const { count, seed, step } = sampling;
  return tidy(() => call(tensor(labels, [labels.length]).handle, numClasses, count, seed, step));
}

/** The places go where the batch is. */
function sampleOn(device: number, sample: NativeSample | undefined, used: Handles): Sample | undefined {
  if (!sample) return undefined;
  used.push(sample.classes, sample.labels);
  if (device < 0) return { classes: sample.classes, targets: sample.labels };
  const places = labelsOf(sample.labels);
  const targets = native.fromArray(places, [places.length], device);
  used.push(targets);
  return { classes: sample.classes, targets };
}

function sumsArguments(
  { weight, options }: BatchHead,
  rows: Handle,
  targets: Handle,
  sample: Sample | undefined,
  p: MarginParams,
): Parameters<typeof native.negativeSums> {
  return [rows, weight, sample?.targets ?? targets, p, { ...options, classes: sample?.classes }];
}

/** [N]: norms of the rows [N, D]. */
function normsOf(rows: Handle): Handle {
  const { y, norm } = native.normalizeForward(rows);
  native.dispose(y);
  return norm;
}

/** How each fact is had, by calls that answer at once or promise to. */
function asked<R>(
  { numClasses, subCenters, weight, margins }: BatchHead,
  rows: Handle,
  targets: Handle,
  labels: Int32Array,
  calls: {
    readonly targetCosines: (...args: Parameters<typeof native.targetCosines>) => R;
    readonly gatherRows: (...args: Parameters<typeof native.gatherRows>) => R;
    readonly negativeLse: () => R;
  },
): Record<Fact, () => R | Handle> {
  return {
    targetCosines: () => calls.targetCosines(rows, weight, targets, subCenters),
    negativeLse: calls.negativeLse,
    norms: () => normsOf(rows),
    classMargins: () =>
      tidy(() => {
        const column = (margins as Tensor).reshape([numClasses, 1]);
        // a label that is no class is left out or refused by the step
        const classes = labels.map((label) => (label >= 0 && label < numClasses ? label : 0));
        return calls.gatherRows(column.handle, tensor(classes, [classes.length]).handle);
      }),
  };
}

/** A batch on the head's device; its labels again, where they are known without waiting for that. */
export interface Rows {
  readonly rows: Handle;
  readonly targets: Handle;
  readonly known: Int32Array | undefined;
}

/** `used` takes the handles that the step needs, and whoever asks frees. */
export async function factsOf(
  head: BatchHead,
  needs: readonly Fact[],
  { rows, targets, known }: Rows,
  used: Handles,
): Promise<Batch> {
  const labels = known ?? labelsOf(targets);
  let sums: Sums = {};
  const few = head.numClasses < 1 << 16;
  const sample = sampleOn(
    head.device,
    await sampled<Awaitable<NativeSample>>(few ? native.sampleClasses : native.sampleClassesAsync, head, labels),
    used,
  );
  // Where they take some microseconds, at once: a turn of the queue would take longer.
  const small = labels.length * head.embeddingSize * head.subCenters < 1 << 18;
  const asks = asked<Handle | Promise<Handle>>(head, rows, targets, labels, {
    targetCosines: small ? native.targetCosines : native.targetCosinesAsync,
    gatherRows: small ? native.gatherRows : native.gatherRowsAsync,
    negativeLse: async () => {
      const p = head.plainSoftmax();
      const { lse, ...rest } = await native.negativeSums(...sumsArguments(head, rows, targets, sample, p));
      used.push(rest.moments, rest.cosines);
      sums = { ...rest, momentsScale: p.scale };
      return lse;
    },
  });
  const facts: Partial<Record<Fact, HostArray>> = {};
  for (const fact of needs) facts[fact] = taken(await asks[fact]());
  return { labels, sums, sample, ...facts };
}

/** factsOf on the calling thread. */
export function factsOfSync(
  head: BatchHead,
  needs: readonly Fact[],
  { rows, targets, known }: Rows,
  used: Handles,
): Batch {
  const labels = known ?? labelsOf(targets);
  let sums: Sums = {};
  const sample = sampleOn(head.device, sampled(native.sampleClasses, head, labels), used);
  const asks = asked<Handle>(head, rows, targets, labels, {
    targetCosines: native.targetCosines,
    gatherRows: native.gatherRows,
    negativeLse: () => {
      const p = head.plainSoftmax();
      const { lse, ...rest } = native.negativeSumsSync(...sumsArguments(head, rows, targets, sample, p));
      used.push(rest.moments, rest.cosines);
      sums = { ...rest, momentsScale: p.scale };
      return lse;
    },
  });
  const facts = Object.fromEntries(needs.map((fact) => [fact, taken(asks[fact]())]));
  return { labels, sums, sample, ...facts };
}
