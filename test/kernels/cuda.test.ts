/** The kernels on tensors of device 'cuda', here the CUDA library under the host emulation, beside those of the CPU. */
import { describe, expect, it } from 'vitest';
import { NonFiniteError } from '../../lib/errors.js';
import { identify } from '../../lib/eval/identification.js';
import { nearest } from '../../lib/eval/nearest.js';
import * as kernels from '../../lib/kernels/index.js';
import { arcface, magface } from '../../lib/margins/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { memory, Tensor, tensor, tidy, zeros } from '../../lib/tensor.js';
import { emulatedCuda } from '../emulatedCuda.js';
import { arrays, async, bits, type Caller, everything, labelsOf, sync, tensorsOn } from './everything.js';

if (emulatedCuda) process.env.FLASHMARGIN_CUDA ??= emulatedCuda;

const onCuda = tensorsOn('cuda');

/** Every number of a result, by its path. */
function numbers(value: unknown, path = ''): [string, ArrayLike<number>][] {
  if (typeof value === 'number') return [[path, [value]]];
  if (value instanceof Tensor) return [[path, value.toArray()]];
  if (ArrayBuffer.isView(value)) return [[path, value as unknown as ArrayLike<number>]];
  return Object.entries((value ?? {}) as object).flatMap(([key, inner]) => numbers(inner, `${path}.${key}`));
}

function near(ours: unknown, theirs: unknown, tolerance: number): void {
  const [got, wanted] = [numbers(ours), numbers(theirs)];
  expect(got.map(([path]) => path)).toEqual(wanted.map(([path]) => path));
  wanted.forEach(([path, values], i) => {
    const own = got[i]?.[1] as ArrayLike<number>;
    const scale = Array.from(values).reduce((most, v) => Math.max(most, Math.abs(v)), 1e-30);
    const worst = Array.from(values).reduce((most, v, k) => Math.max(most, Math.abs(v - (own[k] as number))), 0);
    expect(worst / scale, path).toBeLessThan(tolerance);
  });
}

