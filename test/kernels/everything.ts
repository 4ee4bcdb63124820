/** Every kernel once, forward and backward, on whatever holds the numbers; and results as digests of their bits. */
import { createHash } from 'node:crypto';
import * as kernels from '../../lib/kernels/index.js';
import { magface } from '../../lib/margins/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { Tensor, tensor } from '../../lib/tensor.js';

type FloatArray = Float32Array | Float64Array;

/** Every fifth row has no target. */
export const labelsOf = (N: number, C: number) =>
  Int32Array.from({ length: N }, (_, i) => (i % 5 === 3 ? -1 : (7 * i) % C));

/** By name. */
export type Results = Record<string, unknown>;
export type Caller = (name: string, ...args: unknown[]) => unknown;

export async function everything(
  call: Caller,
  N: number,
  C: number,
  D: number,
  K: number,
  as: (x: FloatArray, shape: number[]) => unknown,
  Typed: Float32ArrayConstructor | Float64ArrayConstructor = Float32Array,
): Promise<Results> {
  const random = new Random(5);
  const floats = (count: number, spread = 1) => Typed.from(normalArray(count, spread, random));
  const labels = labelsOf(N, C);
  const rows = { rows: N };
  const x = as(floats(N * D, 3), [N, D]);
  const w = as(floats(C * K * D, 0.1), [C * K, D]);
  const d = as(floats(N * C, 0.01), [N, C]);
  const dAll = as(floats(N * C * K, 0.01), [N, C * K]);
  const { y, norm } = (await call('normalize', x, rows)) as { y: unknown; norm: unknown };
  const all = await call('cosineLogits', y, w, rows);
  const pooled = (await call('subCenterMax', all, K, rows)) as { cosines: unknown; centers: unknown };
  const margin = magface({ negatives: { rule: 'mv', t: 0.2, hard: 'adaptive' }, lowerNorm: 3, scale: 32 });
  const logits = await call('marginTransform', pooled.cosines, labels, margin, { norms: norm });
  const curricular = { t: 0.2, margin: 0.5 };
  const entropy = { labelSmoothing: 0.1 };
  return {
    y,
    norm,
    all,
    ...pooled,
    logits,
    dx: await call('normalizeBackward', x, y, norm, { dNorm: norm }),
    dAll: await call('cosineLogitsBackward', dAll, x, w, rows),
    scattered: await call('subCenterMaxBackward', d, pooled.centers, K, rows),
    dTransform: await call('marginTransformBackward', d, pooled.cosines, labels, margin, { norms: norm }),
    reweighted: await call('curricularReweight', pooled.cosines, labels, curricular),
    dReweighted: await call('curricularReweightBackward', d, pooled.cosines, labels, curricular),
    softmax: await call('softmaxCrossEntropy', logits, labels, entropy),
    dSoftmax: await call('softmaxCrossEntropyBackward', logits, labels, entropy),
    binary: await call('binaryCrossEntropy', logits, labels),
    dBinary: await call('binaryCrossEntropyBackward', logits, labels),
    regularizer: await call('normRegularizer', norm, labels, margin),
    dRegularizer: await call('normRegularizerBackward', norm, labels, margin),
  };
}

const table = kernels as unknown as Record<string, (...args: unknown[]) => unknown>;
export const sync: Caller = (name, ...args) => (table[`${name}Sync`] as Caller)(...(args as [string]));
export const async: Caller = (name, ...args) => (table[name] as Caller)(...(args as [string]));
export const arrays = (x: FloatArray) => x;
export const tensorsOn =
  (device = 'cpu') =>
  (x: FloatArray, shape: number[]) =>
    tensor(x, shape, device);

/** Arrays and tensors as digests of their bytes. */
export function bits(value: unknown): unknown {
  if (value instanceof Tensor) return bits(value.toArray());
  if (ArrayBuffer.isView(value)) {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return `${value.constructor.name} ${bytes.length} ${createHash('sha1').update(bytes).digest('hex')}`;
  }
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, bits(inner)]));
}
