import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { type ContrastiveOptions, contrastiveLoss } from '../../lib/losses/index.js';
import { parameter, type Tensor, tensor, zeros } from '../../lib/tensor.js';
import { check } from '../differences.js';
import { draw, float32, float64, type Rows, squared, unit } from './plain.js';

const labels = new Int32Array([0, 1, 0, 2, 1, -1, 0, 2]);
const rows = draw(8, 5, 9);

function plainLoss(
  raw: Rows,
  own: Int32Array,
  { margin = 1, average = 'pairs', normalize = true }: ContrastiveOptions,
) {
  const e = normalize ? unit(raw) : raw;
  const [pull, push]: [number[], number[]] = [[], []];
  for (let i = 0; i < own.length; i++)
    for (let j = i + 1; j < own.length; j++) {
      if ((own[i] as number) < 0 || (own[j] as number) < 0) continue;
      const d2 = squared(e, i, j);
      if (own[i] === own[j]) pull.push(0.5 * d2);
      else push.push(0.5 * Math.max(0, margin - Math.sqrt(d2 + 1e-9)) ** 2);
    }
  const mean = (v: readonly number[]) => v.reduce((a, b) => a + b, 0) / Math.max(1, v.length);
  return average === 'pairs' ? mean([...pull, ...push]) : mean(pull) + mean(push);
}

const cases: ContrastiveOptions[] = [
  {},
  { average: 'separate' },
  { margin: 1.4, average: 'separate' },
  { margin: 3, normalize: false },
  { margin: 0 },
];

describe('contrastiveLoss', () => {
  it.each(cases)('is its formula %o', (options) => {
    const { loss, positives, negatives } = contrastiveLoss(float64(rows), labels, options);
    expect(loss.item()).toBeCloseTo(plainLoss(rows, labels, options), 12);
    expect([positives, negatives]).toEqual([5, 16]);
    expect(contrastiveLoss(float32(rows), labels, options).loss.item()).toBeCloseTo(
      plainLoss(rows, labels, options),
      5,
    );
  });

  it.each(cases)('has the gradient of finite differences %o', (options) => {
    const x = parameter(float64(rows));
    check(([features]) => contrastiveLoss(features as Tensor, labels, options).loss, [x], 1e-6);
  });

  it('stays finite where rows of two classes meet', () => {
    const x = parameter(tensor(new Float32Array([1, 2, 1, 2]), [2, 2]));
    const { loss } = contrastiveLoss(x, new Int32Array([0, 1]));
    expect(loss.item()).toBeCloseTo(0.5 * (1 - Math.sqrt(1e-9)) ** 2, 5);
    backward(loss);
    expect(Array.from(x.grad?.toArray() as Float32Array)).toEqual([0, 0, 0, 0]);
  });

  it('averages what there is: positives alone, negatives alone, none', () => {
    for (const average of ['pairs', 'separate'] as const)
      for (const own of [new Array(8).fill(3), [0, 1, 2, 3, 4, 5, 6, 7], [0, ...new Array(7).fill(-1)]]) {
        const array = Int32Array.from(own);
        const ours = contrastiveLoss(float64(rows), array, { average }).loss.item();
        expect(ours).toBeCloseTo(plainLoss(rows, array, { average }), 12);
      }
  });

  it.each([
    [() => contrastiveLoss(zeros([2, 3]), new Int32Array(3)), /contrastiveLoss: expected 2 labels, got 3/],
    [() => contrastiveLoss(zeros([2, 3]), new Int32Array(2), { margin: Number.NaN }), /margin of at least 0, got NaN/],
    [
      () => contrastiveLoss(zeros([2, 3]), new Int32Array(2), { average: 'sum' as never }),
      /average 'pairs' or 'separate', got 'sum'/,
    ],
  ])('refuses what makes no sense: %#', (f, message) => {
    expect(f).toThrow(message);
  });
});
