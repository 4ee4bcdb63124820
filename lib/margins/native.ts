/** A margin as the kernels take it. */
import type { MarginParams } from '../binding.js';
import { checkObject, expected } from '../errors.js';
import { annealedLambda, fixedAdacosScale, type Negatives } from './axes.js';
import type { BinaryName, Margin, MarginFields } from './methods.js';

const MARGIN = 'a margin such as arcface()';

/** What a head's state has made of a margin's numbers, and the classes there are. */
export interface MarginState {
  readonly numClasses: number;
  readonly scale?: number;
  readonly t?: number;
  readonly lambda?: number;
  readonly normMean?: number;
  readonly normStd?: number;
  readonly bias?: number;
}

/** The negatives of a margin, whether the method's own or composed with it. */
export function negativesOf(margin: Margin): Negatives {
  checkObject('negativesOf', MARGIN, margin);
  if (margin.method === 'mvsoftmax') return { rule: 'mv', t: margin.t, hard: margin.hard };
  if (margin.method === 'curricularface') return { rule: 'curricular', t: margin.t, tRate: margin.tRate };
  return (margin as Partial<MarginFields>).negatives ?? { rule: 'plain' };
}

/** Whether its loss is a sum of binary ones, in the place of a softmax. */
export function isBinary(margin: Margin): margin is Margin<BinaryName> {
  return margin.method === 'sphereface2' || margin.method === 'uniface';
}

/** Where a binary loss's bias starts. */
export function initialBias(margin: Margin<BinaryName>, numClasses: number): number {
  checkObject('initialBias', MARGIN, margin);
  if (margin.bias !== undefined) return margin.bias;
  if (margin.method === 'uniface') return -Math.log(10 * numClasses);
  // With all cosines 0, the pull on the targets and the push on the others are as strong: in v = e^(s·(g(0) + m) + b)
  //   z·(1 + v) = v·(1 + e^(−2·s·m)·v),  z = balance/((1 − balance)·(C − 1)).
  const { scale, margin: m, power, balance } = margin;
  const z = balance / ((1 - balance) * Math.max(numClasses - 1, 1));
  const root = Math.sqrt((1 - z) ** 2 + 4 * z * Math.exp(-2 * scale * m));
  // Of the two forms of the root, the one that does not cancel.
  const log = z < 1 ? Math.log((2 * z) / (1 - z + root)) : Math.log((root + z - 1) / 2) + 2 * scale * m;
  return log - scale * (2 * 0.5 ** power - 1 + m);
}

/** The struct whose φ a method has. */
function targetOf(margin: Margin): MarginParams {
  switch (margin.method) {
    case 'asoftmax':
      return { method: 'sphereface' };
    case 'adaptiveface':
      return { method: 'cosface' };
    case 'adacos':
      return { method: 'softmax' };
    case 'subcenter':
    case 'curricularface':
      return { method: 'arcface' };
    case 'mvsoftmax':
    case 'elasticface':
      return { method: margin.variant === 'am' ? 'cosface' : 'arcface' };
    case 'magface':
      return { method: 'magface', variant: margin.variant === 'am' ? 'cos' : 'arc' };
    case 'sphereface2': {
      const weight = margin.lossWeight / margin.scale;
      return {
        method: 'sphereface2',
        positiveWeight: weight * margin.balance,
        negativeWeight: weight * (1 - margin.balance),
      };
    }
    default:
      return { method: margin.method };
  }
}

const same = [
  'margin',
  'gradient',
  'overflow',
  'easyAbove',
  'cosineEpsilon',
  'targetEpsilon',
  'angleEpsilon',
  'angleLimit',
  'projectWeightGradient',
  'subCenters',
  'labelSmoothing',
  'm1',
  'm2',
  'm3',
  'lowerNorm',
  'upperNorm',
  'lowerMargin',
  'upperMargin',
  'normPenalty',
  'h',
  'normMean',
  'normStd',
  'negativeWeight',
  'power',
] as const satisfies readonly (keyof MarginFields & keyof MarginParams)[];

function scaleOf({ scale }: Margin, state: MarginState): MarginParams['scale'] {
  if (state.scale !== undefined) return state.scale;
  if (typeof scale === 'number') return scale;
  if (scale.rule === 'adacos') return fixedAdacosScale(state.numClasses);
  return scale.rule === 'learned' ? scale.initial : 1;
}

/**
 * What the kernels compute for a margin over so many classes: where a number has a state (t, λ, AdaCos's scale, the
 * norms' statistics, a bias), the given one, else where it starts.
 */
export function nativeMargin(margin: Margin, state: MarginState): MarginParams {
  checkObject('nativeMargin', MARGIN, margin);
  checkObject('nativeMargin', 'a state with numClasses', state);
  expected(margin.scale !== undefined, 'nativeMargin', MARGIN, margin);
  const fields = margin as Partial<MarginFields>;
  const negatives = negativesOf(margin);
  const { lambda } = fields;
  const direct = Object.fromEntries(same.map((key) => [key, fields[key]]));
  return {
    ...direct,
    ...targetOf(margin),
    scale: scaleOf(margin, state),
    scaleByNorm: typeof margin.scale !== 'number' && margin.scale.rule === 'featureNorm',
    lambda: state.lambda ?? (typeof lambda === 'object' ? annealedLambda(lambda, 1) : lambda),
    negatives: negatives.rule === 'mv' ? (negatives.hard === 'fixed' ? 'mvFixed' : 'mvAdaptive') : negatives.rule,
    ...('t' in negatives ? { t: state.t ?? negatives.t } : {}),
    ...(negatives.rule === 'filter' ? { filterAbove: negatives.above } : {}),
    ...(state.normMean === undefined ? {} : { normMean: state.normMean, normStd: state.normStd }),
    ...(isBinary(margin) ? { bias: state.bias ?? initialBias(margin, state.numClasses) } : {}),
  };
}
