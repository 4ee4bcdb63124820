/**
 * GroupFace (Kim et al., CVPR 2020, arXiv:2005.10497).  Beside the instance representation v of a picture there are K
 * group representations v^k; a group decision network reads v and says how much of each belongs to the picture:
 *
 *   v = FC(f),  v^k = FC_k(f),  p = softmax(GDN(v)),  embedding = v + Σ_k p_k·v^k   (soft), or v + v^argmax(p) (hard)
 *
 * Nobody labels the groups.  The label of a picture is the group that it prefers more than pictures do on average,
 * argmax_k (p_k − E[p_k])/K + 1/K, a constant; without the expectation all pictures would fall into one group.
 * The loss adds λ·CE(p, label) to that of the embedding.
 */
import { native } from '../binding.js';
import { checkOptions, expected, NonFiniteError, within } from '../errors.js';
import * as ops from '../ops/index.js';
import { Random } from '../random.js';
import { checkTensor, ones, type Tensor, tensor } from '../tensor.js';
import { type LayerOptions, Linear, PRelu } from './layers.js';
import { buffer, Module } from './module.js';

export interface GroupFaceOptions extends LayerOptions {
  /** Size of the shared features f that come in. */
  readonly features: number;
  /** D; that of the features by default. */
  readonly embeddingSize?: number;
  /** K. */
  readonly groups?: number;
  /** Width between the two layers of the group decision network. */
  readonly hidden?: number;
  /** All group representations, weighted, or the most probable one alone. */
  readonly mode?: 'soft' | 'hard';
  /**
   * 'relu': the representations are linear, a ReLU stands between the two layers of the group decision network.
   * 'prelu': a PReLU with one slope after every layer, also before the softmax, as leoluopy/GroupFacePytorch has it.
   */
  readonly activation?: 'relu' | 'prelu';
  /** E[p] of the labels: the batch's mean, or one that runs through training and is saved. */
  readonly expectation?: 'batch' | 'running';
  /** Share of the newest batch in the running expectation. */
  readonly momentum?: number;
  /** λ. */
  readonly lossWeight?: number;
}

export interface GroupFaceResult {
  /** [N, D], instance + group representation, not normalised: what a head takes. */
  readonly embedding: Tensor;
  /** [N, K] */
  readonly groupProbability: Tensor;
  /** [N], in [0, K) */
  readonly groupLabel: Int32Array;
  /** λ·CE(p, label), of one element: a part of backwardFrom(). */
  readonly groupLoss: Tensor;
}

const optionNames = [
  'features',
  'embeddingSize',
  'groups',
  'hidden',
  'mode',
  'activation',
  'expectation',
  'momentum',
  'lossWeight',
  'rng',
  'device',
  'dtype',
];

/**
 * Features [N, I] → embeddings of instance and groups, and the loss of the groups.
 *
 * @example
 * const groupFace = new GroupFace({ features: 512, groups: 32 });
 * const { embedding, groupLoss } = groupFace.forward(backbone.forward(images));
 * const { gradEmbeddings } = head.stepSync(embedding, labels, { lr });
 * backwardFrom([[embedding, gradEmbeddings], [groupLoss]]);
 */
export class GroupFace extends Module<GroupFaceResult> {
  readonly instance: Linear;
  readonly instancePrelu: PRelu | undefined;
  /** The K group layers in one, [K·D, I]: group k has the rows from k·D. */
  readonly groups: Linear;
  /** One slope a group, [K]. */
  readonly groupsPrelu: PRelu | undefined;
  readonly decision1: Linear;
  readonly decision1Prelu: PRelu | undefined;
  readonly decision2: Linear;
  readonly decision2Prelu: PRelu | undefined;
  /** [K], the running E[p]. */
  readonly expectation: Tensor | undefined;
  readonly embeddingSize: number;
  readonly groupCount: number;
  readonly mode: 'soft' | 'hard';
  readonly lossWeight: number;
  readonly #momentum: number;

