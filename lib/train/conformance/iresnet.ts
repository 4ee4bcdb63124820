/** iresnet: residual blocks with all they have, and a whole network whose weights are drawn from a hash. */
import { backward, noGrad } from '../../autograd.js';
import { IBasicBlock, IResNet } from '../../nn/index.js';
import { marginLogits, marginSoftmax } from '../../ops/index.js';
import { parameter, type Tensor, tensor, tidy } from '../../tensor.js';
import { heads } from './conventions.js';
import { dtypeOf, type GoldenCase, type GoldenFile, NotRun, type Precision } from './goldenFile.js';
import { largest, type Measurement, type Measurements, norm2, tightest, worst, worstRelative } from './measure.js';

export function iresnetCases(file: GoldenFile): GoldenCase[] {
  const recipe = file.sourceName === 'recipe';
  if (!recipe && !file.has('output_train')) throw new NotRun(`what is in ${file.sourceName} is not known`);
  if (file.number('bn_eps', 1e-5) !== 1e-5 || file.number('bn_momentum', 0.1) !== 0.1) {
    throw new NotRun('BatchNorm has an epsilon of 1e-5 and a momentum of 0.1');
  }
  if (file.number('dropout', 0) !== 0) throw new NotRun('dropout is drawn in another way here');
  const run = recipe ? measureNetwork : measureBlocks;
  const { name, family, source } = file;
  const measure = (precision: Precision, device: string) => run(file, precision, device);
  return [{ name, family, source, precisions: ['float64', 'float32'], measure }];
}

/** A [N, A, B, C] array whose index (n, a, b, c) becomes `order` of these. */
function permuted(data: ArrayLike<number>, shape: readonly number[], to: 'NHWC' | 'NCHW'): Float64Array {
  const [N, A, B, C] = shape;
  const out = new Float64Array(N * A * B * C);
  let from = 0;
  for (let n = 0; n < N; n++) {
    for (let a = 0; a < A; a++) {
      for (let b = 0; b < B; b++) {
        for (let c = 0; c < C; c++) {
          // From NCHW, (a, b, c) is (channel, y, x); from NHWC, (y, x, channel).
          const at = to === 'NHWC' ? ((n * B + b) * C + c) * A + a : ((n * C + c) * A + a) * B + b;
          out[at] = data[from++];
        }
      }
    }
  }
  return out;
}

const typedArray = (precision: Precision) => (precision === 'float32' ? Float32Array : Float64Array);

/**
 * Float64 is exact; float32 may lose `times` what the source's own float32 run loses, or `least`: batch norms over few
 * rows divide roundings by small deviations.
 */
function judged(
  error: number,
  precision: Precision,
  { exact, least, times, source }: { exact: number; least: number; times: number; source?: number },
): Measurement {
  return { error, allowed: precision === 'float64' ? exact : Math.max(least, times * (source ?? 0)), source };
}

function measureBlocks(file: GoldenFile, precision: Precision, device: string): Measurements {
  const Typed = typedArray(precision);
  const indices = [...file.tensors.keys()].flatMap((key) => /^param\.(\d+)\.conv1\.weight$/.exec(key)?.[1] ?? []);
  const stride = Math.round(file.shape('input')[2] / file.shape('output_train')[2]);
  const blocks = indices
    .sort((a, b) => Number(a) - Number(b))
    .map((index) => {
      const [outputs, inputs] = file.shape(`param.${index}.conv1.weight`);
      const own = file.has(`param.${index}.downsample.0.weight`) ? stride : 1;
      const block = new IBasicBlock(inputs, outputs, own, { dtype: dtypeOf(precision), device });
      for (const [name, x] of block.namedTensors()) x.set(Typed.from(file.values(`param.${index}.${name}`)));
      return { index, block };
    });
  const nhwc = (name: string) => {
    const [N, C, H, W] = file.shape(name);
    return tensor(Typed.from(permuted(file.values(name), [N, C, H, W], 'NHWC')), [N, H, W, C], device);
  };
  const nchw = (x: Tensor) => permuted(x.toArray(), x.shape, 'NCHW');
  const forward = (x: Tensor) => blocks.reduce((h, { block }) => block.forward(h), x);
  const close = (ours: ArrayLike<number>, name: string, exact: number) => {
    const twin = file.maybe(`f32.${name}`);
    const source = twin && worstRelative(twin, file.values(name));
    return judged(worstRelative(ours, file.values(name)), precision, { exact, least: 1e-5, times: 6, source });
  };
  try {
    return tidy(() => {
      const x = parameter(nhwc('input'));
      const y = forward(x);
      const output = close(nchw(y), 'output_train', 1e-9);
      backward(y, nhwc('probe'));
      const dInput = close(nchw(x.grad as Tensor), 'dinput', 1e-7);
      const gradients: Measurement[] = [];
      const running: Measurement[] = [];
      for (const { index, block } of blocks) {
        for (const [name, p] of block.namedTensors()) {
          if (p.requiresGrad) gradients.push(close((p.grad as Tensor).toArray(), `grad.${index}.${name}`, 1e-7));
          else running.push(close(p.toArray(), `after.${index}.${name}`, 1e-9));
        }
        block.eval();
      }
      const evaluated = noGrad(() => forward(nhwc('input')));
      x.grad?.dispose();
      x.dispose();
      return {
        output_rel: output,
        dinput_rel: dInput,
        gradients_rel: tightest(gradients),
        running_rel: tightest(running),
        output_eval_rel: close(nchw(evaluated), 'output_eval_after', 1e-9),
      };
    });
  } finally {
    for (const { block } of blocks) block.dispose();
  }
}

