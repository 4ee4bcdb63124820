/** The operations on rows against plain loops, in both precisions, on shapes with ragged edges. */
import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { setNumThreads } from '../../lib/device.js';
import * as ops from '../../lib/ops/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { parameter, type Tensor, tensor, tidy, zeros } from '../../lib/tensor.js';

const rng = new Random(5);
const draw = (n: number) => Array.from(normalArray(n, 1, rng));
const precisions = [
  ['float64', Float64Array, 1e-13],
  ['float32', Float32Array, 2e-6],
] as const;
const make = (Typed: typeof Float32Array | typeof Float64Array, values: readonly number[], shape: readonly number[]) =>
  tensor(Typed.from(values), shape);

function close(ours: ArrayLike<number>, theirs: ArrayLike<number>, tolerance: number): void {
  expect(ours.length).toBe(theirs.length);
  const size = Math.max(1, ...Array.from(theirs, Math.abs));
  for (let i = 0; i < ours.length; i++)
    expect(Math.abs((ours[i] as number) - (theirs[i] as number)) / size, `element ${i}`).toBeLessThan(tolerance);
}

describe.each(precisions)('%s', (_, Typed, tolerance) => {
  it.each([
    [1, 1],
    [5, 3],
    [17, 33],
    [300, 4],
  ])('softmax and logSoftmax of [%i, %i]', (N, K) => {
    const x = draw(N * K).map((v) => 3 * v);
    const rows = Array.from({ length: N }, (_, n) => {
      const row = x.slice(n * K, (n + 1) * K).map((v) => Typed.of(v)[0] as number);
      const sum = row.reduce((total, v) => total + Math.exp(v), 0);
      return row.map((v) => v - Math.log(sum));
    }).flat();
    close(ops.logSoftmax(make(Typed, x, [N, K])).toArray(), rows, tolerance);
    close(ops.softmax(make(Typed, x, [N, K])).toArray(), rows.map(Math.exp), tolerance);
  });

  it.each([
    [1, 1],
    [7, 19],
    [13, 64],
    [70, 257],
  ])('squaredDistances of [%i, %i]', (N, D) => {
    const x = Array.from(Typed.from(draw(N * D)));
    const at = (i: number, j: number) =>
      x.slice(i * D, (i + 1) * D).reduce((sum, v, d) => sum + (v - (x[j * D + d] as number)) ** 2, 0);
    const wanted = Array.from({ length: N * N }, (_, ij) => at(Math.floor(ij / N), ij % N));
    const ours = ops.squaredDistances(make(Typed, x, [N, D])).toArray();
    close(ours, wanted, tolerance);
    for (let i = 0; i < N; i++) expect(ours[i * N + i]).toBe(0);
  });

  it('keeps small distances that ‖a‖² + ‖b‖² − 2⟨a, b⟩ would lose', () => {
    const x = Typed.of(1, 0, 0, 1, 1e-6, 0);
    const own = (x[4] as number) ** 2;
    const ours = ops.squaredDistances(tensor(x, [2, 3])).toArray()[1] as number;
    expect(Math.abs(ours - own)).toBeLessThan(tolerance * own);
  });

  it.each([
    [1, 1, 1],
    [5, 4, 19],
    [130, 3, 64],
  ])('weightedSum of [%i, %i, %i]', (N, K, D) => {
    const [w, x] = [draw(N * K), draw(N * K * D)];
    const wanted = Array.from({ length: N * D }, (_, nd) => {
      const [n, d] = [Math.floor(nd / D), nd % D];
      return Array.from({ length: K }, (_, k) => (w[n * K + k] as number) * (x[(n * K + k) * D + d] as number)).reduce(
        (a, b) => a + b,
        0,
      );
    });
    close(ops.weightedSum(make(Typed, w, [N, K]), make(Typed, x, [N, K, D])).toArray(), wanted, tolerance);
  });

  it('gatherRows and scatterAddRows', () => {
    const x = make(Typed, draw(4 * 70), [4, 70]);
    const all = x.toArray();
    const row = (i: number) => Array.from(all.subarray(i * 70, (i + 1) * 70));
    const index = new Int32Array([3, 1, 3]);
    expect(Array.from(ops.gatherRows(x, index).toArray())).toEqual([...row(3), ...row(1), ...row(3)]);
    const into = zeros([5, 70], x.dtype);
    ops.scatterAddRows(into, new Int32Array([0, 2, 2, 4]), x);
    const sums = row(1).map((v, d) => Typed.of(v + (row(2)[d] as number))[0] as number);
    const none = new Array(70).fill(0);
    expect(Array.from(into.toArray())).toEqual([...row(0), ...none, ...sums, ...none, ...row(3)]);
  });

  it('affine, sqrt and dot', () => {
    const [a, b] = [Typed.of(0, 4, 9), Typed.of(1, 2, -3)];
    const of = (x: typeof a) => tensor(x, [3]);
    expect(Array.from(ops.affine(of(a), { factor: 2, offset: -1 }).toArray())).toEqual([-1, 7, 17]);
    expect(Array.from(ops.sqrt(of(a)).toArray())).toEqual([0, 2, 3]);
    close(ops.sqrt(of(a), { epsilon: 7 }).toArray(), [Math.sqrt(7), Math.sqrt(11), 4], tolerance);
    expect(ops.dot(of(a), of(b)).item()).toBe(-19);
  });

  it('does not depend on the number of threads', () => {
    const w = make(Typed, draw(400 * 3), [400, 3]);
    const x = make(Typed, draw(400 * 3 * 70), [400, 3, 70]);
    const run = () =>
      tidy(() => {
        const p = parameter(ops.scale(w, 1));
        const y = ops.weightedSum(ops.softmax(p), x);
        const d = ops.squaredDistances(
          ops.gatherRows(
            y,
            Int32Array.from({ length: 90 }, (_, i) => (i * 7) % 31),
          ),
        );
        backward(ops.dot(d, ops.affine(d, { offset: 1 })));
        const grad = (p.grad as Tensor).toArray();
        p.grad?.dispose();
        p.dispose();
        return [...d.toArray(), ...grad];
      });
    const before = run();
    try {
      setNumThreads(1);
      expect(run()).toEqual(before);
    } finally {
      setNumThreads(2);
    }
  });
});

