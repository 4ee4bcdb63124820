/**
 * Cases of heads: X [N, D], W [C, D] or [C, K, D], labels, logits, the loss, dX, dW and the running numbers, each step
 * of a case that has several by itself, from the numbers that the source had before it.
 */
import { backward } from '../../autograd.js';
import { plusMargins, stateRules } from '../../heads/index.js';
import { fixedAdacosScale, type Margin } from '../../margins/index.js';
import { marginLogits, marginSoftmax, negativeLse, targetCosines } from '../../ops/index.js';
import { parameter, type Tensor, tensor, tidy } from '../../tensor.js';
import { heads, marginOf } from './conventions.js';
import type { GoldenCase, GoldenFile, Precision } from './goldenFile.js';
import { type Measurements, norm2, relative, rowRelative, worst, worstRelative } from './measure.js';

type Numbers = Readonly<Record<string, number>>;

export interface HeadCase extends GoldenCase {
  readonly margin: Margin;
  readonly file: GoldenFile;
  /** What the head's running numbers are before it, by their names here. */
  readonly before: Numbers;
}

/** The head's running numbers by the names that the files give them. */
export const stateNames: Readonly<Record<string, string>> = {
  t: 't',
  s: 'scale',
  lambda: 'lambda',
  batch_mean: 'normMean',
  batch_std: 'normStd',
};

/** Tensors without a step axis. */
const constant = ['W', 'margins'];

export const isHead = ({ family }: GoldenFile): boolean => family in heads;

export function headCases(file: GoldenFile): HeadCase[] {
  const numClasses = file.shape('W')[0];
  const margin = marginOf(file, numClasses);
  const start = startOf(margin, numClasses);
  const first = file.number('it0', file.number('iter0', 0));
  // A leading step axis, whatever the number of steps: X is [T, N, D] then.
  const several = file.shape('X').length === 3;
  const steps = several ? (file.shape('X')[0] as number) : 1;
  return Array.from({ length: steps }, (_, step): HeadCase => {
    const own = several ? file.step(step, constant) : file;
    const before: Numbers = {
      ...start,
      ...(step > 0 ? stateAfter(file, step - 1) : {}),
      ...('steps' in start ? { steps: first + step } : {}),
    };
    const { name, family, source } = own;
    const measure = (precision: Precision, device: string) => measureHead(own, margin, before, precision, device);
    const precisions: Precision[] = ['float64', 'float32'];
    return { name, family, source, precisions, onRequest: ['bfloat16'], margin, file: own, before, measure };
  });
}

/** A head's running numbers before its first step. */
function startOf(margin: Margin, numClasses: number): Numbers {
  const rules = stateRules(margin, numClasses, fixedAdacosScale(numClasses), 0);
  const single = rules.flatMap(({ initial }) => Object.entries(initial).filter(([, values]) => values.length === 1));
  return Object.fromEntries(single.map(([name, values]) => [name, values[0]]));
}

/** What the file says of them after a step. */
function stateAfter(file: GoldenFile, step: number): Numbers {
  const values = Object.entries(stateNames).map(([key, ours]) => [ours, file.maybe(`state.${key}`)?.[step]] as const);
  return Object.fromEntries(values.filter(([, value]) => value !== undefined)) as Numbers;
}

/**
 * What is fair.  float64: 1e-9 of a logit and 1e-7 of a gradient; gradients contain 1/sin θ, so 1e-5 where a cosine is
 * within 1e-6 of ±1.  float32: twice what the source's own float32 run loses, or a few roundings.  bfloat16: twice what
 * the CPU loses in it, or a rounding of the gradients.  A loss is a difference of logits, and no nearer than they are.
 */
function fairTo(file: GoldenFile, precision: Precision, sine: number, lost: (key: string) => number | undefined) {
  const gradient = Math.min(1e-5, Math.max(1e-7, 2e-8 / sine));
  const least: Record<string, number> =
    precision === 'float64'
      ? { logits_abs: 1e-9, ce_rel: 1e-9, dX_rel: gradient, dW_rel: gradient, dmargins_rel: gradient }
      : precision === 'float32'
        ? { logits_abs: 2e-5, ce_rel: 1e-6, dX_rel: 5e-6, dW_rel: 5e-6, dmargins_rel: 5e-6 }
        : { logits_abs: 4e-3 * file.number('s', 64), dX_rel: 4e-3, dW_rel: 4e-3, dmargins_rel: 4e-3 };
  const other = precision === 'float64' ? 1e-9 : 1e-6;
  return (key: string): number => Math.max(least[key] ?? other, 2 * (lost(key) ?? 0));
}

