/** A backbone in bfloat16: on device 'cuda', here the CUDA library under the host emulation, beside float32. */
import { describe, expect, it } from 'vitest';
import { backward, noGrad } from '../../lib/autograd.js';
import * as nn from '../../lib/nn/index.js';
import * as ops from '../../lib/ops/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { ones, parameter, type Tensor, tensor, tidy, zeros } from '../../lib/tensor.js';
import { emulatedCuda } from '../emulatedCuda.js';

if (emulatedCuda) process.env.FLASHMARGIN_CUDA ??= emulatedCuda;

const draws = (shape: readonly number[], device = 'cpu', seed = 3) =>
  tensor(
    normalArray(
      shape.reduce((a, b) => a * b, 1),
      1,
      new Random(seed),
    ),
    shape,
    device,
  );

describe('cast', () => {
  it('rounds to the nearest, and gives the gradient back in the precision of its argument', () => {
    const x = parameter(tensor(new Float32Array([1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 / 3]), [4]));
    const y = ops.cast(x, 'bfloat16');
    expect([y.dtype, y.device]).toEqual(['bfloat16', 'cpu']);
    expect(y.toArray()).toEqual(new Float32Array([1, 1, 1 + 2 ** -6, 0.333984375]));
    backward(y, ops.cast(tensor(new Float32Array([1, -2, 0.1, 4]), [4]), 'bfloat16'));
    expect(x.grad?.dtype).toBe('float32');
    expect(x.grad?.toArray()).toEqual(new Float32Array([1, -2, 0.10009765625, 4]));
  });

  it('there and back is the identity of what bfloat16 has, and passes gradients of any float through', () => {
    const x = parameter(tensor(new Float64Array([0.5, -3, 256]), [3]));
    tidy(() => backward(ops.cast(ops.cast(x, 'bfloat16'), 'float64'), tensor(new Float64Array([1, 2, 3]), [3])));
    expect(x.grad?.toArray()).toEqual(new Float64Array([1, 2, 3]));
    expect(ops.cast(ops.cast(x, 'bfloat16'), 'float64').toArray()).toEqual(x.toArray());
    expect(ops.cast(x, 'float64')).toBe(x);
  });

  it('makes tensors that can be filled, reshaped and read', () => {
    expect(zeros([2, 3], 'bfloat16').reshape([6]).toArray()).toEqual(new Float32Array(6));
    expect(ones([2], 'bfloat16').toArray()).toEqual(new Float32Array([1, 1]));
  });

  it('refuses what is no float, and says where bfloat16 is for', () => {
    const x = ops.cast(zeros([2, 2, 2, 3]), 'bfloat16');
    const W = zeros([4, 3, 1, 1]);
    const gone = zeros([2]);
    gone.dispose();
    expect(() => ops.cast(gone, 'float32')).toThrow(/^cast: tensor \[2\] was disposed/);
    expect(() => ops.cast(zeros([2]), 'int32' as 'float32')).toThrow(
      /cast: expected a dtype of float32, float64, bfloat16, got 'int32'/,
    );
    expect(() => ops.cast(zeros([2], 'int32'), 'bfloat16')).toThrow(/cast: expected a tensor of dtype .*, got int32/);
    expect(() => ops.cast([1] as unknown as Tensor, 'bfloat16')).toThrow(/cast: expected x as a tensor/);
    for (const f of [() => ops.relu(x), () => ops.conv2d(x, W), () => ops.add(x, x), () => ops.flatten(x)])
      expect(f).toThrow(/got bfloat16, which only a backbone's layers take, on a CUDA device: cast it to float32/);
    expect(() => x.set(new Float32Array(24))).toThrow(/expected a tensor.* bfloat16|of dtype float32, got bfloat16/);
  });
});

describe('misuse', () => {
  it.each([
    [{ precision: 'float16' }, /iresnet: expected precision 'float32' or 'bfloat16', got 'float16'/],
    [
      { precision: 'bfloat16' },
      /iresnet: precision 'bfloat16' needs a CUDA device, got device 'cpu'\n {2}fix: set device to 'cuda', or precision to 'float32'/,
    ],
    [
      { precision: 'bfloat16', dtype: 'float64' },
      /iresnet: expected dtype 'float32' with precision 'bfloat16', got 'float64'/,
    ],
  ])('%o', (options, message) => {
    expect(() => nn.iresnetSmall(options as nn.IResNetOptions)).toThrow(message);
  });
});

describe.skipIf(!emulatedCuda)("a backbone in bfloat16 on device 'cuda', emulated", () => {
  const nets = {
    iresnetSmall: (precision: 'float32' | 'bfloat16', seed: number) =>
      nn.iresnetSmall({
        device: 'cuda',
        precision,
        rng: new Random(seed),
        imageSize: 16,
        stemWidth: 8,
        widths: [8, 13],
        embeddingSize: 7,
        dropout: 0.2,
      }),
    "iresnet18's stages, narrow": (precision: 'float32' | 'bfloat16', seed: number) =>
      new nn.IResNet({
        device: 'cuda',
        precision,
        rng: new Random(seed),
        blocks: [2, 2, 2, 2],
        widths: [4, 8, 8, 16],
        imageSize: 16,
        channels: 1,
        embeddingSize: 9,
      }),
  };

  it.each(Object.entries(nets))(
    '%s: features, gradients and statistics in float32, near those of float32',
    (_, make) => {
      const run = (precision: 'float32' | 'bfloat16', seed: number) => {
        const net = make(precision, seed);
        const x = draws([6, 16, 16, 1], 'cuda', seed + 10);
        return tidy(() => {
          const features = net.forward(x);
          backward(features, draws([6, net.embeddingSize], 'cuda', seed + 20));
          const named = [...net.namedTensors()].filter(([name]) => !name.endsWith('draws'));
          expect(new Set(named.map(([, { dtype }]) => dtype))).toEqual(new Set(['float32']));
          const gradients = [...net.namedParameters()].map(([name, { grad }]) => [name, grad] as const);
          for (const [name, grad] of gradients) expect(grad?.dtype, name).toBe('float32');
          net.eval();
          const evaluated = noGrad(() => net.forward(x));
          return {
            dtype: features.dtype,
            features: features.toArray(),
            evaluated: evaluated.toArray(),
            variance: net.bn1.running_var.toArray(),
            fc: net.fc.weight.grad?.toArray() as Float32Array,
            stem: net.conv1.weight.grad?.toArray() as Float32Array,
          };
        });
      };
      // A gradient that crossed some twenty norms of six images is near float32's for most networks, not for every one.
      const cosines: Record<string, number[]> = {};
      for (const seed of [0, 1, 2, 3, 4]) {
        const { dtype, ...got } = run('bfloat16', seed);
        expect(dtype).toBe('float32');
        const wanted = run('float32', seed);
        for (const [name, each] of Object.entries(got)) {
          const values = Array.from(each);
          const want = wanted[name as keyof typeof got];
          const along = values.reduce((sum, v, i) => sum + v * (want[i] as number), 0);
          cosines[name] = [...(cosines[name] ?? []), along / (Math.hypot(...values) * Math.hypot(...want))];
          expect(values, name).not.toEqual(Array.from(want)); // it was rounded
        }
      }
      for (const [name, each] of Object.entries(cosines)) {
        expect(each.toSorted((a, b) => a - b)[2], name).toBeGreaterThan(name === 'stem' ? 0.98 : 0.999);
        expect(Math.min(...each), name).toBeGreaterThan(name === 'stem' ? 0.8 : 0.99);
      }
    },
  );

  it('linear and its bias take bfloat16 rows', () => {
    const layer = new nn.Linear(12, 5, { device: 'cuda' });
    const x = draws([3, 12], 'cuda');
    tidy(() => backward(layer.forward(ops.cast(x, 'bfloat16')), ops.cast(draws([3, 5], 'cuda', 5), 'bfloat16')));
    const [half, bias] = [layer.weight.grad as Tensor, layer.bias?.grad as Tensor];
    expect([half.dtype, bias.dtype]).toEqual(['float32', 'float32']);
    const got = [half.toArray(), bias.toArray()];
    layer.weight.grad = undefined;
    (layer.bias as Tensor).grad = undefined;
    tidy(() => backward(layer.forward(x), draws([3, 5], 'cuda', 5)));
    [layer.weight.grad as unknown as Tensor, layer.bias?.grad as unknown as Tensor].forEach((want, i) => {
      const values = want.toArray();
      const largest = Math.max(...Array.from(values, Math.abs));
      values.forEach((v, k) => expect(Math.abs(v - (got[i]?.[k] as number)) / largest).toBeLessThan(0.02));
    });
  });
});
