/** The head's stages one after the other are the fused head: loss, dX, dW and the rows' margins, in float64. */
import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import * as kernels from '../../lib/kernels/index.js';
import {
  adacos,
  adacosScale,
  adaface,
  arcface,
  asoftmax,
  combined,
  cosface,
  curricularface,
  curricularNegatives,
  elasticface,
  featureNormScale,
  filteredNegatives,
  learnedScale,
  type Margin,
  type MarginName,
  magcosface,
  magface,
  margins as methods,
  mvNegatives,
  mvsoftmax,
  nativeMargin,
  presetOf,
  softmax,
  sphereface,
  sphereface2,
  subcenter,
  uniface,
} from '../../lib/margins/index.js';
import * as ops from '../../lib/ops/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { parameter, tensor, tidy } from '../../lib/tensor.js';
import { emulatedCuda } from '../emulatedCuda.js';

if (emulatedCuda) process.env.FLASHMARGIN_CUDA ??= emulatedCuda;

const [N, C, D] = [9, 7, 6];
const labels = new Int32Array([2, 0, -1, 2, 6, 3, 5, 1, 4]);

/** Rows of many lengths, some towards their class, some away from it. */
function batch(K: number) {
  const rng = new Random(7);
  const weight = Float64Array.from(normalArray(C * K * D, 0.3, rng));
  const features = Float64Array.from(normalArray(N * D, 1, rng));
  labels.forEach((label, i) => {
    const pull = [2, 0.5, 0, -2, 6, 0.2, 1, -0.5, 3][i] as number;
    const length = 2 + 9 * i;
    for (let k = 0; k < D; k++) {
      const at = i * D + k;
      features[at] =
        length * ((features[at] as number) + (label < 0 ? 0 : pull * 3 * (weight[label * K * D + k] as number)));
    }
  });
  const margins = Float64Array.from({ length: N }, (_, i) => 0.2 + 0.04 * i);
  return { features, weight, margins };
}

const rowMargins = (margin: Margin): boolean => ['elasticface', 'adaptiveface'].includes(margin.method);
const binary = (margin: Margin): boolean => ['sphereface2', 'uniface'].includes(margin.method);
const smoothing = (margin: Margin): number => (margin as { labelSmoothing?: number }).labelSmoothing ?? 0;

/** Of the losses a class. */
function binaryWeights(margin: Margin) {
  const { positiveWeight = 1, negativeWeight = 1 } = nativeMargin(margin, { numClasses: C });
  return { positiveWeight, negativeWeight };
}

function fused(margin: Margin, device: string) {
  const { features, weight, margins } = batch(margin.subCenters ?? 1);
  return tidy(() => {
    const x = parameter(tensor(features, [N, D], device));
    const w = parameter(tensor(weight, [weight.length / D, D], device));
    const m = parameter(tensor(margins, [N], device));
    const { loss } = ops.marginSoftmax(x, w, labels, margin, rowMargins(margin) ? { margins: m } : {});
    backward(loss);
    return { loss: loss.item(), grads: [x, w, m].map(({ grad }) => grad?.toArray() as Float64Array | undefined) };
  });
}

function byOps(margin: Margin, device: string) {
  const K = margin.subCenters ?? 1;
  const { features, weight, margins } = batch(K);
  return tidy(() => {
    const x = parameter(tensor(features, [N, D], device));
    const w = parameter(tensor(weight, [weight.length / D, D], device));
    const m = parameter(tensor(margins, [N], device));
    const all = ops.cosineLogits(ops.normalize(x), w);
    const cosines = K > 1 ? ops.subCenterMax(all, K).cosines : all;
    const norms = ops.rowNorms(x);
    const options = rowMargins(margin) ? { margins: m, norms } : { norms };
    const logits = ops.marginTransform(cosines, labels, margin, options);
    const weights = binaryWeights(margin);
    const { loss } = binary(margin)
      ? ops.binaryCrossEntropy(logits, labels, weights)
      : ops.softmaxCrossEntropy(logits, labels, { labelSmoothing: smoothing(margin) });
    const total = margin.method === 'magface' ? ops.add(loss, ops.normRegularizer(norms, labels, margin)) : loss;
    backward(total);
    return { loss: total.item(), grads: [x, w, m].map(({ grad }) => grad?.toArray() as Float64Array | undefined) };
  });
}

