/**
 * The methods in plain float64, written from the papers with angles as they are printed there: what the kernels are held
 * against, method by method.  Nothing here is shared with them.
 */
import {
  annealedLambda,
  fixedAdacosScale,
  initialBias,
  type Margin,
  type MarginFields,
  type MarginName,
  type MarginState,
  type Negatives,
  negativesOf,
} from '../../lib/margins/index.js';

/** A row of a batch: cosines to the C classes, the label, ‖x‖, and its own margin where a method gives such. */
export interface PlainRow {
  readonly cosines: readonly number[];
  readonly label: number;
  readonly norm: number;
  readonly margin?: number;
}
type State = Omit<MarginState, 'numClasses'>;

interface Formula {
  /** φ of the target: its θ, and what the row and the running numbers say. */
  target(theta: number, margin: Margin, row: PlainRow, state: State): number;
  /** What another class has in the place of its cosine, where that is the method's own. */
  other?(cos: number, margin: Margin): number;
}

const { cos, PI } = Math;
const clip = (x: number, low: number, high: number) => Math.min(high, Math.max(low, x));
const of = (margin: Margin) => margin as Margin & MarginFields;

/** cos(θ + m), and what is done where θ + m leaves [0, π]. */
function angular(theta: number, m: number, margin: Margin): number {
  const { overflow = 'hard', easyAbove = 0, angleEpsilon = 1e-3, angleLimit } = of(margin);
  if (overflow === 'hard' && m > 0 && theta >= PI - m) return cos(theta) - m * Math.sin(m);
  if (overflow === 'easy' && cos(theta) <= easyAbove) return cos(theta);
  if (overflow === 'clamp') return cos(clip(theta + m, angleEpsilon, angleLimit || PI - angleEpsilon));
  return cos(theta + m);
}

/** cos θ − m; `easy` alone means something for it. */
function additive(theta: number, m: number, margin: Margin): number {
  const { overflow, easyAbove = 0 } = of(margin);
  return overflow === 'easy' && cos(theta) <= easyAbove ? cos(theta) : cos(theta) - m;
}

/** SphereFace's ψ: cos(m·θ) on its first half wave, continued downwards. */
function psi(theta: number, m: number): number {
  const k = Math.floor((m * theta) / PI);
  return (-1) ** k * cos(m * theta) - 2 * k;
}

const plain: Formula = { target: (theta) => cos(theta) };
const arc: Formula = { target: (theta, margin, row) => angular(theta, row.margin ?? of(margin).margin, margin) };
const am: Formula = { target: (theta, margin, row) => additive(theta, row.margin ?? of(margin).margin, margin) };
const byVariant: Formula = {
  target: (theta, margin, row) => (of(margin).variant === 'am' ? am : arc).target(theta, margin, row, {}),
};
const sphere: Formula = {
  target: (theta, margin, _, state) => {
    const { lambda, margin: m } = of(margin);
    const weight = state.lambda ?? (typeof lambda === 'object' ? annealedLambda(lambda, 1) : lambda);
    return (weight * cos(theta) + psi(theta, m)) / (1 + weight);
  },
};

