import { defineOp } from '../autograd.js';
import { native } from '../binding.js';
import { ArgumentTypeError, ShapeError } from '../errors.js';
import type { Margin } from '../margins.js';
import { Tensor, tensor } from '../tensor.js';

export interface MarginSoftmaxResult {
  /** Mean over the rows that have a target; a tensor of one element, for backward(). */
  readonly loss: Tensor;
  /** [N]; 0 where the label is −1. */
  readonly rowLoss: Tensor;
  /** [N], log Σ exp of the logits. */
  readonly lse: Tensor;
  /** Share of the rows with a target whose plain cosine is the largest. */
  readonly accuracy: number;
}

type Context = { labels: Tensor; margin: Margin; out: { rowLoss?: Tensor; lse?: Tensor; accuracy?: number } };

const marginSoftmaxOp = defineOp<readonly [Tensor, Tensor], Context, { lse: Tensor; labels: Tensor }>({
  name: 'marginSoftmax',
  forward: ([features, weight], { labels, margin, out }) => {
    const result = native.marginSoftmaxForward(features.handle, weight.handle, labels.handle, margin);
    out.rowLoss = new Tensor(result.rowLoss, features.device);
    out.lse = new Tensor(result.lse, features.device);
    out.accuracy = result.labelled > 0 ? result.correct / result.labelled : 0;
    // Second handles: the first belong to the caller, who may dispose them.
    const [lse, kept] = [out.lse, labels].map((x) => new Tensor(native.reshape(x.handle, x.shape), x.device)) as [
      Tensor,
      Tensor,
    ];
    const loss = features.dtype === 'float64' ? new Float64Array([result.loss]) : new Float32Array([result.loss]);
    return { y: native.fromArray(loss, [1], -1), saved: { lse, labels: kept } };
  },
  backward: (dy, { inputs: [features, weight], attributes: { margin }, saved: { lse, labels } }) => {
    const gradients = native.marginSoftmaxBackward(
      features.handle,
      weight.handle,
      labels.handle,
      lse.handle,
      native.sum(dy),
      margin,
    );
    return [gradients.dFeatures, gradients.dWeight];
  },
});

/**
 * Margin-softmax loss over all classes without the [N, C] logits: features [N, D], weight [C, D], both as they are
 * (they are normalised inside), labels int32 [N] in [0, C), or −1 for a row without a target.
 *
 * @example
 * const { loss } = marginSoftmax(features, weight, new Int32Array([3, 0]), cosface());
 * backward(loss);
 */
export function marginSoftmax(
  features: Tensor,
  weight: Tensor,
  labels: Tensor | Int32Array,
  margin: Margin,
): MarginSoftmaxResult {
  if (features.shape.length !== 2 || weight.shape.length !== 2 || features.shape[1] !== weight.shape[1]) {
    throw new ShapeError(
      `marginSoftmax: expected weight [C, ${features.shape[1]}] to match features [${features.shape.join(', ')}], got [${weight.shape.join(', ')}]`,
      { code: 'ERR_FM_SHAPE' },
    );
  }
  if (labels instanceof Tensor && labels.dtype !== 'int32') {
    throw new ArgumentTypeError(`marginSoftmax: expected labels of dtype int32, got ${labels.dtype}`, {
      code: 'ERR_FM_TYPE',
    });
  }
  const targets = labels instanceof Tensor ? labels : tensor(labels, [labels.length], features.device);
  try {
    const out: Context['out'] = {};
    const loss = marginSoftmaxOp([features, weight], { labels: targets, margin, out });
    return { loss, rowLoss: out.rowLoss as Tensor, lse: out.lse as Tensor, accuracy: out.accuracy as number };
  } finally {
    if (targets !== labels) targets.dispose();
  }
}

/** The logits scale·φ, [N, C]: for looking at small cases; the loss never makes them. */
export function marginLogits(features: Tensor, weight: Tensor, labels: Int32Array, margin: Margin): Tensor {
  const targets = native.fromArray(labels, [labels.length], -1);
  return new Tensor(native.marginLogits(features.handle, weight.handle, targets, margin), features.device);
}

/** Each row's plain cosine to its target, [N]; 0 where the label is −1.  Costs N·D, whatever the number of classes. */
export function targetCosines(features: Tensor, weight: Tensor, labels: Tensor | Int32Array): Tensor {
  const targets = labels instanceof Tensor ? labels : tensor(labels, [labels.length], features.device);
  try {
    return new Tensor(native.targetCosines(features.handle, weight.handle, targets.handle), features.device);
  } finally {
    if (targets !== labels) targets.dispose();
  }
}
