import { defineOp } from '../autograd.js';
import { type MarginParams, native, type Precision } from '../binding.js';
import { checkNumbers, checkOptions, expected, ShapeError } from '../errors.js';
import { checkedMargin } from '../margins/check.js';
import type { Margin, MarginState } from '../margins/index.js';
import { Tensor } from '../tensor.js';
import { again, borrowLabels, checkTensors, extents, scalar, withLabels } from './headArguments.js';

export interface MarginSoftmaxResult {
  /** Mean over the rows that have a target, and the method's regulariser; a tensor of one element, for backward(). */
  readonly loss: Tensor;
  /** [N]; 0 where the label is −1. */
  readonly rowLoss: Tensor;
  /** [N], log Σ exp of the logits; 0 of a binary loss. */
  readonly lse: Tensor;
  /** Share of the rows with a target whose plain cosine is the largest. */
  readonly accuracy: number;
  /** Mean of the regulariser of the norms (MagFace); 0 otherwise. */
  readonly regularizer: number;
}

export interface MarginSoftmaxOptions {
  /** [N]: each row's own margin (ElasticFace, AdaptiveFace), with a gradient; of CosFace's and ArcFace's kind. */
  readonly margins?: Tensor;
  /** What running numbers are at; by default where the method starts. */
  readonly state?: Omit<MarginState, 'numClasses'>;
  /** bfloat16: the matrix products of float32 tensors round what they multiply to it; all else is as without. */
  readonly precision?: Precision;
}

interface Context {
  readonly labels: Tensor;
  readonly params: MarginParams;
  readonly precision: Precision;
  readonly out: { rowLoss?: Tensor; lse?: Tensor; accuracy?: number; regularizer?: number };
}

type Inputs = readonly [features: Tensor, weight: Tensor, ...margins: Tensor[]];

const marginSoftmaxOp = defineOp<Inputs, Context, { lse: Tensor; labels: Tensor }>({
  name: 'marginSoftmax',
  forward: ([features, weight, margins], { labels, params, precision, out }) => {
    const result = native.marginSoftmaxForward(
      features.handle,
      weight.handle,
      labels.handle,
      margins?.handle,
      params,
      precision,
    );
    out.rowLoss = new Tensor(result.rowLoss, features.device);
    out.lse = new Tensor(result.lse, features.device);
    out.accuracy = result.labelled > 0 ? result.correct / result.labelled : 0;
    out.regularizer = result.regularizer;
    return { y: scalar(features, result.loss), saved: { lse: again(out.lse), labels } };
  },
  backward: (
    dy,
    { inputs: [features, weight, margins], attributes: { params, precision }, saved: { lse, labels } },
  ) => {
    const { dFeatures, dWeight, dMargins } = native.marginSoftmaxBackward(
      features.handle,
      weight.handle,
      labels.handle,
      margins?.handle,
      lse.handle,
      native.sum(dy),
      params,
      precision,
    );
    if (margins) return [dFeatures, dWeight, dMargins];
    native.dispose(dMargins);
    return [dFeatures, dWeight];
  },
});

/** The classes of a weight [C·K, D], and the kernels' numbers of a margin over them. */
function paramsOf(operation: string, weight: Tensor, margin: Margin, state: MarginSoftmaxOptions['state']) {
  const { subCenters = 1 } = margin ?? {};
  const [rows] = extents(operation, 'weight', weight);
  expected(
    Number.isInteger(rows / subCenters),
    operation,
    `weight [C·${subCenters}, D] for ${subCenters} centers a class`,
    weight.shape,
  );
  const numClasses = rows / subCenters;
  return checkedMargin(operation, margin, numClasses, state);
}

