/**
 * What a head carries from step to step besides its weights, rule by rule.  A rule reads what the batch tells, says what
 * the kernels are to compute with, and afterwards what its numbers are; they become the head's when the step has
 * succeeded.
 */
import { type NativeHeadStep, native, type OptimizerParams } from '../binding.js';
import { checkLists, checkObject, expected } from '../errors.js';
import { annealedLambda, initialBias, type Margin, type MarginState, negativesOf } from '../margins/index.js';
import { isBinary } from '../margins/native.js';
import { type OptimizerName, optimizers } from '../optimizers.js';
import { counterNormal, Random } from '../random.js';
import { type Tensor, tensor, tidy } from '../tensor.js';

type Numbers = Float64Array | Float32Array;
type Values = Readonly<Record<string, Numbers>>;

/** What a rule may ask of a batch before its step: [N] each. */
export interface BatchFacts {
  readonly labels: Int32Array;
  /** To the targets; 0 where there is none. */
  readonly targetCosines?: ArrayLike<number>;
  /** Of the features. */
  readonly norms?: ArrayLike<number>;
  /** log Σ exp(s·cos) over the classes other than the target, s the head's scale. */
  readonly negativeLse?: ArrayLike<number>;
  /** Of the labels' classes, from the state `margins`; any number where there is none. */
  readonly classMargins?: ArrayLike<number>;
}
export type Fact = 'targetCosines' | 'norms' | 'negativeLse' | 'classMargins';

/** A step as a rule prepares it. */
export interface Prepared {
  /** Numbers for the kernels. */
  readonly state?: Omit<MarginState, 'numClasses'>;
  /** Each row's own margin. */
  readonly margins?: Float32Array;
  /** The rule's tensors after the step. */
  readonly next?: Values;
}

export interface StateRule {
  readonly needs: readonly Fact[];
  /** By tensor name; the checkpoint's names. */
  readonly initial: Values;
  /** values: of the float64 tensors. */
  prepare(batch: BatchFacts, values: Values): Prepared;
  /** From the step's gradients; beside what prepare() said. */
  after?(result: NativeHeadStep, values: Values, optimizer: OptimizerParams): Values;
  /** Of the tensor `margins` and what the optimizer keeps of it, which native.classMarginsStep moves: a class's gradient besides its rows'. */
  readonly commonGradient?: number;
}

const one = (x: number) => new Float64Array([x]);
const first = (values: Values, name: string): number => (values[name] as Numbers)[0] as number;
/** Of steps so far, or of draws; throws unless it is such. */
export function countOf(name: string, count: number): number {
  const whole = Number.isSafeInteger(count) && count >= 0;
  const remedy = 'start again, or from an earlier checkpoint';
  expected(whole, 'MarginHead', `${name}, an integer in [0, 2^53)`, count, remedy);
  return count;
}
const clamp = (x: number, low: number, high: number) => Math.min(high, Math.max(low, x));

/** What an optimizer keeps of a tensor of this name, by name. */
export function stateNames(of: string, type: OptimizerName): string[] {
  return optimizers[type].states.map((state) => `${of}.${state}`);
}

/** The optimizer's step of a number, without weight decay: the number, and its state. */
function moved(value: number, state: readonly number[], gradient: number, params: OptimizerParams): number[] {
  return tidy(() => {
    const scalar = (x: number) => tensor(one(x), [1]);
    const [weight, ...states] = [value, ...state].map(scalar) as [Tensor, ...Tensor[]];
    const handles = states.map(({ handle }) => handle);
    native.optimizerStep(weight.handle, handles, scalar(gradient).handle, { ...params, weightDecay: 0 });
    return [weight, ...states].map((x) => x.item());
  });
}

/**
 * CurricularFace's t for a step: (1 − tRate)·t + tRate·mean of the step's target cosines, those of rows whose label is
 * not −1.
 */
export function nextT(
  margin: { readonly tRate: number },
  t: number,
  cosines: ArrayLike<number>,
  labels: ArrayLike<number>,
): number {
  checkObject('nextT', 'a margin with tRate', margin);
  const { tRate } = margin;
  checkLists('nextT', { cosines, labels });
  const seen = ofTargets(cosines, labels).map((cos) => clamp(cos, -1, 1));
  return seen.length > 0 ? tRate * mean(seen) + (1 - tRate) * t : t;
}

/**
 * AdaCos's scale for a step: ln of the mean over rows of Σ exp(s·cos) of the other classes, over cos of the median
 * target angle or of π/4; unchanged where no row has a target.  The median of an even number is the lower middle one.
 */
