/** What a head carries from step to step against the published codes' own numbers. */
import { describe, expect, it } from 'vitest';
import {
  MarginHead,
  nextAdacosScale,
  nextNorms,
  nextT,
  plusMargins,
  type StateRule,
  stateRules,
} from '../../lib/heads/index.js';
import { annealedLambda, fixedAdacosScale, type Margin } from '../../lib/margins/index.js';
import type { GoldenFile } from '../../lib/train/conformance/goldenFile.js';
import { filesByFamily, goldenFile, rowRelative, stepFiles, worst } from './conventions.js';

const norm = (row: Float64Array) => Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));

/** Plain cosines of every row and class, [N][C], norms and labels: nothing of the kernels. */
function plainFacts(file: GoldenFile) {
  const [N, D] = file.shape('X');
  const [C] = file.shape('W');
  const [X, W] = [file.values('X'), file.values('W')];
  const rows = (of: Float64Array, count: number) =>
    Array.from({ length: count }, (_, i) => of.slice(i * D, (i + 1) * D));
  const [x, w] = [rows(X, N), rows(W, C)];
  const cosines = x.map((a) => w.map((b) => a.reduce((sum, v, d) => sum + v * b[d], 0) / norm(a) / norm(b)));
  const labels = file.integers('labels');
  return { cosines, norms: x.map(norm), labels, targets: cosines.map((row, i) => row[labels[i]]) };
}

const cases = stepFiles();

describe('rules in float64, from plain cosines', () => {
  const stateOf = (file: GoldenFile, name: string) => file.value(`state.${name}`);
  const of = (family: string) => cases.filter(([name]) => name.startsWith(family));

  it.each(of('curricularface'))("%s: CurricularFace's t", (_, steps) => {
    for (const { file, margin, before } of steps) {
      const { targets, labels } = plainFacts(file);
      const t = nextT(margin as Margin<'curricularface'>, before.t, targets, labels);
      expect(Math.abs(t - stateOf(file, 't'))).toBeLessThan(1e-12);
    }
  });

  it.each(of('adacos'))("%s: AdaCos's scale", (_, steps) => {
    for (const { file, before } of steps) {
      const { cosines, targets, labels } = plainFacts(file);
      const lse = cosines.map((row, i) =>
        Math.log(row.reduce((sum, cos, j) => sum + (j === labels[i] ? 0 : Math.exp(before.scale * cos)), 0)),
      );
      const scale = nextAdacosScale(before.scale, targets, lse, labels);
      expect(Math.abs(scale - stateOf(file, 's'))).toBeLessThan(1e-11);
    }
    expect(steps[0].before.scale).toBe(fixedAdacosScale(steps[0].file.shape('W')[0]));
  });

  it.each(of('adaface'))("%s: AdaFace's mean and deviation of the norms", (_, steps) => {
    for (const { file, margin, before } of steps) {
      const { norms, labels } = plainFacts(file);
      const start = { normMean: before.normMean, normStd: before.normStd };
      const next = nextNorms(margin as Margin<'adaface'>, start, norms, labels);
      expect(Math.abs(next.normMean - stateOf(file, 'batch_mean'))).toBeLessThan(1e-11);
      expect(Math.abs(next.normStd - stateOf(file, 'batch_std'))).toBeLessThan(1e-11);
    }
  });

  it.each(of('sphereface'))("%s: SphereFace's λ", (_, steps) => {
    steps.forEach(({ file, margin, before }, step) => {
      const { lambda } = margin as Margin<'sphereface'>;
      expect(typeof lambda).toBe('object');
      const ours = annealedLambda(lambda as Exclude<typeof lambda, number>, before.steps + 1);
      expect(Math.abs(ours - stateOf(file, 'lambda')) / ours).toBeLessThan(1e-12);
      expect(before.steps).toBe(step);
    });
  });

  it.each(['elasticface.official.arc_plus.small', 'elasticface.official.cos_plus.small'])(
    "%s: ElasticFace+'s order of the margins",
    (name) => {
      const file = goldenFile(name);
      const { targets, labels } = plainFacts(file);
      const margins = plusMargins(file.values('margins_drawn'), targets, 'official');
      const scale = file.number('s');
      const logits = file.values('logits');
      const C = file.shape('W')[0];
      const wanted = targets.map((cos, i) =>
        file.hp.kind === 'cos' ? cos - margins[i] : Math.cos(Math.acos(cos) + margins[i]),
      );
      const theirs = wanted.map((_, i) => logits[i * C + labels[i]] / scale);
      expect(worst(wanted, theirs)).toBeLessThan(1e-12);
      // The paper's order is another one, or the case would show nothing.
      expect(worst(margins, plusMargins(file.values('margins_drawn'), targets, 'paper'))).toBeGreaterThan(1e-3);
    },
  );
});

