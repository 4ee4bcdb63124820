import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { marginLogits, marginSoftmax } from '../../lib/ops/index.js';
import { parameter, tensor, tidy } from '../../lib/tensor.js';
import {
  f64,
  type GoldenCase,
  headCases,
  labelsOf,
  largest,
  narrowed,
  rowRelative,
  widened,
  worst,
} from './conventions.js';

/** Errors against the float64 numbers of the source. */
function measure({ name, margin, tensors }: GoldenCase, precision: 'float32' | 'float64') {
  const { shape, data } = tensors.get('X') as { shape: readonly number[]; data: Float64Array };
  const W = tensors.get('W') as { shape: readonly number[]; data: Float64Array };
  const labels = labelsOf(tensors.get('labels')?.data);
  const Array_ = precision === 'float32' ? Float32Array : Float64Array;
  const [N, D] = shape as [number, number];
  const C = W.shape[0] as number;
  const wide = name.includes('_mxnet.');
  const columns = wide ? D + 2 : D;
  return tidy(() => {
    const x = parameter(tensor(Array_.from(wide ? widened(data, D, 0) : data), [N, columns]));
    const w = parameter(tensor(Array_.from(wide ? widened(W.data, D, 1) : W.data), [C, columns]));
    const { loss } = marginSoftmax(x, w, labels, margin);
    backward(loss);
    const own = (gradient: ArrayLike<number>) => (wide ? narrowed(gradient, D) : gradient);
    const dX = own(x.grad?.toArray() as Float64Array);
    const dW = own(w.grad?.toArray() as Float64Array);
    const theirs = {
      logits: f64(tensors.get('logits')?.data),
      ce: f64((tensors.get('ce_exact') ?? tensors.get('ce'))?.data)[0] as number,
      dX: f64(tensors.get('dX')?.data),
      dW: f64(tensors.get('dW')?.data),
    };
    return {
      logits_abs: worst(marginLogits(x, w, labels, margin).toArray(), theirs.logits),
      ce_rel: Math.abs(loss.item() - theirs.ce) / Math.abs(theirs.ce),
      dX_rel: rowRelative(dX, theirs.dX, data, D),
      dW_rel: worst(dW, theirs.dW) / largest(theirs.dW),
    };
  });
}

const counts = { arcface: 14, cosface: 4, combined: 6, sphereface: 8, mv: 11, curricularface: 13 } as const;

for (const [method, count] of Object.entries(counts) as [keyof typeof counts, number][]) {
  const cases = headCases(method);
  describe(`${method} against the published code`, () => {
    it('has cases', () => expect(cases.length).toBe(count));

    it.each(cases.map((c) => [c.name, c] as const))('%s in float64', (name, c) => {
      const errors = measure(c, 'float64');
      const gradients = /\.hard/.test(name) ? 1e-5 : 1e-7;
      expect(errors.logits_abs).toBeLessThan(1e-9);
      expect(errors.ce_rel).toBeLessThan(1e-9);
      expect(errors.dX_rel).toBeLessThan(gradients);
      expect(errors.dW_rel).toBeLessThan(gradients);
    });

    // No worse than the source's own float32 run, or than a floor of a few roundings at this scale.
    it.each(cases.map((c) => [c.name, c] as const))('%s in float32', (_, c) => {
      const theirs = JSON.parse(c.metadata.f32_error as string) as ReturnType<typeof measure>;
      const errors = measure(c, 'float32');
      expect(errors.logits_abs).toBeLessThan(Math.max(2e-5, 2 * theirs.logits_abs));
      expect(errors.ce_rel).toBeLessThan(Math.max(1e-6, 2 * theirs.ce_rel));
      expect(errors.dX_rel).toBeLessThan(Math.max(5e-6, 2 * theirs.dX_rel));
      expect(errors.dW_rel).toBeLessThan(Math.max(5e-6, 2 * theirs.dW_rel));
    });
  });
}