export function nextAdacosScale(
  scale: number,
  cosines: ArrayLike<number>,
  negativeLse: ArrayLike<number>,
  labels: ArrayLike<number>,
): number {
  checkLists('nextAdacosScale', { cosines, negativeLse, labels });
  const angles = ofTargets(cosines, labels)
    .map((cos) => Math.acos(clamp(cos, -1 + 1e-7, 1 - 1e-7)))
    .sort((a, b) => a - b);
  const sums = ofTargets(negativeLse, labels);
  if (angles.length === 0 || !sums.every(Number.isFinite)) return scale;
  const top = Math.max(...sums);
  const meanLog = top + Math.log(sums.reduce((sum, x) => sum + Math.exp(x - top), 0) / sums.length);
  const median = angles[Math.floor((angles.length - 1) / 2)] as number;
  const next = meanLog / Math.cos(Math.min(Math.PI / 4, median));
  return next > 0 ? next : scale;
}

/** AdaFace's running mean and unbiased deviation of the norms, clipped to [0.001, 100]. */
export function nextNorms(
  margin: { readonly normRate: number },
  before: { normMean: number; normStd: number },
  norms: ArrayLike<number>,
  labels: ArrayLike<number>,
): { normMean: number; normStd: number } {
  checkObject('nextNorms', 'a margin with normRate', margin);
  checkObject('nextNorms', 'normMean and normStd', before);
  checkLists('nextNorms', { norms, labels });
  const { normRate } = margin;
  const { normMean, normStd } = before;
  const seen = ofTargets(norms, labels).map((norm) => clamp(norm, 1e-3, 100));
  if (seen.length === 0) return { normMean, normStd };
  const center = mean(seen);
  // A single row has no deviation: the running one stays.
  const deviation =
    seen.length > 1 ? Math.sqrt(seen.reduce((sum, x) => sum + (x - center) ** 2, 0) / (seen.length - 1)) : normStd;
  return {
    normMean: normRate * center + (1 - normRate) * normMean,
    normStd: normRate * deviation + (1 - normRate) * normStd,
  };
}

/** ElasticFace+'s order of a batch's drawn margins: [N], from the cosines to the targets. */
export function plusMargins<A extends Float32Array | Float64Array>(
  margins: A,
  cosines: ArrayLike<number>,
  plus: 'paper' | 'official',
): A {
  checkLists('plusMargins', { margins, cosines });
  const ascending = margins.slice().sort();
  const byCosine = Array.from(margins.keys()).sort((a, b) => (cosines[b] as number) - (cosines[a] as number) || a - b);
  const out = margins.slice() as A;
  byCosine.forEach((row, rank) => {
    // The code indexes the sorted margins by the argsort, where the paper's rank is its inverse.
    if (plus === 'paper') out[row] = ascending[rank] as number;
    else out[rank] = ascending[row] as number;
  });
  return out;
}

function ofTargets(values: ArrayLike<number>, labels: ArrayLike<number>): number[] {
  return Array.from(values).filter((_, i) => (labels[i] as number) >= 0);
}
const mean = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / values.length;

function curricular(tRate: number, t: number): StateRule {
  return {
    needs: ['targetCosines'],
    initial: { t: one(t) },
    prepare: ({ targetCosines = [], labels }, values) => {
      const next = nextT({ tRate }, first(values, 't'), targetCosines, labels);
      return { state: { t: next }, next: { t: one(next) } };
    },
  };
}

function dynamicScale(initial: number): StateRule {
  return {
    needs: ['targetCosines', 'negativeLse'],
    initial: { scale: one(initial) },
    prepare: ({ targetCosines = [], negativeLse = [], labels }, values) => {
      const scale = nextAdacosScale(first(values, 'scale'), targetCosines, negativeLse, labels);
      return { state: { scale }, next: { scale: one(scale) } };
    },
  };
}

/** A number that is learned by the head's own optimizer. */
function learned(
  name: 'scale' | 'bias',
  initial: number,
  gradient: 'dScale' | 'dBias',
  least: number,
  type: OptimizerName,
): StateRule {
  const states = stateNames(name, type);
  return {
    needs: [],
    initial: { [name]: one(initial), ...Object.fromEntries(states.map((state) => [state, one(0)])) },
    prepare: (_, values) => ({ state: { [name]: first(values, name) } }),
    after: (result, values, params) => {
      const state = states.map((each) => first(values, each));
      const [value, ...kept] = moved(first(values, name), state, result[gradient], params) as [number, ...number[]];
      const after = states.map((each, k) => [each, one(kept[k] as number)]);
      return { [name]: one(Math.max(least, value)), ...Object.fromEntries(after) };
    },
  };
}

