import { describe, expect, it } from 'vitest';
import { backward, backwardFrom } from '../../lib/autograd.js';
import { GroupFace, type GroupFaceOptions } from '../../lib/nn/index.js';
import * as ops from '../../lib/ops/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { parameter, type Tensor, tensor, zeros } from '../../lib/tensor.js';
import { check, draw } from '../differences.js';

const [N, I, D, K, H] = [7, 5, 4, 3, 6];
const rng = new Random(2);
const x = tensor(Float64Array.from(normalArray(N * I, 1, rng)), [N, I]);
const group = (options: Partial<GroupFaceOptions> = {}) =>
  new GroupFace({ features: I, embeddingSize: D, groups: K, hidden: H, dtype: 'float64', ...options });

/** The formulas, in plain loops: linear representations, a ReLU inside the decision network. */
function plain(net: GroupFace, mode: 'soft' | 'hard') {
  const fc = (v: readonly number[], { weight, bias }: { weight: Tensor; bias: Tensor | undefined }) => {
    const W = weight.toArray();
    const columns = v.length;
    return Array.from(bias?.toArray() as Float64Array, (b, o) =>
      v.reduce((sum, value, i) => sum + value * (W[o * columns + i] as number), b),
    );
  };
  const rows = Array.from({ length: N }, (_, n) => {
    const f = Array.from(x.toArray().subarray(n * I, (n + 1) * I));
    const v = fc(f, net.instance);
    const z = fc(
      fc(v, net.decision1).map((h) => Math.max(h, 0)),
      net.decision2,
    );
    const sum = z.reduce((total, value) => total + Math.exp(value), 0);
    return { v, groups: fc(f, net.groups), p: z.map((value) => Math.exp(value) / sum) };
  });
  const mean = Array.from({ length: K }, (_, k) => rows.reduce((sum, { p }) => sum + (p[k] as number) / N, 0));
  const best = (values: readonly number[]) => values.indexOf(Math.max(...values));
  const labels = rows.map(({ p }) => best(p.map((value, k) => (value - (mean[k] as number)) / K + 1 / K)));
  return {
    labels,
    p: rows.flatMap(({ p }) => p),
    embedding: rows.flatMap(({ v, groups, p }) =>
      v.map((value, d) =>
        p.reduce((sum, share, k) => {
          const weight = mode === 'soft' ? share : Number(k === best(p));
          return sum + weight * (groups[k * D + d] as number);
        }, value),
      ),
    ),
    loss: -rows.reduce((sum, { p }, n) => sum + Math.log(p[labels[n] as number] as number) / N, 0),
  };
}

const near = (ours: ArrayLike<number>, theirs: readonly number[]) => {
  expect(ours.length).toBe(theirs.length);
  for (const [i, value] of theirs.entries()) expect(ours[i]).toBeCloseTo(value, 12);
};

