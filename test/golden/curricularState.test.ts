/** CurricularFace's t, which moves from step to step, against the authors' code. */
import { describe, expect, it } from 'vitest';
import { MarginHead } from '../../lib/heads/index.js';
import { nextT } from '../../lib/heads/index.js';
import { targetCosines } from '../../lib/ops/index.js';
import { tensor, tidy } from '../../lib/tensor.js';
import { f64, goldenFile, headCases, labelsOf, rowRelative, startOf } from './conventions.js';

const names = ['small', 'medium', 'hard'].map((size) => `curricularface.official.${size}_steps`);

describe.each(names)('%s', (name) => {
  const steps = headCases('curricularface').filter((c) => c.name.startsWith(name));
  const margin = startOf(name);
  const { shape, data } = goldenFile(name).tensors.get('W') as { shape: number[]; data: Float64Array };
  const [C, D] = shape as [number, number];

  it('t in float64', () => {
    let t = margin.t;
    for (const { tensors } of steps) {
      const labels = labelsOf(tensors.get('labels')?.data);
      const x = f64(tensors.get('X')?.data);
      const cosines = tidy(() => targetCosines(tensor(x, [labels.length, D]), tensor(data, [C, D]), labels).toArray());
      t = nextT(margin, t, cosines, labels);
      expect(Math.abs(t - (f64(tensors.get('state.t')?.data)[0] as number))).toBeLessThan(1e-12);
    }
    expect(steps.length).toBeGreaterThanOrEqual(4);
  });

  it.each(['step', 'stepSync'] as const)('MarginHead.%s', async (call) => {
    const head = new MarginHead({ numClasses: C, embeddingSize: D, margin, weightDecay: 0 });
    head.weight.set(Float32Array.from(data));
    const pending = steps.map(({ tensors }) => {
      const x = Float32Array.from(f64(tensors.get('X')?.data));
      return head[call](x, labelsOf(tensors.get('labels')?.data), { lr: 0 });
    });
    for (const [step, { tensors, metadata }] of steps.entries()) {
      const { loss, gradEmbeddings } = await (pending[step] as (typeof pending)[number]);
      const ce = f64(tensors.get('ce')?.data)[0] as number;
      const theirs = JSON.parse(metadata.f32_error as string) as { ce_rel: number; dX_rel: number };
      expect(Math.abs(loss - ce) / ce).toBeLessThan(Math.max(1e-6, 2 * theirs.ce_rel));
      const error = rowRelative(gradEmbeddings, f64(tensors.get('dX')?.data), f64(tensors.get('X')?.data), D);
      expect(error).toBeLessThan(Math.max(5e-6, 2 * theirs.dX_rel));
    }
    const last = f64(steps.at(-1)?.tensors.get('state.t')?.data)[0] as number;
    expect(Math.abs((head.t?.item() as number) - last)).toBeLessThan(1e-7);
    const before = head.t?.item();
    const row = new Float32Array(D).fill(1);
    expect(() => head.stepSync(row, new Int32Array([C]), { lr: 0 })).toThrow(/got \d+ at row 0/);
    await expect(head.step(row.fill(Number.NaN), new Int32Array([0]), { lr: 0 })).rejects.toThrow(/row 0/);
    expect(head.t?.item()).toBe(before);
    head.dispose();
  });
});