it('logSoftmax is finite where softmax is 0', () => {
  const x = tensor(new Float32Array([0, 1000]), [1, 2]);
  expect(Array.from(ops.softmax(x).toArray())).toEqual([0, 1]);
  expect(Array.from(ops.logSoftmax(x).toArray())).toEqual([-1000, 0]);
});

it('the slope of sqrt at 0 reaches nobody who asks for nothing', () => {
  const x = parameter(zeros([2], 'float64'));
  backward(ops.sqrt(x), tensor(new Float64Array([0, 0]), [2]));
  expect(Array.from(x.grad?.toArray() as Float64Array)).toEqual([0, 0]);
});

describe('batchNorm with what follows in the same pass', () => {
  it.each(['slope', 'shortcut'] as const)('%s is what prelu and add compute, and so are its gradients', (name) => {
    const shape = [4, 5, 3, 7];
    const values = (shape: readonly number[]) => Float32Array.from(draw(shape.reduce((n, extent) => n * extent, 1)));
    const [x, last, dy] = [values(shape), values(name === 'slope' ? [7] : shape), values(shape)];
    const run = (training: boolean, fused: boolean) =>
      tidy(() => {
        const inputs = [parameter(tensor(x, shape)), parameter(tensor(last, name === 'slope' ? [7] : shape))] as const;
        const [weight, bias] = [0.5, -0.25].map((value) => parameter(tensor(new Float32Array(7).fill(value), [7])));
        const runningMean = zeros([7]);
        const runningVar = tensor(new Float32Array(7).fill(2), [7]);
        const state = { runningMean, runningVar, training, momentum: 0.1, epsilon: 1e-5 };
        const behind = name === 'slope' ? ops.prelu : ops.add;
        const norm = (given: object) => ops.batchNorm(inputs[0], weight as Tensor, bias as Tensor, state, given);
        const y = fused ? norm({ [name]: inputs[1] }) : behind(norm({}), inputs[1]);
        backward(y, tensor(dy, shape));
        const gradients = [...inputs, weight as Tensor, bias as Tensor].map(({ grad }) => grad?.toArray());
        return [y.toArray(), runningMean.toArray(), runningVar.toArray(), ...gradients];
      });
    for (const training of [true, false]) {
      const [ours, theirs] = [run(training, true), run(training, false)];
      ours.forEach((each, i) => {
        close(each as Float32Array, theirs[i] as Float32Array, 2e-6);
      });
    }
  });

  it('refuses both, what is no tensor, and other names', () => {
    const x = zeros([2, 3]);
    const [ones3, three] = [tensor(Float32Array.of(1, 1, 1), [3]), zeros([3])];
    const state = { runningMean: three, runningVar: ones3, training: false, momentum: 0.1, epsilon: 1e-5 };
    const norm = (behind: object) => () => ops.batchNorm(x, ones3, three, state, behind);
    expect(norm({ slope: ones3, shortcut: x })).toThrow(
      /^batchNorm: expected a slope or a shortcut behind it, got \{slope/,
    );
    expect(norm({ slope: 0.25 })).toThrow(/^batchNorm: expected slope as a tensor, got 0.25/);
    expect(norm({ shortcut: null })).toThrow(/^batchNorm: expected shortcut as a tensor, got null/);
    expect(norm({ prelu: ones3 })).toThrow(/^batchNorm: .*'prelu'/);
    expect(norm({ slope: x })).toThrow(/^batchNorm: expected slope \[3\], got \[2, 3\]/);
    expect(norm({ shortcut: three })).toThrow(/^batchNorm: expected shortcut \[2, 3\] as x, got \[3\]/);
  });
});
