/** GroupFace: a module's forward, and its gradients of ⟨final, probe⟩ and of the group loss. */
import { backward } from '../../autograd.js';
import { GroupFace } from '../../nn/index.js';
import { parameter, type Tensor, tensor, tidy } from '../../tensor.js';
import { dtypeOf, type GoldenCase, type GoldenFile, NotRun, type Precision } from './goldenFile.js';
import { type Measurement, type Measurements, tightest, worst, worstRelative } from './measure.js';

export function groupFaceCases(file: GoldenFile): GoldenCase[] {
  if (file.sourceName !== 'leoluopy') throw new NotRun(`the activations of ${file.sourceName} are not known`);
  const { name, family, source } = file;
  const measure = (precision: Precision, device: string) => measureModule(file, precision, device);
  return [{ name, family, source, precisions: ['float64', 'float32'], measure }];
}

/** A tensor of ours, and the tensors of the source that are its parts, one after another. */
type Layer = readonly [ours: Tensor | undefined, theirs: readonly string[]];

function layersOf(net: GroupFace): Layer[] {
  const groups = Array.from({ length: net.groupCount }, (_, k) => `group_fc.${k}`);
  const layer = (
    { weight, bias }: GroupFace['instance'],
    prelu: GroupFace['instancePrelu'],
    names: readonly string[],
  ): Layer[] => [
    [weight, names.map((name) => `${name}.fc.weight`)],
    [bias, names.map((name) => `${name}.fc.bias`)],
    [prelu?.weight, names.map((name) => `${name}.act.weight`)],
  ];
  return [
    ...layer(net.instance, net.instancePrelu, ['instance_fc']),
    ...layer(net.groups, net.groupsPrelu, groups),
    ...layer(net.decision1, net.decision1Prelu, ['GDN.fc1']),
    ...layer(net.decision2, net.decision2Prelu, ['GDN.fc2']),
  ];
}

function measureModule(file: GoldenFile, precision: Precision, device: string): Measurements {
  const Typed = precision === 'float32' ? Float32Array : Float64Array;
  const net = new GroupFace({
    features: file.number('backbone_fc_dim'),
    embeddingSize: file.number('feature_dim'),
    groups: file.number('groups'),
    hidden: file.shape('param.GDN.fc1.fc.bias')[0],
    mode: String(file.hp.mode).startsWith('S') ? 'soft' : 'hard',
    activation: 'prelu',
    lossWeight: 1,
    dtype: dtypeOf(precision),
    device,
  });
  const layers = layersOf(net);
  const joined = (prefix: string, names: readonly string[]) =>
    names.flatMap((name) => [...file.values(`${prefix}.${name}`)]);
  for (const [x, names] of layers) x?.set(Typed.from(joined('param', names)));
  const given = (name: string) => tensor(Typed.from(file.values(name)), file.shape(name), device);

  /** Float32 may lose twice what the source loses, or a few roundings: sums of 256 terms in another order differ. */
  const judged = (error: number, exact: number, least: number, source?: number): Measurement =>
    precision === 'float64'
      ? { error, allowed: exact }
      : { error, allowed: Math.max(least, 2 * (source ?? 0)), source };
  const close = (ours: ArrayLike<number>, name: string, exact: number, least: number) => {
    const twin = file.maybe(`f32.${name}`);
    const source = twin && worstRelative(twin, file.values(name));
    return judged(worstRelative(ours, file.values(name)), exact, least, source);
  };
  const [x, again] = [parameter(given('backbone_out')), parameter(given('backbone_out'))];
  try {
    return tidy(() => {
      const { embedding, groupProbability, groupLabel } = net.forward(x);
      backward(embedding, given('probe'));
      const gradients = layers.flatMap(([p, names]) =>
        p ? [judged(worstRelative((p.grad as Tensor).toArray(), joined('probe.grad', names)), 1e-7, 5e-6)] : [],
      );
      const { groupLoss } = net.forward(again);
      backward(groupLoss);
      return {
        embedding_rel: close(embedding.toArray(), 'final', 1e-9, 1e-6),
        probability_rel: close(groupProbability.toArray(), 'group_prob', 1e-9, 1e-6),
        labels: { error: worst(groupLabel, file.integers('group_label')), allowed: 0 },
        dfeatures_rel: close((x.grad as Tensor).toArray(), 'probe.dx', 1e-7, 5e-6),
        gradients_rel: tightest(gradients),
        group_loss_rel: close(groupLoss.toArray(), 'group_loss', 1e-9, 1e-6),
        group_loss_dfeatures_rel: close((again.grad as Tensor).toArray(), 'group_loss.dx', 1e-7, 5e-6),
      };
    });
  } finally {
    net.dispose();
    for (const made of [x, again]) {
      made.grad?.dispose();
      made.dispose();
    }
  }
}