function measureHead(
  file: GoldenFile,
  margin: Margin,
  before: Numbers,
  precision: Precision,
  device: string,
): Measurements {
  const [N, D] = file.shape('X');
  const shape = file.shape('W');
  const [C, K] = [shape[0], shape.length === 3 ? shape[1] : 1];
  const [X, W] = [file.values('X'), file.values('W')];
  const labels = file.integers('labels');
  const Typed = precision === 'float64' ? Float64Array : Float32Array;
  const ofCpu = precision === 'bfloat16' && device !== 'cpu' ? measureHead(file, margin, before, precision, 'cpu') : {};
  const lost = (key: string) =>
    precision === 'float32' ? file.lost(key) : precision === 'bfloat16' ? ofCpu[key]?.error : undefined;
  const layout = layoutOf(file, D);
  return tidy(() => {
    const x = parameter(tensor(Typed.from(layout.features(X)), [N, layout.columns], device));
    const w = parameter(tensor(Typed.from(layout.centers(W)), [C * K, layout.columns], device));
    const given = marginsOfRows(file, margin, labels, () => targetCosines(x, w, labels, { subCenters: K }).toArray());
    const margins = given && parameter(tensor(Typed.from(given), [N], device));
    try {
      const after = prepared(margin, before, { x, w, labels, C });
      const options = { state: after, ...(margins ? { margins } : {}) };
      const low = precision === 'bfloat16';
      const { loss, regularizer } = marginSoftmax(x, w, labels, margin, {
        ...options,
        precision: low ? 'bfloat16' : 'float32',
      });
      backward(loss);
      // marginLogits() knows no bfloat16.
      const logits = low ? undefined : marginLogits(x, w, labels, margin, options).toArray();
      const fair = fairTo(file, precision, smallestSine(X, W, D), lost);
      // The loss that was differentiated, without a ceiling.
      const total = file.value(margin.method === 'magface' ? 'loss' : file.has('ce_exact') ? 'ce_exact' : 'ce');
      const errors: Record<string, number | undefined> = {
        logits_abs: logits && worst(logits, file.values('logits')),
        ce_rel: relative(loss.item(), total),
        dX_rel: rowRelative(layout.dFeatures(x), file.values('dX'), X, D),
        dW_rel: worstRelative(layout.dCenters(w), file.values('dW')),
        reg_rel: margin.method === 'magface' ? relative(regularizer, file.value('reg')) : undefined,
        state_rel: stateError(file, margin, after),
        dmargins_rel: file.has('dmargins')
          ? worstRelative(classGradients(file, margins?.grad?.toArray() ?? [], labels, C), file.values('dmargins'))
          : undefined,
      };
      const allowed = (key: string) =>
        key === 'ce_rel' ? Math.max(fair(key), fair('logits_abs') / Math.abs(total)) : fair(key);
      return Object.fromEntries(
        Object.entries(errors).flatMap(([key, error]) =>
          error === undefined
            ? []
            : [[key, { error, allowed: allowed(key), source: low ? lost(key) : file.lost(key) }]],
        ),
      );
    } finally {
      for (const made of [x, w, margins]) {
        made?.grad?.dispose();
        made?.dispose();
      }
    }
  });
}

