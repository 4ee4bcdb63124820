import { constants, PerformanceObserver } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { backward } from '../lib/autograd.js';
import { native } from '../lib/binding.js';
import { MarginHead } from '../lib/heads/index.js';
import { adacosScale, adaface, arcface, curricularNegatives } from '../lib/margins/index.js';
import { iresnetSmall } from '../lib/nn/index.js';
import { imageToFloat, marginSoftmax, normalize } from '../lib/ops/index.js';
import { Sgd } from '../lib/optim/index.js';
import { memory, parameter, type Tensor, tensor, tidy, zeros } from '../lib/tensor.js';
import { emulatedCuda } from './emulatedCuda.js';

if (emulatedCuda) process.env.FLASHMARGIN_CUDA ??= emulatedCuda;

const isMajor = (entry: object) =>
  (entry as { detail: { kind: number } }).detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR;
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

describe('memory', () => {
  it('a training step leaves no tensor behind, and asks for no new memory', () => {
    const net = iresnetSmall({ embeddingSize: 16, stemWidth: 8, widths: [8, 16] });
    const head = new MarginHead({ numClasses: 50, embeddingSize: 16 });
    const sgd = new Sgd(net.namedParameters());
    const step = () =>
      tidy(() => {
        const features = net.forward(imageToFloat(tensor(new Uint8Array(8 * 32 * 32), [8, 32, 32, 1])));
        const { gradEmbeddings } = head.stepSync(
          features,
          Int32Array.from({ length: 8 }, (_, i) => i),
          { lr: 0.01 },
        );
        backward(features, gradEmbeddings);
        sgd.step(0.01);
      });
    step();
    const { tensors, used } = memory();
    step();
    const { peak } = memory();
    for (let i = 0; i < 20; i++) step();
    expect(memory().tensors).toBe(tensors);
    expect(memory().used).toBe(used);
    expect(memory().peak).toBe(peak);
    net.dispose();
    sgd.dispose();
    head.dispose();
  });

  it('ten thousand steps of a head take no more memory than two thousand', async () => {
    const head = new MarginHead({
      numClasses: 40,
      embeddingSize: 8,
      margin: adaface({ negatives: curricularNegatives(), subCenters: 3, scale: adacosScale() }),
      onAdvice: () => {},
    });
    const x = Float32Array.from({ length: 8 * 8 }, (_, i) => Math.sin(i * i));
    const y = Int32Array.from({ length: 8 }, (_, i) => (i * 7) % 40);
    // What V8 collects is freed in turns of the event loop; when it collects is its own business.
    const steps = async (n: number) => {
      for (let i = 0; i < n; i++) {
        head.stepSync(x, y, { lr: 0.001 });
        if (i % 100 === 0) await new Promise(setImmediate);
      }
      collect();
      await new Promise(setImmediate);
      collect();
      return process.memoryUsage.rss();
    };
    const { threads } = native.status();
    native.setNumThreads(1);
    const warm = await steps(2000);
    const { used, tensors } = memory();
    const after = await steps(10_000);
    native.setNumThreads(threads);
    expect(memory().used).toBe(used);
    expect(memory().tensors).toBe(tensors);
    expect(after - warm).toBeLessThan(24 * 2 ** 20);
    head.dispose();
  }, 120_000);

  it('an operation keeps nothing that its backward pass will not need', () => {
    const x = tensor(new Float32Array(12).fill(1), [3, 4]);
    const w = parameter(tensor(new Float32Array(20).fill(1), [5, 4]));
    const before = memory().tensors;
    normalize(x).dispose(); // nothing is recorded
    normalize(w).dispose(); // recorded, and given up
    const { loss, rowLoss, lse } = marginSoftmax(x, w, new Int32Array(3), arcface());
    backward(loss);
    for (const made of [loss, rowLoss, lse, w.grad as Tensor]) made.dispose();
    expect(memory().tensors).toBe(before);
  });

  it.skipIf(!emulatedCuda)("a GPU's tensors come and go without a full collection", async () => {
    let collections = 0;
    const observer = new PerformanceObserver((list) => {
      collections += list.getEntries().filter(isMajor).length;
    });
    observer.observe({ entryTypes: ['gc'] });
    collect();
    for (let turn = 0; turn < 20; turn++) {
      const held = Array.from({ length: 20 }, () => native.empty('float32', [2 ** 22], 0)); // of 1 GiB that it has 320 MiB
      for (const each of held) native.dispose(each);
      await new Promise(setImmediate);
    }
    observer.disconnect();
    expect(collections).toBeLessThan(4); // its own, and perhaps the heap's
  });

  it('tidy keeps what it returns, and an outer tidy frees it', () => {
    const before = memory().tensors;
    tidy(() => {
      const kept = tidy(() => ({ a: zeros([3]), b: [zeros([2])] }));
      zeros([5]);
      expect(memory().tensors).toBe(before + 3);
      expect(kept.a.disposed).toBe(false);
    });
    expect(memory().tensors).toBe(before);
  });

  it('tidy frees on a throw', () => {
    const before = memory().tensors;
    expect(() =>
      tidy(() => {
        zeros([3]);
        throw new Error('no');
      }),
    ).toThrow('no');
    expect(memory().tensors).toBe(before);
  });
});