describe('GroupFace', () => {
  it.each(['soft', 'hard'] as const)('%s: is its formulas', (mode) => {
    const net = group({ mode });
    const out = net.forward(x);
    const wanted = plain(net, mode);
    near(out.embedding.toArray(), wanted.embedding);
    near(out.groupProbability.toArray(), wanted.p);
    expect(Array.from(out.groupLabel)).toEqual(wanted.labels);
    expect(out.groupLoss.item()).toBeCloseTo(0.1 * wanted.loss, 12);
    expect(new Set(wanted.labels).size).toBeGreaterThan(1);
  });

  it.each([
    { mode: 'soft', activation: 'relu' },
    { mode: 'soft', activation: 'prelu' },
    { mode: 'hard', activation: 'relu' },
    { mode: 'hard', activation: 'prelu' },
  ] as const)('has the gradients of finite differences %o', (options) => {
    const net = group({ ...options, lossWeight: 0.7 });
    const input = draw([N, I]);
    const inputs = [input, ...net.parameters()];
    // In hard mode nothing flows through the probabilities: the loss alone reaches the decision network.
    check(
      () => {
        const { embedding, groupLoss } = net.forward(input);
        return ops.add(ops.dot(embedding, embedding), groupLoss);
      },
      inputs,
      1e-6,
    );
  });

  it('takes the gradient of a head and of its own loss in one walk', () => {
    const net = group();
    const probe = tensor(Float64Array.from(normalArray(N * D, 1, rng)), [N, D]);
    const gradients = (walk: (out: ReturnType<GroupFace['forward']>) => void) => {
      const input = parameter(tensor(x.toArray(), [N, I]));
      walk(net.forward(input));
      const found = [input, ...net.parameters()].map((p) => p.grad?.toArray() as Float64Array);
      for (const p of net.parameters()) p.grad = undefined;
      return found;
    };
    const joint = gradients(({ embedding, groupLoss }) => backwardFrom([[embedding, probe], [groupLoss]]));
    const summed = gradients(({ embedding, groupLoss }) => backward(ops.add(ops.dot(embedding, probe), groupLoss)));
    joint.forEach((gradient, i) => {
      near(gradient, Array.from(summed[i] as Float64Array));
    });
    expect(() => backwardFrom([[net.forward(x).embedding]])).toThrow(/dy for a tensor of more than one element/);
  });

  it('with one group is its sum with the instance, without a loss', () => {
    const net = group({ groups: 1 });
    const { embedding, groupLabel, groupLoss } = net.forward(x);
    const sum = ops.add(net.instance.forward(x), net.groups.forward(x));
    near(embedding.toArray(), Array.from(sum.toArray()));
    expect(Array.from(groupLabel)).toEqual(new Array(N).fill(0));
    expect(groupLoss.item()).toBeCloseTo(0, 15);
  });

  it('with groups of zeros is the instance', () => {
    const net = group();
    net.groups.weight.set(new Float64Array(K * D * I));
    net.groups.bias?.set(new Float64Array(K * D));
    near(net.forward(x).embedding.toArray(), Array.from(net.instance.forward(x).toArray()));
  });

  it('permutes its labels with its groups', () => {
    const net = group({ activation: 'prelu' });
    const before = net.forward(x);
    const to = [2, 0, 1]; // group k goes to to[k]
    const move = (t: Tensor | undefined) => {
      const values = t?.toArray() as Float64Array;
      const size = values.length / K;
      const out = new Float64Array(values.length);
      for (let k = 0; k < K; k++) out.set(values.subarray(k * size, (k + 1) * size), (to[k] as number) * size);
      t?.set(out);
    };
    for (const layer of [net.groups, net.decision2]) {
      move(layer.weight);
      move(layer.bias);
    }
    move(net.groupsPrelu?.weight);
    const after = net.forward(x);
    near(after.embedding.toArray(), Array.from(before.embedding.toArray()));
    expect(Array.from(after.groupLabel)).toEqual(Array.from(before.groupLabel, (k) => to[k]));
    expect(after.groupLoss.item()).toBeCloseTo(before.groupLoss.item(), 12);
  });

  it('hands out labels to every group where the probabilities name one alone', () => {
    const net = group();
    net.decision2.bias?.set(new Float64Array([9, 0, 0])); // nearly all of p is group 0's
    const { groupProbability, groupLabel } = net.forward(x);
    const p = groupProbability.toArray();
    for (let n = 0; n < N; n++) expect(p[n * K]).toBeGreaterThan(0.9);
    expect(new Set(groupLabel).size).toBeGreaterThan(1);
  });

  it('moves the running expectation in training alone, before it is used, and saves it', () => {
    const net = group({ expectation: 'running', momentum: 0.25 });
    expect([...net.stateDict().keys()]).toContain('expectation');
    expect([...group().stateDict().keys()]).not.toContain('expectation');
    expect(net.parameters()).not.toContain(net.expectation);
    const p = plain(net, 'soft').p;
    const mean = Array.from({ length: K }, (_, k) => p.filter((_, i) => i % K === k).reduce((a, b) => a + b, 0) / N);
    const { groupLabel } = net.forward(x);
    const moved = mean.map((m) => 0.75 / K + 0.25 * m);
    near((net.expectation as Tensor).toArray(), moved);
    const wanted = Array.from({ length: N }, (_, n) => {
      const row = Array.from({ length: K }, (_, k) => (p[n * K + k] as number) - (moved[k] as number));
      return row.indexOf(Math.max(...row));
    });
    expect(Array.from(groupLabel)).toEqual(wanted);
    net.eval().forward(x);
    near((net.expectation as Tensor).toArray(), moved);
    const other = group({ expectation: 'running' });
    other.loadStateDict(net.stateDict());
    near((other.expectation as Tensor).toArray(), moved);
    expect(() => group().loadStateDict(net.stateDict())).toThrow(/unknown expectation/);
  });

  it.each([
    [{ groups: 0 }, /GroupFace: expected groups of at least 1, got 0/],
    [{ hidden: 2.5 }, /hidden of at least 1, got 2.5/],
    [{ mode: 'medium' as never }, /mode 'soft' or 'hard', got 'medium'/],
    [{ activation: 'gelu' as never }, /activation 'relu' or 'prelu', got 'gelu'/],
    [{ expectation: 'none' as never }, /expectation 'batch' or 'running', got 'none'/],
    [{ momentum: 0 }, /momentum in \(0, 1\], got 0/],
    [{ lossWeight: -1 }, /lossWeight of at least 0, got -1/],
  ] as const)('refuses %o', (options, message) => {
    expect(() => group(options)).toThrow(message);
  });

  it('refuses features of another size', () => {
    expect(() => group().forward(zeros([2, I + 1], 'float64'))).toThrow(/expected input \[\*, 5\], got \[2, 6\]/);
  });
});
