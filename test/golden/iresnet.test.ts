import { describe, expect, it } from 'vitest';
import { backward, noGrad } from '../../lib/autograd.js';
import { IBasicBlock, iresnet18 } from '../../lib/nn/index.js';
import { marginLogits, marginSoftmax } from '../../lib/ops/index.js';
import { parameter, type Tensor, tensor, tidy } from '../../lib/tensor.js';
import { f64, goldenFile, labelsOf, largest, worst } from './conventions.js';

/** [N, C, H, W] ↔ [N, H, W, C]. */
function permute(data: ArrayLike<number>, [N, A, B, C]: readonly number[], to: 'NHWC' | 'NCHW'): Float64Array {
  const [n, a, b, c] = [N, A, B, C] as [number, number, number, number];
  const out = new Float64Array(n * a * b * c);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < a; j++)
      for (let k = 0; k < b; k++)
        for (let l = 0; l < c; l++) {
          const from = ((i * a + j) * b + k) * c + l;
          // NHWC: (j, k, l) = (channel, y, x); NCHW: (j, k, l) = (y, x, channel)
          const at = to === 'NHWC' ? ((i * b + k) * c + l) * a + j : ((i * c + l) * a + j) * b + k;
          out[at] = data[from] as number;
        }
  return out;
}

const relative = (ours: ArrayLike<number>, theirs: ArrayLike<number>) =>
  worst(ours, theirs) / Math.max(largest(theirs), 1e-30);

describe('two residual blocks', () => {
  const { tensors } = goldenFile('iresnet.blocks16');
  const at = (name: string) => tensors.get(name) as { shape: number[]; data: Float64Array };
  const blocks = [0, 1].map((i) => {
    const block = new IBasicBlock(16, 16, 1, { dtype: 'float64' });
    for (const [name, x] of block.namedTensors()) x.set(Float64Array.from(at(`param.${i}.${name}`).data));
    return block;
  });
  const nhwc = (name: string) => {
    const [N, C, H, W] = at(name).shape as [number, number, number, number];
    return tensor(permute(at(name).data, [N, C, H, W], 'NHWC'), [N, H, W, C]);
  };
  const nchw = (x: Tensor) => permute(x.toArray(), x.shape, 'NCHW');

  it('have the published outputs, gradients and running statistics', () => {
    const x = parameter(nhwc('input'));
    const y = blocks.reduce((h, block) => block.forward(h), x as Tensor);
    expect(worst(nchw(y), at('output_train').data)).toBeLessThan(1e-9);
    backward(y, nhwc('probe'));
    expect(relative(nchw(x.grad as Tensor), at('dinput').data)).toBeLessThan(1e-7);
    let gradients = 0;
    blocks.forEach((block, i) => {
      for (const [name, p] of block.namedTensors()) {
        if (p.requiresGrad) {
          expect(relative((p.grad as Tensor).toArray(), at(`grad.${i}.${name}`).data), name).toBeLessThan(1e-7);
          gradients++;
        } else {
          expect(worst(p.toArray(), at(`after.${i}.${name}`).data), name).toBeLessThan(1e-9);
        }
      }
    });
    expect(gradients).toBe(18);
    for (const block of blocks) block.eval();
    const evaluated = noGrad(() => blocks.reduce((h, block) => block.forward(h), nhwc('input')));
    expect(worst(nchw(evaluated), at('output_eval_after').data)).toBeLessThan(1e-9);
  });
});

