import { describe, expect, it } from 'vitest';
import { DisposedError } from '../../lib/errors.js';
import { AdamW, Sgd, schedule } from '../../lib/optim/index.js';
import { optimizers } from '../../lib/optimizers.js';
import { parameter, type Tensor, tensor } from '../../lib/tensor.js';

const weight = (...values: number[]) => parameter(tensor(Float32Array.from(values), [values.length]));
const gone = () => {
  const w = weight(1, 2);
  w.dispose();
  return w;
};

it('refuses an lr that AdamW makes infinite', () => {
  const w = weight(1);
  w.grad = tensor(Float32Array.of(1), [1]);
  expect(() => new AdamW([['w', w]]).step(1.7e38)).toThrow(
    /^AdamW\.step: expected lr \/ \(1 − β₁\) of at most 3\.4e38/,
  );
});

describe.each([
  ['Sgd', Sgd],
  ['AdamW', AdamW],
] as const)('%s', (name, Optimizer) => {
  it('refuses a gradient that two parameters share, or that is a parameter, before any moves', () => {
    const [u, v] = [weight(1, 2), weight(3, 4)];
    const optimizer = new Optimizer([
      ['u', u],
      ['v', v],
    ]);
    const shared = tensor(Float32Array.of(1, 1), [2]);
    for (const [first, second] of [
      [shared, shared],
      [shared, u],
    ] as const) {
      u.grad = first;
      v.grad = second;
      expect(() => optimizer.step(0.1)).toThrow(
        new RegExp(`^${name}\\.step: expected the gradient of v to be a tensor of its own`),
      );
      expect([...u.toArray(), ...v.toArray()]).toEqual([1, 2, 3, 4]);
    }
    v.grad = tensor(Float32Array.of(1, 1), [2]);
    optimizer.step(0.1);
    expect(u.toArray()).not.toEqual(Float32Array.of(1, 2));
  });

  it.each<[string, () => unknown[], RegExp]>([
    ['an int32 tensor', () => [['w', tensor(Int32Array.of(1), [1])]], /parameter w in float32 or float64, got a int32/],
    ['a disposed tensor', () => [['w', gone()]], /parameter w: tensor \[2\] was disposed/],
    ['a name that is none', () => [[7, weight(1)]], /parameters, a name and a tensor each, got \[7/],
    [
      'one name twice',
      () => [
        ['w', weight(1)],
        ['w', weight(1)],
      ],
      /parameters of different names, got 'w'/,
    ],
    [
      'one tensor twice',
      () =>
        ((w) => [
          ['a', w],
          ['b', w],
        ])(weight(1, 2)),
      /parameter b in memory of its own, not in that of a, got a float32 tensor \[2\]/,
    ],
    [
      "another's reshape",
      () =>
        ((w) => [
          ['a', w],
          ['b', weight(1, 2)],
          ['c', w.reshape([2, 1])],
        ])(weight(1, 2)),
      /parameter c in memory of its own, not in that of a, got a float32 tensor \[2, 1\]/,
    ],
  ])('refuses %s as a parameter', (_, parameters, message) => {
    const make = () => new Optimizer(parameters() as [string, Tensor][]);
    expect(make).toThrow(message);
    expect(make).toThrow(new RegExp(`^${name}: `));
  });

  it.each<[string, (w: Tensor) => void, RegExp]>([
    [
      'of another shape',
      (w) => {
        w.grad = weight(1);
      },
      /the gradient of b as a float32 tensor \[2\], got a float32 tensor \[1\]/,
    ],
    [
      'of another dtype',
      (w) => {
        w.grad = tensor(Float64Array.of(1, 1), [2]);
      },
      /the gradient of b as a float32 tensor \[2\], got a float64/,
    ],
    [
      'that is none',
      (w) => {
        w.grad = new Float32Array(2) as never;
      },
      /the gradient of b as a tensor, got Float32Array of 2/,
    ],
    [
      'that was disposed',
      (w) => {
        w.grad = gone();
      },
      /the gradient of b: tensor \[2\] was disposed/,
    ],
    [
      'of a weight that was disposed',
      (w) => {
        w.grad = weight(1, 1);
        w.dispose();
      },
      /parameter b: tensor \[2\] was disposed/,
    ],
  ])('moves no parameter where there is a gradient %s', (_, spoil, message) => {
    const [a, b] = [weight(1, 2), weight(3, 4)];
    const optimizer = new Optimizer([
      ['a', a],
      ['b', b],
    ]);
    a.grad = weight(5, 6);
    spoil(b);
    expect(() => optimizer.step(0.1)).toThrow(message);
    expect(() => optimizer.step(0.1)).toThrow(new RegExp(`^${name}\\.step: `));
    expect(a.toArray()).toEqual(Float32Array.of(1, 2));
    expect(a.grad?.toArray()).toEqual(Float32Array.of(5, 6));
    for (const [, state] of optimizer.namedState()) expect(state.toArray().every((x) => x === 0)).toBe(true);
  });

  it('names itself when its state is gone', () => {
    const w = weight(1, 2);
    const optimizer = new Optimizer([['w', w]]);
    optimizer.dispose();
    w.grad = weight(1, 1);
    expect(() => optimizer.step(0.1)).toThrow(DisposedError);
    expect(() => optimizer.step(0.1)).toThrow(
      new RegExp(`^${name}\\.step: the state of w: tensor \\[2\\] was disposed`),
    );
  });

  it('names what it cannot load', () => {
    const optimizer = new Optimizer([['w', weight(1, 2)]]);
    const [[state]] = [...optimizer.namedState()] as [[string, Tensor]];
    const load = (key: string, values: unknown) => () => optimizer.loadState(key, values as Float32Array);
    const of = `^${name}\\.loadState: expected `;
    expect(load('v', new Float32Array(2))).toThrow(new RegExp(`${of}the name of a state \\(${state}.*, got 'v'`));
    for (const [values, got] of [
      [new Float32Array(3), 'Float32Array of 3'],
      [new Float64Array(2), 'Float64Array of 2'],
      [undefined, 'undefined'],
    ])
      expect(load(state, values)).toThrow(new RegExp(`${of}Float32Array of 2 for ${state}, got ${got}`));
  });

  it('has its numbers as fields', () => {
    const [given] = [new Optimizer([], { weightDecay: 0.25 })];
    for (const [key, value] of Object.entries(optimizers[given.type].defaults))
      expect(given[key as keyof typeof given], key).toEqual(key === 'weightDecay' ? 0.25 : value);
  });

  it.each([1e39, 1e308])('refuses rates and decays that float32 does not hold: %s', (large) => {
    const of = new RegExp(`of at most 3\\.4e38, float32's largest, got ${large.toString().replace('+', '\\+')}`);
    expect(() => new Optimizer([['w', weight(1)]]).step(large)).toThrow(of);
    expect(() => new Optimizer([], { weightDecay: large })).toThrow(of);
    expect(() => schedule('poly', { base: large, totalSteps: 10, warmupSteps: 5 })).toThrow(of);
  });
});

it("takes a copy of AdamW's betas", () => {
  const betas: [number, number] = [0.9, 0.99];
  const adamw = new AdamW([], { betas });
  betas[1] = 7;
  expect(adamw.betas).toEqual([0.9, 0.99]);
  expect(() => {
    (adamw.betas as [number, number])[0] = 2;
  }).toThrow(TypeError);
});

it.each([1, 1.5, -0.1, Number.NaN])('refuses a momentum of %s, which forgets nothing', (momentum) => {
  expect(() => new Sgd([], { momentum })).toThrow(/^Sgd: expected momentum in \[0, 1\), got /);
});

it('refuses an eps that the kernels flush to 0, and takes the least that they do not', () => {
  for (const eps of [1e-50, 1e-40, 1.17e-38])
    expect(() => new AdamW([], { eps })).toThrow(/^AdamW: expected eps of at least 1\.18e-38/);
  const w = weight(1, 2);
  w.grad = tensor(new Float32Array(2), [2]);
  new AdamW([['w', w]], { eps: 2 ** -126, weightDecay: 0 }).step(0.1);
  expect(w.toArray()).toEqual(Float32Array.of(1, 2));
});

it('refuses rates that grow beyond float32 at milestones', () => {
  const options = { base: 1, totalSteps: 10, milestones: [1, 2, 3], gamma: 1e20 };
  expect(() => schedule('step', options)).toThrow(/^schedule: expected rates of at most 3\.4e38.*got 1e\+60/);
});