/** The recipe's numbers in (−1, 1), as its note says: a hash of index, layer and seed. */
export function recipeNumbers(layer: number, count: number, seed: number): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => {
    let h = (i + Math.imul(layer, 0x9e3779b9) + Math.imul(seed, 0x85ebca77)) >>> 0;
    h ^= h >>> 16;
    h = Math.imul(h, 0x85ebca6b);
    h ^= h >>> 13;
    h = Math.imul(h, 0xc2b2ae35);
    h = (h ^ (h >>> 16)) >>> 0;
    return (h + 0.5) / 2 ** 31 - 1;
  });
}

/** A layer's values from the recipe's numbers, rounded to float32. */
function recipeValues(layer: number, name: string, shape: readonly number[], seed: number): Float32Array {
  const count = shape.reduce((n, extent) => n * extent, 1);
  const last = name.split('.').at(-1);
  const [factor, offset] =
    shape.length === 4
      ? [Math.sqrt(6 / (count / shape[0])), 0]
      : name === 'fc.weight'
        ? [Math.sqrt(3 / shape[1]), 0]
        : name.endsWith('prelu.weight')
          ? [0.1, 0.25]
          : last === 'running_var'
            ? [0.2, 1]
            : last === 'running_mean'
              ? [0.05, 0]
              : last === 'bias'
                ? [0.1, 0]
                : [0.1, 1];
  return Float32Array.from(recipeNumbers(layer, count, seed), (u) => offset + factor * u);
}

type Layer = readonly [layer: number, name: string, shape: readonly number[]];

/** A network with the recipe's layers. */
function networkOf(layers: readonly Layer[], precision: Precision, device: string): IResNet {
  const shapes = new Map(layers.map(([, name, shape]) => [name, shape]));
  const stages = [1, 2, 3, 4].filter((stage) => shapes.has(`layer${stage}.0.conv1.weight`));
  const count = (stage: number) =>
    [...shapes.keys()].filter((name) => new RegExp(`^layer${stage}\\.\\d+\\.conv1\\.weight$`).test(name)).length;
  const widths = stages.map((stage) => shapes.get(`layer${stage}.0.conv1.weight`)?.[0] as number);
  const [embeddingSize, inputs] = shapes.get('fc.weight') as number[];
  const side = Math.sqrt(inputs / (widths.at(-1) as number));
  const net = new IResNet({
    blocks: stages.map(count),
    widths,
    stemWidth: shapes.get('conv1.weight')?.[0] as number,
    imageSize: side * 2 ** stages.length,
    embeddingSize,
    dtype: dtypeOf(precision),
    device,
  });
  const own = [...net.namedTensors()];
  const [ours, theirs] = [own.map(([name]) => name).sort(), [...shapes.keys()].sort()];
  if (ours.join() !== theirs.join()) {
    net.dispose();
    throw new NotRun('its layers are not those of an iresnet');
  }
  return net;
}