const counter = (name: string): StateRule => ({
  needs: [],
  initial: { [name]: one(0) },
  prepare: (_, values) => ({ next: { [name]: one(first(values, name) + 1) } }),
});
/** Of what depends on how many there were: an annealed λ and AdamW, which count alike. */
const steps = counter('steps');
/** Partial FC's draws are of a step, by its number. */
const sampling = counter('sampledSteps');
const draws = counter('draws');

function annealed(margin: Margin<'asoftmax' | 'sphereface'>): StateRule | undefined {
  const { lambda } = margin;
  if (typeof lambda !== 'object') return undefined;
  return {
    ...steps,
    prepare: (batch, values) => ({
      ...steps.prepare(batch, values),
      state: { lambda: annealedLambda(lambda, countOf('steps', first(values, 'steps')) + 1) },
    }),
  };
}

function norms(margin: Margin<'adaface'>): StateRule {
  return {
    needs: ['norms'],
    initial: { normMean: one(margin.normMean), normStd: one(margin.normStd) },
    prepare: ({ norms = [], labels }, values) => {
      const before = { normMean: first(values, 'normMean'), normStd: first(values, 'normStd') };
      const state = nextNorms(margin, before, norms, labels);
      return { state, next: { normMean: one(state.normMean), normStd: one(state.normStd) } };
    },
  };
}

function elastic({ margin, deviation, plus }: Margin<'elasticface'>, seed: number): StateRule {
  return {
    ...draws,
    needs: plus === 'none' ? [] : ['targetCosines'],
    prepare: (batch, values) => {
      const { targetCosines = [], labels } = batch;
      const after = draws.prepare(batch, values);
      const step = countOf('draws', first(values, 'draws'));
      const drawn = Float32Array.from(labels, (_, i) =>
        clamp(margin + deviation * counterNormal(seed, step, i), -Math.PI, Math.PI),
      );
      const margins = plus === 'none' ? drawn : plusMargins(drawn, targetCosines, plus);
      return { ...after, margins };
    },
  };
}

function adaptive(
  { margin, spread, reward }: Margin<'adaptiveface'>,
  numClasses: number,
  seed: number,
  type: OptimizerName,
): StateRule {
  const random = new Random(seed + 1);
  return {
    needs: ['classMargins'],
    initial: {
      margins: Float32Array.from({ length: numClasses }, () => margin + spread * (2 * random.uniform() - 1)),
      ...Object.fromEntries(stateNames('margins', type).map((name) => [name, new Float32Array(numClasses)])),
    },
    prepare: ({ labels, classMargins = [] }) => ({
      margins: Float32Array.from(labels, (label, i) => (label < 0 ? 0 : clamp(classMargins[i] as number, 0, 1))),
    }),
    commonGradient: -reward / numClasses,
  };
}

/** The rules of a margin over so many classes, of its optimizer, and of a head that samples. */
export function stateRules(
  margin: Margin,
  numClasses: number,
  scale: number,
  seed: number,
  type: OptimizerName = 'sgd',
  samples = false,
): StateRule[] {
  const negatives = negativesOf(margin);
  const rules: (StateRule | undefined)[] = [
    type === 'adamw' ? steps : undefined,
    samples ? sampling : undefined,
    negatives.rule === 'curricular' ? curricular(negatives.tRate, negatives.t) : undefined,
    typeof margin.scale === 'object' && margin.scale.rule === 'adacos' && margin.scale.dynamic
      ? dynamicScale(scale)
      : undefined,
    typeof margin.scale === 'object' && margin.scale.rule === 'learned'
      ? learned('scale', margin.scale.initial, 'dScale', 1e-3, type)
      : undefined,
    margin.method === 'asoftmax' || margin.method === 'sphereface' ? annealed(margin) : undefined,
    margin.method === 'adaface' ? norms(margin) : undefined,
    margin.method === 'elasticface' ? elastic(margin, seed) : undefined,
    margin.method === 'adaptiveface' ? adaptive(margin, numClasses, seed, type) : undefined,
    isBinary(margin) && margin.learnBias
      ? learned('bias', initialBias(margin, numClasses), 'dBias', Number.NEGATIVE_INFINITY, type)
      : undefined,
  ];
  return rules.filter((rule) => rule !== undefined);
}