describe.skipIf(!emulatedCuda)("kernels on device 'cuda', emulated", () => {
  const shapes = [
    [3, 5, 4, 2],
    [9, 301, 10, 3],
  ] as const;

  it.each(shapes)('are those of the CPU: N %i, C %i, D %i, K %i', async (N, C, D, K) => {
    for (const [Typed, tolerance] of [
      [Float32Array, 2e-5],
      [Float64Array, 1e-12],
    ] as const) {
      const wanted = await everything(sync, N, C, D, K, arrays, Typed);
      near(await everything(sync, N, C, D, K, onCuda, Typed), wanted, tolerance);
    }
  });

  it('give the same bits by both ways of calling, labels as an array or a tensor', async () => {
    const [N, C, D, K] = shapes[0];
    const withTensorLabels: Caller = (name, ...args) =>
      sync(name, ...args.map((x) => (x instanceof Int32Array ? tensor(x, [x.length], 'cuda') : x)));
    const wanted = bits(await everything(sync, N, C, D, K, onCuda));
    expect(bits(await everything(async, N, C, D, K, onCuda))).toEqual(wanted);
    expect(bits(await everything(withTensorLabels, N, C, D, K, onCuda))).toEqual(wanted);
  });

  it('write where they are told, over an argument, and into arrays', async () => {
    const logits = new Float32Array(normalArray(12, 3, new Random(3)));
    const labels = labelsOf(3, 4);
    const wanted = kernels.softmaxCrossEntropyBackwardSync(logits, labels);
    const z = tensor(logits, [3, 4], 'cuda');
    const out = new Float32Array(12);
    for (const call of [kernels.softmaxCrossEntropyBackwardSync, kernels.softmaxCrossEntropyBackward]) {
      expect(await call(z, labels, { out: out as unknown as Tensor })).toBe(out);
      near(out, wanted, 1e-6);
      out.fill(0);
    }
    expect(await kernels.softmaxCrossEntropyBackward(z, labels, { out: z })).toBe(z);
    near(z, wanted, 1e-6);
    expect(z.device).toBe('cuda:0');
  });

  it('leave arrays to the CPU', () => {
    const y = kernels.normalizeSync(new Float32Array([3, 4]), { rows: 1 }).y;
    expect(y).toEqual(Float32Array.of(0.6, 0.8));
    expect(() =>
      kernels.softmaxCrossEntropySync(new Float32Array([1, 2]), tensor(Int32Array.of(0), [1], 'cuda')),
    ).toThrow(/on one device, got cuda:0 and cpu|on one device, got cpu and cuda:0/);
    expect(() => kernels.softmaxCrossEntropySync(zeros([1, 2], 'float32', 'cuda'), zeros([1], 'int32'))).toThrow(
      /on one device/,
    );
  });

  it('run on the GPU of their tensors', () => {
    const there = kernels.normalizeSync(tensor(new Float32Array([3, 4]), [1, 2], 'cuda:1')).y;
    expect(there.device).toBe('cuda:1');
    near(there, Float32Array.of(0.6, 0.8), 1e-6);
    expect(() => kernels.cosineLogitsSync(there, zeros([3, 2], 'float32', 'cuda:0'))).toThrow(
      /on one device, got cuda:[01] and cuda:[01]/,
    );
  });

  it('say what is wrong in the words of the CPU', async () => {
    const cosines = new Float32Array(12).fill(0.5);
    cosines[7] = Number.NaN;
    const wrong = (x: unknown) => () => kernels.marginTransformSync(x as Tensor, labelsOf(3, 4), arcface());
    const said = 'marginTransform: expected finite cosines, got nan at row 1, column 3';
    expect(wrong(cosines)).toThrow(said);
    expect(wrong(onCuda(cosines, [3, 4]))).toThrow(said);
    expect(wrong(onCuda(cosines, [3, 4]))).toThrow(NonFiniteError);
    await expect(
      kernels.normRegularizer(onCuda(new Float32Array([1, -2]), [2]) as Tensor, Int32Array.of(0, 1), magface()),
    ).rejects.toThrow('normRegularizer: expected finite norms of at least 0, got -2 at row 1');
    await expect(
      kernels.softmaxCrossEntropy(onCuda(new Float32Array(4), [2, 2]) as Tensor, Int32Array.of(0, 2)),
    ).rejects.toThrow('expected labels in [0, 2) or -1, got 2 at row 1');
  });

  it('say what CUDA says where a call fails, and go on after it', () => {
    const z = onCuda(new Float32Array([1, 2, 3, 4]), [2, 2]) as Tensor;
    const loss = () => kernels.softmaxCrossEntropySync(z, Int32Array.of(0, 1)).loss;
    const wanted = loss();
    process.env.FM_EMULATED_FAILURE = 'cudaLaunchKernelEx';
    try {
      expect(loss).toThrow(
        /^softmaxCrossEntropy: cudaErrorIllegalAddress \(an illegal memory access was encountered\) in .*cudaLaunchKernelEx.*restart the process/,
      );
    } finally {
      delete process.env.FM_EMULATED_FAILURE;
    }
    expect(loss()).toBe(wanted);
    process.env.FM_EMULATED_MEMORY = '0';
    try {
      expect(() => zeros([1 << 20], 'float32', 'cuda')).toThrow(
        /cudaErrorMemoryAllocation allocating .* lower batchSize/,
      );
    } finally {
      delete process.env.FM_EMULATED_MEMORY;
    }
    expect(loss()).toBe(wanted);
  });

  it('leave nothing behind, also where they fail', async () => {
    const before = memory().tensors;
    const cosines = onCuda(new Float32Array(12).fill(2), [3, 4]) as Tensor;
    await expect(kernels.marginTransform(cosines, labelsOf(3, 4), arcface())).rejects.toThrow(/in \[-1, 1\], got 2/);
    expect(() => kernels.marginTransformSync(cosines, labelsOf(3, 4), arcface())).toThrow(/in \[-1, 1\], got 2/);
    cosines.dispose();
    tidy(() => {
      const { y, norm } = kernels.normalizeSync(zeros([2, 3], 'float64', 'cuda'));
      for (const each of [y, norm]) each.dispose(); // results outlive scopes
    });
    expect(memory().tensors).toBe(before);
  });

  it('the search is that of the CPU', () => {
    const random = new Random(4);
    const rows = (n: number) => Float32Array.from({ length: n * 8 }, () => Math.floor(random.uniform() * 5) - 2);
    const [queries, gallery] = [rows(9), rows(70)];
    expect(nearest(queries, gallery, 8, 5, 'cuda')).toEqual(nearest(queries, gallery, 8, 5));
    const labelled = (embeddings: Float32Array) => ({
      embeddings,
      labels: Int32Array.from({ length: embeddings.length / 8 }, (_, i) => i % 6),
    });
    const options = { ranks: [1, 4], wrong: 3 };
    expect(identify(labelled(gallery), labelled(queries), 8, { ...options, device: 'cuda' })).toEqual(
      identify(labelled(gallery), labelled(queries), 8, options),
    );
    expect(() => nearest(queries, gallery, 8, 71, 'cuda')).toThrow(/expected k in \[1, 70\]/);
  });
});
