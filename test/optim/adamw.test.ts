import { describe, expect, it } from 'vitest';
import { AdamW, Sgd } from '../../lib/optim/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { parameter, type Tensor, tensor } from '../../lib/tensor.js';
import { adamwStep, moments } from './reference.js';

const gradients = [
  [0.1, -2, 0, 1e-7],
  [0.3, 1, 0, -2e-7],
  [-0.05, 0.5, 4, 1e-7],
];
const start = [0.5, -1.25, 2, 1e-3];
const apart = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((worst, x, i) => Math.max(worst, Math.abs(x - (b[i] as number))), 0);

function stepped(w: Tensor, optimizer: AdamW, lr: number, gradient: ArrayLike<number>): void {
  const Typed = w.dtype === 'float64' ? Float64Array : Float32Array;
  w.grad = tensor(Typed.from(gradient), w.shape);
  optimizer.step(lr);
  expect(w.grad).toBeUndefined();
}

describe('AdamW', () => {
  // torch 1.13, float64: weights after each gradient, and the state at the end.
  it("gives torch's numbers", () => {
    const w = parameter(tensor(Float64Array.from(start), [4]));
    const adamw = new AdamW([['w', w]], { betas: [0.8, 0.95], eps: 1e-6, weightDecay: 0.1 });
    const wanted = [
      [0.489500099999, -1.2387500049999975, 1.998, 8.990909090909123e-5],
      [0.4796648332255515, -1.2353866648851664, 1.996002, 6.64866194829453e-4],
      [0.47354083658396623, -1.234214400129055, 1.9870841379086854, 6.498386328355956e-4],
    ];
    for (const [i, gradient] of gradients.entries()) {
      stepped(w, adamw, 0.01, gradient);
      expect(apart(w.toArray(), wanted[i] as number[])).toBeLessThan(1e-14);
    }
    const state = new Map(Array.from(adamw.namedState(), ([name, t]) => [name, t.toArray()]));
    expect([...state.keys()]).toEqual(['w.expAvg', 'w.expAvgSq', 'steps']);
    expect(apart(state.get('w.expAvg') ?? [], [0.0508, 0.004, 0.8, 8e-10])).toBeLessThan(1e-15);
    expect(apart(state.get('w.expAvgSq') ?? [], [0.00485125, 0.2405, 0.8, 2.85125e-15])).toBeLessThan(1e-15);
    expect(state.get('steps')).toEqual(Float64Array.of(3));
  });

  it("has torch's defaults", () => {
    const w = parameter(tensor(Float64Array.from(start), [4]));
    const adamw = new AdamW([['w', w]]);
    for (const gradient of gradients) stepped(w, adamw, 1e-3, gradient);
    const wanted = [0.4974663350274948, -1.248634797142966, 1.9993011870033646, 4.327863822389383e-4];
    expect(apart(w.toArray(), wanted)).toBeLessThan(1e-14);
  });

  it.each([
    ['float32', 2e-6],
    ['float64', 1e-13],
  ] as const)('is its formula in %s, whatever the size', (dtype, allowed) => {
    const Typed = dtype === 'float64' ? Float64Array : Float32Array;
    for (const size of [1, 31, 40_001]) {
      const values = normalArray(size, 1, new Random(size));
      const w = parameter(tensor(Typed.from(values), [size]));
      const options = { betas: [0.9, 0.99] as const, weightDecay: 0.05 };
      const adamw = new AdamW([['w', w]], options);
      const wanted = moments(values);
      for (let step = 1; step <= 6; step++) {
        const gradient = normalArray(size, 10 ** (step - 4), new Random(100 + step));
        stepped(w, adamw, 0.01, gradient);
        adamwStep(wanted, gradient, step, { lr: 0.01, ...options });
        expect(apart(w.toArray(), wanted.weight)).toBeLessThan(allowed * 4);
      }
      w.dispose();
      adamw.dispose();
    }
  });

  it('leaves what has no gradient alone, and goes on from its state with the same bits', () => {
    const make = () => {
      const w = parameter(tensor(Float32Array.from(start), [4]));
      const still = parameter(tensor(Float32Array.of(7), [1]));
      return {
        w,
        still,
        adamw: new AdamW([
          ['w', w],
          ['still', still],
        ]),
      };
    };
    const [whole, first, second] = [make(), make(), make()];
    for (const gradient of gradients) stepped(whole.w, whole.adamw, 0.01, gradient);
    for (const gradient of gradients.slice(0, 2)) stepped(first.w, first.adamw, 0.01, gradient);
    second.w.set(first.w.toArray() as Float32Array);
    for (const [name, state] of first.adamw.namedState()) second.adamw.loadState(name, state.toArray() as Float64Array);
    stepped(second.w, second.adamw, 0.01, gradients[2] as number[]);
    expect(second.w.toArray()).toEqual(whole.w.toArray());
    expect(whole.still.toArray()).toEqual(Float32Array.of(7));
  });

  it('counts the steps that had a gradient', () => {
    const w = parameter(tensor(Float32Array.of(0), [1]));
    const adamw = new AdamW([['w', w]], { weightDecay: 0 });
    for (let i = 0; i < 9; i++) adamw.step(0.01);
    expect(Object.fromEntries(adamw.namedState()).steps?.item()).toBe(0);
    stepped(w, adamw, 0.01, [3]);
    expect(Object.fromEntries(adamw.namedState()).steps?.item()).toBe(1);
    expect(w.item()).toBeCloseTo(-0.01, 6); // a first step is one of the rate
  });

  const w = parameter(tensor(Float32Array.from(start), [4]));
  const make = (options: object) => () => new AdamW([['w', w]], options);
  it.each<[string, () => unknown, RegExp]>([
    [
      "SGD's option",
      make({ momentum: 0.9 }),
      /^AdamW: expected options betas, eps, weightDecay, clipNorm, got 'momentum'/,
    ],
    ['one beta', make({ betas: [0.9] }), /^AdamW: expected betas, two numbers in \[0, 1\), got \[0\.9\]/],
    ['a beta of 1', make({ betas: [0.9, 1] }), /^AdamW: expected betas, two numbers in \[0, 1\), got \[0\.9, 1\]/],
    ['a beta that is no number', make({ betas: ['0.9', 0.9] }), /^AdamW: expected betas/],
    ['a negative eps', make({ eps: -1 }), /^AdamW: expected a finite eps above 0, got -1/],
    ['no eps', make({ eps: 0 }), /^AdamW: expected a finite eps above 0, got 0/],
    [
      'a decay of NaN',
      make({ weightDecay: Number.NaN }),
      /^AdamW: expected a finite weightDecay of at least 0, got NaN/,
    ],
    ['a step backwards', () => make({})().step(-1), /^AdamW\.step: expected a finite lr of at least 0, got -1/],
    [
      "AdamW's option of SGD",
      () => new Sgd([], { betas: [0, 0] } as never),
      /^Sgd: expected options momentum, weightDecay, clipNorm, got 'betas'/,
    ],
    [
      'an unknown state',
      () => make({})().loadState('w', new Float32Array(4)),
      /^AdamW\.loadState: expected the name of a state \(w\.expAvg, w\.expAvgSq, steps\), got 'w'/,
    ],
  ])('%s is refused', (_, call, message) => {
    expect(call).toThrow(message);
  });
});
