/** Trajectories: steps of SGD over a linear layer and a head, and where they end. */
import { backward } from '../../autograd.js';
import { linear, marginSoftmax } from '../../ops/index.js';
import { Sgd } from '../../optim/index.js';
import { parameter, tensor, tidy } from '../../tensor.js';
import { namedMargin } from './conventions.js';
import { type GoldenCase, type GoldenFile, NotRun, type Precision } from './goldenFile.js';
import { type Measurements, worstRelative } from './measure.js';

/** insightface reports each row's loss as −log max(p, 1e-30); its gradient has no such ceiling. */
export const lossCeiling = -Math.log(1e-30);

export function trajectoryCases(file: GoldenFile): GoldenCase[] {
  if (file.hp.nesterov || file.number('dampening', 0) !== 0) throw new NotRun('Sgd has neither nesterov nor dampening');
  namedMargin(file.sourceName, file);
  const { name, family, source } = file;
  const measure = (precision: Precision, device: string) => measureTrajectory(file, precision, device);
  return [{ name, family, source, precisions: ['float64', 'float32'], measure }];
}

function measureTrajectory(file: GoldenFile, precision: Precision, device: string): Measurements {
  const Typed = precision === 'float32' ? Float32Array : Float64Array;
  const start = (key: string) => parameter(tensor(Typed.from(file.values(key)), file.shape(key), device));
  const weights = { lin_weight: start('lin_weight0'), lin_bias: start('lin_bias0'), W: start('W0') };
  const options = { momentum: file.number('momentum'), weightDecay: file.number('weight_decay') };
  const sgd = new Sgd(Object.entries(weights), options);
  const [T, B, I] = file.shape('X');
  const [X, labels] = [Typed.from(file.values('X')), file.integers('labels')];
  const margin = namedMargin(file.sourceName, file);
  const capped = file.source.includes('insightface');
  const rate = file.number('lr');
  const losses = Array.from({ length: T }, (_, step) =>
    tidy(() => {
      const x = tensor(X.slice(step * B * I, (step + 1) * B * I), [B, I], device);
      const features = linear(x, weights.lin_weight, weights.lin_bias);
      const { loss, rowLoss } = marginSoftmax(features, weights.W, labels.slice(step * B, (step + 1) * B), margin);
      backward(loss);
      sgd.step(rate);
      const rows = Array.from(rowLoss.toArray());
      return capped ? rows.reduce((sum, row) => sum + Math.min(row, lossCeiling), 0) / B : loss.item();
    }),
  );
  const compared = { losses, ...Object.fromEntries(Object.entries(weights).map(([key, w]) => [key, w.toArray()])) };
  // Gradients of 5e-6, whose errors add up over the steps as roundings do.
  const least = 5e-6 * Math.sqrt(T);
  const measurements = Object.entries(compared).map(([key, ours]) => {
    const theirs = file.values(key);
    const twin = file.maybe(`f32.${key}`);
    const source = twin && worstRelative(twin, theirs);
    const allowed = precision === 'float64' ? 1e-9 : Math.max(least, 2 * (source ?? 0));
    return [`${key}_rel`, { error: worstRelative(ours, theirs), allowed, source }] as const;
  });
  for (const weight of Object.values(weights)) weight.dispose();
  return Object.fromEntries(measurements);
}
