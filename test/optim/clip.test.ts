import { describe, expect, it } from 'vitest';
import { native } from '../../lib/binding.js';
import { NonFiniteError } from '../../lib/errors.js';
import { AdamW, Sgd } from '../../lib/optim/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { parameter, type Tensor, tensor } from '../../lib/tensor.js';
import { emulatedCuda } from '../emulatedCuda.js';

if (emulatedCuda) process.env.FLASHMARGIN_CUDA ??= emulatedCuda;

const sizes = [3, 40, 5001];
const gradients = sizes.map((n, i) => Float64Array.from(normalArray(n, 1, new Random(i + 1))));
const norm = Math.hypot(...gradients.flatMap((each) => [...each]));

/** Weights after a step of rate 1 of plain SGD from 0: the gradients that it took, negated. */
function taken(clipNorm: number | undefined, scale = 1, device = 'cpu'): number[][] {
  const weights = sizes.map((n) => parameter(tensor(new Float64Array(n), [n], device)));
  const options = { momentum: 0, ...(clipNorm === undefined ? {} : { clipNorm }) };
  const sgd = new Sgd(
    weights.map((w, i) => [`w${i}`, w]),
    options,
  );
  for (const [i, w] of weights.entries())
    w.grad = tensor(
      (gradients[i] as Float64Array).map((g) => scale * g),
      w.shape,
      device,
    );
  sgd.step(1);
  return weights.map((w) => Array.from(w.toArray()));
}

describe('clipNorm', () => {
  it('scales all gradients by one factor, to the norm', () => {
    const factor = 5 / (norm + 1e-6);
    for (const [i, values] of taken(5).entries())
      for (const [j, w] of values.entries()) expect(w).toBeCloseTo(-factor * (gradients[i]?.[j] as number), 12);
    expect(Math.hypot(...taken(5).flat())).toBeCloseTo(5, 5);
  });

  it('leaves gradients of a smaller norm as they are, bit for bit', () => {
    expect(taken(1.01 * norm)).toEqual(taken(undefined));
    expect(taken(5, 1e-3)).toEqual(taken(undefined, 1e-3));
  });

  it.skipIf(!emulatedCuda)('does the same on a GPU, and across devices', () => {
    const wanted = taken(5);
    for (const [i, values] of taken(5, 1, 'cuda').entries())
      for (const [j, w] of values.entries()) expect(w).toBeCloseTo(wanted[i]?.[j] as number, 12);
    expect(taken(1.01 * norm, 1, 'cuda')).toEqual(taken(undefined, 1, 'cuda'));
    const [a, b] = (['cpu', 'cuda'] as const).map((device) => parameter(tensor(Float64Array.of(0), [1], device)));
    const sgd = new Sgd(
      [
        ['a', a as Tensor],
        ['b', b as Tensor],
      ],
      { momentum: 0, clipNorm: 1 },
    );
    (a as Tensor).grad = tensor(Float64Array.of(3), [1]);
    (b as Tensor).grad = tensor(Float64Array.of(4), [1], 'cuda');
    sgd.step(1);
    expect([a?.item(), b?.item()].map((w) => w?.toFixed(6))).toEqual(['-0.600000', '-0.800000']);
  });

  const devices = ['cpu', ...(emulatedCuda ? ['cuda'] : [])];

  // 2e19² is above float32's largest number, 1e-25² below its least.
  it.each(devices.flatMap((device) => [2e19, 1e-25].map((size) => [size, device] as const)))(
    'squares float32 gradients of %s in double on %s',
    (size, device) => {
      const x = tensor(new Float32Array(5001).fill(size), [5001], device);
      const single = Math.fround(size);
      expect(native.sumOfSquares([x.handle, x.handle]) / (2 * 5001 * single * single)).toBeCloseTo(1, 12);
    },
  );

  it.each(devices)('scales float32 gradients of 2e19 on %s', (device) => {
    const w = parameter(tensor(new Float32Array(4), [4], device));
    const sgd = new Sgd([['w', w]], { momentum: 0, clipNorm: 1 });
    w.grad = tensor(new Float32Array(4).fill(2e19), [4], device);
    sgd.step(1);
    for (const value of w.toArray()) expect(value).toBeCloseTo(-0.5, 6);
  });

  // torch 1.13: clip_grad_norm_([[3, 4], [12]], 5), a norm of 13.
  it("gives torch's numbers", () => {
    const [a, b] = [parameter(tensor(new Float64Array(2), [2])), parameter(tensor(new Float64Array(1), [1]))];
    const sgd = new Sgd(
      [
        ['a', a],
        ['b', b],
      ],
      { momentum: 0, clipNorm: 5 },
    );
    a.grad = tensor(Float64Array.of(3, 4), [2]);
    b.grad = tensor(Float64Array.of(12), [1]);
    sgd.step(1);
    const wanted = [1.1538460650887643, 1.5384614201183524, 4.615384260355057];
    const got = [...a.toArray(), ...b.toArray()];
    for (const [i, w] of wanted.entries()) expect(got[i]).toBeCloseTo(-w, 14);
  });

  it('refuses a norm that is not finite, and changes nothing', () => {
    const w = parameter(tensor(Float32Array.of(1, 2), [2]));
    const adamw = new AdamW([['w', w]], { clipNorm: 1 });
    w.grad = tensor(Float32Array.of(1, Number.NaN), [2]);
    expect(() => adamw.step(0.1)).toThrow(NonFiniteError);
    expect(() => adamw.step(0.1)).toThrow(/^AdamW\.step: expected gradients of a finite norm, got NaN/);
    expect(w.toArray()).toEqual(Float32Array.of(1, 2));
    expect([...adamw.namedState()].every(([, x]) => x.toArray().every((v) => v === 0))).toBe(true);
  });

  it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY, '5'])('of %s is refused', (clipNorm) => {
    expect(() => new Sgd([], { clipNorm } as never)).toThrow(/^Sgd: expected a finite clipNorm above 0, got/);
  });
});
