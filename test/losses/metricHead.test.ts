import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { contrastiveLoss, MetricHead, tripletLoss } from '../../lib/losses/index.js';
import { memory, parameter, type Tensor, tidy, zeros } from '../../lib/tensor.js';
import { draw, float64 } from './plain.js';

const labels = new Int32Array([0, 1, 0, 2, 1, -1, 0, 2]);
const rows = draw(8, 5, 21);

describe('MetricHead', () => {
  it('gives the loss and the gradient of its kind', () => {
    for (const [loss, f] of [
      [{ kind: 'triplet', mining: 'hard' }, (x: Tensor) => tripletLoss(x, labels, { mining: 'hard' })],
      [{ kind: 'contrastive', margin: 1.2 }, (x: Tensor) => contrastiveLoss(x, labels, { margin: 1.2 })],
    ] as const) {
      const x = parameter(float64(rows));
      const wanted = f(x);
      const step = new MetricHead({ loss }).stepSync(float64(rows), labels);
      expect(step.loss).toBe(wanted.loss.item());
      expect(step.accuracy).toBe(wanted.accuracy);
      backward(wanted.loss);
      expect(step.gradEmbeddings.toArray()).toEqual(x.grad?.toArray());
    }
  });

  it('draws anew at each step, the same for the same seed, and goes on from a saved count', () => {
    const losses = (head: MetricHead, steps: number) =>
      Array.from({ length: steps }, () => head.stepSync(float64(rows), labels).loss);
    const head = (seed: number) => new MetricHead({ loss: { kind: 'triplet', margin: 2 }, seed });
    const whole = losses(head(3), 12);
    expect(new Set(whole).size).toBeGreaterThan(3);
    expect(losses(head(3), 12)).toEqual(whole);
    expect(losses(head(4), 12)).not.toEqual(whole);
    const resumed = head(3);
    for (const [name, x] of resumed.namedTensors()) {
      expect(name).toBe('draws');
      x.set(new Int32Array([7]));
    }
    expect(losses(resumed, 5)).toEqual(whole.slice(7));
  });

  it('leaves the features and their tape alone, and nothing behind', () => {
    const head = new MetricHead({ loss: { kind: 'contrastive' } });
    const x = parameter(float64(rows));
    const before = memory();
    tidy(() => {
      head.stepSync(x, labels);
    });
    expect(x.grad).toBeUndefined();
    expect(x.disposed).toBe(false);
    expect(memory().tensors).toBe(before.tensors);
    expect(memory().used).toBe(before.used);
  });

  it.each([
    [
      () => new MetricHead({ loss: { kind: 'arcface' } as never }),
      /loss.kind 'triplet' or 'contrastive', got 'arcface'/,
    ],
    [() => new MetricHead({ loss: { kind: 'triplet', margin: -1 } }), /MetricHead: expected a margin of at least 0/],
    [() => new MetricHead({ loss: { kind: 'contrastive' }, seed: -1 }), /seed, an integer of at least 0, got -1/],
    [
      () => new MetricHead({ loss: { kind: 'contrastive' } }).stepSync(zeros([2, 3]), new Int32Array(1)),
      /expected 2 labels, got 1/,
    ],
    [
      () => new MetricHead({ loss: { kind: 'contrastive' } }).stepSync([1, 2] as never, new Int32Array(1)),
      /features as a tensor/,
    ],
  ])('refuses what makes no sense: %#', (f, message) => {
    expect(f).toThrow(message);
  });
});
