import { defineOp } from '../autograd.js';
import { type Handle, native } from '../binding.js';
import { checkNumbers, checkOptions } from '../errors.js';
import { Tensor } from '../tensor.js';
import { extents, scalar, withLabels, written } from './headArguments.js';

interface SoftmaxContext {
  readonly labels: Tensor;
  readonly labelSmoothing: number;
  readonly out: { rowLoss?: Tensor; lse?: Tensor };
}

const softmaxCrossEntropyOp = defineOp<readonly [Tensor], SoftmaxContext, { labels: Tensor }>({
  name: 'softmaxCrossEntropy',
  forward: ([logits], { labels, labelSmoothing, out }) => {
    const rows = [extents('softmaxCrossEntropy', 'logits', logits)[0]];
    let loss = 0;
    let lse: Handle | undefined;
    const rowLoss = written(logits, rows, (losses) => {
      lse = written(logits, rows, (to) => {
        loss = native.softmaxCrossEntropyForward(logits.handle, labels.handle, labelSmoothing, losses, to);
      });
    });
    out.rowLoss = new Tensor(rowLoss, logits.device);
    out.lse = new Tensor(lse as Handle, logits.device);
    return { y: scalar(logits, loss), saved: { labels } };
  },
  backward: (dy, { inputs: [logits], attributes: { labelSmoothing }, saved: { labels } }) => [
    written(logits, logits.shape, (to) =>
      native.softmaxCrossEntropyBackward(logits.handle, labels.handle, labelSmoothing, native.sum(dy), to),
    ),
  ],
});

/**
 * −log softmax of the targets' logits: [N, C], labels int32 [N] in [0, C) or −1.  `loss` is its mean over the rows that
 * have a target, a tensor of one element for backward(); rowLoss and lse, [N], have no gradient.
 *
 * @example
 * const { loss } = softmaxCrossEntropy(logits, new Int32Array([3, 0]), { labelSmoothing: 0.1 });
 */
export function softmaxCrossEntropy(
  logits: Tensor,
  labels: Tensor | Int32Array,
  options: { labelSmoothing?: number } = {},
): { loss: Tensor; rowLoss: Tensor; lse: Tensor } {
  checkOptions('softmaxCrossEntropy', options, ['labelSmoothing']);
  const { labelSmoothing = 0 } = options;
  checkNumbers('softmaxCrossEntropy', { labelSmoothing });
  const out: SoftmaxContext['out'] = {};
  const loss = withLabels('softmaxCrossEntropy', labels, { logits }, (own) =>
    softmaxCrossEntropyOp([logits], { labels: own, labelSmoothing, out }),
  );
  return { loss, rowLoss: out.rowLoss as Tensor, lse: out.lse as Tensor };
}

interface BinaryContext {
  readonly labels: Tensor;
  readonly positiveWeight: number;
  readonly negativeWeight: number;
  readonly out: { rowLoss?: Tensor };
}

const binaryCrossEntropyOp = defineOp<readonly [Tensor], BinaryContext, { labels: Tensor }>({
  name: 'binaryCrossEntropy',
  forward: ([logits], { labels, positiveWeight, negativeWeight, out }) => {
    const rows = [extents('binaryCrossEntropy', 'logits', logits)[0]];
    let loss = 0;
    const rowLoss = written(logits, rows, (to) => {
      loss = native.binaryCrossEntropyForward(logits.handle, labels.handle, positiveWeight, negativeWeight, to);
    });
    out.rowLoss = new Tensor(rowLoss, logits.device);
    return { y: scalar(logits, loss), saved: { labels } };
  },
  backward: (dy, { inputs: [logits], attributes: { positiveWeight, negativeWeight }, saved: { labels } }) => [
    written(logits, logits.shape, (to) =>
      native.binaryCrossEntropyBackward(
        logits.handle,
        labels.handle,
        positiveWeight,
        negativeWeight,
        native.sum(dy),
        to,
      ),
    ),
  ],
});

/**
 * A binary loss a class, positiveWeight·ln(1 + e^−z_y) + negativeWeight·Σ ln(1 + e^z_j): logits [N, C], labels int32
 * [N] in [0, C) or −1; `loss` is the mean over the rows that have a target.
 *
 * @example
 * const { loss } = binaryCrossEntropy(logits, labels, { negativeWeight: 0.3 });
 */
export function binaryCrossEntropy(
  logits: Tensor,
  labels: Tensor | Int32Array,
  options: { positiveWeight?: number; negativeWeight?: number } = {},
): { loss: Tensor; rowLoss: Tensor } {
  checkOptions('binaryCrossEntropy', options, ['positiveWeight', 'negativeWeight']);
  const { positiveWeight = 1, negativeWeight = 1 } = options;
  checkNumbers('binaryCrossEntropy', { positiveWeight, negativeWeight });
  const out: BinaryContext['out'] = {};
  const loss = withLabels('binaryCrossEntropy', labels, { logits }, (own) =>
    binaryCrossEntropyOp([logits], { labels: own, positiveWeight, negativeWeight, out }),
  );
  return { loss, rowLoss: out.rowLoss as Tensor };
}