/** Rows as our kernels are to have them, where a source computes norms or scales in another way. */
function layoutOf({ sourceName, hp }: GoldenFile, D: number) {
  // √(‖x‖² + 1e-10), MXNet's norm, is that of a row with two more columns, 1e-5 in one of them.  Features and class
  // centers have it in different columns, so that their products are unchanged.
  const columns = sourceName.endsWith('_mxnet') ? D + 2 : D;
  const widened = (rows: Float64Array, column: number) => {
    const out = new Float64Array((rows.length / D) * columns);
    for (let i = 0; i < rows.length / D; i++) {
      out.set(rows.subarray(i * D, (i + 1) * D), i * columns);
      if (columns > D) out[i * columns + D + column] = 1e-5;
    }
    return out;
  };
  const narrowed = (of: Tensor) => Float64Array.from(of.grad?.toArray() ?? []).filter((_, i) => i % columns < D);
  // Logits s·‖x‖·φ are those of a feature s times as long.
  const longer = sourceName === 'pml_asoftmax' ? Number(hp.s ?? 1) : 1;
  return {
    columns,
    features: (rows: Float64Array) => widened(rows, 0).map((value) => value * longer),
    centers: (rows: Float64Array) => widened(rows, 1),
    dFeatures: (x: Tensor) => narrowed(x).map((value) => value * longer),
    dCenters: narrowed,
  };
}

/** The smallest sin θ of a row and a class center. */
function smallestSine(X: Float64Array, W: Float64Array, D: number): number {
  const unit = (rows: Float64Array) =>
    Array.from({ length: rows.length / D }, (_, i) => {
      const row = rows.subarray(i * D, (i + 1) * D);
      const norm = Math.max(norm2(row), 1e-300);
      return row.map((value) => value / norm);
    });
  let least = 1;
  const centers = unit(W);
  for (const x of unit(X)) {
    for (const w of centers) {
      const cos = x.reduce((sum, value, d) => sum + value * w[d], 0);
      least = Math.min(least, Math.sqrt(Math.max(0, (1 - cos) * (1 + cos))));
    }
  }
  return least;
}

/** Each row's own margin, where the case gives such: AdaM's by class, ElasticFace's as drawn. */
function marginsOfRows(
  file: GoldenFile,
  margin: Margin,
  labels: Int32Array,
  cosines: () => ArrayLike<number>,
): Float64Array | undefined {
  const ofClasses = file.maybe('margins');
  if (ofClasses) return Float64Array.from(labels, (label) => Math.min(1, Math.max(0, ofClasses[label])));
  const drawn = file.maybe('margins_drawn');
  if (margin.method !== 'elasticface' || !drawn) return undefined;
  return margin.plus === 'none' ? drawn : plusMargins(drawn, cosines(), margin.plus);
}

/** AdaM's gradient by class, with that of its reward lamda·(1 − mean). */
function classGradients(file: GoldenFile, ofRows: ArrayLike<number>, labels: Int32Array, C: number): Float64Array {
  const out = new Float64Array(C).fill(-file.number('lamda') / C);
  labels.forEach((label, i) => {
    out[label] += ofRows[i];
  });
  return out;
}

/** The head's own rules on the batch: the running numbers that the step is computed with, and leaves. */
function prepared(
  margin: Margin,
  before: Numbers,
  { x, w, labels, C }: { x: Tensor; w: Tensor; labels: Int32Array; C: number },
): Record<string, number> {
  const values = Object.fromEntries(Object.entries(before).map(([key, value]) => [key, new Float64Array([value])]));
  const { subCenters } = margin;
  const [N, D] = x.shape;
  const features = x.toArray();
  const batch = {
    labels,
    targetCosines: targetCosines(x, w, labels, { subCenters }).toArray(),
    norms: Float64Array.from({ length: N }, (_, i) => norm2(features.subarray(i * D, (i + 1) * D))),
    ...(before.scale === undefined
      ? {}
      : { negativeLse: negativeLse(x, w, labels, { scale: before.scale, subCenters }).toArray() }),
  };
  const rules = stateRules(margin, C, fixedAdacosScale(C), 0);
  const applicable = rules.filter(({ initial }) => Object.keys(initial).every((name) => name in values));
  return Object.assign({}, ...applicable.map((rule) => rule.prepare(batch, values).state));
}

/** Of the running numbers that the file has; a scale without a rule is the margin's own. */
function stateError(file: GoldenFile, margin: Margin, after: Numbers): number | undefined {
  const ours: Record<string, number> = { ...after };
  if (typeof margin.scale === 'number') ours.scale ??= margin.scale;
  const errors = Object.entries(stateNames).flatMap(([key, name]) =>
    file.has(`state.${key}`) && ours[name] !== undefined ? [relative(ours[name], file.value(`state.${key}`))] : [],
  );
  return errors.length > 0 ? Math.max(...errors) : undefined;
}
