import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { CenterLoss } from '../../lib/losses/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { parameter, type Tensor, tensor, zeros } from '../../lib/tensor.js';
import { check } from '../differences.js';
import { draw, float32, float64, type Rows } from './plain.js';

const labels = new Int32Array([0, 1, 0, 2, 1, -1, 0, 2]);
const rows = draw(8, 5, 13);
const start = Array.from(normalArray(4 * 5, 1, new Random(1)));

function center(dtype: 'float64' | 'float32', options: { alpha?: number; weight?: number } = {}) {
  const out = new CenterLoss({ numClasses: 4, embeddingSize: 5, dtype, ...options });
  out.centers.set(dtype === 'float64' ? Float64Array.from(start) : Float32Array.from(start));
  return out;
}

/** The formulas: ½·Σ‖x − c_y‖²/N of the labelled rows, and the centers after c_j −= α·Σ(c_j − x)/(1 + count_j). */
function plain(x: Rows, centers: readonly number[], alpha: number) {
  const at = (j: number, d: number) => centers[j * 5 + d] as number;
  const labelled = [...labels.keys()].filter((i) => (labels[i] as number) >= 0);
  const loss =
    labelled
      .flatMap((i) => (x[i] as number[]).map((v, d) => 0.5 * (v - at(labels[i] as number, d)) ** 2))
      .reduce((a, b) => a + b, 0) / labelled.length;
  const after = centers.map((c, jd) => {
    const [j, d] = [Math.floor(jd / 5), jd % 5];
    const own = labelled.filter((i) => labels[i] === j);
    return c - (alpha * own.reduce((sum, i) => sum + c - (x[i]?.[d] as number), 0)) / (1 + own.length);
  });
  return { loss, after };
}

describe('CenterLoss', () => {
  it('takes no feature that is not finite, and keeps its centers', () => {
    const loss = center('float64');
    const before = loss.centers.toArray();
    const bad = float64(rows).toArray() as Float64Array;
    bad[0] = Number.NaN;
    const x = tensor(bad, float64(rows).shape);
    expect(() => loss.forward(x, labels)).toThrow(/CenterLoss: expected finite features/);
    expect(() => loss.update(x, labels)).toThrow(/CenterLoss: expected finite features/);
    expect(loss.centers.toArray()).toEqual(before);
  });

  it('is its formula, times its weight', () => {
    const { loss } = plain(rows, start, 0.5);
    expect(center('float64').forward(float64(rows), labels).item()).toBeCloseTo(0.003 * loss, 12);
    expect(center('float64', { weight: 2 }).forward(float64(rows), labels).item()).toBeCloseTo(2 * loss, 12);
    expect(center('float32', { weight: 2 }).forward(float32(rows), labels).item()).toBeCloseTo(2 * loss, 4);
  });

  it('has the gradient weight·(x − c)/N, and finite differences say so too', () => {
    const head = center('float64', { weight: 0.7 });
    const x = parameter(float64(rows));
    check(([features]) => head.forward(features as Tensor, labels), [x], 1e-6);
    backward(head.forward(x, labels));
    const grad = x.grad?.toArray() as Float64Array;
    labels.forEach((label, i) => {
      for (let d = 0; d < 5; d++) {
        const wanted = label < 0 ? 0 : (0.7 * ((rows[i]?.[d] as number) - (start[label * 5 + d] as number))) / 7;
        expect(grad[i * 5 + d]).toBeCloseTo(wanted, 12);
      }
    });
    expect(head.centers.grad).toBeUndefined();
  });

  it.each([0, 0.5, 1])('moves the centers of its classes, alpha %d', (alpha) => {
    const head = center('float64', { alpha });
    head.update(float64(rows), labels);
    const { after } = plain(rows, start, alpha);
    const ours = head.centers.toArray();
    after.forEach((c, i) => {
      expect(ours[i]).toBeCloseTo(c, 12);
    });
    expect(Array.from(ours.subarray(15))).toEqual(start.slice(15)); // class 3 is not in the batch
  });

  it('draws the centers to the means of their classes', () => {
    const head = center('float64', { weight: 1 });
    const before = head.forward(float64(rows), labels).item();
    for (let step = 0; step < 100; step++) head.update(float64(rows), labels);
    const mean = (j: number, d: number) => {
      const own = rows.filter((_, i) => labels[i] === j);
      return own.reduce((sum, row) => sum + (row[d] as number), 0) / own.length;
    };
    for (const j of [0, 1, 2])
      for (let d = 0; d < 5; d++) expect(head.centers.toArray()[j * 5 + d]).toBeCloseTo(mean(j, d), 9);
    expect(head.forward(float64(rows), labels).item()).toBeLessThan(before);
  });

  it('does nothing to a batch without labels', () => {
    const head = center('float64');
    const none = new Int32Array(8).fill(-1);
    const x = parameter(float64(rows));
    const loss = head.forward(x, none);
    expect(loss.item()).toBe(0);
    backward(loss);
    expect(Array.from(x.grad?.toArray() as Float64Array).every((g) => g === 0)).toBe(true);
    head.update(x, none);
    expect(Array.from(head.centers.toArray())).toEqual(start);
  });

  it.each([
    [() => center('float64', { alpha: 1.5 }), /CenterLoss: expected alpha in \[0, 1\], got 1.5/],
    [() => center('float64', { weight: -1 }), /a finite weight of at least 0, got -1/],
    [() => new CenterLoss({ numClasses: 0, embeddingSize: 5 }), /numClasses of at least 1, got 0/],
    [() => center('float32').forward(zeros([2, 4]), new Int32Array(2)), /features \[N, 5\], got \[2, 4\]/],
    [() => center('float32').forward(zeros([2, 5]), new Int32Array(3)), /expected 2 labels, got 3/],
    [() => center('float32').forward(zeros([2, 5]), new Int32Array([0, 4])), /\[0, 4\) or -1, row 1, got 4/],
    [() => center('float32').update(zeros([2, 5]), new Int32Array([0, -2])), /\[0, 4\) or -1, row 1, got -2/],
  ])('refuses what makes no sense: %#', (f, message) => {
    expect(f).toThrow(message);
  });
});
