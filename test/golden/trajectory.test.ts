import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { arcface, type MarginOptions } from '../../lib/margins/index.js';
import { linear, marginSoftmax } from '../../lib/ops/index.js';
import { Sgd } from '../../lib/optim/index.js';
import { parameter, tensor, tidy } from '../../lib/tensor.js';
import { f64, goldenFile, labelsOf, worst } from './conventions.js';

const conventions: Record<string, MarginOptions<'arcface'>> = {
  'trajectory.arcface_insightface': { gradient: 'detached', overflow: 'none' },
  'trajectory.arcface_true_gradient': { gradient: 'exact', overflow: 'hard' },
};

describe.each(Object.entries(conventions))('%s', (name, convention) => {
  it('takes the same 20 SGD steps', () => {
    const { tensors, metadata } = goldenFile(name);
    const hp = JSON.parse(metadata.hp as string) as {
      s: number;
      m: number;
      lr: number;
      momentum: number;
      weight_decay: number;
    };
    const at = (key: string) => tensors.get(key) as { shape: number[]; data: Float64Array };
    const copy = (key: string) => parameter(tensor(Float64Array.from(at(key).data), at(key).shape));
    const weights = { weight: copy('lin_weight0'), bias: copy('lin_bias0'), W: copy('W0') };
    const sgd = new Sgd(Object.entries(weights), { momentum: hp.momentum, weightDecay: hp.weight_decay });
    const [T, B, I] = at('X').shape as [number, number, number];
    const labels = labelsOf(tensors.get('labels')?.data);
    const margin = arcface({ scale: hp.s, margin: hp.m, ...convention });
    const losses = Array.from({ length: T }, (_, step) =>
      tidy(() => {
        const x = tensor(at('X').data.slice(step * B * I, (step + 1) * B * I), [B, I]);
        const features = linear(x, weights.weight, weights.bias);
        const { loss, rowLoss } = marginSoftmax(features, weights.W, labels.slice(step * B, (step + 1) * B), margin);
        backward(loss);
        sgd.step(hp.lr);
        // insightface reports each row's loss as −log max(p, 1e-30); its gradient has no such ceiling.
        const rows = rowLoss.toArray() as Float64Array;
        return margin.gradient === 'detached'
          ? rows.reduce((sum, row) => sum + Math.min(row, -Math.log(1e-30)), 0) / B
          : loss.item();
      }),
    );
    expect(worst(losses, f64(tensors.get('losses')?.data))).toBeLessThan(1e-9);
    expect(worst(weights.weight.toArray(), at('lin_weight').data)).toBeLessThan(1e-9);
    expect(worst(weights.bias.toArray(), at('lin_bias').data)).toBeLessThan(1e-9);
    expect(worst(weights.W.toArray(), at('W').data)).toBeLessThan(1e-9);
  });
});