describe('a whole iresnet18 from the hash recipe', () => {
  const { tensors, metadata } = goldenFile('iresnet18.recipe');
  const layers = JSON.parse(metadata.layers as string) as [number, string, number[]][];
  const gradNames = JSON.parse(metadata.grad_names as string) as string[];
  const runningNames = JSON.parse(metadata.running_names as string) as string[];

  /** The recipe of the file's note. */
  function u(layer: number, count: number): Float64Array {
    return Float64Array.from({ length: count }, (_, i) => {
      let h = (i + Math.imul(layer, 0x9e3779b9) + 0x85ebca77) >>> 0;
      h ^= h >>> 16;
      h = Math.imul(h, 0x85ebca6b);
      h ^= h >>> 13;
      h = Math.imul(h, 0xc2b2ae35);
      h = (h ^ (h >>> 16)) >>> 0;
      return (h + 0.5) / 2 ** 31 - 1;
    });
  }

  function values(layer: number, name: string, shape: number[]): Float32Array {
    const count = shape.reduce((n, e) => n * e, 1);
    const fanIn = count / (shape[0] as number);
    const draw = u(layer, count);
    const last = name.split('.').at(-1);
    const map =
      shape.length === 4
        ? (v: number) => v * Math.sqrt(6 / fanIn)
        : name === 'fc.weight'
          ? (v: number) => v * Math.sqrt(3 / (shape[1] as number))
          : name.endsWith('prelu.weight')
            ? (v: number) => 0.25 + 0.1 * v
            : last === 'running_var'
              ? (v: number) => 1 + 0.2 * v
              : last === 'running_mean'
                ? (v: number) => 0.05 * v
                : last === 'bias'
                  ? (v: number) => 0.1 * v
                  : (v: number) => 1 + 0.1 * v;
    return Float32Array.from(draw, map);
  }

  it('draws what the recipe draws', () => {
    const first = f64(tensors.get('recipe_first8')?.data);
    const drawn = [0, 1, 2, 10000, 10001].flatMap((layer) => [...u(layer, 8)]);
    expect(worst(drawn, first)).toBeLessThan(1e-12);
  });

  // float64 is exact; float32 may lose a few times what the source's own float32 run loses: batch norm over four rows
  // divides by small deviations.
  it.each(['float64', 'float32'] as const)(
    'has the published embeddings, loss, gradients and running statistics in %s',
    { timeout: 240_000 },
    (dtype) => {
      const exact = dtype === 'float64';
      const typed = (values: Float32Array) => (exact ? Float64Array.from(values) : values);
      const net = iresnet18({ dtype });
      const own = new Map(net.namedTensors());
      const frozen = layers.map(([, name]) => name);
      expect([...own.keys()].sort()).toEqual([...frozen].sort());
      for (const [layer, name, shape] of layers) {
        expect((own.get(name) as Tensor).shape).toEqual(shape);
        own.get(name)?.set(typed(values(layer, name, shape)));
      }
      const images = typed(
        Float32Array.from(permute(Float32Array.from(u(10000, 4 * 3 * 112 * 112)), [4, 3, 112, 112], 'NHWC')),
      );
      const close = (ours: ArrayLike<number>, name: string) => {
        const theirs = f64(tensors.get(name)?.data);
        const scale = largest(theirs);
        const lost = worst(tensors.get(`f32.${name}`)?.data as Float32Array, theirs) / scale;
        expect(worst(ours, theirs) / scale, name).toBeLessThan(exact ? 1e-9 : Math.max(1e-5, 6 * lost));
      };
      net.eval();
      tidy(() =>
        noGrad(() =>
          close(
            net.forward(tensor(images.slice(0, 2 * 112 * 112 * 3), [2, 112, 112, 3])).toArray(),
            'embedding_eval_first2',
          ),
        ),
      );
      net.train();
      const margin = { method: 'arcface', scale: 64, margin: 0.5, gradient: 'exact', overflow: 'hard' } as const;
      const labels = labelsOf(tensors.get('labels')?.data);
      const W = parameter(tensor(typed(Float32Array.from(u(10001, 10 * 512))), [10, 512]));
      const input = parameter(tensor(images, [4, 112, 112, 3]));
      tidy(() => {
        const embeddings = net.forward(input);
        embeddings.requiresGrad = true;
        close(embeddings.toArray(), 'embedding_train');
        close(marginLogits(embeddings, W, labels, margin).toArray(), 'logits');
        const { loss } = marginSoftmax(embeddings, W, labels, margin);
        close([loss.item()], 'loss');
        backward(loss);
        close((embeddings.grad as Tensor).toArray(), 'dembedding');
        embeddings.grad?.dispose();
      });
      // One row a parameter: sum, 2-norm and largest entry; the sums cancel, so they are judged by the norm.
      const stats = f64(tensors.get('grad_sum_norm_max')?.data);
      const statsLost = tensors.get('f32.grad_sum_norm_max')?.data as Float32Array;
      const norms = gradNames.map((_, row) => stats[row * 3 + 1] as number).sort((a, b) => a - b);
      // A bias that a batch norm follows has no gradient but rounding: nothing is judged by less than this.
      const floor = 0.01 * (norms[norms.length >> 1] as number);
      const firsts = f64(tensors.get('grad_first16')?.data);
      gradNames.forEach((name, row) => {
        const p = name === 'head' ? W : name === 'input' ? input : (own.get(name) as Tensor);
        if (name === 'features.weight') return;
        const raw = (p.grad as Tensor).toArray();
        const grad = name === 'input' ? permute(raw, input.shape, 'NCHW') : (raw as Float64Array);
        const norm = Math.max(floor, stats[row * 3 + 1] as number);
        const ours = [grad.reduce((s, v) => s + v, 0), Math.hypot(...chunksNorm(grad)), largest(grad)];
        const lost =
          Math.max(
            ...[0, 1, 2].map((k) => Math.abs((statsLost[row * 3 + k] as number) - (stats[row * 3 + k] as number))),
          ) / norm;
        ours.forEach((v, k) => {
          expect(Math.abs(v - (stats[row * 3 + k] as number)) / norm, `${name} ${k}`).toBeLessThan(
            exact ? 1e-8 : Math.max(1e-4, 6 * lost),
          );
        });
        const head = Array.from(grad.subarray(0, 16));
        const theirs = Array.from(firsts.subarray(row * 16, row * 16 + head.length));
        expect(worst(head, theirs) / Math.max(floor, stats[row * 3 + 2] as number), name).toBeLessThan(
          exact ? 1e-8 : 3e-3,
        );
      });
      const running = f64(tensors.get('running_sum_norm')?.data);
      runningNames.forEach((name, row) => {
        const values_ = (own.get(name) as Tensor).toArray() as Float64Array;
        const norm = Math.hypot(...values_);
        expect(Math.abs(norm - (running[row * 2 + 1] as number)) / norm, name).toBeLessThan(exact ? 1e-10 : 1e-5);
      });
      net.dispose();
      W.grad?.dispose();
      W.dispose();
    },
  );
});

/** Norms of pieces, since a call takes a limited number of arguments. */
function chunksNorm(values: Float64Array): number[] {
  const norms: number[] = [];
  for (let at = 0; at < values.length; at += 10_000) norms.push(Math.hypot(...values.subarray(at, at + 10_000)));
  return norms;
}
