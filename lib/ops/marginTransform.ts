import { defineOp } from '../autograd.js';
import { type Handle, type MarginParams, native } from '../binding.js';
import { deviceIndex } from '../device.js';
import { checkNumbers, checkOptions } from '../errors.js';
import { checkedMargin } from '../margins/check.js';
import type { Margin, MarginState } from '../margins/index.js';
import type { Tensor } from '../tensor.js';
import { extents, scalar, withLabels, written } from './headArguments.js';

interface TransformContext {
  readonly labels: Tensor;
  readonly params: MarginParams;
  readonly hasMargins: boolean;
  readonly hasNorms: boolean;
}
type TransformInputs = readonly [cosines: Tensor, ...rest: Tensor[]];

const handlesOf = ([, ...rest]: TransformInputs, { hasMargins, hasNorms }: TransformContext) =>
  [hasMargins ? rest[0]?.handle : undefined, hasNorms ? rest.at(-1)?.handle : undefined] as const;

const marginTransformOp = defineOp<TransformInputs, TransformContext, { labels: Tensor }>({
  name: 'marginTransform',
  forward: (inputs, context) => {
    const { labels, params } = context;
    const [cosines] = inputs;
    const [margins, norms] = handlesOf(inputs, context);
    const y = written(cosines, cosines.shape, (to) =>
      native.marginTransformForward(cosines.handle, labels.handle, margins, norms, params, to),
    );
    return { y, saved: { labels } };
  },
  backward: (dy, { inputs, attributes, saved: { labels }, needs }) => {
    const { params, hasMargins, hasNorms } = attributes;
    const [cosines, ...rest] = inputs;
    const [margins, norms] = handlesOf(inputs, attributes);
    const gradients = rest.map((x, i) =>
      needs[i + 1] ? native.empty(x.dtype, x.shape, deviceIndex(x.device)) : undefined,
    );
    const dMargins = hasMargins ? gradients[0] : undefined;
    const dNorms = hasNorms ? gradients.at(-1) : undefined;
    const dCosines = written(cosines, cosines.shape, (to) => {
      native.marginTransformBackward(dy, cosines.handle, labels.handle, margins, norms, params, to, dMargins, dNorms);
    });
    return [dCosines, ...gradients];
  },
});

export interface MarginTransformOpOptions {
  /** [N]: each row's own margin, with a gradient; of CosFace's and ArcFace's kind. */
  readonly margins?: Tensor;
  /** [N]: norms of the features, with a gradient, for MagFace, AdaFace and `featureNormScale()`. */
  readonly norms?: Tensor;
  /** What running numbers are at; by default where the method starts. */
  readonly state?: Omit<MarginState, 'numClasses'>;
}

/**
 * What a margin makes of cosines: [N, C], labels int32 [N] → logits [N, C].  Sub-centers and label smoothing, which a
 * margin may ask for too, are subCenterMax's and softmaxCrossEntropy's.
 *
 * @example
 * const logits = marginTransform(cosines, labels, magface(), { norms: rowNorms(features) });
 */
export function marginTransform(
  cosines: Tensor,
  labels: Tensor | Int32Array,
  margin: Margin,
  options: MarginTransformOpOptions = {},
): Tensor {
  checkOptions('marginTransform', options, ['margins', 'norms', 'state']);
  const { margins, norms, state } = options;
  const [, numClasses] = extents('marginTransform', 'cosines', cosines);
  const params = checkedMargin('marginTransform', margin, numClasses, state);
  const given = { ...(margins === undefined ? {} : { margins }), ...(norms === undefined ? {} : { norms }) };
  const inputs: TransformInputs = [cosines, ...Object.values(given)];
  return withLabels('marginTransform', labels, { cosines, ...given }, (own) =>
    marginTransformOp(inputs, { labels: own, params, hasMargins: !!margins, hasNorms: !!norms }),
  );
}

interface CurricularContext {
  readonly labels: Tensor;
  readonly t: number;
  readonly margin: number;
}

const curricularReweightOp = defineOp<readonly [Tensor], CurricularContext, { labels: Tensor }>({
  name: 'curricularReweight',
  forward: ([cosines], { labels, t, margin }) => ({
    y: written(cosines, cosines.shape, (to) =>
      native.curricularReweightForward(cosines.handle, labels.handle, t, margin, to),
    ),
    saved: { labels },
  }),
  backward: (dy, { inputs: [cosines], attributes: { t, margin }, saved: { labels } }) => [
    written(cosines, cosines.shape, (to) =>
      native.curricularReweightBackward(dy, cosines.handle, labels.handle, t, margin, to),
    ),
  ],
});

/**
 * CurricularFace's hard negatives alone: c·(t + c) in the place of every c of another class above cos(θ_y + margin).
 *
 * @example
 * const reweighted = curricularReweight(cosines, labels, { t: 0.1, margin: 0.5 });
 */
export function curricularReweight(
  cosines: Tensor,
  labels: Tensor | Int32Array,
  options: { readonly t: number; readonly margin: number },
): Tensor {
  checkOptions('curricularReweight', options, ['t', 'margin']);
  const { t, margin } = options;
  checkNumbers('curricularReweight', { t, margin });
  return withLabels('curricularReweight', labels, { cosines }, (own) =>
    curricularReweightOp([cosines], { labels: own, t, margin }),
  );
}

const normRegularizerOp = defineOp<readonly [Tensor], { labels: Tensor; params: MarginParams }, { labels: Tensor }>({
  name: 'normRegularizer',
  forward: ([norms], { labels, params }) => ({
    y: scalar(norms, native.normRegularizerForward(norms.handle, labels.handle, params)),
    saved: { labels },
  }),
  backward: (dy, { inputs: [norms], attributes: { params }, saved: { labels } }): readonly Handle[] => [
    written(norms, norms.shape, (to) =>
      native.normRegularizerBackward(norms.handle, labels.handle, params, native.sum(dy), to),
    ),
  ],
});

/**
 * What a margin adds to the loss for the features' norms [N], as a tensor of one element: MagFace's regulariser, 0 for
 * other methods.
 *
 * @example
 * const total = add(loss, normRegularizer(rowNorms(features), labels, magface()));
 */
export function normRegularizer(norms: Tensor, labels: Tensor | Int32Array, margin: Margin): Tensor {
  const params = checkedMargin('normRegularizer', margin, 1);
  return withLabels('normRegularizer', labels, { norms }, (own) => normRegularizerOp([norms], { labels: own, params }));
}