function measureNetwork(file: GoldenFile, precision: Precision, device: string): Measurements {
  const Typed = typedArray(precision);
  const seed = file.number('seed', 1);
  const [B, classes] = [file.number('batch'), file.number('classes')];
  const layers = file.json<Layer[]>('layers');
  const net = networkOf(layers, precision, device);
  const own = new Map(net.namedTensors());
  for (const [layer, name, shape] of layers) own.get(name)?.set(Typed.from(recipeValues(layer, name, shape, seed)));
  const side = 112;
  const pixels = recipeNumbers(10_000, B * 3 * side * side, seed);
  const images = Typed.from(permuted(Float32Array.from(pixels), [B, 3, side, side], 'NHWC'));
  const close = (ours: ArrayLike<number>, name: string) => {
    const theirs = file.values(name);
    const twin = file.maybe(`f32.${name}`);
    const source = twin && worstRelative(twin, theirs);
    return judged(worstRelative(ours, theirs), precision, { exact: 1e-9, least: 1e-5, times: 6, source });
  };
  const size = file.shape('embedding_train')[1];
  const W = parameter(
    tensor(Typed.from(Float32Array.from(recipeNumbers(10_001, classes * size, seed))), [classes, size], device),
  );
  const input = parameter(tensor(images, [B, side, side, 3], device));
  const labels = file.integers('labels');
  const margin = heads.arcface.curricularface_repo(file, classes);
  try {
    return tidy(() => {
      net.eval();
      const first = tensor(images.slice(0, 2 * side * side * 3), [2, side, side, 3], device);
      const evaluated = noGrad(() => close(net.forward(first).toArray(), 'embedding_eval_first2'));
      net.train();
      const embeddings = net.forward(input);
      embeddings.requiresGrad = true;
      const embedding = close(embeddings.toArray(), 'embedding_train');
      const logits = close(marginLogits(embeddings, W, labels, margin).toArray(), 'logits');
      const { loss } = marginSoftmax(embeddings, W, labels, margin);
      const lossError = close([loss.item()], 'loss');
      backward(loss);
      const dEmbedding = close((embeddings.grad as Tensor).toArray(), 'dembedding');
      embeddings.grad?.dispose();
      const at = (name: string) => (name === 'head' ? W : name === 'input' ? input : (own.get(name) as Tensor));
      const drawn = [0, 1, 2, 10_000, 10_001].flatMap((layer) => [...recipeNumbers(layer, 8, seed)]);
      return {
        recipe_abs: { error: worst(drawn, file.values('recipe_first8')), allowed: 1e-12 },
        embedding_eval_rel: evaluated,
        embedding_rel: embedding,
        logits_rel: logits,
        loss_rel: lossError,
        dembedding_rel: dEmbedding,
        ...gradientErrors(file, at, precision),
        running_rel: runningError(file, at, precision),
      };
    });
  } finally {
    net.dispose();
    for (const made of [W, input]) {
      made.grad?.dispose();
      made.dispose();
    }
  }
}

/**
 * Of each parameter the file has the gradient's sum, 2-norm and largest entry, and its first 16 entries.  Sums cancel,
 * so they are judged by the norm; and a bias that a batch norm follows has no gradient but rounding, so nothing is
 * judged by less than a hundredth of the median norm.
 */
function gradientErrors(file: GoldenFile, at: (name: string) => Tensor, precision: Precision): Measurements {
  const [stats, twins] = [file.values('grad_sum_norm_max'), file.maybe('f32.grad_sum_norm_max')];
  const [firsts, firstTwins] = [file.values('grad_first16'), file.maybe('f32.grad_first16')];
  const names = file.json<string[]>('grad_names');
  const norms = names.map((_, row) => stats[row * 3 + 1]).sort((a, b) => a - b);
  const floor = 0.01 * norms[norms.length >> 1];
  const whole: Measurement[] = [];
  const entries: Measurement[] = [];
  names.forEach((name, row) => {
    const { grad, shape } = at(name);
    if (!grad) return; // the last batch norm's weight is not trained
    const raw = grad.toArray();
    const values = name === 'input' ? permuted(raw, shape, 'NCHW') : Float64Array.from(raw);
    const theirs = stats.subarray(row * 3, row * 3 + 3);
    const norm = Math.max(floor, theirs[1]);
    const ours = [values.reduce((sum, value) => sum + value, 0), norm2(values), largest(values)];
    const source = twins && worst(twins.subarray(row * 3, row * 3 + 3), theirs) / norm;
    whole.push(judged(worst(ours, theirs) / norm, precision, { exact: 1e-8, least: 1e-4, times: 6, source }));
    const count = Math.min(16, values.length);
    const size = Math.max(floor, theirs[2]);
    const first = firsts.subarray(row * 16, row * 16 + count);
    const error = worst(values.subarray(0, count), first) / size;
    const lost = firstTwins && worst(firstTwins.subarray(row * 16, row * 16 + count), first) / size;
    entries.push(judged(error, precision, { exact: 1e-8, least: 3e-3, times: 6, source: lost }));
  });
  return { gradients_rel: tightest(whole), gradient_entries_rel: tightest(entries) };
}

function runningError(file: GoldenFile, at: (name: string) => Tensor, precision: Precision): Measurement {
  const stats = file.values('running_sum_norm');
  return tightest(
    file.json<string[]>('running_names').map((name, row) => {
      const values = Float64Array.from(at(name).toArray());
      const theirs = stats.subarray(row * 2, row * 2 + 2);
      const ours = [values.reduce((sum, value) => sum + value, 0), norm2(values)];
      return judged(worst(ours, theirs) / theirs[1], precision, { exact: 1e-10, least: 1e-5, times: 6 });
    }),
  );
}