/** A head's own number, by the name in the files. */
const kept: Record<string, string> = { t: 't', s: 'scale', batch_mean: 'normMean', batch_std: 'normStd' };

describe.each(cases)('MarginHead through %s', (_, steps) => {
  it.each(['step', 'stepSync'] as const)('%s', async (call) => {
    const [{ file: first, margin, before }] = steps;
    const [C, D] = first.shape('W');
    const head = new MarginHead({ numClasses: C, embeddingSize: D, margin, weightDecay: 0, onAdvice: () => {} });
    head.weight.set(Float32Array.from(first.values('W')));
    for (const [name, value] of Object.entries(before)) head.state.get(name)?.set(new Float64Array([value]));
    for (const each of steps) {
      const { file } = each;
      const fair = each.measure('float32', 'cpu');
      const X = file.values('X');
      const { loss, gradEmbeddings } = await head[call](Float32Array.from(X), file.integers('labels'), { lr: 0 });
      const ce = file.value('ce');
      expect(Math.abs(loss - ce) / ce).toBeLessThan(fair.ce_rel.allowed);
      expect(rowRelative(gradEmbeddings, file.values('dX'), X, D)).toBeLessThan(fair.dX_rel.allowed);
      for (const [theirs, ours] of Object.entries(kept)) {
        const state = head.state.get(ours);
        if (!file.has(`state.${theirs}`) || !state) continue;
        expect(Math.abs(state.item() / file.value(`state.${theirs}`) - 1), theirs).toBeLessThan(1e-6);
      }
      const lambda = file.maybe('state.lambda');
      if (lambda) {
        const rule = stateRules(margin, C, 1, 0)[0] as StateRule;
        const at = new Float64Array([(head.state.get('steps')?.item() as number) - 1]);
        expect(rule.prepare({ labels: new Int32Array() }, { steps: at }).state?.lambda).toBeCloseTo(lambda[0], 9);
      }
    }
    head.dispose();
  });
});

describe("MarginHead's margins by class", () => {
  it.each((filesByFamily.get('adam_softmax') ?? []).map((file) => [file.name, file] as const))('%s', (_, file) => {
    const [C, D] = file.shape('W');
    const margin: Margin = {
      method: 'adaptiveface',
      scale: file.number('s'),
      margin: 0.35,
      spread: 0.05,
      reward: file.number('lamda'),
    };
    const lr = 1e-3;
    const head = new MarginHead({
      numClasses: C,
      embeddingSize: D,
      margin,
      momentum: 0,
      weightDecay: 0,
      onAdvice: () => {},
    });
    head.weight.set(Float32Array.from(file.values('W')));
    head.state.get('margins')?.set(Float32Array.from(file.values('margins')));
    head.stepSync(Float32Array.from(file.values('X')), file.integers('labels'), { lr });
    // Clamped to [0, 1] before use, as the file says; then a step along the file's gradient, and clamped again.
    const gradient = file.values('dmargins');
    const wanted = file.values('state.margins').map((m, j) => Math.min(1, Math.max(0, m - lr * gradient[j])));
    expect(worst(head.state.get('margins')?.toArray() ?? [], wanted)).toBeLessThan(1e-6);
    head.dispose();
  });
});

it('a step that fails leaves the state', async () => {
  const [, steps] = cases.find(([name]) => name.startsWith('curricularface')) as (typeof cases)[number];
  const [{ file, margin }] = steps;
  const [C, D] = file.shape('W');
  const head = new MarginHead({ numClasses: C, embeddingSize: D, margin });
  head.stepSync(Float32Array.from(file.values('X')), file.integers('labels'), { lr: 0 });
  const before = head.t?.item();
  const row = new Float32Array(D).fill(1);
  expect(() => head.stepSync(row, new Int32Array([C]), { lr: 0 })).toThrow(/got \d+ at row 0/);
  await expect(head.step(row.fill(Number.NaN), new Int32Array([0]), { lr: 0 })).rejects.toThrow(/row 0/);
  expect(head.t?.item()).toBe(before);
  head.dispose();
});