/** The same on arrays. */
function byKernels(margin: Margin) {
  const K = margin.subCenters ?? 1;
  const { features, weight, margins } = batch(K);
  const rows = N;
  const { y, norm } = kernels.normalizeSync(features, { rows });
  const all = kernels.cosineLogitsSync(y, weight, { rows });
  const pooled = K > 1 ? kernels.subCenterMaxSync(all, K, { rows }) : undefined;
  const cosines = pooled?.cosines ?? all;
  const options = { norms: norm, ...(rowMargins(margin) ? { margins } : {}) };
  const logits = kernels.marginTransformSync(cosines, labels, margin, options);
  const weights = binaryWeights(margin);
  const entropy = binary(margin)
    ? kernels.binaryCrossEntropySync(logits, labels, weights)
    : kernels.softmaxCrossEntropySync(logits, labels, { labelSmoothing: smoothing(margin) });
  const loss = entropy.loss + kernels.normRegularizerSync(norm, labels, margin);

  const dLogits = binary(margin)
    ? kernels.binaryCrossEntropyBackwardSync(logits, labels, { ...weights, out: logits })
    : kernels.softmaxCrossEntropyBackwardSync(logits, labels, { labelSmoothing: smoothing(margin), out: logits });
  const d = kernels.marginTransformBackwardSync(dLogits, cosines, labels, margin, options);
  const dAll = pooled ? kernels.subCenterMaxBackwardSync(d.dCosines, pooled.centers, K, { rows }) : d.dCosines;
  const { dFeatures, dWeight } = kernels.cosineLogitsBackwardSync(dAll, y, weight, { rows });
  const dNorm = kernels.normRegularizerBackwardSync(norm, labels, margin);
  dNorm.forEach((value, i) => (dNorm[i] = value + ((d.dNorms as Float64Array)[i] as number)));
  const dx = kernels.normalizeBackwardSync(dFeatures, y, norm, { dNorm });
  return { loss, grads: [dx, dWeight, d.dMargins], dScale: d.dScale, dBias: d.dBias };
}

function agree(ours: readonly (Float64Array | undefined)[], theirs: readonly (Float64Array | undefined)[]): void {
  theirs.forEach((wanted, which) => {
    if (!wanted) return;
    const scale = Math.max(1, ...wanted.map(Math.abs));
    const worst = wanted.reduce(
      (m, v, i) => Math.max(m, Math.abs(v - ((ours[which] as Float64Array)[i] as number))),
      0,
    );
    expect(worst / scale, `gradient ${which}`).toBeLessThan(1e-10);
  });
}

const compositions: readonly Margin[] = [
  subcenter({ subCenters: 2, gradient: 'detached' }),
  cosface({ subCenters: 3 }),
  curricularface({ t: 0.3, subCenters: 3 }),
  curricularface({ t: 0.3, gradient: 'detached' }),
  arcface({ negatives: filteredNegatives({ above: 0.2 }) }),
  combined({ negatives: filteredNegatives({ above: 0.1 }), m1: 1.2, subCenters: 2 }),
  arcface({ negatives: mvNegatives({ hard: 'fixed' }), scale: 20 }),
  cosface({ negatives: curricularNegatives({ t: 0.2 }) }),
  mvsoftmax({ variant: 'arc', margin: 0.5 }),
  arcface({ scale: learnedScale({ initial: 30 }) }),
  arcface({ scale: featureNormScale() }),
  asoftmax({ margin: 3, lambda: 2 }),
  softmax({ scale: featureNormScale(), labelSmoothing: 0.1 }),
  arcface({ labelSmoothing: 0.2, scale: 16 }),
  cosface({ cosineEpsilon: 0.3 }),
  arcface({ cosineEpsilon: 0.3, gradient: 'detached' }),
  arcface({ overflow: 'clamp', targetEpsilon: 0.1 }),
  sphereface({ gradient: 'exact', lambda: 1, margin: 4 }),
  adacos({ scale: adacosScale({ dynamic: false }) }),
  magface({ scale: featureNormScale(), overflow: 'hard' }),
  magcosface(),
  elasticface({ variant: 'am' }),
  adaface({ overflow: 'none', cosineEpsilon: 0, gradient: 'detached' }),
  sphereface2({ gradient: 'exact', subCenters: 2 }),
  uniface({ scale: 12, bias: 3 }),
];

const every = [...(Object.keys(methods) as MarginName[]).map((name) => presetOf(name) as Margin), ...compositions];

function same(ours: ReturnType<typeof fused>, wanted: ReturnType<typeof fused>): void {
  expect(Math.abs(ours.loss - wanted.loss) / Math.max(1, Math.abs(wanted.loss))).toBeLessThan(1e-10);
  agree(ours.grads, wanted.grads);
}

describe('the chain is the fused head', () => {
  it.each(every)('%o', (margin) => {
    const wanted = fused(margin, 'cpu');
    same(byOps(margin, 'cpu'), wanted);
    same(byKernels(margin), wanted);
  });
  it.skipIf(!emulatedCuda).each(every)("%o, both on device 'cuda'", (margin) => {
    const wanted = fused(margin, 'cpu');
    same(fused(margin, 'cuda'), wanted);
    same(byOps(margin, 'cuda'), wanted);
  });

  it('gives the scale and the bias their gradients', () => {
    const h = 1e-5;
    const numeric = (make: (delta: number) => Margin) => (byKernels(make(h)).loss - byKernels(make(-h)).loss) / (2 * h);
    const learned = (delta: number) => arcface({ scale: learnedScale({ initial: 30 + delta }) });
    expect(byKernels(learned(0)).dScale).toBeCloseTo(numeric(learned), 7);
    const mv = (delta: number) => mvsoftmax({ scale: 20 + delta });
    expect(byKernels(mv(0)).dScale).toBeCloseTo(numeric(mv), 7);
    for (const make of [sphereface2, uniface]) {
      const biased = (delta: number) => make({ bias: -1 + delta, scale: 20 });
      expect(byKernels(biased(0)).dBias).toBeCloseTo(numeric(biased), 5);
    }
  });
});
