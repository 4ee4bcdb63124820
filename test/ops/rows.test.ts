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
