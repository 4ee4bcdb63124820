/** Gradients against finite differences in float64. */
import { expect } from 'vitest';
import { backward } from '../lib/autograd.js';
import { normalArray, Random } from '../lib/random.js';
import { parameter, type Tensor, tensor, tidy } from '../lib/tensor.js';

const rng = new Random(11);
/** A parameter of normal draws. */
export const draw = (shape: readonly number[], spread = 1) =>
  parameter(
    tensor(
      Float64Array.from(
        normalArray(
          shape.reduce((n, e) => n * e, 1),
          spread,
          rng,
        ),
      ),
      shape,
    ),
  );

/** ⟨f(inputs), probe⟩ with a fixed probe. */
function scalar(f: (inputs: readonly Tensor[]) => Tensor, inputs: readonly Tensor[], probe: Float64Array): number {
  return tidy(() => (f(inputs).toArray() as Float64Array).reduce((sum, v, i) => sum + v * (probe[i] as number), 0));
}

/**
 * The gradients of ⟨f(inputs), probe⟩ by central differences: relative to the largest, or to 1 where that is less.
 */
export function check(
  f: (inputs: readonly Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  tolerance = 1e-6,
  h = 1e-5,
): void {
  const shape = tidy(() => [...f(inputs).shape]);
  const probe = Float64Array.from(
    normalArray(
      shape.reduce((n, e) => n * e, 1),
      1,
      rng,
    ),
  );
  tidy(() => backward(f(inputs), tensor(probe, shape)));
  for (const [which, x] of inputs.entries()) {
    const ours = x.grad?.toArray() as Float64Array;
    const scale = Math.max(1, ...ours.map(Math.abs));
    const values = x.toArray() as Float64Array;
    for (let i = 0; i < values.length; i++) {
      const at = (delta: number) => {
        const moved = values.slice();
        moved[i] = (moved[i] as number) + delta;
        x.set(moved);
        return scalar(f, inputs, probe);
      };
      const numeric = (at(h) - at(-h)) / (2 * h);
      expect(Math.abs(numeric - (ours[i] as number)) / scale, `input ${which}, element ${i}`).toBeLessThan(tolerance);
    }
    x.set(values);
    x.grad?.dispose();
    x.grad = undefined;
  }
}
