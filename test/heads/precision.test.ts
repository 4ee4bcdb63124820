import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { backward } from '../../lib/autograd.js';
import { native } from '../../lib/binding.js';
import { openDataset } from '../../lib/data/index.js';
import { MarginHead, type MarginHeadOptions } from '../../lib/heads/index.js';
import { arcface, curricularface, type Margin, subcenter } from '../../lib/margins/index.js';
import { marginSoftmax } from '../../lib/ops/index.js';
import { normalArray, Random } from '../../lib/random.js';
import { memory, parameter, tensor, tidy } from '../../lib/tensor.js';
import { resolveConfig } from '../../lib/train/index.js';

type Numbers = ArrayLike<number>;
const norm = (x: Numbers) => Math.sqrt(Array.from(x).reduce((sum, v) => sum + v * v, 0));
const distance = (a: Numbers, b: Numbers) => norm(Array.from(a, (v, i) => v - (b[i] as number))) / norm(b);

const [N, C, D] = [48, 700, 61];
const x = normalArray(N * D, 1, new Random(5));
const y = Int32Array.from({ length: N }, (_, i) => (i % 7 === 6 ? -1 : (i * 37) % C));

function stepped(options: Partial<MarginHeadOptions>) {
  using head = new MarginHead({ numClasses: C, embeddingSize: D, margin: arcface({ scale: 32 }), ...options });
  const before = head.weight.toArray();
  const { loss, accuracy, gradEmbeddings } = head.stepSync(x, y, { lr: 1 });
  const moved = head.weight.toArray().map((v, i) => v - (before[i] as number)) as Float32Array;
  return { loss, accuracy, gradEmbeddings, moved };
}

describe('precision and memory of a step', () => {
  it.each([
    ['bfloat16', { precision: 'bfloat16' }, 6e-3],
    ['bfloat16, fast', { precision: 'bfloat16', memory: 'fast' }, 6e-3],
    ['fast', { memory: 'fast' }, 2e-3],
    ['half of the cosines', { memory: N * C }, 2e-3],
  ] as const)('%s stays close to the plain step, and is another', (_, options, bound) => {
    const margins: Margin[] = [arcface({ scale: 32 }), curricularface({ scale: 32 }), subcenter({ scale: 32 })];
    for (const margin of margins) {
      const [plain, other] = [stepped({ margin }), stepped({ margin, ...options })];
      expect(Math.abs(other.loss - plain.loss)).toBeLessThan(32 * bound);
      expect(distance(other.gradEmbeddings, plain.gradEmbeddings)).toBeLessThan(bound);
      expect(distance(other.moved, plain.moved)).toBeLessThan(bound);
      expect(other.moved).not.toEqual(plain.moved);
    }
  });

  it('changes nothing where it only keeps less', () => {
    expect(stepped({ memory: 0 })).toEqual(stepped({}));
    expect(stepped({ memory: 'lean', precision: 'float32' })).toEqual(stepped({}));
  });

  it('keeps what it was allowed to', () => {
    const peak = (option: MarginHeadOptions['memory']) => {
      using head = new MarginHead({ numClasses: 60_000, embeddingSize: 8, memory: option });
      const features = normalArray(64 * 8, 1, new Random(1));
      head.stepSync(features, new Int32Array(64), { lr: 0.1 });
      native.resetPeakMemory();
      const { used } = memory();
      head.stepSync(features, new Int32Array(64), { lr: 0.1 });
      return memory().peak - used;
    };
    const none = peak(0);
    expect((peak('fast') - none) / (2 * 64 * 60_000)).toBeCloseTo(1, 0);
    expect(peak('lean') - none).toBeLessThan(15e6);
  });

  it('is the same off the event loop, and for any number of threads', async () => {
    const threads = native.status().threads;
    const wanted = stepped({ precision: 'bfloat16', memory: 'fast' });
    try {
      for (const count of [1, 2, 3]) {
        native.setNumThreads(count);
        expect(stepped({ precision: 'bfloat16', memory: 'fast' })).toEqual(wanted);
      }
    } finally {
      native.setNumThreads(threads);
    }
    const options = { precision: 'bfloat16', memory: 'fast' } as const;
    using head = new MarginHead({ numClasses: C, embeddingSize: D, margin: arcface({ scale: 32 }), ...options });
    expect((await head.step(x, y, { lr: 1 })).gradEmbeddings).toEqual(wanted.gradEmbeddings);
  });

  it.each([
    [{ precision: 'float16' }, /MarginHead: expected precision 'float32' or 'bfloat16', got 'float16'/],
    [{ memory: 'quick' }, /MarginHead: expected memory 'lean', 'fast' or a number of bytes, got 'quick'/],
    [{ memory: -1 }, /MarginHead: expected memory 'lean', 'fast' or a number of bytes, got -1/],
    [{ memory: Number.NaN }, /MarginHead: expected memory .*got NaN/],
    [{ memory: Number.POSITIVE_INFINITY }, /MarginHead: expected memory .*got Infinity/],
  ])('refuses %o', (options, message) => {
    expect(() => new MarginHead({ numClasses: 2, embeddingSize: 4, ...(options as object) })).toThrow(message);
  });
});