export const formulas: Record<MarginName, Formula> = {
  softmax: plain,
  cosface: am,
  arcface: arc,
  // ArcFace's section 2.3; past π its cosine rises again, which `clamp` and `easy` prevent.
  combined: {
    target: (theta, margin) => {
      const { m1, m2, m3, overflow, easyAbove = 0, angleEpsilon = 1e-3, angleLimit } = of(margin);
      if (overflow === 'easy' && cos(theta) <= easyAbove) return cos(theta);
      const angle = m1 * theta + m2;
      const held = overflow === 'clamp' ? clip(angle, angleEpsilon, angleLimit || PI - angleEpsilon) : angle;
      return cos(held) - m3;
    },
  },
  asoftmax: sphere,
  sphereface: sphere,
  adaptiveface: am,
  adacos: plain,
  mvsoftmax: byVariant,
  curricularface: arc,
  subcenter: arc,
  // Equation 3 and 4: the margin is linear in the clipped norm.
  magface: {
    target: (theta, margin, { norm }) => {
      const { lowerNorm, upperNorm, lowerMargin, upperMargin, variant } = of(margin);
      const share = (clip(norm, lowerNorm, upperNorm) - lowerNorm) / (upperNorm - lowerNorm);
      const m = lowerMargin + share * (upperMargin - lowerMargin);
      return variant === 'am' ? additive(theta, m, margin) : angular(theta, m, margin);
    },
  },
  elasticface: byVariant,
  // Equations 13 to 16: g_angle = −m·ẑ, g_add = m·ẑ + m.
  adaface: {
    target: (theta, margin, { norm }, state) => {
      const { margin: m, h, normMean, normStd, overflow, easyAbove = 0 } = of(margin);
      if (overflow === 'easy' && cos(theta) <= easyAbove) return cos(theta);
      const mean = state.normMean ?? normMean;
      const deviation = state.normStd ?? normStd;
      const quality = clip((h * (clip(norm, 1e-3, 100) - mean)) / (deviation + 1e-3), -1, 1);
      return angular(theta, -m * quality, margin) - (m * quality + m);
    },
  },
  sphereface2: {
    target: (theta, margin) => similarity(cos(theta), of(margin).power) - of(margin).margin,
    other: (c, margin) => similarity(c, of(margin).power) + of(margin).margin,
  },
  uniface: am,
};

/** SphereFace2's g. */
const similarity = (c: number, power: number) => 2 * ((c + 1) / 2) ** power - 1;

/** φ of another class: `threshold` is the target's with its margin and without overflow. */
function negative(c: number, threshold: number, negatives: Negatives): number {
  switch (negatives.rule) {
    case 'plain':
      return c;
    case 'filter':
      return c > negatives.above ? 0 : c;
    case 'curricular':
      return c > threshold ? c * (negatives.t + c) : c;
    case 'mv':
      if (c <= threshold) return c;
      return negatives.hard === 'adaptive' ? (negatives.t + 1) * c + negatives.t : c + negatives.t;
  }
}

/** Above which cosine a row's other classes are hard, where there is such a threshold. */
export function hardAbove(margin: Margin, row: PlainRow, state: State = {}): number {
  const theta = Math.acos(clippedTarget(margin, row));
  const free = { ...of(margin), overflow: 'none' } as Margin;
  return formulas[margin.method].target(theta, free, row, state);
}

function clippedTarget(margin: Margin, { cosines, label }: PlainRow): number {
  const { cosineEpsilon = 0, targetEpsilon = 0 } = of(margin);
  const limit = 1 - Math.max(cosineEpsilon, targetEpsilon);
  return clip(cosines[label], -limit, limit);
}

/** The logits of a row: s·φ, times ‖x‖ where the scale is the feature's norm, plus the bias of a binary loss. */
export function plainLogits(margin: Margin, row: PlainRow, state: State = {}): number[] {
  const { cosines, label, norm } = row;
  const numClasses = cosines.length;
  const { method, scale: rule } = margin;
  const number = typeof rule === 'number' ? rule : rule.rule === 'learned' ? rule.initial : 1;
  const fixed = typeof rule === 'object' && rule.rule === 'adacos' ? fixedAdacosScale(numClasses) : number;
  const scale = state.scale ?? (typeof rule === 'object' && rule.rule === 'featureNorm' ? norm : fixed);
  const binary = method === 'sphereface2' || method === 'uniface';
  const bias = binary ? (state.bias ?? initialBias(margin as Margin<'uniface'>, numClasses)) : 0;
  const limit = 1 - (of(margin).cosineEpsilon ?? 0);
  const threshold = hardAbove(margin, row, state);
  const { target, other } = formulas[method];
  return cosines.map((cosine, j) => {
    if (j === label) {
      const logit = scale * target(Math.acos(clippedTarget(margin, row)), margin, row, state) + bias;
      // UniFace's authors keep the target's within ±s.
      return method === 'uniface' ? clip(logit, -scale, scale) : logit;
    }
    const c = clip(cosine, -limit, limit);
    return scale * (other?.(c, margin) ?? negative(c, threshold, withState(negativesOf(margin), state))) + bias;
  });
}

const withState = (negatives: Negatives, { t }: State): Negatives =>
  'tRate' in negatives && t !== undefined ? { ...negatives, t } : negatives;
