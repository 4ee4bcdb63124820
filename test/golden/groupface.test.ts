/** GroupFace against leoluopy/GroupFacePytorch, whose only departure from the formulas is its activations. */
import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { GroupFace } from '../../lib/nn/index.js';
import { ones, parameter, type Tensor, tensor } from '../../lib/tensor.js';
import { goldenFile, labelsOf, largest, worst } from './conventions.js';

const relative = (ours: ArrayLike<number>, theirs: ArrayLike<number>) => worst(ours, theirs) / largest(theirs);

function load(name: string, dtype: 'float32' | 'float64') {
  const { tensors, metadata } = goldenFile(name);
  const hp = JSON.parse(metadata.hp as string) as { groups: number; feature_dim: number; backbone_fc_dim: number };
  const at = (key: string) => tensors.get(key) as { shape: number[]; data: Float64Array };
  const Typed = dtype === 'float64' ? Float64Array : Float32Array;
  const net = new GroupFace({
    features: hp.backbone_fc_dim,
    embeddingSize: hp.feature_dim,
    groups: hp.groups,
    hidden: at('param.GDN.fc1.fc.bias').shape[0],
    activation: 'prelu',
    lossWeight: 1,
    dtype,
  });
  // The source's layers, and where they are here; its group layers are parts of one.
  const groups = Array.from({ length: hp.groups }, (_, k) => `group_fc.${k}`);
  const layers: [Tensor, string[]][] = [
    [net.instance.weight, ['instance_fc.fc.weight']],
    [net.instance.bias as Tensor, ['instance_fc.fc.bias']],
    [net.instancePrelu?.weight as Tensor, ['instance_fc.act.weight']],
    [net.groups.weight, groups.map((group) => `${group}.fc.weight`)],
    [net.groups.bias as Tensor, groups.map((group) => `${group}.fc.bias`)],
    [net.groupsPrelu?.weight as Tensor, groups.map((group) => `${group}.act.weight`)],
    [net.decision1.weight, ['GDN.fc1.fc.weight']],
    [net.decision1.bias as Tensor, ['GDN.fc1.fc.bias']],
    [net.decision1Prelu?.weight as Tensor, ['GDN.fc1.act.weight']],
    [net.decision2.weight, ['GDN.fc2.fc.weight']],
    [net.decision2.bias as Tensor, ['GDN.fc2.fc.bias']],
    [net.decision2Prelu?.weight as Tensor, ['GDN.fc2.act.weight']],
  ];
  const joined = (names: string[], prefix: string) => names.flatMap((own) => Array.from(at(`${prefix}.${own}`).data));
  for (const [x, names] of layers) x.set(Typed.from(joined(names, 'param')));
  const x = () => parameter(tensor(Typed.from(at('backbone_out').data), at('backbone_out').shape));
  const probe = tensor(Typed.from(at('probe').data), at('probe').shape);
  return { net, at, tensors, layers, joined, x, probe };
}

describe.each(['groupface.leoluopy.small', 'groupface.leoluopy.mid'])('%s', (name) => {
  it('agrees in float64: embedding, probabilities, labels, loss and all gradients', () => {
    const { net, at, tensors, layers, joined, x, probe } = load(name, 'float64');
    expect(layers).toHaveLength(net.parameters().length);
    const input = x();
    const { embedding, groupProbability, groupLabel } = net.forward(input);
    expect(worst(embedding.toArray(), at('final').data)).toBeLessThan(1e-9);
    expect(worst(groupProbability.toArray(), at('group_prob').data)).toBeLessThan(1e-9);
    expect(Array.from(groupLabel)).toEqual(Array.from(labelsOf(tensors.get('group_label')?.data)));
    backward(embedding, probe);
    expect(relative((input.grad as Tensor).toArray(), at('probe.dx').data)).toBeLessThan(1e-7);
    for (const [p, names] of layers) {
      expect(relative((p.grad as Tensor).toArray(), joined(names, 'probe.grad')), names[0]).toBeLessThan(1e-7);
    }
    const again = x();
    const { groupLoss } = net.forward(again);
    expect(Math.abs(groupLoss.item() - (at('group_loss').data[0] as number))).toBeLessThan(1e-9);
    backward(groupLoss);
    expect(relative((again.grad as Tensor).toArray(), at('group_loss.dx').data)).toBeLessThan(1e-7);
  });

  it('loses no more than twice what the source loses in float32', () => {
    const { net, at, x, probe } = load(name, 'float32');
    // Or a few roundings, the floors of goldenTolerance(): sums of 256 terms in another order lose other digits.
    const fair = (key: string) =>
      Math.max(2 * relative(at(`f32.${key}`).data, at(key).data), key.endsWith('dx') ? 5e-6 : 1e-6);
    const [input, again] = [x(), x()];
    const { embedding, groupProbability } = net.forward(input);
    expect(relative(embedding.toArray(), at('final').data)).toBeLessThanOrEqual(fair('final'));
    expect(relative(groupProbability.toArray(), at('group_prob').data)).toBeLessThanOrEqual(fair('group_prob'));
    backward(embedding, probe);
    expect(relative((input.grad as Tensor).toArray(), at('probe.dx').data)).toBeLessThanOrEqual(fair('probe.dx'));
    const { groupLoss } = net.forward(again);
    expect(relative(groupLoss.toArray(), at('group_loss').data)).toBeLessThanOrEqual(fair('group_loss'));
    backward(groupLoss, ones([1]));
    expect(relative((again.grad as Tensor).toArray(), at('group_loss.dx').data)).toBeLessThanOrEqual(
      fair('group_loss.dx'),
    );
  });
});