describe('head of a configuration', () => {
  const data = { train: 'x.rec' };
  it('has precision, memory, a filter and a sample rate', () => {
    expect(resolveConfig({ data }).head).toEqual({
      precision: 'float32',
      memory: 'lean',
      gradientFilter: 0,
      sampleRate: 1,
      unsampledCenters: 'kept',
    });
    const head = {
      precision: 'bfloat16',
      memory: 5e8,
      gradientFilter: 1e-4,
      sampleRate: 0.1,
      unsampledCenters: 'moved',
    };
    expect(resolveConfig({ data, head }).head).toEqual(head);
  });
  it.each([
    [{ precision: 'fp8' }, /head.precision: .*float32.*bfloat16/],
    [{ memory: 'all' }, /head.memory: expected 'lean', 'fast' or a number of bytes/],
    [{ memory: -5 }, /head.memory: expected 'lean', 'fast' or a number of bytes/],
    [{ unsampledCenters: 'frozen' }, /head.unsampledCenters: .*kept.*moved/],
    [{ gradientFilter: 1 }, /head.gradientFilter: expected a share of at least 0 and below 1/],
  ])('refuses %o', (head, message) => {
    expect(() => resolveConfig({ data, head })).toThrow(message);
  });
  it.each([0, -1, 2, '0.1', null])('refuses a sample rate of %o', (sampleRate) => {
    const resolve = () => resolveConfig({ data, head: { sampleRate } });
    expect(resolve).toThrow(/head.sampleRate: expected a share above 0 and at most 1/);
  });
});

describe('marginSoftmax in bfloat16', () => {
  it('has gradients close to the plain ones, and refuses float64', () => {
    const gradients = (precision?: 'float32' | 'bfloat16') =>
      tidy(() => {
        const X = parameter(tensor(x, [N, D]));
        const W = parameter(tensor(normalArray(C * D, 0.01, new Random(2)), [C, D]));
        const { loss } = marginSoftmax(X, W, y, arcface({ scale: 32 }), precision ? { precision } : {});
        backward(loss);
        return [X, W].map((t) => t.grad?.toArray() as Float32Array) as [Float32Array, Float32Array];
      });
    const [plain, same, other] = [gradients(), gradients('float32'), gradients('bfloat16')];
    expect(same).toEqual(plain);
    for (const i of [0, 1] as const) {
      expect(distance(other[i], plain[i])).toBeLessThan(6e-3);
      expect(distance(other[i], plain[i])).toBeGreaterThan(1e-5);
    }
    tidy(() => {
      const wide = tensor(new Float64Array(8), [2, 4]);
      const labels = new Int32Array(2);
      expect(() => marginSoftmax(wide, wide, labels, arcface(), { precision: 'bfloat16' })).toThrow(
        /marginSoftmax: expected float32 tensors for precision bfloat16, got float64/,
      );
      expect(() => marginSoftmax(wide, wide, labels, arcface(), { precision: 'half' as never })).toThrow(
        /marginSoftmax: expected precision 'float32' or 'bfloat16', got 'half'/,
      );
    });
  });
});

describe('training on Kanji-28', () => {
  const characters = 120;
  const images = 16 * characters;
  const kanji = openDataset(path.join(import.meta.dirname, '../../data/kanji28/train.rec'));
  const batchSize = 96;
  const [height, width] = kanji.imageShape as readonly number[] as [number, number];
  const size = height * width;
  // The first images of the first characters, in an order of their own.
  const chosen: number[] = [];
  for (let i = 0; chosen.length < images && i < kanji.size; i++) if (kanji.label(i) < characters) chosen.push(i);
  const random = new Random(3);
  const order = chosen.map((i) => [random.uniform(), i] as const).sort(([a], [b]) => a - b);
  const pixels = order.map(([, i]) => Float32Array.from(kanji.image(i), (v) => v / 127.5 - 1));

  /** A linear embedding under the head: its losses, a step each. */
  function losses(options: Partial<MarginHeadOptions>): number[] {
    const dim = 64;
    using head = new MarginHead({
      numClasses: characters,
      embeddingSize: dim,
      margin: arcface({ scale: 16, margin: 0.2 }),
      onAdvice: () => {},
      ...options,
    });
    const map = normalArray(size * dim, 1 / Math.sqrt(size), new Random(4));
    const out: number[] = [];
    for (let at = 0; out.length < 60; at = (at + batchSize) % (pixels.length - batchSize)) {
      const batch = pixels.slice(at, at + batchSize);
      const labels = Int32Array.from(order.slice(at, at + batchSize), ([, i]) => kanji.label(i));
      tidy(() => {
        const input = tensor(Float32Array.from(batch.flatMap((image) => [...image])), [batch.length, size]);
        const embedding = matmulOf(input.handle, tensor(map, [size, dim]).handle, false);
        const { loss, gradEmbeddings } = head.stepSync(embedding, labels, { lr: 0.3 });
        out.push(loss);
        const gradient = matmulOf(input.handle, tensor(gradEmbeddings, [batch.length, dim]).handle, true);
        for (let k = 0; k < map.length; k++) map[k] = (map[k] as number) - 3 * (gradient[k] as number);
      });
    }
    return out;
  }
  function matmulOf(a: Parameters<typeof native.matmul>[0], b: typeof a, transposed: boolean): Float32Array {
    const handle = native.matmul(a, b, transposed, false);
    const { shape } = native.describe(handle);
    const out = new Float32Array((shape[0] as number) * (shape[1] as number));
    native.readInto(handle, out);
    native.dispose(handle);
    return out;
  }

  it('learns in bfloat16 as it does in float32', { timeout: 120_000 }, () => {
    const plain = losses({});
    const mean = (list: number[]) => list.reduce((sum, v) => sum + v, 0) / list.length;
    const [start, end] = [mean(plain.slice(0, 10)), mean(plain.slice(-10))];
    expect(end).toBeLessThan(0.7 * start);
    for (const options of [{ precision: 'bfloat16' }, { precision: 'bfloat16', memory: 'fast' }, { memory: 'fast' }]) {
      const other = losses(options as Partial<MarginHeadOptions>);
      expect(other).not.toEqual(plain);
      expect(Math.abs(mean(other.slice(-10)) / end - 1)).toBeLessThan(0.02);
    }
  });
});