  constructor(given: GroupFaceOptions) {
    super();
    checkOptions('GroupFace', given, optionNames);
    const {
      features,
      embeddingSize = features,
      groups = 4,
      hidden = 256,
      mode = 'soft',
      activation = 'relu',
      expectation = 'batch',
      momentum = 0.1,
      lossWeight = 0.1,
      ...layer
    } = given;
    for (const [name, size] of Object.entries({ features, embeddingSize, groups, hidden }))
      expected(Number.isSafeInteger(size) && size >= 1, 'GroupFace', `${name} of at least 1`, size);
    expected(mode === 'soft' || mode === 'hard', 'GroupFace', "mode 'soft' or 'hard'", mode);
    expected(activation === 'relu' || activation === 'prelu', 'GroupFace', "activation 'relu' or 'prelu'", activation);
    expected(
      expectation === 'batch' || expectation === 'running',
      'GroupFace',
      "expectation 'batch' or 'running'",
      expectation,
    );
    expected(within(momentum, Number.MIN_VALUE, 1), 'GroupFace', 'momentum in (0, 1]', momentum);
    expected(lossWeight >= 0 && Number.isFinite(lossWeight), 'GroupFace', 'lossWeight of at least 0', lossWeight);
    const options = { ...layer, rng: layer.rng ?? new Random(0) };
    const prelu = (slopes: number) => (activation === 'prelu' ? new PRelu(slopes, options) : undefined);
    this.instance = new Linear(features, embeddingSize, options);
    this.instancePrelu = prelu(1);
    this.groups = new Linear(features, groups * embeddingSize, options);
    this.groupsPrelu = prelu(groups);
    this.decision1 = new Linear(embeddingSize, hidden, options);
    this.decision1Prelu = prelu(1);
    this.decision2 = new Linear(hidden, groups, options);
    this.decision2Prelu = prelu(1);
    if (expectation === 'running') {
      this.expectation = buffer(ones([groups], options.dtype ?? 'float32', options.device));
      this.#setExpectation(new Array(groups).fill(1 / groups));
    }
    this.embeddingSize = embeddingSize;
    this.groupCount = groups;
    this.mode = mode;
    this.lossWeight = lossWeight;
    this.#momentum = momentum;
  }

  override forward(x: Tensor): GroupFaceResult {
    checkTensor('GroupFace', 'features', x);
    if (!native.allFinite(x.handle)) {
      throw new NonFiniteError('GroupFace: expected finite features, got a value that is not', {
        code: 'ERR_FM_NON_FINITE',
      });
    }
    const [K, D] = [this.groupCount, this.embeddingSize];
    const instance = withSlope(this.instance.forward(x), this.instancePrelu);
    const N = instance.shape[0] as number;
    const hidden = this.decision1.forward(instance);
    const decided = this.decision1Prelu ? withSlope(hidden, this.decision1Prelu) : ops.relu(hidden);
    const scores = withSlope(this.decision2.forward(decided), this.decision2Prelu);
    const groupProbability = ops.softmax(scores);
    const p = groupProbability.toArray();
    const like = (values: Float64Array) =>
      tensor(scores.dtype === 'float64' ? values : Float32Array.from(values), [N, K], scores.device);

    const groups = this.#slopedGroups(this.groups.forward(x)).reshape([N, K, D]);
    const shares = this.mode === 'soft' ? groupProbability : like(oneHot(argmax(p, K), K, 1));
    const embedding = ops.add(instance, ops.weightedSum(shares, groups));

    const E = this.#expectationOf(p);
    const groupLabel = argmax(
      p.map((value, i) => (value - (E[i % K] as number)) / K + 1 / K),
      K,
    );
    const groupLoss = ops.dot(ops.logSoftmax(scores), like(oneHot(groupLabel, K, -this.lossWeight / N)));
    return { embedding, groupProbability, groupLabel, groupLoss };
  }

  /** Group k's slope on the D values of group k: y [N, K·D]. */
  #slopedGroups(y: Tensor): Tensor {
    if (!this.groupsPrelu) return y;
    const [K, D] = [this.groupCount, this.embeddingSize];
    const group = Int32Array.from({ length: K * D }, (_, i) => Math.floor(i / D));
    return ops.prelu(y, ops.gatherRows(this.groupsPrelu.weight.reshape([K, 1]), group).reshape([K * D]));
  }

  /** The expectation that this batch's labels are measured by; the running one moves first. */
  #expectationOf(p: ArrayLike<number>): readonly number[] {
    const K = this.groupCount;
    const N = p.length / K;
    const mean = new Array<number>(K).fill(0);
    for (let i = 0; i < p.length; i++) mean[i % K] = (mean[i % K] as number) + (p[i] as number) / N;
    if (!this.expectation) return mean;
    if (this.training && N > 0) {
      const before = this.expectation.toArray();
      this.#setExpectation(mean.map((m, k) => (1 - this.#momentum) * (before[k] as number) + this.#momentum * m));
    }
    return Array.from(this.expectation.toArray());
  }

  #setExpectation(values: readonly number[]): void {
    const Typed = this.expectation?.dtype === 'float64' ? Float64Array : Float32Array;
    this.expectation?.set(Typed.from(values));
  }
}

/** PReLU with one slope for all elements; nothing where there is no slope. */
function withSlope(x: Tensor, prelu: PRelu | undefined): Tensor {
  return prelu ? prelu.forward(x.reshape([x.size, 1])).reshape(x.shape) : x;
}

/** The column of each row's largest value, the first of equals. */
function argmax(rows: ArrayLike<number>, K: number): Int32Array {
  return Int32Array.from({ length: rows.length / K }, (_, n) => {
    let best = 0;
    for (let k = 1; k < K; k++) if ((rows[n * K + k] as number) > (rows[n * K + best] as number)) best = k;
    return best;
  });
}

/** [N, K]: `value` at each row's label, 0 elsewhere. */
function oneHot(labels: Int32Array, K: number, value: number): Float64Array {
  const out = new Float64Array(labels.length * K);
  labels.forEach((k, n) => {
    out[n * K + k] = value;
  });
  return out;
}