/**
 * The loss of a margin head over all classes without the [N, C] logits: features [N, D], weight [C·K, D], both as they
 * are (they are normalised inside), labels int32 [N] in [0, C), or −1 for a row without a target.
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
  options: MarginSoftmaxOptions = {},
): MarginSoftmaxResult {
  checkOptions('marginSoftmax', options, ['margins', 'state', 'precision']);
  const { margins, state, precision = 'float32' } = options;
  checkTensors('marginSoftmax', { features, weight });
  if (features.shape.length !== 2) {
    throw new ShapeError(`marginSoftmax: expected features [N, D], got [${features.shape.join(', ')}]`, {
      code: 'ERR_FM_SHAPE',
    });
  }
  if (weight.shape.length !== 2 || features.shape[1] !== weight.shape[1]) {
    throw new ShapeError(
      `marginSoftmax: expected weight [C, ${features.shape[1]}] to match features [${features.shape.join(', ')}], got [${weight.shape.join(', ')}]`,
      { code: 'ERR_FM_SHAPE' },
    );
  }
  expected(
    precision === 'float32' || precision === 'bfloat16',
    'marginSoftmax',
    "precision 'float32' or 'bfloat16'",
    precision,
  );
  const params = paramsOf('marginSoftmax', weight, margin, state);
  return withLabels(
    'marginSoftmax',
    labels,
    { features, weight, ...(margins === undefined ? {} : { margins }) },
    (targets) => {
      const out: Context['out'] = {};
      const inputs: Inputs = margins ? [features, weight, margins] : [features, weight];
      const loss = marginSoftmaxOp(inputs, { labels: targets, params, precision, out });
      return {
        loss,
        rowLoss: out.rowLoss as Tensor,
        lse: out.lse as Tensor,
        accuracy: out.accuracy as number,
        regularizer: out.regularizer as number,
      };
    },
  );
}

/** The logits scale·φ, [N, C]: for looking at small cases; the loss never makes them. */
export function marginLogits(
  features: Tensor,
  weight: Tensor,
  labels: Tensor | Int32Array,
  margin: Margin,
  options: Pick<MarginSoftmaxOptions, 'margins' | 'state'> = {},
): Tensor {
  checkOptions('marginLogits', options, ['margins', 'state']);
  const { margins, state } = options;
  const params = paramsOf('marginLogits', weight, margin, state);
  return borrowLabels(
    'marginLogits',
    labels,
    { features, weight, ...(margins === undefined ? {} : { margins }) },
    (targets) => {
      const logits = native.marginLogits(features.handle, weight.handle, targets.handle, margins?.handle, params);
      return new Tensor(logits, features.device);
    },
  );
}

/**
 * Each row's plain cosine to its target, the largest of the class's `subCenters` centers, [N]; 0 where the label is −1.
 * Costs N·D·K, whatever the number of classes.
 */
export function targetCosines(
  features: Tensor,
  weight: Tensor,
  labels: Tensor | Int32Array,
  options: { subCenters?: number } = {},
): Tensor {
  checkOptions('targetCosines', options, ['subCenters']);
  const { subCenters = 1 } = options;
  checkNumbers('targetCosines', { subCenters });
  return borrowLabels('targetCosines', labels, { features, weight }, (targets) => {
    const cosines = native.targetCosines(features.handle, weight.handle, targets.handle, subCenters);
    return new Tensor(cosines, features.device);
  });
}

/**
 * [N]: log Σ exp(scale·cos) over the classes other than a row's target, of which every class's cosine is the largest of
 * its `subCenters` centers; AdaCos's sum.
 */
export function negativeLse(
  features: Tensor,
  weight: Tensor,
  labels: Tensor | Int32Array,
  options: { scale: number; subCenters?: number },
): Tensor {
  checkOptions('negativeLse', options, ['scale', 'subCenters']);
  const { scale, subCenters = 1 } = options;
  expected(typeof scale === 'number', 'negativeLse', 'scale, a number', scale);
  checkNumbers('negativeLse', { subCenters });
  return borrowLabels('negativeLse', labels, { features, weight }, (targets) => {
    const params = { method: 'softmax', scale, subCenters };
    return new Tensor(
      native.negativeLse(features.handle, weight.handle, targets.handle, params, undefined),
      features.device,
    );
  });
}
